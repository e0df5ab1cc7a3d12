//! [`Rule`]: how a gradient becomes a step. [`Penalty`]: what large weights cost.

use super::text::{Fields, float};
use std::fmt;
use std::str::FromStr;

/// How a gradient `g` becomes a step of the weights `w`, with learning rate `a`.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Rule {
    /// Stochastic gradient descent: `w -= a g`.
    Sgd,
    /// Momentum (Polyak 1964): `v = m v + g`, `w -= a v`.
    Momentum {
        /// The share `m` of the last step's velocity.
        momentum: f32,
    },
    /// Nesterov's accelerated gradient in the variables of the point where the gradient is taken (Sutskever et al.
    /// 2013, section 2; Bengio et al. 2013, eq. 7): `v = m v + g`, `w -= a (g + m v)`.
    Nesterov {
        /// The share `m` of the last step's velocity.
        momentum: f32,
    },
    /// Nesterov's accelerated gradient as it is usually written: `v = m v - a g`, `p += v`, where `g` is the gradient
    /// at `w = p + m v`. The network holds `w`; the optimiser holds `p`.
    ///
    /// At a constant learning rate it visits the same points as [`Nesterov`](Self::Nesterov).
    LookAhead {
        /// The share `m` of the last step's velocity.
        momentum: f32,
    },
    /// AdaGrad (Duchi et al. 2011): `s += g^2`, `w -= a g / (sqrt(s) + e)`.
    AdaGrad {
        /// The number `e` that keeps the first divisions finite.
        epsilon: f32,
    },
    /// RMSProp (Tieleman and Hinton 2012): `s = d s + (1 - d) g^2`, `w -= a g / (sqrt(s) + e)`.
    RmsProp {
        /// The share `d` of the old squares.
        decay: f64,
        /// The number `e` that keeps divisions finite.
        epsilon: f32,
    },
    /// Adam (Kingma and Ba 2015, algorithm 1): `m = b1 m + (1 - b1) g`, `s = b2 s + (1 - b2) g^2`,
    /// `w -= a m' / (sqrt(s') + e)`, where `m' = m / (1 - b1^t)` and `s' = s / (1 - b2^t)` in step `t`.
    Adam {
        /// The shares `b1` and `b2` of the old mean and of the old squares.
        betas: (f64, f64),
        /// The number `e` that keeps divisions finite.
        epsilon: f32,
        /// Whether `m` and `s`, which start at zero, are divided by their missing part.
        correction: bool,
    },
    /// Adam with weight decay outside of the gradient (Loshchilov and Hutter 2019, algorithm 2): `w -= a l w` before the
    /// step of [`Adam`](Self::Adam).
    AdamW {
        /// As in [`Adam`](Self::Adam).
        betas: (f64, f64),
        /// As in [`Adam`](Self::Adam).
        epsilon: f32,
        /// The decay `l`. It applies to the weights that a [`Penalty`] applies to.
        decay: f32,
    },
}

/// The betas that Kingma and Ba recommend.
const BETAS: (f64, f64) = (0.9, 0.999);
const EPSILON: f32 = 1e-8;

impl Rule {
    /// The names of [`FromStr`], for messages.
    pub const NAMES: &str = "sgd, momentum[:M], nesterov[:M], look-ahead[:M], adagrad[:E], rmsprop[:DECAY[,E]], \
         adam[:B1,B2[,E]], adam-uncorrected[:B1,B2[,E]] or adamw[:DECAY[,B1,B2[,E]]]";

    /// [`Momentum`](Self::Momentum) with this share.
    pub const fn momentum(momentum: f32) -> Self {
        Self::Momentum { momentum }
    }

    /// [`Adam`](Self::Adam) with the numbers that its paper recommends.
    pub const fn adam() -> Self {
        Self::Adam { betas: BETAS, epsilon: EPSILON, correction: true }
    }

    /// [`AdamW`](Self::AdamW) with this decay and the numbers that the paper of Adam recommends.
    pub const fn adamw(decay: f32) -> Self {
        Self::AdamW { betas: BETAS, epsilon: EPSILON, decay }
    }

