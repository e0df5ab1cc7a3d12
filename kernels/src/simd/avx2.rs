//! AVX2 with FMA: eight lanes, 16 registers, and masked loads and stores.

use super::forward::{one_intrinsic_each, opaque, x86_hints};
use super::{Lanes, Simd, pow2_table};
use std::arch::x86_64::*;

/// Proof that the CPU has AVX2 and FMA.
#[derive(Clone, Copy)]
pub(crate) struct Avx2Fma(());

impl Avx2Fma {
    /// # Safety
    /// The CPU must have every feature that `tile/boundary.rs` lists for this token.
    #[inline(always)]
    pub(crate) unsafe fn assume() -> Self {
        Self(())
    }
}

/// See [`fence`](super::fence).
#[inline]
pub(super) fn fence() {
    // SAFETY: SSE belongs to the baseline of x86-64.
    unsafe { _mm_sfence() }
}

/// A mask with all bits set in the selected lanes. It is read from a sliding window over constants.
#[inline(always)]
fn mask(lanes: Lanes) -> __m256i {
    const BELOW: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    debug_assert!(lanes.lo <= 8 && lanes.hi <= 8);
    let (lo, hi) = (lanes.lo.min(8), lanes.hi.min(8));
    // SAFETY: `8 - hi` and `8 - lo` are in `0..=8`, so eight elements follow each start. The caller holds a
    // token, so the CPU has AVX2.
    unsafe {
        let below_hi = _mm256_loadu_si256(BELOW.as_ptr().add(8 - hi).cast());
        let below_lo = _mm256_loadu_si256(BELOW.as_ptr().add(8 - lo).cast());
        _mm256_andnot_si256(below_lo, below_hi)
    }
}

// SAFETY: every intrinsic below belongs to AVX2 or FMA (or to an older set that they imply), and the token
// proves that the CPU has both. Callers guarantee that pointers are valid.
unsafe impl Simd for Avx2Fma {
    type Index = __m256i;
    const LANES: usize = 8;

    one_intrinsic_each! { __m256: _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps;
        add(a, b) = _mm256_add_ps(a, b);
        sub(a, b) = _mm256_sub_ps(a, b);
        mul(a, b) = _mm256_mul_ps(a, b);
        div(a, b) = _mm256_div_ps(a, b);
        sqrt(x) = _mm256_sqrt_ps(x);
        mul_add(a, b, c) = _mm256_fmadd_ps(a, b, c);
        neg_mul_add(a, b, c) = _mm256_fnmadd_ps(a, b, c);
        min(a, b) = _mm256_min_ps(a, b);
        max(a, b) = _mm256_max_ps(a, b);
    }
    x86_hints! { __m256, _mm256_stream_ps }

    #[inline(always)]
    fn opaque(self, x: usize) -> usize {
        opaque(x)
    }
    #[inline(always)]
    unsafe fn load_lanes(self, p: *const f32, lanes: Lanes) -> __m256 {
        // SAFETY: the token proves that the CPU has AVX2. Lanes outside the mask are not accessed, and the
        // caller guarantees the others.
        unsafe { _mm256_maskload_ps(p, mask(lanes)) }
    }
    #[inline(always)]
    unsafe fn store_lanes(self, p: *mut f32, v: __m256, lanes: Lanes) {
        // SAFETY: the token proves that the CPU has AVX2. Lanes outside the mask are not accessed, and the
        // caller guarantees the others.
        unsafe { _mm256_maskstore_ps(p, mask(lanes), v) }
    }
    #[inline(always)]
    fn keep(self, v: __m256, lanes: Lanes) -> __m256 {
        // SAFETY: the token proves that the CPU has these instructions.
        unsafe { _mm256_and_ps(v, _mm256_castsi256_ps(mask(lanes))) }
    }
    #[inline(always)]
    fn maximum(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the token proves that the CPU has AVX2. `max` returns a NaN of `b`. Where `a` is NaN, the
        // comparison sets all bits, which is a NaN too.
        unsafe { _mm256_or_ps(_mm256_max_ps(a, b), _mm256_cmp_ps::<_CMP_UNORD_Q>(a, a)) }
    }
    #[inline(always)]
    fn even(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the token proves that the CPU has these instructions.
        unsafe {
            let pairs = _mm256_shuffle_ps::<0b10_00_10_00>(a, b);
            _mm256_castpd_ps(_mm256_permute4x64_pd::<0b11_01_10_00>(_mm256_castps_pd(pairs)))
        }
    }
    #[inline(always)]
    fn odd(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the token proves that the CPU has these instructions.
        unsafe {
            let pairs = _mm256_shuffle_ps::<0b11_01_11_01>(a, b);
            _mm256_castpd_ps(_mm256_permute4x64_pd::<0b11_01_10_00>(_mm256_castps_pd(pairs)))
        }
    }
    #[inline(always)]
    unsafe fn index(self, p: *const u8) -> __m256i {
        // SAFETY: the token proves that the CPU has AVX2. The caller guarantees 16 readable bytes.
        unsafe { _mm256_cvtepu8_epi32(_mm_loadu_si128(p.cast())) }
    }
    #[inline(always)]
    fn permute(self, v: __m256, index: __m256i) -> __m256 {
        // SAFETY: the token proves that the CPU has these instructions.
        unsafe { _mm256_permutevar8x32_ps(v, index) }
    }
    #[inline(always)]
    fn where_negative(self, x: __m256, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the token proves that the CPU has these instructions.
        unsafe { _mm256_blendv_ps(b, a, _mm256_cmp_ps::<_CMP_LT_OQ>(x, _mm256_setzero_ps())) }
    }
    #[inline(always)]
    fn where_equal(self, x: __m256, y: __m256, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the token proves that the CPU has these instructions.
        unsafe {
            let equal = _mm256_or_ps(_mm256_cmp_ps::<_CMP_EQ_OQ>(x, y), _mm256_cmp_ps::<_CMP_UNORD_Q>(x, x));
            _mm256_blendv_ps(b, a, equal)
        }
    }
    #[inline(always)]
    fn round(self, x: __m256) -> __m256 {
        // SAFETY: the token proves that the CPU has these instructions.
        unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x) }
    }
    #[inline(always)]
    fn pow2(self, n: __m256) -> __m256 {
        // SAFETY: the token proves that the CPU has these instructions.
        unsafe {
            let biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
        }
    }
    const POW2_STEPS: usize = 8;
    #[inline(always)]
    fn pow2_in_steps(self, offset_n: __m256) -> __m256 {
        static TABLE: [i32; 8] = pow2_table();
        // SAFETY: the token proves that the CPU has these instructions. The table is a vector.
        unsafe {
            let steps = _mm256_castps_si256(offset_n);
            let power = _mm256_permutevar8x32_epi32(_mm256_loadu_si256(TABLE.as_ptr().cast()), steps);
            _mm256_castsi256_ps(_mm256_add_epi32(power, _mm256_slli_epi32::<20>(steps)))
        }
    }
}
