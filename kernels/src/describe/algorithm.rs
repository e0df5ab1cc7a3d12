//! [`Algorithm`]: the names of the convolution algorithms, and the reasons why one cannot do a problem.

use super::shape::Size2;
use std::fmt;

/// A convolution algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Algorithm {
    /// Plain loops that accumulate in `f64`: the slow, accurate oracle of the tests.
    Reference,
    /// A matrix product of filter and lowered image (im2col). The image is lowered in parts, into a bounded
    /// workspace.
    Im2colGemm,
    /// A matrix product on the image in place: for 1x1 kernels, and kernels that cover the whole image.
    Pointwise,
    /// Register tiles of neighbouring pixels by output channels, on the image in place or on rows packed from
    /// it.
    Direct,
    /// Sums each output from the few channels of its group, in place: for depthwise convolution and small
    /// groups.
    Depthwise,
    /// Winograd with tiles of 2x2 outputs: 3x3 kernels with 4/9 and 5x5 kernels with 9/25 of the
    /// multiplications.
    ///
    /// All Winograd variants also support a stride `s`, by working on the `s x s` phases of the image. The
    /// kernel can then be `s` times as large.
    ///
    /// Tiles of NxN outputs also compute kernels of one row or one column, which can be dilated. A tile then has N outputs in
    /// a row or in a column. A kernel of 3 taps takes 2/3 of the multiplications, with `Winograd4x4` 1/2.
    Winograd2x2,
    /// Winograd with tiles of 3x3 outputs: 2x2 kernels with 4/9 of the multiplications, 4x4 kernels with 1/4, 7x7 at
    /// stride 2 with 48/147.
    Winograd3x3,
    /// Winograd with tiles of 4x2 outputs: 3x3 kernels with 1/3 of the multiplications. On a 14x14 map it
    /// wastes fewer edge outputs than 4x4 tiles, and it reads fewer weights per output than 2x2 tiles.
    Winograd4x2,
    /// Winograd with tiles of 4x4 outputs: 3x3 kernels with 1/4 of the multiplications, 5x5 kernels with
    /// 4/25.
    Winograd4x4,
    /// Winograd with tiles of 5x5 outputs: 2x2 kernels with 36/100 of the multiplications.
    Winograd5x5,
    /// Winograd with tiles of 6x6 outputs: 3x3 kernels with 16/81 of the multiplications.
    Winograd6x6,
    /// Products of Fourier transforms of image tiles: for large kernels at stride 1. Its rounding errors
    /// differ in kind from those of a reordered sum; see the chapter on numerics.
    Fft,
}

/// The kind of an [`Algorithm`]. All Winograd variants are one kind, with the size of their output tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AlgorithmKind {
    Reference,
    Im2colGemm,
    Pointwise,
    Direct,
    Depthwise,
    Winograd(Size2),
    Fft,
}

impl Algorithm {
    /// Every algorithm, for tests and tables.
    pub const ALL: [Self; 12] = [
        Self::Reference,
        Self::Im2colGemm,
        Self::Pointwise,
        Self::Direct,
        Self::Depthwise,
        Self::Winograd2x2,
        Self::Winograd3x3,
        Self::Winograd4x2,
        Self::Winograd4x4,
        Self::Winograd5x5,
        Self::Winograd6x6,
        Self::Fft,
    ];

