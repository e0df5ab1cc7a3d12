//! Elementary functions on vectors, and the activations that are made of them.

use super::{STEPS_OFFSET, Simd};

/// ln 2 in two parts. The product of the first with an integer below 2^13 is exact.
const LN2_HI: f32 = 0.693_359_4;
const LN2_LO: f32 = -2.121_944_4e-4;

/// `(exp(r) - 1 - r) / r^2` for `|r| <= ln 2 / 2`: coefficients of the Remez algorithm.
const Q: [f32; 5] = [0.5, 0.166_665_44, 0.041_666_284, 0.008_366_572, 0.001_394_642_7];

/// Returns `exp(x)` and `exp(x) - 1` for `x <= 0`, both with an error of about 1 ulp.
///
/// ```text
/// x = n ln 2 + r,  |r| <= ln 2 / 2                  // ln 2 in two parts: Cody and Waite 1980, section 6
/// exp(r) - 1 = r + r^2 Q(r)                         // Q is a minimax polynomial of degree 4
/// exp(x)     = 2^n (exp(r) - 1) + 2^n
/// exp(x) - 1 = 2^n (exp(r) - 1) + (2^n - 1)         // does not cancel near zero
/// ```
///
/// The relative error of the polynomial is 1.4e-8.
#[inline(always)]
pub(super) fn exp_and_expm1<S: Simd>(s: S, x: S::V) -> (S::V, S::V) {
    /// Below this, 2^n is smaller than every normal number, and exp is taken as zero.
    const LOWEST: f32 = -87.336_54;
    let clamped = s.max(s.splat(LOWEST), x); // a NaN passes through
    let n = s.round(s.mul(clamped, s.splat(std::f32::consts::LOG2_E)));
    let r = s.mul_add(n, s.splat(-LN2_HI), clamped);
    let r = s.mul_add(n, s.splat(-LN2_LO), r);
    let mut q = s.splat(Q[4]);
    for coefficient in [Q[3], Q[2], Q[1], Q[0]] {
        q = s.mul_add(q, r, s.splat(coefficient));
    }
    let p = s.mul_add(s.mul(r, r), q, r);
    let scale = s.pow2(n);
    let (exp, expm1) = (s.mul_add(scale, p, scale), s.mul_add(scale, p, s.sub(scale, s.splat(1.0))));
    let above = s.sub(x, s.splat(LOWEST));
    (s.where_negative(above, s.splat(0.0), exp), s.where_negative(above, s.splat(-1.0), expm1))
}

/// `exp(x)` for `x <= 0`.
#[cfg_attr(not(feature = "ops"), allow(dead_code))] // softmax uses it
#[inline(always)]
pub(crate) fn exp_nonpositive<S: Simd>(s: S, x: S::V) -> S::V {
    exp_and_expm1(s, x).0
}

#[inline(always)]
pub(super) fn negative_abs<S: Simd>(s: S, x: S::V) -> S::V {
    s.min(s.sub(s.splat(0.0), x), x)
}

/// `(exp(-r) - 1 + r) / r^2` in powers of `-r`, for `|r| <= ln 2 / 2 / steps`: terms of the series that leave a relative error
/// below 1e-8, or [`Q`].
const fn q_of_steps(steps: usize) -> &'static [f32] {
    match steps {
        16 => &[0.5, 1.0 / 6.0],
        8 => &[0.5, 1.0 / 6.0, 1.0 / 24.0],
        _ => &Q,
    }
}

/// Returns `1 + exp(-x)`, the divisor of the logistic function, with an error of about 2 ulp. It is infinity below -88.7.
///
/// ```text
/// -x = n ln 2 - r,  |r| <= ln 2 / 2 / steps         // n is a multiple of 1 / steps
/// 1 + exp(-x) = 2^n (1 - r + r^2 Q(r)) + 1          // 2^128 is infinity
/// ```
///
/// With 16 steps, `Q` has degree 1 instead of 4, and `2^n` takes one instruction more: the table of Tang 1989, *Table-driven
/// implementation of the exponential function in IEEE floating-point arithmetic*.
#[inline(always)]
fn one_plus_exp_of_negative<S: Simd>(s: S, x: S::V) -> S::V {
    /// Above this, exp(-x) is less than half an ulp of 1. A larger x would leave |r| without a bound.
    const HIGHEST: f32 = 87.0;
    /// -128 ln 2: below this, n is 128.
    const LOWEST: f32 = -88.722_84;
    let one = s.splat(1.0);
    let x = s.max(s.splat(LOWEST), s.min(s.splat(HIGHEST), x)); // a NaN passes through
    let offset = s.splat(STEPS_OFFSET / S::POW2_STEPS as f32);
    let offset_n = s.neg_mul_add(x, s.splat(std::f32::consts::LOG2_E), offset);
    let n = s.sub(offset_n, offset);
    let r = s.mul_add(n, s.splat(LN2_HI), x);
    let r = s.mul_add(n, s.splat(LN2_LO), r);
    let (&last, rest) = const { q_of_steps(S::POW2_STEPS).split_last().expect("Q has terms") };
    let mut q = s.splat(last);
    for &coefficient in rest.iter().rev() {
        q = s.neg_mul_add(q, r, s.splat(coefficient));
    }
    let exp = s.neg_mul_add(s.neg_mul_add(q, r, one), r, one);
    s.mul_add(s.pow2_in_steps(offset_n), exp, one)
}

