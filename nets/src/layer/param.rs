//! [`Param`]: a parameter tensor of a layer, and its role.

/// A parameter tensor of a layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Param {
    /// The name in its layer: `"weight"`, `"bias"`, `"running_mean"` and so on. The full name is `layer.weight`.
    pub name: &'static str,
    /// Extents, outermost first.
    pub dims: Vec<usize>,
    /// The role of the tensor.
    pub role: Role,
}

/// The role of a tensor, which decides how it is initialised and counted.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Role {
    /// A matrix or filter, multiplied by the inputs and summed over them.
    Weight {
        /// Number of inputs per output.
        fan_in: f64,
        /// Number of outputs per input.
        fan_out: f64,
    },
    /// A bias, added to the sums of a convolution or a fully connected layer.
    Bias,
    /// A slope of PReLU, multiplied by negative inputs.
    Slope,
    /// A scale, multiplied by each channel.
    Scale,
    /// A shift, added to each channel after the scale.
    Shift,
    /// The running mean of batch normalisation. It is not trained by gradient descent and is counted separately.
    RunningMean,
    /// The running variance of batch normalisation. It is not trained by gradient descent and is counted separately.
    RunningVar,
    /// Fixed values that are never trained: the output codes of LeNet-5. They are counted separately.
    Fixed,
}

impl Role {
    /// Whether the tensor counts as a parameter. No tool or paper counts running statistics or fixed codes.
    pub const fn is_trained(self) -> bool {
        !matches!(self, Self::RunningMean | Self::RunningVar | Self::Fixed)
    }
}

impl Param {
    /// Number of elements; `None` if it overflows 64 bits.
    pub fn len(&self) -> Option<u64> {
        product(&self.dims)
    }

    /// Whether the tensor has no elements.
    pub fn is_empty(&self) -> bool {
        self.dims.contains(&0)
    }

    pub(super) fn weight(dims: Vec<usize>, fan_in: f64, fan_out: f64) -> Self {
        Self { name: "weight", dims, role: Role::Weight { fan_in, fan_out } }
    }

    /// A tensor with one element per channel.
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