    /// The name in reports: `"reference"`, `"im2col_gemm"`, `"pointwise"`, `"direct"`, `"depthwise"`,
    /// `"winograd_2x2"`, and so on.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::Im2colGemm => "im2col_gemm",
            Self::Pointwise => "pointwise",
            Self::Direct => "direct",
            Self::Depthwise => "depthwise",
            Self::Winograd2x2 => "winograd_2x2",
            Self::Winograd3x3 => "winograd_3x3",
            Self::Winograd4x2 => "winograd_4x2",
            Self::Winograd4x4 => "winograd_4x4",
            Self::Winograd5x5 => "winograd_5x5",
            Self::Winograd6x6 => "winograd_6x6",
            Self::Fft => "fft",
        }
    }

    pub(crate) const fn kind(self) -> AlgorithmKind {
        match self {
            Self::Reference => AlgorithmKind::Reference,
            Self::Im2colGemm => AlgorithmKind::Im2colGemm,
            Self::Pointwise => AlgorithmKind::Pointwise,
            Self::Direct => AlgorithmKind::Direct,
            Self::Depthwise => AlgorithmKind::Depthwise,
            Self::Winograd2x2 => AlgorithmKind::Winograd(Size2::square(2)),
            Self::Winograd3x3 => AlgorithmKind::Winograd(Size2::square(3)),
            Self::Winograd4x2 => AlgorithmKind::Winograd(Size2::new(4, 2)),
            Self::Winograd4x4 => AlgorithmKind::Winograd(Size2::square(4)),
            Self::Winograd5x5 => AlgorithmKind::Winograd(Size2::square(5)),
            Self::Winograd6x6 => AlgorithmKind::Winograd(Size2::square(6)),
            Self::Fft => AlgorithmKind::Fft,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A set of [`Algorithm`]s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Algorithms(u32);

impl Algorithms {
    /// The empty set.
    pub const NONE: Self = Self(0);

    /// This set with `algorithm` added.
    pub const fn with(self, algorithm: Algorithm) -> Self {
        Self(self.0 | 1 << algorithm as u32)
    }

    /// Whether the set contains `algorithm`.
    pub const fn contains(self, algorithm: Algorithm) -> bool {
        self.0 & 1 << algorithm as u32 != 0
    }
}

/// The reason why an algorithm cannot do a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Unsupported {
    /// Pointwise needs an unpadded image and either a 1x1 kernel or, in NCHW with one group, a kernel that
    /// covers the whole image.
    NotPointwise,
    /// A group begins inside a block of 16 channels, so a block of a pixel can span two groups.
    GroupInsideBlock,
    /// Input and output have different layouts.
    MixedLayouts,
    /// Direct convolution needs rows and kernels of moderate length, so that its tables and packed rows stay small.
    RowsTooLong,
    /// Depthwise needs groups of at most 16 input channels; larger groups are matrix products.
    LargeGroups,
    /// Depthwise needs at least four neighbouring output channels whose input channels lie in one vector.
    ScatteredGroups,
    /// This variant of Winograd does not have the taps of the kernel, or of its part in a phase of the stride.
    ///
    /// Along each axis, outputs and taps must be 4, 6 or 8 points: `outputs + taps - 1`. A kernel has as many rows as
    /// columns, or one row, or one column. Tiles of 2x2 and 4x4 outputs have 3 and 5 taps, and of 3x3 outputs 2 and 4.
    /// Tiles of 5x5 outputs have 2, and of 4x2 and 6x6 outputs 3. Only a kernel of one row or one column can be dilated: in
    /// a signal, or down the columns of a map. Its padding must be a multiple of the dilation.
    NotWinograd,
    /// Fourier transforms compute every output of stride 1; a larger stride would discard most of them.
    Strided,
    /// Fourier transforms need a kernel without dilation.
    Dilated,
    /// The kernel leaves too few outputs in the largest Fourier transform, 128 by 128.
    KernelTooLarge,
    /// The Fourier transforms of the weights would need more than a gibibyte.
    SpectraTooLarge,
    /// This algorithm has no bf16 products, or not these. Winograd has them for tiles of 2x2, 4x2 and 4x4 outputs,
    /// in two or three parts.
    OnlyF32,
    /// A tensor in [`Layout::Nchw32cBf16`](super::Layout::Nchw32cBf16) is accepted only by direct and pointwise
    /// convolution with [`Products::Bf16`](super::Products::Bf16).
    Bf16Layout,
    /// The rows of one output row would need more than a gibibyte once they are split into bf16 parts.
    PartsTooLarge,
    /// A group has several input channels.
    SeveralInputs,
    /// This algorithm does not compute the gradient of a filter.
    NoWeightsGradient,
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotPointwise => {
                "it needs an unpadded image and a kernel that is 1x1 or covers the whole image"
            }
            Self::GroupInsideBlock => "a group begins inside a block of 16 channels",
            Self::MixedLayouts => "input and output have different layouts",
            Self::RowsTooLong => "the input rows for one output row are too long to pack",
            Self::LargeGroups => "it needs groups of at most 16 input channels",
            Self::ScatteredGroups => {
                "the input channels of too few neighbouring output channels lie in one vector"
            }
            Self::NotWinograd => {
                "its tiles do not have the taps of this kernel, or of its part in a phase of the stride (2x2 and 4x4 \
                 outputs: 3 or 5 taps; 3x3: 2 or 4; 5x5: 2; 4x2 and 6x6: 3), or the kernel is dilated and has more than \
                 one row and column"
            }
            Self::Strided => "it needs stride 1",
            Self::Dilated => "it needs a kernel without dilation",
            Self::KernelTooLarge => {
                "the kernel leaves less than a quarter of the longest transform (128 numbers, or 1024 in NCHW with at \
                 most 15 channels per group) for outputs"
            }
            Self::SpectraTooLarge => "the transforms of the weights would need more than 1 GiB",
            Self::OnlyF32 => "it has no such products",
            Self::Bf16Layout => "a tensor holds bf16 numbers, which only direct+bf16 and pointwise+bf16 accept",
            Self::PartsTooLarge => "the bf16 parts of the rows for one output row would need more than 1 GiB",
            Self::SeveralInputs => "it needs groups of one input channel",
            Self::NoWeightsGradient => "it does not compute the gradient of a filter",
        })
    }
}
