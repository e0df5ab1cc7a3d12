//! Functions of one or two numbers that tensors are computed with, element by element.

use super::erf::erf;

/// A function of one number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Unary {
    Abs,
    Acos,
    Acosh,
    Asin,
    Asinh,
    Atan,
    Atanh,
    Ceil,
    Cos,
    Cosh,
    Erf,
    Exp,
    Floor,
    IsNan,
    Log,
    Mish,
    Neg,
    Not,
    Reciprocal,
    Relu,
    /// Rounds halves to even.
    Round,
    Sigmoid,
    Sign,
    Sin,
    Sinh,
    Softplus,
    Softsign,
    Sqrt,
    Tan,
    Tanh,
    /// Towards zero, as a conversion to integers.
    Trunc,
    /// 1 for every number but 0, as a conversion to truth values.
    Truth,
    Celu {
        alpha: f32,
    },
    /// The upper limit wins if the limits cross.
    Clip {
        lo: f32,
        hi: f32,
    },
    Elu {
        alpha: f32,
    },
    Gelu,
    /// With `tanh` in the place of the error function (Hendrycks and Gimpel 2016, section 2).
    GeluTanh,
    HardSigmoid {
        alpha: f32,
        beta: f32,
    },
    HardSwish,
    IsInf {
        negative: bool,
        positive: bool,
    },
    LeakyRelu {
        alpha: f32,
    },
    Linear {
        scale: f32,
        shift: f32,
    },
    Selu {
        alpha: f32,
        gamma: f32,
    },
    Shrink {
        bias: f32,
        lambd: f32,
    },
    /// `x * sigmoid(alpha * x)`.
    Swish {
        alpha: f32,
    },
    ThresholdedRelu {
        alpha: f32,
    },
}

