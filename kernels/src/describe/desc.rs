//! [`ConvDesc`]: one checked 2-D convolution.

use super::{
    Activation, Cost, EpilogueSpec, Layout, Pad2, Shape4, Size2, check_positive, checked_product,
    window_output,
};
use crate::describe::ConvError;
use std::fmt;
use std::ops::Range;

/// A 2-D cross-correlation (the kernel is not flipped), checked: its output is not empty, its groups divide,
/// and none of its buffers overflows the address space.
///
/// `out[n,o,y,x] = sum over c,i,j of in[n, c, y*sh - top + i*dh, x*sw - left + j*dw] * w[o,c,i,j]`, zero outside
/// the input; output extents `floor((in + before + after - d*(k-1) - 1) / stride) + 1`
/// (Goodfellow, Bengio and Courville 2016, section 9.5; Dumoulin and Visin 2016, relationship 15).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConvDesc {
    input: Shape4,
    output: Shape4,
    kernel: Size2,
    stride: Size2,
    pad: Pad2,
    dilation: Size2,
    groups: usize,
    layout: Layout,
    output_layout: Layout,
    epilogue: EpilogueSpec,
}

/// Builds a [`ConvDesc`]; nothing is checked before [`build`](Self::build).
#[derive(Debug, Clone, Copy)]
#[must_use = "call build()"]
pub struct ConvDescBuilder {
    input: Shape4,
    out_channels: usize,
    kernel: Size2,
    stride: Size2,
    pad: Pad2,
    dilation: Size2,
    groups: usize,
    layout: Layout,
    /// The input's, if not given.
    output_layout: Option<Layout>,
    epilogue: EpilogueSpec,
}

impl ConvDesc {
    /// Stride 1, no padding, dilation 1, one group, NCHW and no epilogue unless said otherwise.
    pub const fn builder(input: Shape4, out_channels: usize, kernel: Size2) -> ConvDescBuilder {
        ConvDescBuilder {
            input,
            out_channels,
            kernel,
            stride: Size2::square(1),
            pad: Pad2::VALID,
            dilation: Size2::square(1),
            groups: 1,
            layout: Layout::Nchw,
            output_layout: None,
            epilogue: EpilogueSpec::NONE,
        }
    }

    /// Extents of the input.
    pub fn input(&self) -> Shape4 {
        self.input
    }

    /// Extents of the output.
    pub fn output(&self) -> Shape4 {
        self.output
    }

    /// Extents of the kernel, without dilation.
    pub fn kernel(&self) -> Size2 {
        self.kernel
    }

    /// Input elements from one output to the next.
    pub fn stride(&self) -> Size2 {
        self.stride
    }

    /// Zeros around the input.
    pub fn pad(&self) -> Pad2 {
        self.pad
    }

    /// Input elements from one kernel tap to the next.
    pub fn dilation(&self) -> Size2 {
        self.dilation
    }

    /// Groups: output channel `o` reads the input channels of group `o / (O / groups)` only.
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// Input channels of a group.
    pub(crate) fn ins(&self) -> usize {
        self.input.c / self.groups
    }

    /// Output channels of a group.
    pub(crate) fn outs(&self) -> usize {
        self.output.c / self.groups
    }

    /// The groups of some output channels.
    pub(crate) fn groups_of(&self, channels: &Range<usize>) -> Range<usize> {
        if channels.is_empty() {
            0..0
        } else {
            channels.start / self.outs()..channels.end.div_ceil(self.outs())
        }
    }

    /// Memory order of the input.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Memory order of output and residual: the input's, unless the builder was told otherwise.
    pub fn output_layout(&self) -> Layout {
        self.output_layout
    }

    /// What follows the sum.
    pub fn epilogue(&self) -> EpilogueSpec {
        self.epilogue
    }

    /// Elements of the filter, `O * (C / groups) * KH * KW`, in OIHW order.
    pub fn filter_len(&self) -> usize {
        self.output.c * self.taps()
    }

    /// Products per output element, `(C / groups) * KH * KW`: the K of the GEMM.
    pub(crate) fn taps(&self) -> usize {
        self.ins() * self.kernel.h * self.kernel.w
    }

    /// Work and traffic by the definition of the convolution.
    pub fn cost(&self) -> Cost {
        Cost::of(self)
    }
}

