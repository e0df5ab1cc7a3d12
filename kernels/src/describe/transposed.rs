//! [`TransposedDesc`]: a checked transposed 2-D convolution.

use super::backwards::Backwards;
use super::{ConvError, EpilogueSpec, Layout, Pad2, Shape4, Size2, check_extents, checked_product};
use std::fmt;

/// A checked transposed 2-D convolution, which up-samples by its stride. It is the gradient of a convolution with
/// respect to its input, with an epilogue: each input value, times each tap, is added to an output.
///
/// `out[n, o, y * sh + i * dh - top, x * sw + j * dw - left] += in[n, c, y, x] * w[c, o, i, j]`. The output extents are
/// `(in - 1) * stride - before - after + dilation * (k - 1) + 1 + output_pad` (Dumoulin and Visin 2016, chapter 4), as in
/// PyTorch's `ConvTranspose2d` and ONNX's `ConvTranspose`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TransposedDesc {
    input: Shape4,
    output: Shape4,
    kernel: Size2,
    stride: Size2,
    pad: Pad2,
    output_pad: Size2,
    dilation: Size2,
    groups: usize,
    layout: Layout,
    epilogue: EpilogueSpec,
}

/// Builds a [`TransposedDesc`]. [`build`](Self::build) checks all parameters.
#[derive(Debug, Clone, Copy)]
#[must_use = "call build()"]
pub struct TransposedDescBuilder {
    input: Shape4,
    out_channels: usize,
    kernel: Size2,
    stride: Size2,
    pad: Pad2,
    output_pad: Size2,
    dilation: Size2,
    groups: usize,
    layout: Layout,
    epilogue: EpilogueSpec,
}

impl TransposedDesc {
    /// Starts a description with stride 1, no padding, dilation 1, one group, NCHW and no epilogue.
    pub const fn builder(input: Shape4, out_channels: usize, kernel: Size2) -> TransposedDescBuilder {
        TransposedDescBuilder {
            input,
            out_channels,
            kernel,
            stride: Size2::square(1),
            pad: Pad2::VALID,
            output_pad: Size2::new(0, 0),
            dilation: Size2::square(1),
            groups: 1,
            layout: Layout::Nchw,
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

    /// Output elements between neighbouring inputs.
    pub fn stride(&self) -> Size2 {
        self.stride
    }

    /// Rows and columns that are cut off around the output.
    pub fn pad(&self) -> Pad2 {
        self.pad
    }

    /// Rows and columns that are added at the bottom and at the right of the output.
    pub fn output_pad(&self) -> Size2 {
        self.output_pad
    }

    /// Output elements between neighbouring taps.
    pub fn dilation(&self) -> Size2 {
        self.dilation
    }

    /// Number of groups.
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// Memory layout of input, output and residual.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The operations fused after the sum.
    pub fn epilogue(&self) -> EpilogueSpec {
        self.epilogue
    }

    /// Number of filter elements, in the order `[C][O / groups][KH][KW]`, where C are the input channels.
    pub fn filter_len(&self) -> usize {
        self.input.c * (self.output.c / self.groups) * self.kernel.h * self.kernel.w
    }

    /// The convolution whose gradient this is.
    pub(crate) fn backwards(&self) -> Backwards {
        Backwards {
            small: self.input,
            large: self.output,
            kernel: self.kernel,
            stride: self.stride,
            dilation: self.dilation,
            before: Size2::new(self.pad.top, self.pad.left),
            groups: self.groups,
        }
    }
}

impl fmt::Display for TransposedDesc {
    /// Writes, for example, `transposed 1x64x28x28 -> 1x32x56x56 2x2 stride 2x2 nchw16c`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "transposed {} -> {} {} stride {}", self.input, self.output, self.kernel, self.stride)?;
        if !self.pad.is_zero() {
            write!(f, " pad {}", self.pad)?;
        }
        if self.dilation != Size2::square(1) {
            write!(f, " dilation {}", self.dilation)?;
        }
        if self.groups != 1 {
            write!(f, " groups {}", self.groups)?;
        }
        write!(f, " {}", self.layout)
    }
}

impl TransposedDescBuilder {
    /// Sets the output elements between neighbouring inputs; at least 1.
    pub const fn stride(mut self, stride: Size2) -> Self {
        self.stride = stride;
        self
    }

    /// Sets the rows and columns that are cut off around the output.
    pub const fn pad(mut self, pad: Pad2) -> Self {
        self.pad = pad;
        self
    }

    /// Sets the rows and columns that are added at the bottom and at the right of the output: fewer than the stride, or
    /// than the dilation. They tell apart the inputs of a strided convolution that have the same output extents.
    pub const fn output_pad(mut self, output_pad: Size2) -> Self {
        self.output_pad = output_pad;
        self
    }

    /// Sets the output elements between neighbouring taps; at least 1.
    pub const fn dilation(mut self, dilation: Size2) -> Self {
        self.dilation = dilation;
        self
    }