impl Unary {
    /// The kind in tables.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Abs => "abs",
            Self::Acos => "acos",
            Self::Acosh => "acosh",
            Self::Asin => "asin",
            Self::Asinh => "asinh",
            Self::Atan => "atan",
            Self::Atanh => "atanh",
            Self::Ceil => "ceil",
            Self::Cos => "cos",
            Self::Cosh => "cosh",
            Self::Erf => "erf",
            Self::Exp => "exp",
            Self::Floor => "floor",
            Self::IsNan => "is_nan",
            Self::Log => "log",
            Self::Mish => "mish",
            Self::Neg => "neg",
            Self::Not => "not",
            Self::Reciprocal => "reciprocal",
            Self::Relu => "relu",
            Self::Round => "round",
            Self::Sigmoid => "sigmoid",
            Self::Sign => "sign",
            Self::Sin => "sin",
            Self::Sinh => "sinh",
            Self::Softplus => "softplus",
            Self::Softsign => "softsign",
            Self::Sqrt => "sqrt",
            Self::Tan => "tan",
            Self::Tanh => "tanh",
            Self::Trunc => "cast",
            Self::Truth => "cast",
            Self::Celu { .. } => "celu",
            Self::Clip { .. } => "clip",
            Self::Elu { .. } => "elu",
            Self::Gelu => "gelu",
            Self::GeluTanh => "gelu",
            Self::HardSigmoid { .. } => "hard_sigmoid",
            Self::HardSwish => "hard_swish",
            Self::IsInf { .. } => "is_inf",
            Self::LeakyRelu { .. } => "leaky_relu",
            Self::Linear { .. } => "linear",
            Self::Selu { .. } => "selu",
            Self::Shrink { .. } => "shrink",
            Self::Swish { .. } => "swish",
            Self::ThresholdedRelu { .. } => "thresholded_relu",
        }
    }

    /// Applies the function to every element of `from`.
    pub(crate) fn map(self, from: &[f32], to: &mut [f32]) {
        // One loop per function, so that the compiler can use vectors.
        fn each(from: &[f32], to: &mut [f32], f: impl Fn(f32) -> f32) {
            to.iter_mut().zip(from).for_each(|(to, &from)| *to = f(from));
        }
        match self {
            Self::Abs => each(from, to, f32::abs),
            Self::Neg => each(from, to, |x| -x),
            Self::Sqrt => each(from, to, f32::sqrt),
            Self::Relu => each(from, to, |x| if x < 0.0 { 0.0 } else { x }),
            Self::Reciprocal => each(from, to, |x| 1.0 / x),
            Self::Clip { lo, hi } => each(from, to, |x| clip(x, lo, hi)),
            Self::Linear { scale, shift } => each(from, to, |x| x * scale + shift),
            Self::Erf => each(from, to, erf),
            Self::Gelu => each(from, to, |x| Self::Gelu.at(x)),
            Self::HardSigmoid { alpha, beta } => each(from, to, |x| clip(x * alpha + beta, 0.0, 1.0)),
            Self::HardSwish => each(from, to, |x| x * clip(x / 6.0 + 0.5, 0.0, 1.0)),
            _ => each(from, to, |x| self.at(x)),
        }
    }

    /// The function of one number.
    pub(crate) fn at(self, x: f32) -> f32 {
        match self {
            Self::Abs => x.abs(),
            Self::Acos => x.acos(),
            Self::Acosh => x.acosh(),
            Self::Asin => x.asin(),
            Self::Asinh => x.asinh(),
            Self::Atan => x.atan(),
            Self::Atanh => x.atanh(),
            Self::Ceil => x.ceil(),
            Self::Cos => x.cos(),
            Self::Cosh => x.cosh(),
            Self::Erf => erf(x),
            Self::Exp => x.exp(),
            Self::Floor => x.floor(),
            Self::IsNan => truth(x.is_nan()),
            Self::Log => x.ln(),
            Self::Mish => x * softplus(x).tanh(),
            Self::Neg => -x,
            Self::Not => truth(x == 0.0),
            Self::Reciprocal => 1.0 / x,
            Self::Relu => {
                if x < 0.0 {
                    0.0
                } else {
                    x
                }
            }
            Self::Round => x.round_ties_even(),
            Self::Sigmoid => sigmoid(x),
            Self::Sign => {
                if x == 0.0 || x.is_nan() {
                    x
                } else {
                    x.signum()
                }
            }
            Self::Sin => x.sin(),
            Self::Sinh => x.sinh(),
            Self::Softplus => softplus(x),
            Self::Softsign => x / (1.0 + x.abs()),
            Self::Sqrt => x.sqrt(),
            Self::Tan => x.tan(),
            Self::Tanh => x.tanh(),
            Self::Trunc => x.trunc(),
            Self::Truth => truth(x != 0.0),
            Self::Celu { alpha } => x.max(0.0) + (alpha * (x / alpha).exp_m1()).min(0.0),
            Self::Clip { lo, hi } => clip(x, lo, hi),
            Self::Elu { alpha } => {
                if x < 0.0 {
                    alpha * x.exp_m1()
                } else {
                    x
                }
            }
            Self::Gelu => 0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2)),
            Self::GeluTanh => {
                let inner = (2.0 / std::f64::consts::PI).sqrt() as f32 * (x + 0.044_715 * x * x * x);
                0.5 * x * (1.0 + inner.tanh())
            }
            Self::HardSigmoid { alpha, beta } => clip(x * alpha + beta, 0.0, 1.0),
            Self::HardSwish => x * clip(x / 6.0 + 0.5, 0.0, 1.0),
            Self::IsInf { negative, positive } => {
                truth(negative && x == f32::NEG_INFINITY || positive && x == f32::INFINITY)
            }
            Self::LeakyRelu { alpha } => {
                if x < 0.0 {
                    alpha * x
                } else {
                    x
                }
            }
            Self::Linear { scale, shift } => x * scale + shift,
            Self::Selu { alpha, gamma } => gamma * if x > 0.0 { x } else { alpha * x.exp_m1() },
            Self::Shrink { bias, lambd } => {
                if x < -lambd {
                    x + bias
                } else if x > lambd {
                    x - bias
                } else {
                    0.0
                }
            }
            Self::Swish { alpha } => x * sigmoid(alpha * x),
            Self::ThresholdedRelu { alpha } => {
                if x > alpha {
                    x
                } else {
                    0.0
                }
            }
        }
    }
}