impl fmt::Display for ConvDesc {
    /// `1x64x56x56 -> 64 3x3 pad 1x1 nchw16c`, without what has its default value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {} {}", self.input, self.output.c, self.kernel)?;
        if self.stride != Size2::square(1) {
            write!(f, " stride {}", self.stride)?;
        }
        if !self.pad.is_zero() {
            write!(f, " pad {}", self.pad)?;
        }
        if self.dilation != Size2::square(1) {
            write!(f, " dilation {}", self.dilation)?;
        }
        if self.groups != 1 {
            write!(f, " groups {}", self.groups)?;
        }
        write!(f, " {}", self.layout)?;
        if self.output_layout != self.layout {
            write!(f, " -> {}", self.output_layout)?;
        }
        if self.epilogue.bias {
            write!(f, " +bias")?;
        }
        if self.epilogue.residual {
            write!(f, " +residual")?;
        }
        if self.epilogue.activation != Activation::None {
            write!(f, " {}", self.epilogue.activation.name())?;
        }
        Ok(())
    }
}

impl ConvDescBuilder {
    /// Another input: for several descriptors of one convolution.
    pub const fn input(mut self, input: Shape4) -> Self {
        self.input = input;
        self
    }

    /// Input elements from one output to the next, at least 1.
    pub const fn stride(mut self, stride: Size2) -> Self {
        self.stride = stride;
        self
    }

    /// Zeros around the input; see [`Pad2::same_upper`] and its siblings.
    pub const fn pad(mut self, pad: Pad2) -> Self {
        self.pad = pad;
        self
    }

    /// Input elements from one tap to the next, at least 1.
    pub const fn dilation(mut self, dilation: Size2) -> Self {
        self.dilation = dilation;
        self
    }

    /// Groups; must divide input and output channels. Depthwise is `groups == C`, any multiplier.
    pub const fn groups(mut self, groups: usize) -> Self {
        self.groups = groups;
        self
    }

    /// Memory order of input, output and residual.
    pub const fn layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// Another memory order for output and residual. Only the way into the blocked layout is free: from NCHW or NHWC
    /// to [`Layout::Nchw16c`], as the first layer of a network has it.
    pub const fn output_layout(mut self, layout: Layout) -> Self {
        self.output_layout = Some(layout);
        self
    }

    /// What follows the sum.
    pub const fn epilogue(mut self, epilogue: EpilogueSpec) -> Self {
        self.epilogue = epilogue;
        self
    }

    /// Checks everything once; later code may rely on it.
    ///
    /// # Errors
    /// [`ConvError::InvalidField`] for a zero extent or groups that do not divide, [`ConvError::EmptyOutput`] if
    /// the dilated kernel is larger than the padded input, [`ConvError::SizeOverflow`] for absurd sizes.
    pub fn build(self) -> Result<ConvDesc, ConvError> {
        let Self { input, out_channels, kernel, stride, pad, dilation, groups, layout, epilogue, .. } = self;
        let output_layout = self.output_layout.unwrap_or(layout);
        if output_layout != layout && output_layout != Layout::Nchw16c {
            let expected = format!("{layout}, as the input, or {}", Layout::Nchw16c);
            return Err(ConvError::field("output_layout", expected, output_layout));
        }
        check_positive(&[
            ("input.n", input.n),
            ("input.c", input.c),
            ("input.h", input.h),
            ("input.w", input.w),
            ("out_channels", out_channels),
            ("kernel.h", kernel.h),
            ("kernel.w", kernel.w),
            ("stride.h", stride.h),
            ("stride.w", stride.w),
            ("dilation.h", dilation.h),
            ("dilation.w", dilation.w),
            ("groups", groups),
        ])?;
        for (channels, what) in [(input.c, "input"), (out_channels, "output")] {
            if !channels.is_multiple_of(groups) {
                let expected = format!("a divisor of the {channels} {what} channels");
                return Err(ConvError::field("groups", expected, groups));
            }
        }
        epilogue.activation.check()?;
        let size = window_output(input.size(), kernel, stride, pad, dilation)?;
        let output = Shape4::new(input.n, out_channels, size.h, size.w);
        // The padded 16-channel form is the largest of the three: what fits there fits everywhere.
        input.len(Layout::Nchw16c)?;
        output.len(Layout::Nchw16c)?;
        let taps = checked_product("taps of a filter", &[input.c / groups, kernel.h, kernel.w])?;
        // Panels pad channels to at most 128 and taps to 16.
        let padded = groups.checked_mul(128).and_then(|padding| padding.checked_add(out_channels));
        let (Some(o), Some(t)) = (padded, taps.checked_add(15)) else {
            return Err(ConvError::SizeOverflow { what: "packed filter" });
        };
        checked_product("packed filter", &[o, t])?;
        Ok(ConvDesc { input, output, kernel, stride, pad, dilation, groups, layout, output_layout, epilogue })
    }
}
