//! The fallback, on `wide`: eight lanes of whatever the build's baseline offers (two SSE2 or NEON registers).
//!
//! `wide` picks instructions at compile time, so this token is used outside every feature boundary.

use super::{Lanes, Simd};
use wide::f32x8;

/// Needs no proof: there is nothing to prove.
#[derive(Clone, Copy)]
pub(crate) struct Portable(());

impl Portable {
    /// # Safety
    /// None needed; the signature is that of the other tokens.
    #[inline(always)]
    pub(crate) unsafe fn assume() -> Self {
        Self(())
    }
}

// SAFETY: no feature beyond the build's baseline is used.
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
        // SAFETY: eight elements by the caller; an array of f32 has the alignment of f32.
        f32x8::new(unsafe { p.cast::<[f32; 8]>().read() })
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: f32x8) {
        // SAFETY: eight elements by the caller; an array of f32 has the alignment of f32.
        unsafe { p.cast::<[f32; 8]>().write(v.to_array()) }
    }
    #[inline(always)]
    unsafe fn load_lanes(self, p: *const f32, lanes: Lanes) -> f32x8 {
        // SAFETY: the caller's promise is the helper's.
        unsafe { tail::load(self, p, lanes) }
    }
    #[inline(always)]
    unsafe fn store_lanes(self, p: *mut f32, v: f32x8, lanes: Lanes) {
        // SAFETY: the caller's promise is the helper's.
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
        // A NaN in `b` compares with nothing and so is chosen; one in `a` is not equal to itself and stays.
        a.simd_eq(a).select(a.simd_gt(b).select(a, b), a)
    }
    #[inline(always)]
    fn even(self, a: f32x8, b: f32x8) -> f32x8 {
        let (a, b) = (a.to_array(), b.to_array());
        f32x8::new([a[0], a[2], a[4], a[6], b[0], b[2], b[4], b[6]])
    }
    #[inline(always)]
    unsafe fn index(self, p: *const u8) -> [u8; 8] {
        // SAFETY: more than eight elements by the caller.
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
    fn round(self, x: f32x8) -> f32x8 {
        // Adding and taking away 1.5 * 2^23 rounds any |x| < 2^22 to nearest even: all that callers need.
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

/// Tails without masked moves: through a small array on the stack, so that no byte
/// outside the lanes is ever touched.
#[allow(clippy::needless_range_loop)] // an adaptor that is not inlined would be compiled without the features
mod tail {
    use super::{Lanes, Simd};

    /// # Safety
    /// As [`Simd::load_lanes`].
    #[inline(always)]
    pub(super) unsafe fn load<S: Simd>(simd: S, p: *const f32, lanes: Lanes) -> S::V {
        let mut stage = [0.0f32; 16];
        for i in lanes.lo..lanes.hi {
            // SAFETY: `i` is one of the lanes that the caller vouches for.
            stage[i] = unsafe { *p.wrapping_add(i) };
        }
        // SAFETY: LANES <= 16.
        unsafe { simd.load(stage.as_ptr()) }
    }

    /// # Safety
    /// As [`Simd::store_lanes`].
    #[inline(always)]
    pub(super) unsafe fn store<S: Simd>(simd: S, p: *mut f32, v: S::V, lanes: Lanes) {
        let mut stage = [0.0f32; 16];
        // SAFETY: LANES <= 16.
        unsafe { simd.store(stage.as_mut_ptr(), v) };
        for i in lanes.lo..lanes.hi {
            // SAFETY: `i` is one of the lanes that the caller vouches for.
            unsafe { *p.wrapping_add(i) = stage[i] };
        }
    }
}
