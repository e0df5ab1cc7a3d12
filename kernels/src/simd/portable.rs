//! The fallback: eight lanes of the crate `wide`, which uses the instructions of the build's baseline (two
//! registers of SSE2 or NEON).
//!
//! `wide` chooses instructions at compile time, so this token needs no feature boundary.

use super::{Lanes, Simd};
use wide::f32x8;

/// A token that proves nothing, because it needs no feature.
#[derive(Clone, Copy)]
pub(crate) struct Portable(());

impl Portable {
    /// # Safety
    /// There is no requirement. The function is `unsafe` so that all tokens have the same signature.
    #[inline(always)]
    pub(crate) unsafe fn assume() -> Self {
        Self(())
    }
}

// SAFETY: only features of the build's baseline are used.
unsafe impl Simd for Portable {
    type V = f32x8;
    type Index = [u8; 8];
    const LANES: usize = 8;

    #[inline(always)]
    fn splat(self, x: f32) -> f32x8 {
        f32x8::splat(x)
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> f32x8 {
        // SAFETY: the caller guarantees eight elements. An array of `f32` has the alignment of `f32`.
        f32x8::new(unsafe { p.cast::<[f32; 8]>().read() })
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: f32x8) {
        // SAFETY: the caller guarantees eight elements. An array of `f32` has the alignment of `f32`.
        unsafe { p.cast::<[f32; 8]>().write(v.to_array()) }
    }
    #[inline(always)]
    unsafe fn load_lanes(self, p: *const f32, lanes: Lanes) -> f32x8 {
        // SAFETY: the helper has the same contract, which the caller upholds.
        unsafe { tail::load(self, p, lanes) }
    }
    #[inline(always)]
    unsafe fn store_lanes(self, p: *mut f32, v: f32x8, lanes: Lanes) {
        // SAFETY: the helper has the same contract, which the caller upholds.
        unsafe { tail::store(self, p, v, lanes) }
    }
    #[inline(always)]
    fn add(self, a: f32x8, b: f32x8) -> f32x8 {
        a + b
    }
    #[inline(always)]
    fn sub(self, a: f32x8, b: f32x8) -> f32x8 {
        a - b
    }
    #[inline(always)]
    fn mul(self, a: f32x8, b: f32x8) -> f32x8 {
        a * b
    }
    #[inline(always)]
    fn div(self, a: f32x8, b: f32x8) -> f32x8 {
        a / b
    }
    #[inline(always)]
    fn sqrt(self, x: f32x8) -> f32x8 {
        x.sqrt()
    }
    #[inline(always)]
    fn mul_add(self, a: f32x8, b: f32x8, c: f32x8) -> f32x8 {
        a.mul_add(b, c)
    }
    #[inline(always)]
    fn neg_mul_add(self, a: f32x8, b: f32x8, c: f32x8) -> f32x8 {
        a.mul_neg_add(b, c)
    }
    #[inline(always)]
    fn min(self, a: f32x8, b: f32x8) -> f32x8 {
        a.simd_lt(b).select(a, b)
    }
    #[inline(always)]
    fn max(self, a: f32x8, b: f32x8) -> f32x8 {
        a.simd_gt(b).select(a, b)
    }
    #[inline(always)]
    fn maximum(self, a: f32x8, b: f32x8) -> f32x8 {
        // A NaN in `b` compares as not greater, so `b` is selected. A NaN in `a` differs from itself, so `a`
        // is selected.
        a.simd_eq(a).select(a.simd_gt(b).select(a, b), a)
    }
    #[inline(always)]
    fn even(self, a: f32x8, b: f32x8) -> f32x8 {
        let (a, b) = (a.to_array(), b.to_array());
        f32x8::new([a[0], a[2], a[4], a[6], b[0], b[2], b[4], b[6]])
    }
    #[inline(always)]
    fn odd(self, a: f32x8, b: f32x8) -> f32x8 {
        let (a, b) = (a.to_array(), b.to_array());
        f32x8::new([a[1], a[3], a[5], a[7], b[1], b[3], b[5], b[7]])
    }
    #[inline(always)]
    unsafe fn index(self, p: *const u8) -> [u8; 8] {
        // SAFETY: the caller guarantees 16 readable bytes, and eight are read.
        unsafe { p.cast::<[u8; 8]>().read() }
    }
    #[inline(always)]
    fn permute(self, v: f32x8, index: [u8; 8]) -> f32x8 {
        let v = v.to_array();
        f32x8::new(index.map(|lane| v[lane as usize % 8]))
    }
    #[inline(always)]
    fn where_negative(self, x: f32x8, a: f32x8, b: f32x8) -> f32x8 {
        x.simd_lt(f32x8::ZERO).select(a, b)
    }
    #[inline(always)]
    fn where_equal(self, x: f32x8, y: f32x8, a: f32x8, b: f32x8) -> f32x8 {
        x.simd_eq(y).select(a, x.simd_eq(x).select(b, a))
    }
    #[inline(always)]
    fn round(self, x: f32x8) -> f32x8 {
        // Adding and subtracting 1.5 * 2^23 rounds any `|x| < 2^22` to the nearest integer, ties to even.
        // Callers need no larger range.
        const MAGIC: f32 = 12_582_912.0;
        (x + f32x8::splat(MAGIC)) - f32x8::splat(MAGIC)
    }
    #[inline(always)]
    fn pow2(self, n: f32x8) -> f32x8 {
        let exponent = |n: f32| ((n as i32).wrapping_add(127) as u32) << 23;
        f32x8::new(n.to_array().map(|n| f32::from_bits(exponent(n))))
    }
    #[inline(always)]
    fn prefetch(self, p: *const f32) {
        let _ = p;
    }
}

/// Masked loads and stores through a small array on the stack. No byte outside the selected lanes is
/// accessed.
#[allow(clippy::needless_range_loop)] // an iterator adaptor that is not inlined would be compiled without the features
mod tail {
    use super::{Lanes, Simd};

    /// # Safety
    /// Same contract as [`Simd::load_lanes`].
    #[inline(always)]
    pub(super) unsafe fn load<S: Simd>(simd: S, p: *const f32, lanes: Lanes) -> S::V {
        let mut stage = [0.0f32; 16];
        for i in lanes.lo..lanes.hi {
            // SAFETY: `i` is a selected lane, and the caller guarantees these.
            stage[i] = unsafe { *p.wrapping_add(i) };
        }
        // SAFETY: `stage` has 16 elements, and `LANES <= 16`.
        unsafe { simd.load(stage.as_ptr()) }
    }

    /// # Safety
    /// Same contract as [`Simd::store_lanes`].
    #[inline(always)]
    pub(super) unsafe fn store<S: Simd>(simd: S, p: *mut f32, v: S::V, lanes: Lanes) {
        let mut stage = [0.0f32; 16];
        // SAFETY: `stage` has 16 elements, and `LANES <= 16`.
        unsafe { simd.store(stage.as_mut_ptr(), v) };
        for i in lanes.lo..lanes.hi {
            // SAFETY: `i` is a selected lane, and the caller guarantees these.
            unsafe { *p.wrapping_add(i) = stage[i] };
        }
    }
}
