//! [`ConvDesc`]: a checked 2-D convolution.

use super::{
    Activation, BLOCK, Cost, EpilogueSpec, Layout, Pad2, Shape4, Size2, WIDE_BLOCK, check_extents,
    checked_product, window_output,
};
use crate::describe::ConvError;
use std::fmt;
use std::ops::Range;

/// A checked 2-D cross-correlation (the kernel is not flipped). Its output is not empty, its groups divide
/// the channels, and none of its buffers overflows the address space.
///
/// `out[n,o,y,x] = sum over c,i,j of in[n, c, y*sh - top + i*dh, x*sw - left + j*dw] * w[o,c,i,j]`, where `in`
/// is zero outside the image. The output extents are `floor((in + before + after - d*(k-1) - 1) / stride) + 1`
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

/// Builds a [`ConvDesc`]. [`build`](Self::build) checks all parameters.
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
    /// `None` stands for the layout of the input.
    output_layout: Option<Layout>,
    epilogue: EpilogueSpec,
}

impl ConvDesc {
    /// Starts a description with stride 1, no padding, dilation 1, one group, NCHW and no epilogue.
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

    /// The shape of the input.
    pub fn input(&self) -> Shape4 {
        self.input
    }

    /// The shape of the output.
    pub fn output(&self) -> Shape4 {
        self.output
    }

    /// Height and width of the kernel, without dilation.
    pub fn kernel(&self) -> Size2 {
        self.kernel
    }

    /// Input elements between neighbouring outputs.
    pub fn stride(&self) -> Size2 {
        self.stride
    }

    /// Zero padding around the input.
    pub fn pad(&self) -> Pad2 {
        self.pad
    }

    /// Input elements between neighbouring kernel taps.
    pub fn dilation(&self) -> Size2 {
        self.dilation
    }

    /// Number of groups. Output channel `o` reads only the input channels of group `o / (O / groups)`.
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// Input channels per group.
    pub(crate) fn ins(&self) -> usize {
        self.input.c / self.groups
    }

    /// Output channels per group.
    pub(crate) fn outs(&self) -> usize {
        self.output.c / self.groups
    }

    /// Whether some groups of input channels begin inside a block of sixteen.
    pub(crate) fn ins_split_blocks(&self) -> bool {
        self.splits_blocks(self.layout(), self.ins())
    }

    /// Whether some groups of output channels begin inside a block of sixteen.
    pub(crate) fn outs_split_blocks(&self) -> bool {
        self.splits_blocks(self.output_layout(), self.outs())
    }

    fn splits_blocks(&self, layout: Layout, channels: usize) -> bool {
        layout == Layout::Nchw16c && self.groups > 1 && !channels.is_multiple_of(BLOCK)
    }

    /// The groups that `channels`, a range of output channels, belong to.
    pub(crate) fn groups_of(&self, channels: &Range<usize>) -> Range<usize> {
        if channels.is_empty() {
            0..0
        } else {
            channels.start / self.outs()..channels.end.div_ceil(self.outs())
        }
    }

    /// Memory layout of the input.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Memory layout of output and residual. It defaults to the layout of the input.
    pub fn output_layout(&self) -> Layout {
        self.output_layout
    }

    /// The operations fused after the sum.
    pub fn epilogue(&self) -> EpilogueSpec {
        self.epilogue
    }

    /// Number of filter elements, `O * (C / groups) * KH * KW`, in OIHW order.
    pub fn filter_len(&self) -> usize {
        self.output.c * self.taps()
    }

    /// Products per output element, `(C / groups) * KH * KW`: the K of the matrix product.
    pub(crate) fn taps(&self) -> usize {
        self.ins() * self.kernel.h * self.kernel.w
    }

    /// Work and traffic by the definition of the convolution.
    pub fn cost(&self) -> Cost {
        Cost::of(self)
    }
}

impl fmt::Display for ConvDesc {
    /// Writes, for example, `1x64x56x56 -> 64 3x3 pad 1x1 nchw16c`, and omits default values.
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

