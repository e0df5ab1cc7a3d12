//! [`WindowAxis`]: one axis of a pooling window, checked once, and the taps of each window inside the input.

use crate::describe::ConvError;
use std::num::NonZeroUsize;

/// One axis of a sliding window. Each of its `output` windows has at least one element of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WindowAxis {
    input: usize,
    output: usize,
    kernel: usize,
    /// The two divisors. Their type excludes zero, so no kernel contains the code of a panic.
    stride: NonZeroUsize,
    dilation: NonZeroUsize,
    before: usize,
    after: usize,
}

/// The unchecked numbers of an axis, and their names in errors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AxisSpec {
    /// Names of the two paddings.
    pub(crate) pads: [&'static str; 2],
    /// Name of the dilation.
    pub(crate) dilation_name: &'static str,
    pub(crate) input: usize,
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) dilation: usize,
    pub(crate) before: usize,
    pub(crate) after: usize,
    pub(crate) ceil: bool,
}

/// The part of one window that is inside the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taps {
    /// The input element of the first tap inside the input.
    pub(crate) first: usize,
    /// Number of taps inside the input. It is at least one.
    pub(crate) count: usize,
    /// Number of taps inside the padded input.
    pub(crate) padded: usize,
}

impl WindowAxis {
    /// Checks `spec`, except for zeros, which the caller has refused with better names.
    ///
    /// Returns `Ok(None)` if there is no window.
    pub(crate) fn new(spec: &AxisSpec) -> Result<Option<Self>, ConvError> {
        let AxisSpec { input, kernel, stride, dilation, before, after, .. } = *spec;
        let (Some(step), Some(dilated)) = (NonZeroUsize::new(stride), NonZeroUsize::new(dilation)) else {
            return Ok(None);
        };
        let overflow = ConvError::SizeOverflow { what: "padded input or dilated window" };
        let padded = input.checked_add(before).and_then(|sum| sum.checked_add(after));
        let extent = (kernel - 1).checked_mul(dilation).and_then(|last| last.checked_add(1));
        let (Some(padded), Some(extent)) = (padded, extent) else { return Err(overflow) };
        // Tap positions are `isize`, and no window ends beyond this sum.
        if padded.checked_add(extent).is_none_or(|sum| sum > isize::MAX as usize) {
            return Err(overflow);
        }
        for (pad, name) in [before, after].into_iter().zip(spec.pads) {
            if pad >= extent {
                let expected = format!("less than the dilated window's {extent}, or it could be all padding");
                return Err(ConvError::field(name, expected, pad));
            }
        }
        if before > 0 && dilation > input {
            let expected = format!("at most the padded input's {input}, or a window could step over it");
            return Err(ConvError::field(spec.dilation_name, expected, dilation));
        }
        let Some(output) = outputs(spec, padded, extent) else { return Ok(None) };
        Ok(Some(Self { input, output, kernel, stride: step, dilation: dilated, before, after }))
    }

    pub(crate) fn input(&self) -> usize {
        self.input
    }

    pub(crate) fn output(&self) -> usize {
        self.output
    }

    pub(crate) fn kernel(&self) -> usize {
        self.kernel
    }

    pub(crate) fn stride(&self) -> usize {
        self.stride.get()
    }

    pub(crate) fn dilation(&self) -> usize {
        self.dilation.get()
    }

    /// Number of input elements from the first to the last tap, including both.
    pub(crate) fn extent(&self) -> usize {
        (self.kernel - 1) * self.dilation() + 1
    }

    /// Whether the only window is exactly the whole input.
    pub(crate) fn is_global(&self) -> bool {
        let dense = self.dilation() == 1 || self.kernel == 1;
        dense && self.kernel == self.input && self.output == 1 && self.before == 0 && self.after == 0
    }

    /// The position where window `o` begins. It is negative if the window begins before the input.
    #[inline(always)]
    pub(crate) fn start(&self, o: usize) -> isize {
        (o * self.stride()) as isize - self.before as isize
    }

    /// The taps of window `o`.
    #[inline(always)]
    pub(crate) fn taps(&self, o: usize) -> Taps {
        let start = self.start(o);
        // Number of taps below `end`. Taps are at `start`, `start + dilation`, ...
        let below = |end: usize| {
            let room = (end as isize - start).max(0) as usize;
            let taps = if self.dilation() == 1 { room } else { div_ceil(room, self.dilation) };
            taps.min(self.kernel)
        };
        let (skipped, end) = (below(0), below(self.input));
        Taps {
            first: (start + (skipped * self.dilation()) as isize) as usize,
            count: end - skipped,
            padded: below(self.input + self.after),
        }
    }

    /// The range of outputs whose windows have all their taps inside the input.
    #[inline(always)]
    pub(crate) fn interior(&self) -> (usize, usize) {
        let lo = div_ceil(self.before, self.stride).min(self.output);
        let hi = match (self.input + self.before).checked_sub(self.extent()) {
            Some(last) => (last / self.stride + 1).min(self.output),
            None => 0,
        };
        (lo, hi.max(lo))
    }
}

/// `usize::div_ceil`, but it cannot panic.
#[inline(always)]
fn div_ceil(a: usize, b: NonZeroUsize) -> usize {
    a / b + usize::from(a % b != 0)
}

/// Number of outputs. It follows PyTorch's `pooling_output_shape`: in ceil mode, a truncated last window
/// counts, unless it begins in the padding after the input.
fn outputs(spec: &AxisSpec, padded: usize, extent: usize) -> Option<usize> {
    let AxisSpec { input, stride, before, .. } = *spec;
    if !spec.ceil {
        return Some(padded.checked_sub(extent)? / stride + 1);
    }
    let steps = match padded.checked_sub(extent) {
        Some(room) => room.div_ceil(stride),
        // A single window is too long, but by less than a stride.
        None if extent - padded < stride => 0,
        None => return None,
    };
    let last_begins_inside =
        steps == 0 || steps.checked_mul(stride).is_some_and(|begin| begin < input + before);
    Some(if last_begins_inside { steps + 1 } else { steps })
}