/// A function of two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    /// A quotient of integers, towards zero.
    DivWhole,
    /// A quotient that is 0 if both numbers are.
    DivOrZero,
    Pow,
    Min,
    Max,
    /// The remainder with the sign of the divisor.
    Mod,
    /// The remainder with the sign of the dividend.
    Fmod,
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    And,
    Or,
    Xor,
    /// The first number, times the second one if the first one is negative.
    PRelu,
}

impl Binary {
    /// The kind in tables.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Sub => "sub",
            Self::Mul => "mul",
            Self::Div => "div",
            Self::DivWhole => "div",
            Self::DivOrZero => "div",
            Self::Pow => "pow",
            Self::Min => "min",
            Self::Max => "max",
            Self::Mod => "mod",
            Self::Fmod => "mod",
            Self::Equal => "equal",
            Self::Less => "less",
            Self::LessOrEqual => "less_or_equal",
            Self::Greater => "greater",
            Self::GreaterOrEqual => "greater_or_equal",
            Self::And => "and",
            Self::Or => "or",
            Self::Xor => "xor",
            Self::PRelu => "prelu",
        }
    }

    /// The function of two numbers.
    #[inline(always)]
    pub(crate) fn at(self, a: f32, b: f32) -> f32 {
        match self {
            Self::Add => a + b,
            Self::Sub => a - b,
            Self::Mul => a * b,
            Self::Div => a / b,
            Self::DivWhole => (a / b).trunc(),
            Self::DivOrZero => {
                if b == 0.0 {
                    0.0
                } else {
                    a / b
                }
            }
            Self::Pow => a.powf(b),
            Self::Min => {
                if a.is_nan() || a < b {
                    a
                } else {
                    b
                }
            }
            Self::Max => {
                if a.is_nan() || a > b {
                    a
                } else {
                    b
                }
            }
            Self::Mod => {
                let rest = a % b;
                if rest != 0.0 && (rest < 0.0) != (b < 0.0) { rest + b } else { rest }
            }
            Self::Fmod => a % b,
            Self::Equal => truth(a == b),
            Self::Less => truth(a < b),
            Self::LessOrEqual => truth(a <= b),
            Self::Greater => truth(a > b),
            Self::GreaterOrEqual => truth(a >= b),
            Self::And => truth(a != 0.0 && b != 0.0),
            Self::Or => truth(a != 0.0 || b != 0.0),
            Self::Xor => truth((a != 0.0) != (b != 0.0)),
            Self::PRelu => {
                if a < 0.0 {
                    a * b
                } else {
                    a
                }
            }
        }
    }
}

pub(crate) fn truth(is: bool) -> f32 {
    f32::from(u8::from(is))
}

/// `sigmoid` without an overflow for large negative numbers.
pub(crate) fn sigmoid(x: f32) -> f32 {
    if x >= 0.0 {
        1.0 / (1.0 + (-x).exp())
    } else {
        let e = x.exp();
        e / (1.0 + e)
    }
}

fn softplus(x: f32) -> f32 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// As ONNX defines it: `min(max(x, lo), hi)`, which keeps NaN.
fn clip(x: f32, lo: f32, hi: f32) -> f32 {
    let x = if x < lo { lo } else { x };
    if x > hi { hi } else { x }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remainders_have_the_sign_of_the_divisor_or_of_the_dividend() {
        assert_eq!((Binary::Mod.at(-7.0, 3.0), Binary::Fmod.at(-7.0, 3.0)), (2.0, -1.0));
        assert_eq!((Binary::Mod.at(7.0, -3.0), Binary::Fmod.at(7.0, -3.0)), (-2.0, 1.0));
    }
}
