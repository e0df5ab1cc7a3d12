//! The operations that kernels are written in, and one token per instruction set that provides them.
//!
//! A token is a proof: a value of `Avx512F` exists only where the CPU has AVX-512F, because `tile/boundary.rs` alone
//! makes them, in functions that are called only after detection. Kernels are generic over [`Simd`], marked
//! `#[inline(always)]`, carry no `#[target_feature]` themselves, and are entered through the methods of
//! `tile/boundary.rs` that do carry it: so every intrinsic ends up inlined in a function with the features.

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
pub(crate) mod avx512;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[allow(unsafe_code)]
mod forward;
pub(crate) mod math;
#[cfg(target_arch = "aarch64")]
#[allow(unsafe_code)]
pub(crate) mod neon;
#[allow(unsafe_code)]
pub(crate) mod portable;

/// Elements of a cache line.
pub(crate) const LINE: usize = 16;

/// Which lanes of a vector are touched: `lo..hi`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lanes {
    pub(crate) lo: usize,
    pub(crate) hi: usize,
}

/// A vector of `f32` and the operations on it.
///
/// # Safety
/// A value of an implementing type may exist only where the CPU has every feature that its methods use. Every
/// method must be `#[inline(always)]` and must not carry `#[target_feature]`.
#[allow(unsafe_code)]
pub(crate) unsafe trait Simd: Copy {
    /// The vector.
    type V: Copy;
    /// Where each lane of a permuted vector comes from.
    type Index: Copy;
    /// Lanes of a vector; a power of two, at most 16.
    const LANES: usize;

    fn splat(self, x: f32) -> Self::V;
    /// # Safety
    /// `p` must be valid for reading `LANES` elements; no alignment is needed.
    unsafe fn load(self, p: *const f32) -> Self::V;
    /// # Safety
    /// `p` must be valid for writing `LANES` elements; no alignment is needed.
    unsafe fn store(self, p: *mut f32, v: Self::V);
    /// Lane `i` of the result is `*p.add(i)` for the lanes asked for and zero elsewhere.
    /// # Safety
    /// `lanes.lo <= lanes.hi <= LANES`; `p.add(lanes.lo)` must be valid for reading `hi - lo` elements, nothing else is read.
    unsafe fn load_lanes(self, p: *const f32, lanes: Lanes) -> Self::V;
    /// Writes the lanes asked for and touches no other byte.
    /// # Safety
    /// `lanes.lo <= lanes.hi <= LANES`; `p.add(lanes.lo)` must be valid for writing `hi - lo` elements.
    unsafe fn store_lanes(self, p: *mut f32, v: Self::V, lanes: Lanes);

    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    #[cfg_attr(not(feature = "ops"), allow(dead_code))] // the other layers use it
    fn sqrt(self, x: Self::V) -> Self::V;
    /// `a * b + c`, rounded once where the hardware can.
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `c - a * b`, rounded once where the hardware can.
    fn neg_mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The smaller; `b` if the two do not compare, so a NaN in `b` comes out.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// The larger; `b` if the two do not compare, so a NaN in `b` comes out.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// The larger; NaN if either is NaN (IEEE 754-2019 `maximum`, but for the sign of zero).
    #[cfg_attr(not(feature = "ops"), allow(dead_code))] // the other layers use it
    fn maximum(self, a: Self::V, b: Self::V) -> Self::V;
    /// Every second lane of `a` and `b` side by side, from the first on.
    fn even(self, a: Self::V, b: Self::V) -> Self::V;
    /// Every second element from `p` on: `*p`, `*p.add(2)`, ...
    /// # Safety
    /// `p` must be valid for reading `2 * LANES` elements; no alignment is needed.
    #[inline(always)]
    unsafe fn load_even(self, p: *const f32) -> Self::V {
        // SAFETY: two vectors by the caller.
        self.even(unsafe { self.load(p) }, unsafe { self.load(p.wrapping_add(Self::LANES)) })
    }
    /// Lane `i` will be lane `*p.add(i)`.
    /// # Safety
    /// `p` must be valid for reading 16 elements, the first `LANES` of them less than `LANES`.
    unsafe fn index(self, p: *const u8) -> Self::Index;
    /// Lane `i` of the result is lane `index[i]` of `v`.
    fn permute(self, v: Self::V, index: Self::Index) -> Self::V;
    /// `a` where `x < 0`, `b` elsewhere (and where `x` is NaN).
    fn where_negative(self, x: Self::V, a: Self::V, b: Self::V) -> Self::V;
    /// To the nearest integer, ties to even.
    fn round(self, x: Self::V) -> Self::V;
    /// `2^n` for integral `n` in `-126..=127`; any value for any other `n`.
    fn pow2(self, n: Self::V) -> Self::V;
    /// `x`, but the compiler cannot know that. It would turn an address that walks into an address for each step, and a
    /// test of a bit into a variable for each bit: more than there are registers.
    #[inline(always)]
    fn opaque(self, x: usize) -> usize {
        x
    }
    /// Hints the cache line of `p` into the second cache level; never faults, wherever `p` points.
    fn prefetch(self, p: *const f32);
    /// Hints that the cache line of `p` will be written, where there is such a hint; never faults, wherever `p` points.
    #[inline(always)]
    fn prefetch_write(self, p: *const f32) {
        let _ = p;
    }
}
