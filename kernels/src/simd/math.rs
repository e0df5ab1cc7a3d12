//! Elementary functions on vectors, and the activations that are made of them.

use super::Simd;

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

/// Returns `1 + exp(-x)`, the divisor of the logistic function, with an error of about 2 ulp. It is infinity above
/// 2^126, so that no quotient of 1 is subnormal.
///
/// ```text
/// -x = n ln 2 + r,  |r| <= ln 2 / 2                 // as in exp_and_expm1
/// 1 + exp(-x) = 2^n (1 + r + r^2 Q(r)) + 1          // 2^128 is infinity
/// ```
#[inline(always)]
fn one_plus_exp_of_negative<S: Simd>(s: S, x: S::V) -> S::V {
    /// Above this, exp(-x) is less than half an ulp of 1. A larger x would leave |r| without a bound.
    const HIGHEST: f32 = 87.0;
    const LARGEST: f32 = 1.0 / f32::MIN_POSITIVE;
    let one = s.splat(1.0);
    let x = s.min(s.splat(HIGHEST), x); // a NaN passes through
    let n = s.round(s.min(s.splat(128.0), s.mul(x, s.splat(-std::f32::consts::LOG2_E))));
    // -r, and 1 - (-r) + (-r)^2 Q. Below n = 128, where 2^n is infinity, the sum is positive for any r.
    let r = s.mul_add(n, s.splat(LN2_HI), x);
    let r = s.mul_add(n, s.splat(LN2_LO), r);
    let mut q = s.splat(Q[4]);
    for coefficient in [Q[3], Q[2], Q[1], Q[0]] {
        q = s.neg_mul_add(q, r, s.splat(coefficient));
    }
    let exp = s.neg_mul_add(s.neg_mul_add(q, r, one), r, one);
    let sum = s.mul_add(s.pow2(n), exp, one);
    let left = s.sub(s.splat(LARGEST), sum); // a NaN passes through
    s.where_negative(left, s.splat(f32::INFINITY), sum)
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
    Sigmoid {} |s, x, _slope| s.div(s.splat(1.0), one_plus_exp_of_negative(s, x));
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
