//! The vector operations that kernels are written in, and one token type per instruction set.
//!
//! A token is a proof: a value of `Avx512F` exists only on a CPU with AVX-512F. Only `tile/boundary.rs` makes
//! tokens, inside functions that are called only after the features were detected.
//!
//! Kernels are generic over [`Simd`]. They are `#[inline(always)]` and carry no `#[target_feature]` of their
//! own. A kernel is a [`Body`](crate::tile::boundary::Body), and each body has one entry method per
//! instruction set that carries the features, for example `enter_avx2fma`. Every intrinsic is therefore
//! inlined into a function that has its features.
//!
//! `avx2`, `avx512`, `neon` and `portable` implement the trait. `forward` has the macros for methods of one
//! intrinsic each. `math` has the activations, and `slope` their gradients.

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
#[cfg(feature = "ops")]
pub(crate) mod slope;

/// Number of elements in a cache line.
pub(crate) const LINE: usize = 16;

/// A sum with this number is rounded to an integer, which the last mantissa bits hold.
pub(crate) const STEPS_OFFSET: f32 = 12_582_912.0;

/// For each step, the bits of `2^(step / N)`, less what the step adds to them when all steps are shifted to the exponent.
#[cfg(target_arch = "x86_64")]
const fn pow2_table<const N: usize>() -> [i32; N] {
    const SIXTEENTH_ROOT_OF_2: f64 = 1.044_273_782_427_413_8;
    let shift = f32::MANTISSA_DIGITS - 1 - N.trailing_zeros();
    let (mut table, mut power, mut step) = ([0; N], 1.0, 0);
    while step < N {
        table[step] = (power as f32).to_bits() as i32 - ((step as i32) << shift);
        let mut sixteenths = 16 / N;
        while sixteenths > 0 {
            power *= SIXTEENTH_ROOT_OF_2;
            sixteenths -= 1;
        }
        step += 1;
    }
    table
}

/// Waits until everything that this thread has [streamed](Simd::stream) is in memory.
#[inline]
pub(crate) fn fence() {
    #[cfg(target_arch = "x86_64")]
    avx2::fence();
}

/// A range of lanes, `lo..hi`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lanes {
    pub(crate) lo: usize,
    pub(crate) hi: usize,
}

impl Lanes {
    #[inline(always)]
    pub(crate) fn is_empty(self) -> bool {
        self.lo >= self.hi
    }
}

/// A vector of `f32` and the operations on it.
///
/// # Safety
/// A value of an implementing type must exist only on a CPU with every feature that its methods use. Every
/// method must be `#[inline(always)]` and must not carry `#[target_feature]`.
#[allow(unsafe_code)]
pub(crate) unsafe trait Simd: Copy {
    /// The vector type.
    type V: Copy;
    /// For each lane of a permuted vector, the lane that it is taken from.
    type Index: Copy;
    /// Number of lanes of a vector. It is a power of two and at most 16.
    const LANES: usize;

    fn splat(self, x: f32) -> Self::V;
    /// # Safety
    /// `p` must be valid for reading `LANES` elements. No alignment is needed.
    unsafe fn load(self, p: *const f32) -> Self::V;
    /// # Safety
    /// `p` must be valid for writing `LANES` elements. No alignment is needed.
    unsafe fn store(self, p: *mut f32, v: Self::V);
    /// Writes `v` past the caches, if the instruction set can. The line is then not read before it is written. A [`fence`]
    /// must follow before anything reads it.
    /// # Safety
    /// Same contract as [`store`](Self::store), and `p` must be aligned to a vector.
    #[inline(always)]
    unsafe fn stream(self, p: *mut f32, v: Self::V) {
        // SAFETY: the caller upholds the contract.
        unsafe { self.store(p, v) }
    }
    /// Loads the selected lanes: lane `i` is `*p.add(i)`. The other lanes are zero, and no
    /// memory is read for them.
    /// # Safety
    /// `lanes.lo <= lanes.hi <= LANES`, and `p.add(lanes.lo)` must be valid for reading `lanes.hi - lanes.lo`
    /// elements.
    unsafe fn load_lanes(self, p: *const f32, lanes: Lanes) -> Self::V;
    /// Writes the selected lanes and no other byte.
    /// # Safety
    /// `lanes.lo <= lanes.hi <= LANES`, and `p.add(lanes.lo)` must be valid for writing `lanes.hi - lanes.lo`
    /// elements.
    unsafe fn store_lanes(self, p: *mut f32, v: Self::V, lanes: Lanes);

