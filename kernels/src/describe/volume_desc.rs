//! [`Conv3dDesc`]: a checked 3-D convolution.

use super::volume_depth::Sequence;
use super::volume_shape::{Pad3, Shape5, Size3, VolumeLayout};
use super::volume_tensor::Slices;
use super::{BLOCK, ConvDesc, ConvError, EpilogueSpec, Layout, Shape4, check_positive, checked_product};
use std::fmt;

/// A checked 3-D cross-correlation.
///
/// `out[n,o,z,y,x] = sum over c,k,i,j of in[n, c, z*sd - front + k*dd, y*sh - top + i*dh, x*sw - left + j*dw] * w[o,c,k,i,j]`,
/// where `in` is zero outside the volume. The output extents are
/// `floor((in + before + after - d*(k-1) - 1) / stride) + 1` (Dumoulin and Visin 2016, relationship 15), as in PyTorch's
/// `Conv3d`.
///
/// ```
/// use kernels::*;
/// # fn main() -> Result<(), ConvError> {
/// let desc = Conv3dDesc::builder(Shape5::new(1, 3, 16, 112, 112), 64, Size3::cube(3)).pad(Pad3::all(1)).build()?;
/// assert_eq!(desc.output(), Shape5::new(1, 64, 16, 112, 112));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Conv3dDesc {
    input: Shape5,
    output: Shape5,
    kernel: Size3,
    stride: Size3,
    pad: Pad3,
    dilation: Size3,
    groups: usize,
    layout: VolumeLayout,
    output_layout: VolumeLayout,
    epilogue: EpilogueSpec,
}

/// Builds a [`Conv3dDesc`]. [`build`](Self::build) checks all parameters.
#[derive(Debug, Clone, Copy)]
#[must_use = "call build()"]
pub struct Conv3dDescBuilder {
    input: Shape5,
    out_channels: usize,
    kernel: Size3,
    stride: Size3,
    pad: Pad3,
    dilation: Size3,
    groups: usize,
    layout: VolumeLayout,
    /// `None` stands for the layout of the input.
    output_layout: Option<VolumeLayout>,
    epilogue: EpilogueSpec,
}

impl Conv3dDesc {
    /// Starts a description with stride 1, no padding, dilation 1, one group, NCDHW and no epilogue.
    pub const fn builder(input: Shape5, out_channels: usize, kernel: Size3) -> Conv3dDescBuilder {
        Conv3dDescBuilder {
            input,
            out_channels,
            kernel,
            stride: Size3::cube(1),
            pad: Pad3::VALID,
            dilation: Size3::cube(1),
            groups: 1,
            layout: VolumeLayout::Ncdhw,
            output_layout: None,
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

    /// The extents of the kernel, without dilation.
    pub fn kernel(&self) -> Size3 {
        self.kernel
    }

    /// Input elements between neighbouring outputs.
    pub fn stride(&self) -> Size3 {
        self.stride
    }

    /// Zero padding around the input.
    pub fn pad(&self) -> Pad3 {
        self.pad
    }

    /// Input elements between neighbouring kernel taps.
    pub fn dilation(&self) -> Size3 {
        self.dilation
    }

    /// Number of groups. Output channel `o` reads only the input channels of group `o / (O / groups)`.
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// Memory layout of the input.
    pub fn layout(&self) -> VolumeLayout {
        self.layout
    }

    /// Memory layout of output and residual. It defaults to the layout of the input.
    pub fn output_layout(&self) -> VolumeLayout {
        self.output_layout
    }

    /// The operations fused after the sum.
    pub fn epilogue(&self) -> EpilogueSpec {
        self.epilogue
    }

    /// Number of filter elements, `O * (C / groups) * KD * KH * KW`, in OIDHW order.
    pub fn filter_len(&self) -> usize {
        let Size3 { d, h, w } = self.kernel;
        self.output.c * (self.input.c / self.groups) * d * h * w
    }

    /// How the output slices read the input slices.
    pub(crate) fn sequence(&self) -> Sequence {
        Sequence {
            outputs: Slices { first: 0, step: 1, count: self.output.d },
            base: -(self.pad.front as isize),
            advance: self.stride.d,
            apart: self.dilation.d,
            taps: self.kernel.d,
        }
    }
}

impl fmt::Display for Conv3dDesc {
    /// Writes, for example, `1x64x16x56x56 -> 128 3x3x3 pad 1x1x1 ncdhw`, and omits default values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {} {}", self.input, self.output.c, self.kernel)?;
        if self.stride != Size3::cube(1) {
            write!(f, " stride {}", self.stride)?;
        }
        if self.pad != Pad3::VALID {
            write!(f, " pad {}", self.pad)?;
        }
        if self.dilation != Size3::cube(1) {
            write!(f, " dilation {}", self.dilation)?;
        }
        if self.groups != 1 {
            write!(f, " groups {}", self.groups)?;
        }
        write!(f, " {}", self.layout)?;
        if self.output_layout != self.layout {
            write!(f, " -> {}", self.output_layout)?;
        }
        Ok(())
    }
}

impl Conv3dDescBuilder {
    /// Sets the input elements between neighbouring outputs; at least 1.
    pub const fn stride(mut self, stride: Size3) -> Self {
        self.stride = stride;
        self
    }