    /// Sets the number of groups, which must divide the input and output channels.
    pub const fn groups(mut self, groups: usize) -> Self {
        self.groups = groups;
        self
    }

    /// Sets the memory layout of input, output and residual.
    pub const fn layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// Sets the operations fused after the sum.
    pub const fn epilogue(mut self, epilogue: EpilogueSpec) -> Self {
        self.epilogue = epilogue;
        self
    }

    /// Checks all parameters.
    ///
    /// # Errors
    /// - [`ConvError::InvalidField`] for a zero extent, for groups that do not divide the channels, for padding that
    ///   leaves no output, for too much output padding, for a layout of bf16 numbers, and for invalid activation
    ///   parameters.
    /// - [`ConvError::SizeOverflow`] if a size overflows the address space.
    pub fn build(self) -> Result<TransposedDesc, ConvError> {
        let Self { input, out_channels, kernel, stride, pad, output_pad, dilation, groups, layout, epilogue } =
            self;
        check_extents(input, out_channels, [kernel, stride, dilation], groups)?;
        if layout == Layout::Nchw32cBf16 {
            return Err(ConvError::field("layout", "a layout of f32 numbers", layout));
        }
        epilogue.activation.check()?;
        let most = Size2::new(stride.h.max(dilation.h), stride.w.max(dilation.w));
        if output_pad.h >= most.h || output_pad.w >= most.w {
            let expected = format!("less than {most}, the larger of stride and dilation");
            return Err(ConvError::field("output_pad", expected, output_pad));
        }
        let h = extent(input.h, kernel.h, stride.h, dilation.h, output_pad.h, (pad.top, pad.bottom))?;
        let w = extent(input.w, kernel.w, stride.w, dilation.w, output_pad.w, (pad.left, pad.right))?;
        let output = Shape4::new(input.n, out_channels, h, w);
        // Nchw16c with its padding lanes is the largest layout. If it fits, all layouts fit.
        input.len(Layout::Nchw16c)?;
        output.len(Layout::Nchw16c)?;
        checked_product("filter", &[input.c, out_channels / groups, kernel.h, kernel.w])?;
        Ok(TransposedDesc {
            input,
            output,
            kernel,
            stride,
            pad,
            output_pad,
            dilation,
            groups,
            layout,
            epilogue,
        })
    }
}

/// The output extent along one axis.
pub(crate) fn extent(
    input: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
    output_pad: usize,
    (before, after): (usize, usize),
) -> Result<usize, ConvError> {
    let overflow = ConvError::SizeOverflow { what: "output of a transposed convolution" };
    let covered = || (input - 1).checked_mul(stride)?.checked_add((kernel - 1).checked_mul(dilation)?);
    let whole = covered().and_then(|covered| covered.checked_add(output_pad)?.checked_add(1));
    let Some(whole) = whole.filter(|&whole| whole <= isize::MAX as usize) else { return Err(overflow) };
    let cut = before.checked_add(after).ok_or(overflow)?;
    match whole.checked_sub(cut) {
        Some(extent) if extent > 0 => Ok(extent),
        _ => {
            Err(ConvError::field("pad", format!("less than {whole} along an axis, to leave an output"), cut))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::describe::ConvDesc;

    #[test]
    fn extents_invert_those_of_a_convolution() {
        for (size, kernel, stride, pad, dilation) in
            [(56, 2, 2, 0, 1), (28, 4, 2, 1, 1), (13, 3, 2, 1, 1), (9, 3, 1, 2, 2), (20, 5, 3, 0, 1)]
        {
            let forward = ConvDesc::builder(Shape4::new(1, 8, size, size), 4, Size2::square(kernel))
                .stride(Size2::square(stride))
                .pad(Pad2::all(pad))
                .dilation(Size2::square(dilation))
                .build()
                .unwrap();
            let left = (size + 2 * pad - dilation * (kernel - 1) - 1) % stride;
            let transposed = TransposedDesc::builder(forward.output(), 8, Size2::square(kernel))
                .stride(Size2::square(stride))
                .pad(Pad2::all(pad))
                .dilation(Size2::square(dilation))
                .output_pad(Size2::square(left))
                .build()
                .unwrap();
            assert_eq!(transposed.output(), forward.input());
            assert_eq!(transposed.backwards(), Backwards::from(&forward));
            assert_eq!(transposed.filter_len(), forward.filter_len());
        }
    }

    #[test]
    fn bad_descriptors_are_refused() {
        let builder = TransposedDesc::builder(Shape4::new(1, 4, 3, 3), 6, Size2::square(2));
        let message = |builder: TransposedDescBuilder| builder.build().unwrap_err().to_string();
        assert!(message(builder.groups(4)).contains("divisor of the 6 output channels"));
        assert!(message(builder.output_pad(Size2::new(1, 0))).contains("output_pad"));
        assert!(message(builder.pad(Pad2::all(2))).contains("less than 4"));
        assert!(message(builder.stride(Size2::square(usize::MAX))).contains("transposed"));
        assert!(message(builder.layout(Layout::Nchw32cBf16)).contains("f32"));
    }
}
