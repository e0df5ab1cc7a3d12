//! [`WindowAxis`]: one axis of a pooling window, checked once, and which of its taps are real.

use crate::describe::ConvError;
use std::num::NonZeroUsize;

/// One axis of a sliding window. Every one of its `output` windows has at least one element of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WindowAxis {
    input: usize,
    output: usize,
    kernel: usize,
    /// Divisors, known not to be zero: no kernel has the code of a panic in it.
    stride: NonZeroUsize,
    dilation: NonZeroUsize,
    before: usize,
    after: usize,
}

/// The numbers that describe an axis, unchecked, and what errors call it.
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
    /// The input element of the first real tap.
    pub(crate) first: usize,
    /// Real taps, at least one.
    pub(crate) count: usize,
    /// Taps inside the padded input.
    pub(crate) padded: usize,
}

impl WindowAxis {
    /// Checks everything that `spec` can have wrong but zeros, which the caller has refused with better names.
    ///
    /// `Ok(None)` if there is not one window.
    pub(crate) fn new(spec: &AxisSpec) -> Result<Option<Self>, ConvError> {
        let AxisSpec { input, kernel, stride, dilation, before, after, .. } = *spec;
        let (Some(step), Some(dilated)) = (NonZeroUsize::new(stride), NonZeroUsize::new(dilation)) else {
            return Ok(None);
        };
        let overflow = ConvError::SizeOverflow { what: "padded input or dilated window" };
        let padded = input.checked_add(before).and_then(|sum| sum.checked_add(after));
        let extent = (kernel - 1).checked_mul(dilation).and_then(|last| last.checked_add(1));
        let (Some(padded), Some(extent)) = (padded, extent) else { return Err(overflow) };
        // Tap positions are isize: no window ends beyond this sum.
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

    /// Input elements from the first to the last tap, both counted.
    pub(crate) fn extent(&self) -> usize {
        (self.kernel - 1) * self.dilation() + 1
    }

    /// Whether the only window is the whole input, element by element.
    pub(crate) fn is_global(&self) -> bool {
        let dense = self.dilation() == 1 || self.kernel == 1;
        dense && self.kernel == self.input && self.output == 1 && self.before == 0 && self.after == 0
    }

    /// Where window `o` begins; before the input if negative.
    #[inline(always)]
    pub(crate) fn start(&self, o: usize) -> isize {
        (o * self.stride()) as isize - self.before as isize
    }

    /// The taps of window `o`.
    #[inline(always)]
    pub(crate) fn taps(&self, o: usize) -> Taps {
        let start = self.start(o);
        // Taps below `end`: positions start, start + dilation, ...
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

    /// The outputs whose windows have real taps only.
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

/// `usize::div_ceil` that cannot panic.
#[inline(always)]
fn div_ceil(a: usize, b: NonZeroUsize) -> usize {
    a / b + usize::from(a % b != 0)
}

/// PyTorch's rule (`pooling_output_shape`): in ceil mode a last window that is cut off counts, unless it begins in
/// the padding after the input.
fn outputs(spec: &AxisSpec, padded: usize, extent: usize) -> Option<usize> {
    let AxisSpec { input, stride, before, .. } = *spec;
    if !spec.ceil {
        return Some(padded.checked_sub(extent)? / stride + 1);
    }
    let steps = match padded.checked_sub(extent) {
        Some(room) => room.div_ceil(stride),
        // One window, if it is less than a stride too long.
        None if extent - padded < stride => 0,
        None => return None,
    };
    let last_begins_inside =
        steps == 0 || steps.checked_mul(stride).is_some_and(|begin| begin < input + before);
    Some(if last_begins_inside { steps + 1 } else { steps })
}
