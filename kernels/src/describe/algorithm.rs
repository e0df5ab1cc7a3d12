//! [`Algorithm`]: the names of the ways to compute a convolution, and of the reasons why one cannot.

use super::shape::Size2;
use std::fmt;

/// A way to compute a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Algorithm {
    /// Plain loops that accumulate in `f64`: the oracle of the tests, exact and slow.
    Reference,
    /// The classic lowering to a matrix product, packed on the fly into a bounded workspace.
    Im2colGemm,
    /// A matrix product on the image itself: 1x1 kernels, and kernels that cover the whole image.
    Pointwise,
    /// Register blocks of neighbouring pixels by output channels, on the image itself or on rows packed from it.
    Direct,
    /// Each output from its few channels in the image itself: depthwise, and groups of few channels.
    Depthwise,
    /// Transformed tiles of 2x2 outputs: 3x3 and 5x5 kernels of stride 1, with 4/9 and 9/25 of the multiplications. All
    /// Winograd tiles also do stride `s`, on the `s x s` phases of the image: a kernel `s` times as large.
    Winograd2x2,
    /// Transformed tiles of 3x3 outputs: 1/4 of the multiplications of a 4x4 kernel, 48/147 of those of 7x7 at stride 2.
    Winograd3x3,
    /// Transformed tiles of 4x2 outputs: 1/3 of the multiplications of a 3x3 kernel. Between the others: less of them is
    /// beyond the edge of a map of 14x14 than of 4x4, and there are fewer weights to read than for 2x2 per output.
    Winograd4x2,
    /// Transformed tiles of 4x4 outputs: 1/4 of the multiplications of a 3x3 kernel, 4/25 of those of a 5x5 kernel.
    Winograd4x4,
    /// Transformed tiles of 6x6 outputs: 16/81 of the multiplications of a 3x3 kernel.
    Winograd6x6,
    /// Products of Fourier transforms of tiles of the image: for large kernels at stride 1. More than another order of
    /// the same sums, see the chapter on numerics.
    Fft,
}

/// What an [`Algorithm`] is to those who plan it and speak of it: Winograd is one, with tiles of so many outputs.
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
    pub const ALL: [Self; 11] = [
        Self::Reference,
        Self::Im2colGemm,
        Self::Pointwise,
        Self::Direct,
        Self::Depthwise,
        Self::Winograd2x2,
        Self::Winograd3x3,
        Self::Winograd4x2,
        Self::Winograd4x4,
        Self::Winograd6x6,
        Self::Fft,
    ];

    /// `"reference"`, `"im2col_gemm"`, `"pointwise"`, `"direct"`, `"depthwise"`, `"winograd_2x2"`, and so on.
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

/// A set of algorithms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Algorithms(u32);

impl Algorithms {
    /// None of them.
    pub const NONE: Self = Self(0);

    /// These and `algorithm`.
    pub const fn with(self, algorithm: Algorithm) -> Self {
        Self(self.0 | 1 << algorithm as u32)
    }

    /// Whether `algorithm` is one of them.
    pub const fn contains(self, algorithm: Algorithm) -> bool {
        self.0 & 1 << algorithm as u32 != 0
    }
}

/// Why an algorithm cannot do a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Unsupported {
    /// Pointwise needs a 1x1 kernel without padding, or one group whose kernel covers an unpadded NCHW or NHWC image.
    NotPointwise,
    /// Groups begin inside a block of 16 channels, so a chunk of a pixel is not one group's.
    GroupInsideBlock,
    /// Input and output have different layouts.
    MixedLayouts,
    /// The rows that one row of the output needs do not fit a workspace of moderate size.
    RowsTooLong,
    /// Depthwise needs groups of few channels; with more, there is a matrix product in each.
    LargeGroups,
    /// Depthwise needs the input channels of at least four neighbouring output channels in one vector.
    ScatteredGroups,
    /// Winograd needs a 3x3 or 5x5 kernel (tiles of 3x3 outputs: 4x4, of 6x6: 3x3) and dilation 1; with a stride, a kernel
    /// that is as large in each phase.
    NotWinograd,
    /// A Fourier transform gives every output of stride 1; with a larger stride most would be thrown away.
    Strided,
    /// A Fourier transform needs the taps of the kernel side by side.
    Dilated,
    /// The kernel leaves too few outputs of the largest Fourier transform (128 by 128).
    KernelTooLarge,
    /// The Fourier transforms of the weights would need more than a gigabyte.
    SpectraTooLarge,
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotPointwise => {
                "it needs a 1x1 kernel without padding, or a kernel that covers the whole unpadded image"
            }
            Self::GroupInsideBlock => "a group begins inside a block of 16 channels",
            Self::MixedLayouts => "input and output have different layouts",
            Self::RowsTooLong => "the rows that one row of the output needs are too long to be packed",
            Self::LargeGroups => "its groups have at most 16 channels",
            Self::ScatteredGroups => {
                "too few neighbouring output channels have their input channels in one vector"
            }
            Self::NotWinograd => {
                "it needs a 3x3 or 5x5 kernel (tiles of 3x3 outputs: 4x4, of 6x6: 3x3) in each phase of the stride, and \
                 dilation 1"
            }
            Self::Strided => "it needs stride 1",
            Self::Dilated => "it needs a kernel without dilation",
            Self::KernelTooLarge => {
                "the kernel leaves less than a quarter of the outputs of the largest transform, 128x128"
            }
            Self::SpectraTooLarge => "the transforms of the weights would need more than a gigabyte",
        })
    }
}
