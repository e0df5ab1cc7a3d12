//! The reductions of pooling and softmax, and the steps that they share.

use crate::simd::{Lanes, Simd};

/// An associative operation on `f32`. The kernels fix its order, so the order does not depend on threads.
pub(crate) trait Reduce {
    /// The element that changes nothing when it is joined.
    const IDENTITY: f32;
    /// 16 zeros, followed by 16 identities.
    const PADDING: &[f32; 32] = &{
        let mut padding = [0.0; 32];
        let mut i = 16;
        while i < 32 {
            padding[i] = Self::IDENTITY;
            i += 1;
        }
        padding
    };
    /// Whether the result is divided by the number of elements. If it is not, an element can be joined twice.
    const AVERAGE: bool;

    fn join<S: Simd>(s: S, a: S::V, b: S::V) -> S::V;

    fn join_scalar(a: f32, b: f32) -> f32;
}

/// The sum, for averages.
pub(crate) struct Sum;

impl Reduce for Sum {
    const IDENTITY: f32 = 0.0;
    const AVERAGE: bool = true;

    #[inline(always)]
    fn join<S: Simd>(s: S, a: S::V, b: S::V) -> S::V {
        s.add(a, b)
    }

    #[inline(always)]
    fn join_scalar(a: f32, b: f32) -> f32 {
        a + b
    }
}

/// The maximum, or NaN if an element is NaN.
pub(crate) struct Max;

impl Reduce for Max {
    const IDENTITY: f32 = f32::NEG_INFINITY;
    const AVERAGE: bool = false;

    #[inline(always)]
    fn join<S: Simd>(s: S, a: S::V, b: S::V) -> S::V {
        s.maximum(a, b)
    }

    #[inline(always)]
    fn join_scalar(a: f32, b: f32) -> f32 {
        if a > b || a.is_nan() { a } else { b }
    }
}

/// Loads the first `count` elements from `p` on. The other lanes hold the identity.
///
/// # Safety
/// `count <= LANES`, and `p` must be valid for reading `count` elements.
#[inline(always)]
pub(super) unsafe fn load_first<S: Simd, R: Reduce>(s: S, p: *const f32, count: usize) -> S::V {
    // SAFETY: the caller upholds the contract of this function.
    let x = unsafe { s.load_lanes(p, Lanes { lo: 0, hi: count }) };
    // The other lanes are zero. Adding the identity turns them into the identity, and zero is added to the
    // first `count` lanes.
    // SAFETY: `16 - count + LANES <= 32`, the length of `PADDING`.
    if R::IDENTITY == 0.0 { x } else { s.add(x, unsafe { s.load(R::PADDING.as_ptr().add(16 - count)) }) }
}

/// Joins all lanes, as a tree of halves.
#[inline(always)]
pub(super) fn fold<S: Simd, R: Reduce>(s: S, v: S::V) -> f32 {
    let mut stage = [R::IDENTITY; 16];
    // SAFETY: `stage` has 16 elements, and `LANES <= 16`.
    unsafe { s.store(stage.as_mut_ptr(), v) };
    let mut half = S::LANES / 2;
    while half > 0 {
        for i in 0..half {
            stage[i] = R::join_scalar(stage[i], stage[i + half]);
        }
        half /= 2;
    }
    stage[0]
}
