//! [`Param`]: one tensor of numbers that belongs to a layer, and what it is for.

/// One tensor of numbers of a layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Param {
    /// `"weight"`, `"bias"`, `"running_mean"`, ...; the full name is `layer.weight`.
    pub name: &'static str,
    /// Extents, outermost first.
    pub dims: Vec<usize>,
    /// What it is for.
    pub role: Role,
}

/// What a tensor is for: how it is initialised and counted depends on it.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Role {
    /// Multiplies inputs and sums over them.
    Weight {
        /// Inputs of one output.
        fan_in: f64,
        /// Outputs of one input.
        fan_out: f64,
    },
    /// Is added to the sums of a convolution or a fully connected layer.
    Bias,
    /// Multiplies the negative half of PReLU.
    Slope,
    /// Multiplies each channel.
    Scale,
    /// Is added to each channel after the scale.
    Shift,
    /// The mean that batch normalisation has seen: not trained by descent, counted apart.
    RunningMean,
    /// The variance that batch normalisation has seen: not trained by descent, counted apart.
    RunningVar,
    /// Fixed by hand, never trained: the codes of LeNet-5's output layer. Counted apart.
    Fixed,
}

impl Role {
    /// Whether it counts as a parameter. Running statistics and fixed codes do not, in any tool or paper.
    pub const fn is_trained(self) -> bool {
        !matches!(self, Self::RunningMean | Self::RunningVar | Self::Fixed)
    }
}

impl Param {
    /// Elements, if they fit 64 bits.
    pub fn len(&self) -> Option<u64> {
        product(&self.dims)
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.dims.contains(&0)
    }

    pub(super) fn weight(dims: Vec<usize>, fan_in: f64, fan_out: f64) -> Self {
        Self { name: "weight", dims, role: Role::Weight { fan_in, fan_out } }
    }

    /// One number per channel.
    pub(super) fn vector(name: &'static str, len: usize, role: Role) -> Self {
        Self { name, dims: vec![len], role }
    }

    pub(super) fn bias(len: usize) -> Self {
        Self::vector("bias", len, Role::Bias)
    }
}

pub(super) fn product(factors: &[usize]) -> Option<u64> {
    factors.iter().try_fold(1u64, |product, &factor| product.checked_mul(u64::try_from(factor).ok()?))
}