    /// Sets the zero padding around the input.
    pub const fn pad(mut self, pad: Pad3) -> Self {
        self.pad = pad;
        self
    }

    /// Sets the input elements between neighbouring taps; at least 1.
    pub const fn dilation(mut self, dilation: Size3) -> Self {
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
    pub const fn layout(mut self, layout: VolumeLayout) -> Self {
        self.layout = layout;
        self
    }

    /// Sets another memory layout for output and residual. Any layout is possible.
    pub const fn output_layout(mut self, layout: VolumeLayout) -> Self {
        self.output_layout = Some(layout);
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
    /// - [`ConvError::InvalidField`] for a zero extent, for groups that do not divide the channels, and for invalid activation
    ///   parameters.
    /// - [`ConvError::EmptyOutput`] or [`ConvError::EmptyDepth`] if the dilated kernel is larger than the padded input.
    /// - [`ConvError::SizeOverflow`] if a size overflows the address space.
    pub fn build(self) -> Result<Conv3dDesc, ConvError> {
        let Self { input, out_channels, kernel, stride, pad, dilation, groups, layout, epilogue, .. } = self;
        let output_layout = self.output_layout.unwrap_or(layout);
        check_depth(&[
            ("input.d", input.d),
            ("kernel.d", kernel.d),
            ("stride.d", stride.d),
            ("dilation.d", dilation.d),
        ])?;
        // A slice, with the channels of all taps.
        let plane = |input| {
            ConvDesc::builder(input, out_channels, kernel.plane())
                .stride(stride.plane())
                .pad(pad.plane())
                .dilation(dilation.plane())
                .groups(groups)
                .epilogue(epilogue)
                .build()
        };
        let one = plane(input.slice())?;
        let channels = checked_product("channels of a volume", &[input.c, kernel.d])?;
        plane(Shape4 { c: channels, ..input.slice() })?;
        let d = output_depth(input.d, (kernel.d, dilation.d), stride.d, (pad.front, pad.back))?;
        let size = one.output();
        let output = Shape5::new(input.n, out_channels, d, size.h, size.w);
        check_images([input, output], kernel.d)?;
        Ok(Conv3dDesc {
            input,
            output,
            kernel,
            stride,
            pad,
            dilation,
            groups,
            layout,
            output_layout,
            epilogue,
        })
    }
}

/// Checks extents of the depth. They are at least 1 and far from overflow.
pub(super) fn check_depth(fields: &[(&'static str, usize)]) -> Result<(), ConvError> {
    check_positive(fields)?;
    match fields.iter().find(|&&(_, value)| value > isize::MAX as usize) {
        Some(&(what, _)) => Err(ConvError::SizeOverflow { what }),
        None => Ok(()),
    }
}

/// Checks that the views of `volumes` can be counted: of images whose channels are those of `taps` slices, in the largest
/// layout.
pub(super) fn check_images(volumes: [Shape5; 2], taps: usize) -> Result<(), ConvError> {
    for shape in volumes {
        let images = checked_product("elements of a tensor", &[shape.n, shape.d])?;
        let blocks =
            shape.c.checked_next_multiple_of(BLOCK).ok_or(ConvError::SizeOverflow { what: "channels" })?;
        let channels = checked_product("channels of a volume", &[blocks, taps])?;
        Shape4::new(images, channels, shape.h, shape.w).len(Layout::Nchw16c)?;
    }
    Ok(())
}

/// The number of output slices.
fn output_depth(
    input: usize,
    (kernel, dilation): (usize, usize),
    stride: usize,
    (front, back): (usize, usize),
) -> Result<usize, ConvError> {
    let padded = input.checked_add(front).and_then(|sum| sum.checked_add(back));
    let dilated = (kernel - 1).checked_mul(dilation).and_then(|reach| reach.checked_add(1));
    let (Some(padded_input), Some(dilated_kernel)) = (padded, dilated) else {
        return Err(ConvError::SizeOverflow { what: "padded input or dilated kernel" });
    };
    // Slices are compared as `isize`, and a slice behind the padding has a number, too.
    if padded_input > isize::MAX as usize / 4 || stride > isize::MAX as usize / 4 {
        return Err(ConvError::SizeOverflow { what: "padded input" });
    }
    if dilated_kernel > padded_input {
        return Err(ConvError::EmptyDepth { padded_input, dilated_kernel });
    }
    Ok((padded_input - dilated_kernel) / stride + 1)
}
