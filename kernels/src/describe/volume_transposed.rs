//! [`Transposed3dDesc`]: a checked transposed 3-D convolution.

use super::volume_backwards::VolumeBackwards;
use super::volume_desc::{check_depth, check_images};
use super::volume_shape::{Pad3, Shape5, Size3, VolumeLayout};
use super::{ConvError, EpilogueSpec, TransposedDesc, checked_product, transposed_extent};
use std::fmt;

/// A checked transposed 3-D convolution, which up-samples volumes by its stride.
///
/// `out[n, o, z*sd + k*dd - front, y*sh + i*dh - top, x*sw + j*dw - left] += in[n, c, z, y, x] * w[c, o, k, i, j]`. The output
/// extents are `(in - 1) * stride - before - after + dilation * (k - 1) + 1 + output_pad`, as in PyTorch's
/// `ConvTranspose3d`.
///
/// ```
/// use kernels::*;
/// # fn main() -> Result<(), ConvError> {
/// // Up-sampling by 2 in a U-net.
/// let desc = Transposed3dDesc::builder(Shape5::new(1, 64, 8, 8, 8), 32, Size3::cube(2)).stride(Size3::cube(2)).build()?;
/// assert_eq!(desc.output(), Shape5::new(1, 32, 16, 16, 16));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Transposed3dDesc {
    input: Shape5,
    output: Shape5,
    kernel: Size3,
    stride: Size3,
    pad: Pad3,
    dilation: Size3,
    groups: usize,
    layout: VolumeLayout,
    epilogue: EpilogueSpec,
}

/// Builds a [`Transposed3dDesc`]. [`build`](Self::build) checks all parameters.
#[derive(Debug, Clone, Copy)]
#[must_use = "call build()"]
pub struct Transposed3dDescBuilder {
    input: Shape5,
    out_channels: usize,
    kernel: Size3,
    stride: Size3,
    pad: Pad3,
    output_pad: Size3,
    dilation: Size3,
    groups: usize,
    layout: VolumeLayout,
    epilogue: EpilogueSpec,
}

impl Transposed3dDesc {
    /// Starts a description with stride 1, no padding, dilation 1, one group, NCDHW and no epilogue.
    pub const fn builder(input: Shape5, out_channels: usize, kernel: Size3) -> Transposed3dDescBuilder {
        Transposed3dDescBuilder {
            input,
            out_channels,
            kernel,
            stride: Size3::cube(1),
            pad: Pad3::VALID,
            output_pad: Size3::cube(0),
            dilation: Size3::cube(1),
            groups: 1,
            layout: VolumeLayout::Ncdhw,
            epilogue: EpilogueSpec::NONE,
        }
    }

    /// The shape of the input.
    pub fn input(&self) -> Shape5 {
        self.input
    }

    /// The shape of the output.
    pub fn output(&self) -> Shape5 {
        self.output
    }

    /// Memory layout of input, output and residual.
    pub fn layout(&self) -> VolumeLayout {
        self.layout
    }

    /// The operations fused after the sum.
    pub fn epilogue(&self) -> EpilogueSpec {
        self.epilogue
    }

    /// Number of filter elements, in the order `[C][O / groups][KD][KH][KW]`, where C are the input channels.
    pub fn filter_len(&self) -> usize {
        let Size3 { d, h, w } = self.kernel;
        self.input.c * (self.output.c / self.groups) * d * h * w
    }

    /// The convolution whose gradient this is.
    pub(crate) fn backwards(&self) -> VolumeBackwards {
        let Self { input, output, kernel, stride, pad, dilation, groups, .. } = *self;
        let before = Size3::new(pad.front, pad.top, pad.left);
        VolumeBackwards { small: input, large: output, kernel, stride, dilation, before, groups }
    }
}

impl fmt::Display for Transposed3dDesc {
    /// Writes, for example, `transposed 1x64x8x8x8 -> 1x32x16x16x16 2x2x2 stride 2x2x2 ncdhw`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "transposed {} -> {} {} stride {}", self.input, self.output, self.kernel, self.stride)?;
        if self.pad != Pad3::VALID {
            write!(f, " pad {}", self.pad)?;
        }
        if self.dilation != Size3::cube(1) {
            write!(f, " dilation {}", self.dilation)?;
        }
        if self.groups != 1 {
            write!(f, " groups {}", self.groups)?;
        }
        write!(f, " {}", self.layout)
    }
}

impl Transposed3dDescBuilder {
    /// Sets the output elements between neighbouring inputs; at least 1.
    pub const fn stride(mut self, stride: Size3) -> Self {
        self.stride = stride;
        self
    }

    /// Sets the slices, rows and columns that are cut off around the output.
    pub const fn pad(mut self, pad: Pad3) -> Self {
        self.pad = pad;
        self
    }

    /// Sets the slices, rows and columns that are added at the end of the output: fewer than the stride, or than the dilation.
    pub const fn output_pad(mut self, output_pad: Size3) -> Self {
        self.output_pad = output_pad;
        self
    }

    /// Sets the output elements between neighbouring taps; at least 1.
    pub const fn dilation(mut self, dilation: Size3) -> Self {
        self.dilation = dilation;
        self
    }

    /// Sets the number of groups, which must divide the input and output channels.
    pub const fn groups(mut self, groups: usize) -> Self {
        self.groups = groups;
        self
    }

    /// Sets the memory layout of input, output and residual.
    pub const fn layout(mut self, layout: VolumeLayout) -> Self {
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
    /// - [`ConvError::InvalidField`] for a zero extent, for groups that do not divide the channels, for padding that leaves no
    ///   output, for too much output padding, and for invalid activation parameters.
    /// - [`ConvError::SizeOverflow`] if a size overflows the address space.
    pub fn build(self) -> Result<Transposed3dDesc, ConvError> {
        let Self { input, out_channels, kernel, stride, pad, output_pad, dilation, groups, layout, epilogue } =
            self;
        check_depth(&[
            ("input.d", input.d),
            ("kernel.d", kernel.d),
            ("stride.d", stride.d),
            ("dilation.d", dilation.d),
        ])?;
        let plane = TransposedDesc::builder(input.slice(), out_channels, kernel.plane())
            .stride(stride.plane())
            .pad(pad.plane())
            .output_pad(output_pad.plane())
            .dilation(dilation.plane())
            .groups(groups)
            .epilogue(epilogue)
            .build()?;
        let most = stride.d.max(dilation.d);
        if output_pad.d >= most {
            let expected = format!("less than {most}, the larger of stride and dilation");
            return Err(ConvError::field("output_pad.d", expected, output_pad.d));
        }
        let d =
            transposed_extent(input.d, kernel.d, stride.d, dilation.d, output_pad.d, (pad.front, pad.back))?;
        let size = plane.output();
        let output = Shape5::new(input.n, out_channels, d, size.h, size.w);
        check_images([input, output], kernel.d)?;
        checked_product("filter", &[input.c, out_channels / groups, kernel.d, kernel.h, kernel.w])?;
        Ok(Transposed3dDesc { input, output, kernel, stride, pad, dilation, groups, layout, epilogue })
    }
}
