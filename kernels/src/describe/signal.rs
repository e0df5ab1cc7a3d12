//! One-dimensional convolution: [`Conv1dDesc`] and [`Transposed1dDesc`], which are 2-D problems of one row.
//!
//! A signal of `N x C x W` is a map of one row: NCW is NCHW with H = 1, NWC is NHWC, and NCW16c is Nchw16c. So every algorithm,
//! driver and tile of the 2-D convolution serves signals, and no tensor is reordered.

use super::{
    ConvDesc, ConvDescBuilder, ConvError, EpilogueSpec, Layout, Pad2, Shape4, Size2, TransposedDesc,
    TransposedDescBuilder,
};
use std::fmt;

/// Extents of a signal in elements, independent of its layout. It converts to the [`Shape4`] of one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape3 {
    /// Number of signals.
    pub n: usize,
    /// Number of channels.
    pub c: usize,
    /// Number of samples.
    pub w: usize,
}

impl Shape3 {
    /// A shape of `n` signals with `c` channels of `w` samples.
    pub const fn new(n: usize, c: usize, w: usize) -> Self {
        Self { n, c, w }
    }

    /// Number of elements of a packed tensor of this shape. `Nchw16c` rounds the channels up to a multiple of 16.
    ///
    /// # Errors
    /// [`ConvError::SizeOverflow`] if the tensor would exceed `isize::MAX` bytes.
    pub fn len(self, layout: Layout) -> Result<usize, ConvError> {
        Shape4::from(self).len(layout)
    }

    /// Whether any extent is zero.
    pub const fn is_empty(self) -> bool {
        self.n == 0 || self.c == 0 || self.w == 0
    }

    /// The extents of a map of one row.
    pub(crate) fn of_row(shape: Shape4) -> Self {
        Self { n: shape.n, c: shape.c, w: shape.w }
    }
}

impl From<Shape3> for Shape4 {
    fn from(shape: Shape3) -> Self {
        Self { n: shape.n, c: shape.c, h: 1, w: shape.w }
    }
}

impl fmt::Display for Shape3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}x{}", self.n, self.c, self.w)
    }
}

/// Zero padding at both ends of a signal, in samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Pad1 {
    /// Samples before the first.
    pub before: usize,
    /// Samples after the last.
    pub after: usize,
}

impl Pad1 {
    /// No padding.
    pub const VALID: Self = Self { before: 0, after: 0 };

    /// `p` samples at both ends.
    pub const fn both(p: usize) -> Self {
        Self { before: p, after: p }
    }

    /// Causal padding: `dilation * (kernel - 1)` samples before the first and none after the last, so that an output depends
    /// on no later sample (van den Oord et al. 2016, *WaveNet*, section 2.1). At stride 1 the output is as long as the input.
    ///
    /// Saturates instead of overflowing. The descriptor's builder then reports the size.
    pub const fn causal(kernel: usize, dilation: usize) -> Self {
        Self { before: kernel.saturating_sub(1).saturating_mul(dilation), after: 0 }
    }

    /// As [`Pad2::same_upper`]: the output has `ceil(len / stride)` samples, and an odd one is added at the end.
    pub fn same_upper(len: usize, kernel: usize, stride: usize, dilation: usize) -> Self {
        let row = |w| Size2::new(1, w);
        let Pad2 { left, right, .. } = Pad2::same_upper(row(len), row(kernel), row(stride), row(dilation));
        Self { before: left, after: right }
    }

    /// The padding of a map of one row.
    pub(crate) const fn of_row(self) -> Pad2 {
        Pad2 { top: 0, bottom: 0, left: self.before, right: self.after }
    }
}

/// A checked 1-D cross-correlation of signals.
///
/// `out[n, o, x] = sum over c, j of in[n, c, x * stride - before + j * dilation] * w[o, c, j]`, where `in` is zero outside the
/// signal. The output has `floor((in + before + after - dilation * (k - 1) - 1) / stride) + 1` samples. Filters are in the
/// order `[O][C / groups][K]`.
///
/// ```
/// use kernels::*;
/// # fn main() -> Result<(), ConvError> {
/// // A layer of WaveNet: 64 channels, two taps at a distance of 512 samples.
/// let desc = Conv1dDesc::builder(Shape3::new(1, 64, 16000), 64, 2)
///     .dilation(512)
///     .pad(Pad1::causal(2, 512))
///     .build()?;
/// assert_eq!(desc.output(), Shape3::new(1, 64, 16000));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Conv1dDesc {
    row: ConvDesc,
}

/// Builds a [`Conv1dDesc`]. [`build`](Self::build) checks all parameters.
#[derive(Debug, Clone, Copy)]
#[must_use = "call build()"]
pub struct Conv1dDescBuilder {
    row: ConvDescBuilder,
}

impl Conv1dDesc {
    /// Starts a description with stride 1, no padding, dilation 1, one group, NCW and no epilogue.
    pub const fn builder(input: Shape3, out_channels: usize, kernel: usize) -> Conv1dDescBuilder {
        let input = Shape4::new(input.n, input.c, 1, input.w);
        Conv1dDescBuilder { row: ConvDesc::builder(input, out_channels, Size2::new(1, kernel)) }
    }

    /// The same convolution of maps of one row.
    pub fn as_2d(&self) -> &ConvDesc {
        &self.row
    }

    /// The shape of the input.
    pub fn input(&self) -> Shape3 {
        Shape3::of_row(self.row.input())
    }

    /// The shape of the output.
    pub fn output(&self) -> Shape3 {
        Shape3::of_row(self.row.output())
    }

    /// Number of taps.
    pub fn kernel(&self) -> usize {
        self.row.kernel().w
    }

