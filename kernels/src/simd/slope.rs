//! Gradients of the activations: `g * act'(x)`, from the input `x` or from the output `y = act(x)`.
//!
//! Where an activation bends, its derivative is the one of PyTorch: that of the piece below for ReLU, leaky ReLU, PReLU
//! and ELU, and zero at both ends of a clip. There, a NaN counts as an input of the piece below.

use super::Simd;
use super::math::{
    Clip, Elu, HardSwish, LeakyRelu, None, PRelu, Relu, Sigmoid, Silu, Tanh, exp_and_expm1, negative_abs,
};

/// The gradient of an activation whose kind is a type, as [`Known`](super::math::Known) is the activation.
pub(crate) trait Slope: Copy {
    /// The gradient of the input from that of the output. Only PReLU reads `slope`.
    fn by_input<S: Simd>(self, s: S, x: S::V, g: S::V, slope: S::V) -> S::V;

    /// The same from the output. It is called for activations with an inverse only, and for those that need no more
    /// than the sign of the input.
    #[inline(always)]
    fn by_output<S: Simd>(self, s: S, y: S::V, g: S::V) -> S::V {
        self.by_input(s, y, g, s.splat(0.0))
    }
}

/// `above` where `x > 0`, and `below` elsewhere.
#[inline(always)]
fn where_positive<S: Simd>(s: S, x: S::V, above: S::V, below: S::V) -> S::V {
    s.where_negative(s.sub(s.splat(0.0), x), above, below)
}

macro_rules! slopes {
    ($($kind:ident |$this:ident, $s:ident, $x:ident, $g:ident, $slope:ident| $dx:expr
        $(; |$y:ident| $by_output:expr)?,)+) => {$(
        impl Slope for $kind {
            #[inline(always)]
            fn by_input<S: Simd>(self, $s: S, $x: S::V, $g: S::V, $slope: S::V) -> S::V {
                let $this = self;
                $dx
            }
            $(
                #[inline(always)]
                fn by_output<S: Simd>(self, $s: S, $y: S::V, $g: S::V) -> S::V {
                    let $this = self;
                    $by_output
                }
            )?
        }
    )+};
}

slopes! {
    None |_this, _s, _x, g, _slope| g,
    Relu |_this, s, x, g, _slope| where_positive(s, x, g, s.splat(0.0)),
    LeakyRelu |this, s, x, g, _slope| where_positive(s, x, g, s.mul(g, s.splat(this.alpha))),
    PRelu |_this, s, x, g, slope| where_positive(s, x, g, s.mul(g, slope)),
    Clip |this, s, x, g, _slope| {
        let zero = s.splat(0.0);
        s.where_negative(s.sub(s.splat(this.lo), x), s.where_negative(s.sub(x, s.splat(this.hi)), g, zero), zero)
    },
    // e / (1 + e)^2 with e = exp(-|x|) cancels nowhere.
    Sigmoid |_this, s, x, g, _slope| {
        let e = exp_and_expm1(s, negative_abs(s, x)).0;
        let sum = s.add(s.splat(1.0), e);
        s.mul(g, s.div(e, s.mul(sum, sum)))
    }; |y| s.mul(g, s.neg_mul_add(y, y, y)),
    // 4 e / (1 + e)^2 with e = exp(-2 |x|).
    Tanh |_this, s, x, g, _slope| {
        let e = exp_and_expm1(s, s.mul(s.splat(2.0), negative_abs(s, x))).0;
        let sum = s.add(s.splat(1.0), e);
        s.mul(g, s.div(s.mul(s.splat(4.0), e), s.mul(sum, sum)))
    }; |y| s.mul(g, s.neg_mul_add(y, y, s.splat(1.0))),
    Elu |this, s, x, g, _slope| {
        let e = exp_and_expm1(s, s.min(s.splat(0.0), x)).0;
        where_positive(s, x, g, s.mul(g, s.mul(s.splat(this.alpha), e)))
    }; |y| where_positive(s, y, g, s.mul(g, s.add(y, s.splat(this.alpha)))),
    HardSwish |_this, s, x, g, _slope| {
        let middle = s.mul(g, s.mul_add(x, s.splat(1.0 / 3.0), s.splat(0.5)));
        let right = s.where_negative(s.sub(s.splat(3.0), x), g, middle);
        s.where_negative(s.add(x, s.splat(3.0)), s.splat(0.0), right)
    },
    // sigmoid(x) (1 + x sigmoid(-x)). With e = exp(-|x|), the two sigmoids are e / (1 + e) and 1 / (1 + e).
    Silu |_this, s, x, g, _slope| {
        let one = s.splat(1.0);
        let e = exp_and_expm1(s, negative_abs(s, x)).0;
        let large = s.div(one, s.add(one, e));
        let small = s.mul(e, large);
        let (of_x, of_minus_x) = (s.where_negative(x, small, large), s.where_negative(x, large, small));
        s.mul(g, s.mul(of_x, s.mul_add(x, of_minus_x, one)))
    },
}
