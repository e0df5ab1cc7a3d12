//! Elementary functions on vectors, and the activations made of them.

use super::Simd;
use crate::describe::Activation;

/// `exp(x)` and `exp(x) - 1` for `x <= 0`, both to about 1 ulp.
///
/// `x = n ln 2 + r` with `|r| <= ln 2 / 2` (two-part constant after Cody and Waite 1980, section 6), then
/// `exp(r) - 1 = r + r^2 Q(r)` with a degree-4 minimax polynomial (Remez; relative error 1.4e-8), and
/// `exp(x) - 1 = 2^n (exp(r) - 1) + (2^n - 1)`, which does not cancel near zero.
#[inline(always)]
fn exp_and_expm1<S: Simd>(s: S, x: S::V) -> (S::V, S::V) {
    /// Below this 2^n would leave the normal numbers; exp is taken as zero there.
    const LOWEST: f32 = -87.336_54;
    const LN2_HI: f32 = 0.693_359_4;
    const LN2_LO: f32 = -2.121_944_4e-4;
    const Q: [f32; 5] = [0.5, 0.166_665_44, 0.041_666_284, 0.008_366_572, 0.001_394_642_7];
    let clamped = s.max(s.splat(LOWEST), x); // a NaN stays
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
#[inline(always)]
pub(crate) fn exp_nonpositive<S: Simd>(s: S, x: S::V) -> S::V {
    exp_and_expm1(s, x).0
}

#[inline(always)]
fn negative_abs<S: Simd>(s: S, x: S::V) -> S::V {
    s.min(s.sub(s.splat(0.0), x), x)
}

#[inline(always)]
fn sigmoid<S: Simd>(s: S, x: S::V) -> S::V {
    let one = s.splat(1.0);
    let e = exp_nonpositive(s, negative_abs(s, x));
    s.div(s.where_negative(x, e, one), s.add(one, e))
}

/// `tanh |x| = -t / (t + 2)` with `t = exp(-2|x|) - 1`.
#[inline(always)]
fn tanh<S: Simd>(s: S, x: S::V) -> S::V {
    let t = exp_and_expm1(s, s.mul(s.splat(2.0), negative_abs(s, x))).1;
    let down = s.div(t, s.add(t, s.splat(2.0)));
    s.where_negative(x, down, s.sub(s.splat(0.0), down))
}

/// The activation of one vector. `slope` is read by PReLU only: its slopes, lane by lane.
///
/// The `match` is on a value that is the same for a whole tile: callers keep it outside of hot loops or accept a
/// predicted branch per vector.
#[inline(always)]
pub(crate) fn activate<S: Simd>(s: S, activation: Activation, x: S::V, slope: S::V) -> S::V {
    let zero = s.splat(0.0);
    match activation {
        Activation::None => x,
        Activation::Relu => s.max(zero, x),
        Activation::LeakyRelu { alpha } => s.where_negative(x, s.mul(x, s.splat(alpha)), x),
        Activation::PRelu => s.where_negative(x, s.mul(x, slope), x),
        Activation::Clip { lo, hi } => s.min(s.splat(hi), s.max(s.splat(lo), x)),
        Activation::Sigmoid => sigmoid(s, x),
        Activation::Tanh => tanh(s, x),
        Activation::Elu { alpha } => {
            let below = exp_and_expm1(s, s.min(zero, x)).1;
            s.where_negative(x, s.mul(s.splat(alpha), below), x)
        }
        Activation::HardSwish => {
            let gate = s.min(s.splat(6.0), s.max(zero, s.add(x, s.splat(3.0))));
            s.mul(x, s.mul(gate, s.splat(1.0 / 6.0)))
        }
        Activation::Silu => s.mul(x, sigmoid(s, x)),
    }
}