    /// Input samples between neighbouring outputs.
    pub fn stride(&self) -> usize {
        self.row.stride().w
    }

    /// Zero padding at both ends.
    pub fn pad(&self) -> Pad1 {
        Pad1 { before: self.row.pad().left, after: self.row.pad().right }
    }

    /// Input samples between neighbouring taps.
    pub fn dilation(&self) -> usize {
        self.row.dilation().w
    }

    /// Number of groups.
    pub fn groups(&self) -> usize {
        self.row.groups()
    }

    /// Memory layout of the input.
    pub fn layout(&self) -> Layout {
        self.row.layout()
    }

    /// Memory layout of output and residual.
    pub fn output_layout(&self) -> Layout {
        self.row.output_layout()
    }

    /// The operations fused after the sum.
    pub fn epilogue(&self) -> EpilogueSpec {
        self.row.epilogue()
    }

    /// Number of filter elements, `O * (C / groups) * K`.
    pub fn filter_len(&self) -> usize {
        self.row.filter_len()
    }
}

impl fmt::Display for Conv1dDesc {
    /// Writes the convolution of maps of one row.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.row.fmt(f)
    }
}

/// The setters that both builders share.
macro_rules! setters {
    ($name:ident, $desc:ident) => {
        impl $name {
            /// Sets the stride; at least 1.
            pub const fn stride(self, stride: usize) -> Self {
                Self { row: self.row.stride(Size2::new(1, stride)) }
            }

            /// Sets the padding at both ends.
            pub const fn pad(self, pad: Pad1) -> Self {
                Self { row: self.row.pad(pad.of_row()) }
            }

            /// Sets the distance between neighbouring taps; at least 1.
            pub const fn dilation(self, dilation: usize) -> Self {
                Self { row: self.row.dilation(Size2::new(1, dilation)) }
            }

            /// Sets the number of groups, which must divide the input and output channels.
            pub const fn groups(self, groups: usize) -> Self {
                Self { row: self.row.groups(groups) }
            }

            /// Sets the memory layout of input, output and residual: NCW as [`Layout::Nchw`], NWC as [`Layout::Nhwc`], and
            /// blocks of 16 channels as [`Layout::Nchw16c`].
            pub const fn layout(self, layout: Layout) -> Self {
                Self { row: self.row.layout(layout) }
            }

            /// Sets the operations fused after the sum.
            pub const fn epilogue(self, epilogue: EpilogueSpec) -> Self {
                Self { row: self.row.epilogue(epilogue) }
            }

            /// Checks all parameters.
            ///
            /// # Errors
            /// Those of the builder of the 2-D descriptor. Fields have the names of the columns, such as `stride.w`.
            pub fn build(self) -> Result<$desc, ConvError> {
                Ok($desc { row: self.row.build()? })
            }
        }
    };
}

setters!(Conv1dDescBuilder, Conv1dDesc);
setters!(Transposed1dDescBuilder, Transposed1dDesc);

impl Conv1dDescBuilder {
    /// Sets another memory layout for output and residual. See [`ConvDescBuilder::output_layout`].
    pub const fn output_layout(self, layout: Layout) -> Self {
        Self { row: self.row.output_layout(layout) }
    }
}

/// A checked transposed 1-D convolution, which up-samples a signal by its stride.
///
/// `out[n, o, x * stride + j * dilation - before] += in[n, c, x] * w[c, o, j]`. Filters are in the order
/// `[C][O / groups][K]`, as in PyTorch's `ConvTranspose1d`.
///
/// ```
/// use kernels::*;
/// # fn main() -> Result<(), ConvError> {
/// let desc = Transposed1dDesc::builder(Shape3::new(1, 8, 100), 4, 4).stride(2).pad(Pad1::both(1)).build()?;
/// assert_eq!(desc.output(), Shape3::new(1, 4, 200));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Transposed1dDesc {
    row: TransposedDesc,
}

/// Builds a [`Transposed1dDesc`]. [`build`](Self::build) checks all parameters.
#[derive(Debug, Clone, Copy)]
#[must_use = "call build()"]
pub struct Transposed1dDescBuilder {
    row: TransposedDescBuilder,
}

impl Transposed1dDesc {
    /// Starts a description with stride 1, no padding, dilation 1, one group, NCW and no epilogue.
    pub const fn builder(input: Shape3, out_channels: usize, kernel: usize) -> Transposed1dDescBuilder {
        let input = Shape4::new(input.n, input.c, 1, input.w);
        Transposed1dDescBuilder { row: TransposedDesc::builder(input, out_channels, Size2::new(1, kernel)) }
    }

    /// The same convolution of maps of one row.
    pub fn as_2d(&self) -> &TransposedDesc {
        &self.row
    }

    /// The shape of the input.
    pub fn input(&self) -> Shape3 {
        Shape3::of_row(self.row.input())
    }

    /// The shape of the output.
    pub fn output(&self) -> Shape3 {
        Shape3::of_row(self.row.output())
    }

    /// Memory layout of input, output and residual.
    pub fn layout(&self) -> Layout {
        self.row.layout()
    }

    /// Number of filter elements, in the order `[C][O / groups][K]`.
    pub fn filter_len(&self) -> usize {
        self.row.filter_len()
    }
}

impl Transposed1dDescBuilder {
    /// Sets the samples that are added at the end of the output. See [`TransposedDescBuilder::output_pad`].
    pub const fn output_pad(self, output_pad: usize) -> Self {
        Self { row: self.row.output_pad(Size2::new(0, output_pad)) }
    }
}

impl fmt::Display for Transposed1dDesc {
    /// Writes the convolution of maps of one row.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.row.fmt(f)
    }
}
