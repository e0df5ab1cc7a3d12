//! [`Algorithm`]: the ways to compute a convolution, and what each of them can do.

use crate::algo::{depthwise, direct, pointwise};
use crate::describe::ConvDesc;
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
}

impl Algorithm {
    /// Every algorithm, for tests and tables.
    pub const ALL: [Self; 5] =
        [Self::Reference, Self::Im2colGemm, Self::Pointwise, Self::Direct, Self::Depthwise];

    /// `"reference"`, `"im2col_gemm"`, `"pointwise"`, `"direct"` or `"depthwise"`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::Im2colGemm => "im2col_gemm",
            Self::Pointwise => "pointwise",
            Self::Direct => "direct",
            Self::Depthwise => "depthwise",
        }
    }

    /// Whether this algorithm can do `desc`, or why not.
    ///
    /// # Errors
    /// The reason.
    pub fn supports(self, desc: &ConvDesc) -> Result<(), Unsupported> {
        match self {
            Self::Reference | Self::Im2colGemm => Ok(()),
            Self::Pointwise => pointwise::supports(desc),
            Self::Direct => direct::supports(desc),
            Self::Depthwise => depthwise::supports(desc),
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
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
        })
    }
}
