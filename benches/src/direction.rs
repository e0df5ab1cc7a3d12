//! The directions in which the layer of a list can be computed.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What is computed of a layer. Every direction has the multiply-accumulates and the tensors of the convolution: two of
/// them are read, and the third one is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// The convolution
    Forward,
    /// The gradient with respect to the input
    Data,
    /// The gradients with respect to the filter and a bias
    Weights,
    /// The transposed convolution that leads from the layer's output to its input
    Transposed,
}

impl Direction {
    /// Every direction.
    pub const ALL: [Self; 4] = [Self::Forward, Self::Data, Self::Weights, Self::Transposed];

    /// The name in arguments and rows.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Data => "data",
            Self::Weights => "weights",
            Self::Transposed => "transposed",
        }
    }

    /// The two tensors that are read, in the order of the peers' requests.
    pub(crate) const fn operands(self, [input, filter, output]: [&[f32]; 3]) -> [&[f32]; 2] {
        match self {
            Self::Forward => [input, filter],
            Self::Data | Self::Transposed => [output, filter],
            Self::Weights => [input, output],
        }
    }

    /// Whether the library computes it with a plan for each phase of the stride.
    pub(crate) const fn has_phases(self) -> bool {
        matches!(self, Self::Data | Self::Transposed)
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_rows_and_tables_use_the_same_names() {
        for direction in Direction::ALL {
            assert_eq!(Direction::from_str(direction.name(), false), Ok(direction));
            assert_eq!(serde_json::to_value(direction).unwrap(), direction.name());
        }
    }
}