    /// `v` with zeros in the other lanes. `lanes.lo <= lanes.hi <= LANES`.
    #[inline(always)]
    fn keep(self, v: Self::V, lanes: Lanes) -> Self::V {
        let mut all = [0.0; LINE];
        // SAFETY: the array has at least `LANES` elements.
        unsafe {
            self.store(all.as_mut_ptr(), v);
            self.load_lanes(all.as_ptr(), lanes)
        }
    }

    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    #[cfg_attr(not(feature = "ops"), allow(dead_code))] // used by `ops` only
    fn sqrt(self, x: Self::V) -> Self::V;
    /// `a * b + c`, rounded once if the hardware has FMA.
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `c - a * b`, rounded once if the hardware has FMA.
    fn neg_mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The smaller number, or `b` if either is NaN. A NaN in `b` is therefore returned.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// The larger number, or `b` if either is NaN. A NaN in `b` is therefore returned.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// The larger number, or NaN if either is NaN (`maximum` of IEEE 754-2019, except for the sign of zero).
    #[cfg_attr(not(feature = "ops"), allow(dead_code))] // used by `ops` only
    fn maximum(self, a: Self::V, b: Self::V) -> Self::V;
    /// The even-numbered lanes of `a`, followed by the even-numbered lanes of `b`.
    fn even(self, a: Self::V, b: Self::V) -> Self::V;
    /// The odd-numbered lanes of `a`, followed by the odd-numbered lanes of `b`.
    fn odd(self, a: Self::V, b: Self::V) -> Self::V;
    /// Loads every second element: `*p`, `*p.add(2)`, ...
    /// # Safety
    /// `p` must be valid for reading `2 * LANES` elements. No alignment is needed.
    #[inline(always)]
    unsafe fn load_even(self, p: *const f32) -> Self::V {
        // SAFETY: the caller guarantees two readable vectors.
        self.even(unsafe { self.load(p) }, unsafe { self.load(p.wrapping_add(Self::LANES)) })
    }
    /// Makes an index that takes lane `i` from lane `*p.add(i)`.
    /// # Safety
    /// `p` must be valid for reading 16 elements. The first `LANES` of them must be less than `LANES`.
    unsafe fn index(self, p: *const u8) -> Self::Index;
    /// Lane `i` of the result is lane `index[i]` of `v`.
    fn permute(self, v: Self::V, index: Self::Index) -> Self::V;
    /// `a` where `x < 0`, and `b` elsewhere. Where `x` is NaN, the result is `b`.
    fn where_negative(self, x: Self::V, a: Self::V, b: Self::V) -> Self::V;
    /// `a` where `x` equals `y` or is NaN, and `b` elsewhere.
    #[cfg_attr(not(feature = "ops"), allow(dead_code))] // used by `ops` only
    fn where_equal(self, x: Self::V, y: Self::V, a: Self::V, b: Self::V) -> Self::V;
    /// Rounds to the nearest integer, with ties to even.
    fn round(self, x: Self::V) -> Self::V;
    /// `2^n` for an integral `n` in `-126..=128`, where `2^128` is infinity. The value for any other `n` is unspecified.
    fn pow2(self, n: Self::V) -> Self::V;
    /// The steps from one power of two to the next in [`Simd::pow2_in_steps`]. 16 and 8 need a table in a register.
    const POW2_STEPS: usize = 1;
    /// `2^n` for a multiple `n` of `1 / POW2_STEPS` in `-126..=128`, given as `n + STEPS_OFFSET / POW2_STEPS`: its last
    /// mantissa bits count the steps.
    #[inline(always)]
    fn pow2_in_steps(self, offset_n: Self::V) -> Self::V {
        self.pow2(self.sub(offset_n, self.splat(STEPS_OFFSET)))
    }
    /// Returns `x`, but hides its value from the compiler. Otherwise the compiler keeps a separate address
    /// for each step of an advancing pointer, and a separate variable for each tested bit. It then runs out
    /// of registers.
    #[inline(always)]
    fn opaque(self, x: usize) -> usize {
        x
    }
    /// Prefetches the cache line of `p` into the second-level cache. It never faults, even if `p` is invalid.
    fn prefetch(self, p: *const f32);
    /// Prefetches the cache line of `p` for writing, if the CPU has such a hint. It never faults, even if `p`
    /// is invalid.
    #[inline(always)]
    fn prefetch_write(self, p: *const f32) {
        let _ = p;
    }
}