/// `1 / (1 + exp(-x))`. It is zero where the quotient would be subnormal.
#[inline(always)]
fn logistic<S: Simd>(s: S, x: S::V) -> S::V {
    const LARGEST: f32 = 1.0 / f32::MIN_POSITIVE;
    let divisor = one_plus_exp_of_negative(s, x);
    let left = s.sub(s.splat(LARGEST), divisor); // a NaN passes through
    s.where_negative(left, s.splat(0.0), s.div(s.splat(1.0), divisor))
}

/// `tanh |x| = -t / (t + 2)` with `t = exp(-2|x|) - 1`.
#[inline(always)]
fn tanh<S: Simd>(s: S, x: S::V) -> S::V {
    let t = exp_and_expm1(s, s.mul(s.splat(2.0), negative_abs(s, x))).1;
    let down = s.div(t, s.add(t, s.splat(2.0)));
    s.where_negative(x, down, s.sub(s.splat(0.0), down))
}

/// An activation whose kind is a type. Code that is generic over it is compiled for one kind only. With the
/// enum, the compiler would compile every kind and drop the unused ones later.
pub(crate) trait Known: Copy {
    /// Applies the activation to one vector. Only PReLU reads `slope`, which holds one slope per lane.
    fn of<S: Simd>(self, s: S, x: S::V, slope: S::V) -> S::V;
}

macro_rules! kinds {
    ($($kind:ident { $($field:ident),* } |$s:ident, $x:ident, $slope:ident| $y:expr;)+) => {$(
        #[derive(Clone, Copy)]
        pub(crate) struct $kind { $(pub(crate) $field: f32),* }

        impl Known for $kind {
            #[inline(always)]
            fn of<S: Simd>(self, $s: S, $x: S::V, $slope: S::V) -> S::V {
                let Self { $($field),* } = self;
                $y
            }
        }
    )+};
}

kinds! {
    None {} |_s, x, _slope| x;
    Relu {} |s, x, _slope| s.max(s.splat(0.0), x);
    LeakyRelu { alpha } |s, x, _slope| s.where_negative(x, s.mul(x, s.splat(alpha)), x);
    PRelu {} |s, x, slope| s.where_negative(x, s.mul(x, slope), x);
    Clip { lo, hi } |s, x, _slope| s.min(s.splat(hi), s.max(s.splat(lo), x));
    Sigmoid {} |s, x, _slope| logistic(s, x);
    Tanh {} |s, x, _slope| tanh(s, x);
    Elu { alpha } |s, x, _slope| {
        let below = exp_and_expm1(s, s.min(s.splat(0.0), x)).1;
        s.where_negative(x, s.mul(s.splat(alpha), below), x)
    };
    HardSwish {} |s, x, _slope| {
        let gate = s.min(s.splat(6.0), s.max(s.splat(0.0), s.add(x, s.splat(3.0))));
        s.mul(x, s.mul(gate, s.splat(1.0 / 6.0)))
    };
    Silu {} |s, x, _slope| s.div(x, one_plus_exp_of_negative(s, x));
}

/// Matches the activation and evaluates the expression with its kind. The expression is compiled once per
/// kind.
macro_rules! with_known {
    ($activation:expr, $known:ident => $value:expr) => {
        with_known!(@match $activation, $known => $value; None {}, Relu {}, LeakyRelu { alpha }, PRelu {}, Clip { lo, hi },
            Sigmoid {}, Tanh {}, Elu { alpha }, HardSwish {}, Silu {})
    };
    (@match $activation:expr, $known:ident => $value:expr; $($kind:ident { $($field:ident),* }),+) => {
        match $activation {$(
            $crate::describe::Activation::$kind { $($field),* } => {
                let $known = $crate::simd::math::$kind { $($field),* };
                $value
            }
        )+}
    };
}
pub(crate) use with_known;
