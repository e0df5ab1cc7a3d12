//! Operations fused after the sum: `out = activation(acc + bias[o] + residual[n, o, y, x])`, in this order.

use crate::describe::ConvError;

/// An activation function. Convolutions apply it while the sum is still in registers.
///
/// Every activation maps NaN to NaN.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Activation {
    /// The identity.
    None,
    /// `max(x, 0)`.
    Relu,
    /// `x` for `x >= 0`, `alpha * x` below.
    LeakyRelu {
        /// Slope for negative inputs.
        alpha: f32,
    },
    /// `min(max(x, lo), hi)`. ReLU6 is [`Activation::RELU6`].
    Clip {
        /// The smallest result.
        lo: f32,
        /// The largest result.
        hi: f32,
    },
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// `x` for `x >= 0`, `alpha * (exp(x) - 1)` below (Clevert et al. 2016, eq. 15).
    Elu {
        /// The negated limit for large negative inputs.
        alpha: f32,
    },
    /// `x` for `x >= 0`, `slope[o] * x` below: one trained slope per output channel (He et al. 2015, eq. 1).
    PRelu,
    /// `x * min(max(x + 3, 0), 6) / 6` (Howard et al. 2019, section 5.2).
    HardSwish,
    /// `x * sigmoid(x)`, also called swish.
    Silu,
}

impl Activation {
    /// ReLU6: `min(max(x, 0), 6)`.
    pub const RELU6: Self = Self::Clip { lo: 0.0, hi: 6.0 };

    /// The name in tables, for example `"relu"` or `"leaky_relu"`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Relu => "relu",
            Self::LeakyRelu { .. } => "leaky_relu",
            Self::Clip { .. } => "clip",
            Self::Sigmoid => "sigmoid",
            Self::Tanh => "tanh",
            Self::Elu { .. } => "elu",
            Self::PRelu => "prelu",
            Self::HardSwish => "hard_swish",
            Self::Silu => "silu",
        }
    }

    /// Evaluates the function in `f64`. Every kernel is tested against it. `slope` is the slope of PReLU.
    pub fn eval(self, x: f64, slope: f64) -> f64 {
        match self {
            Self::None => x,
            Self::Relu => {
                if x < 0.0 {
                    0.0
                } else {
                    x
                }
            }
            Self::LeakyRelu { alpha } => {
                if x < 0.0 {
                    x * f64::from(alpha)
                } else {
                    x
                }
            }
            Self::Clip { lo, hi } => {
                if x.is_nan() {
                    x
                } else {
                    x.max(f64::from(lo)).min(f64::from(hi))
                }
            }
            Self::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Self::Tanh => x.tanh(),
            Self::Elu { alpha } => {
                if x < 0.0 {
                    f64::from(alpha) * x.exp_m1()
                } else {
                    x
                }
            }
            Self::PRelu => {
                if x < 0.0 {
                    x * slope
                } else {
                    x
                }
            }
            Self::HardSwish => x * ((x + 3.0).clamp(0.0, 6.0) / 6.0),
            Self::Silu => x / (1.0 + (-x).exp()),
        }
    }

    /// Whether the output determines the gradient of the input, so that the input need not be kept for it.
    pub fn is_known_by_output(self) -> bool {
        match self {
            Self::LeakyRelu { alpha } | Self::Elu { alpha } => alpha > 0.0,
            Self::None | Self::Relu | Self::Clip { .. } | Self::Sigmoid | Self::Tanh => true,
            Self::PRelu | Self::HardSwish | Self::Silu => false,
        }
    }

    pub(crate) fn check(self) -> Result<(), ConvError> {
        match self {
            Self::Clip { lo, hi } if !matches!(lo.partial_cmp(&hi), Some(o) if o.is_le()) => {
                Err(ConvError::field("activation.clip", "lo <= hi", format!("lo {lo}, hi {hi}")))
            }
            Self::LeakyRelu { alpha } | Self::Elu { alpha } if !alpha.is_finite() => {
                Err(ConvError::field("activation.alpha", "a finite number", alpha))
            }
            _ => Ok(()),
        }
    }
}

/// The operands of the epilogue. Bias and slopes are passed with the weights, the residual at run time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EpilogueSpec {
    /// Whether to add a bias: one element per output channel.
    pub bias: bool,
    /// Whether to add a residual tensor with the shape and layout of the output.
    pub residual: bool,
    /// The activation, applied last.
    pub activation: Activation,
}

impl EpilogueSpec {
    /// No epilogue: the plain sum.
    pub const NONE: Self = Self { bias: false, residual: false, activation: Activation::None };

    /// A bias, then `activation`.
    pub const fn bias(activation: Activation) -> Self {
        Self { bias: true, residual: false, activation }
    }
}