    /// Sets the input elements between neighbouring outputs; at least 1.
    pub const fn stride(mut self, stride: Size2) -> Self {
        self.stride = stride;
        self
    }

    /// Sets the zero padding around the input; see [`Pad2::same_upper`] and the other constructors.
    pub const fn pad(mut self, pad: Pad2) -> Self {
        self.pad = pad;
        self
    }

    /// Sets the input elements between neighbouring taps; at least 1.
    pub const fn dilation(mut self, dilation: Size2) -> Self {
        self.dilation = dilation;
        self
    }

    /// Sets the number of groups, which must divide the input and output channels. `groups == C` is depthwise
    /// convolution, with any multiplier.
    pub const fn groups(mut self, groups: usize) -> Self {
        self.groups = groups;
        self
    }

    /// Sets the memory layout of input, output and residual.
    pub const fn layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// Sets another memory layout for output and residual: [`Layout::Nchw16c`], for the first layer of a network,
    /// or to or from [`Layout::Nchw32cBf16`]. It costs no extra pass.
    pub const fn output_layout(mut self, layout: Layout) -> Self {
        self.output_layout = Some(layout);
        self
    }

    /// Sets the operations fused after the sum.
    pub const fn epilogue(mut self, epilogue: EpilogueSpec) -> Self {
        self.epilogue = epilogue;
        self
    }

    /// Checks all parameters. Later code relies on the result.
    ///
    /// # Errors
    /// - [`ConvError::InvalidField`] for a zero extent, for groups that do not divide the channels, for an
    ///   output layout that needs an unsupported conversion, and for invalid activation parameters.
    /// - [`ConvError::EmptyOutput`] if the dilated kernel is larger than the padded input.
    /// - [`ConvError::SizeOverflow`] if a size overflows the address space.
    pub fn build(self) -> Result<ConvDesc, ConvError> {
        let Self { input, out_channels, kernel, stride, pad, dilation, groups, layout, epilogue, .. } = self;
        let output_layout = self.output_layout.unwrap_or(layout);
        let converted = matches!(output_layout, Layout::Nchw16c | Layout::Nchw32cBf16);
        if output_layout != layout && !converted {
            let expected = format!("{layout}, as the input, or {}", Layout::Nchw16c);
            return Err(ConvError::field("output_layout", expected, output_layout));
        }
        check_extents(input, out_channels, [kernel, stride, dilation], groups)?;
        for (layout, channels, what) in
            [(layout, input.c, "input.c"), (output_layout, out_channels, "out_channels")]
        {
            if layout == Layout::Nchw32cBf16 && (groups > 1 || !channels.is_multiple_of(WIDE_BLOCK)) {
                let expected = format!("a multiple of {WIDE_BLOCK} in one group, for {layout}");
                return Err(ConvError::field(what, expected, format!("{channels} in {groups}")));
            }
        }
        epilogue.activation.check()?;
        let size = window_output(input.size(), kernel, stride, pad, dilation)?;
        let output = Shape4::new(input.n, out_channels, size.h, size.w);
        // Nchw16c with its padding lanes is the largest layout. If it fits, all layouts fit.
        input.len(Layout::Nchw16c)?;
        output.len(Layout::Nchw16c)?;
        let taps = checked_product("taps of a filter", &[input.c / groups, kernel.h, kernel.w])?;
        // Upper bounds on padding: packing pads output channels by at most 128 per group, and taps to a
        // multiple of 16.
        let padded = groups.checked_mul(128).and_then(|padding| padding.checked_add(out_channels));
        let (Some(o), Some(t)) = (padded, taps.checked_add(15)) else {
            return Err(ConvError::SizeOverflow { what: "packed filter" });
        };
        checked_product("packed filter", &[o, t])?;
        Ok(ConvDesc { input, output, kernel, stride, pad, dilation, groups, layout, output_layout, epilogue })
    }
}
