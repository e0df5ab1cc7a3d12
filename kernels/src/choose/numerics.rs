//! [`Numerics`]: how large the rounding errors of a chosen method can be.

use crate::algo::winograd;
use crate::describe::{Algorithm, AlgorithmKind, ConvDesc, ConvError, Method, Products, by_name};
use std::fmt;
use std::str::FromStr;

/// Upper bound on the rounding error of the algorithm that [`Select::Auto`](super::Select::Auto) or
/// [`Select::Measured`](super::Select::Measured) chooses. [`Select::Force`](super::Select::Force) ignores it.
///
/// The bounds apply to whole outputs on the reference distribution: weights are normal with variance `2 / K`,
/// and inputs are absolute values of normal numbers, as after a ReLU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[non_exhaustive]
pub enum Numerics {
    /// Reordered summation only: each output has the error of a sum of its own products.
    Strict,
    /// At most 2e-6 relative L2 error, and no output off by more than 5e-6 of the largest output. The error
    /// of an output can be relative to inputs near the ones it depends on.
    #[default]
    Default,
    /// At most 6e-6 relative L2 error, and no output off by more than 2e-5 of the largest output.
    Fast,
    /// At most 5e-4 relative L2 error, and no output off by more than 2e-3 of the largest output. This is the
    /// error of TF32, with which GPUs compute convolutions.
    Tf32,
    /// At most 4e-3 relative L2 error, and no output off by more than 2e-2 of the largest output. This is the
    /// error of operands that are rounded to bf16.
    Bf16,
}

impl Numerics {
    /// Every level, the strictest first.
    pub const ALL: [Self; 5] = [Self::Strict, Self::Default, Self::Fast, Self::Tf32, Self::Bf16];

    /// `"strict"`, `"default"`, `"fast"`, `"tf32"` or `"bf16"`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Default => "default",
            Self::Fast => "fast",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
        }
    }
}

impl fmt::Display for Numerics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Numerics {
    type Err = ConvError;

    /// By its [`name`](Self::name).
    fn from_str(text: &str) -> Result<Self, ConvError> {
        by_name("numerics", &Self::ALL, Self::name, text)
    }
}

impl Algorithm {
    /// The strictest [`Numerics`] under which this algorithm can be chosen for `desc`.
    pub fn numerics(self, desc: &ConvDesc) -> Numerics {
        match self.kind() {
            // With eight points along both axes the transforms amplify rounding errors too much.
            AlgorithmKind::Winograd(outputs)
                if winograd::fewest_points(&desc.reduced().desc, outputs) > 6 =>
            {
                Numerics::Fast
            }
            AlgorithmKind::Winograd(_) | AlgorithmKind::Fft => Numerics::Default,
            _ => Numerics::Strict,
        }
    }
}

impl Products {
    /// The strictest [`Numerics`] under which an algorithm without transforms can have these products.
    pub(super) fn numerics(self) -> Numerics {
        match self {
            Self::F32 => Numerics::Strict,
            Self::Bf16x6 => Numerics::Default,
            Self::Bf16x3 => Numerics::Fast,
            Self::Bf16 => Numerics::Bf16,
        }
    }
}

impl Method {
    /// The strictest [`Numerics`] under which this method can be chosen for `desc`.
    pub fn numerics(self, desc: &ConvDesc) -> Numerics {
        let of_products = match (self.products, self.algorithm.kind()) {
            // The transforms amplify what three products leave out.
            (Products::Bf16x3, AlgorithmKind::Winograd(_)) => Numerics::Tf32,
            (products, _) => products.numerics(),
        };
        of_products.max(self.algorithm.numerics(desc))
    }
}