    /// The names of the tensors that the rule keeps for each parameter.
    pub(super) const fn buffers(self) -> &'static [&'static str] {
        match self {
            Self::Sgd => &[],
            Self::Momentum { .. } | Self::Nesterov { .. } => &["velocity"],
            Self::LookAhead { .. } => &["velocity", "position"],
            Self::AdaGrad { .. } | Self::RmsProp { .. } => &["squares"],
            Self::Adam { .. } | Self::AdamW { .. } => &["mean", "squares"],
        }
    }

    /// A learning rate that usually trains.
    pub const fn usual_rate(self) -> f64 {
        match self {
            Self::Sgd => 0.1,
            Self::Momentum { .. } | Self::Nesterov { .. } | Self::LookAhead { .. } | Self::AdaGrad { .. } => {
                0.02
            }
            Self::RmsProp { .. } | Self::Adam { .. } | Self::AdamW { .. } => 0.002,
        }
    }
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut fields = Fields::new(text, Self::NAMES)?;
        let (share, share64) = (0.0..1.0, 0.0..1.0);
        let positive = f32::MIN_POSITIVE..1.0;
        let rule = match fields.name {
            "sgd" => Self::Sgd,
            "momentum" => Self::Momentum { momentum: fields.float("momentum", 0.9, &share)? },
            "nesterov" => Self::Nesterov { momentum: fields.float("momentum", 0.9, &share)? },
            "look-ahead" => Self::LookAhead { momentum: fields.float("momentum", 0.9, &share)? },
            "adagrad" => Self::AdaGrad { epsilon: fields.float("epsilon", 1e-10, &positive)? },
            "rmsprop" => Self::RmsProp {
                decay: fields.number("decay", 0.99, &share64)?,
                epsilon: fields.float("epsilon", EPSILON, &positive)?,
            },
            name @ ("adam" | "adam-uncorrected") => Self::Adam {
                betas: (
                    fields.number("beta 1", BETAS.0, &share64)?,
                    fields.number("beta 2", BETAS.1, &share64)?,
                ),
                epsilon: fields.float("epsilon", EPSILON, &positive)?,
                correction: name == "adam",
            },
            "adamw" => Self::AdamW {
                decay: fields.float("decay", 0.01, &share)?,
                betas: (
                    fields.number("beta 1", BETAS.0, &share64)?,
                    fields.number("beta 2", BETAS.1, &share64)?,
                ),
                epsilon: fields.float("epsilon", EPSILON, &positive)?,
            },
            _ => return Err(fields.unknown()),
        };
        fields.end()?;
        Ok(rule)
    }
}

/// The text that [`FromStr`] reads back to the same bits.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Sgd => f.write_str("sgd"),
            Self::Momentum { momentum } => write!(f, "momentum:{}", float(momentum)),
            Self::Nesterov { momentum } => write!(f, "nesterov:{}", float(momentum)),
            Self::LookAhead { momentum } => write!(f, "look-ahead:{}", float(momentum)),
            Self::AdaGrad { epsilon } => write!(f, "adagrad:{}", float(epsilon)),
            Self::RmsProp { decay, epsilon } => write!(f, "rmsprop:{},{}", float(decay), float(epsilon)),
            Self::Adam { betas: (b1, b2), epsilon, correction } => {
                let name = if correction { "adam" } else { "adam-uncorrected" };
                write!(f, "{name}:{},{},{}", float(b1), float(b2), float(epsilon))
            }
            Self::AdamW { betas: (b1, b2), epsilon, decay } => {
                write!(f, "adamw:{},{},{},{}", float(decay), float(b1), float(b2), float(epsilon))
            }
        }
    }
}

/// What large weights cost, besides the loss: `l2 / 2` times the sum of squares, and `l1` times the sum of absolute
/// values. Both together are the elastic net (Zou and Hastie 2005).
///
/// It applies to filters and matrices. Biases, and the scales and shifts of normalisations, are free.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Penalty {
    /// The strength of the sum of absolute values. It drives weights to exactly zero.
    pub l1: f32,
    /// The strength of the sum of squares. It prefers many small weights over a few large ones.
    pub l2: f32,
}

impl Penalty {
    /// The cost of these weights.
    pub fn cost(&self, weights: &[f32]) -> f64 {
        let sum = |of: fn(f64) -> f64| weights.iter().map(|&weight| of(f64::from(weight))).sum::<f64>();
        let squares =
            if self.l2 == 0.0 { 0.0 } else { f64::from(self.l2) / 2.0 * sum(|weight| weight * weight) };
        let sizes = if self.l1 == 0.0 { 0.0 } else { f64::from(self.l1) * sum(f64::abs) };
        squares + sizes
    }

    /// Adds the derivative of the cost at `weights` to a gradient.
    pub fn add_gradient(&self, gradient: &mut [f32], weights: &[f32]) {
        let elements = gradient.iter_mut().zip(weights);
        elements.for_each(|(gradient, &weight)| *gradient = self.gradient(*gradient, weight));
    }

    /// Adds the derivative of the cost to a gradient.
    #[inline(always)]
    pub(super) fn gradient(self, gradient: f32, weight: f32) -> f32 {
        let sign = f32::from(u8::from(weight > 0.0)) - f32::from(u8::from(weight < 0.0));
        gradient + self.l2 * weight + self.l1 * sign
    }
}
