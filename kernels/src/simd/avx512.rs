//! AVX-512F: sixteen lanes, 32 registers, and masked loads and stores.

use super::forward::{one_intrinsic_each, opaque, x86_hints};
use super::{Lanes, Simd, pow2_table};
use std::arch::x86_64::*;

/// Proof that the CPU has AVX-512F.
#[derive(Clone, Copy)]
pub(crate) struct Avx512F(());

impl Avx512F {
    /// # Safety
    /// The CPU must have every feature that `tile/boundary.rs` lists for this token.
    #[inline(always)]
    pub(crate) unsafe fn assume() -> Self {
        Self(())
    }
}

#[inline(always)]
fn mask(lanes: Lanes) -> __mmask16 {
    ((1u32 << lanes.hi) - (1u32 << lanes.lo)) as __mmask16
}

// SAFETY: every intrinsic below belongs to AVX-512F (or to an older set that it implies), and the token
// proves that the CPU has it. Callers guarantee that pointers are valid.
unsafe impl Simd for Avx512F {
    type Index = __m512i;
    const LANES: usize = 16;

    one_intrinsic_each! { __m512: _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps;
        add(a, b) = _mm512_add_ps(a, b);
        sub(a, b) = _mm512_sub_ps(a, b);
        mul(a, b) = _mm512_mul_ps(a, b);
        div(a, b) = _mm512_div_ps(a, b);
        sqrt(x) = _mm512_sqrt_ps(x);
        mul_add(a, b, c) = _mm512_fmadd_ps(a, b, c);
        neg_mul_add(a, b, c) = _mm512_fnmadd_ps(a, b, c);
        min(a, b) = _mm512_min_ps(a, b);
        max(a, b) = _mm512_max_ps(a, b);
    }
    x86_hints! { __m512, _mm512_stream_ps }

    #[inline(always)]
    fn opaque(self, x: usize) -> usize {
        opaque(x)
    }
    #[inline(always)]
    unsafe fn load_lanes(self, p: *const f32, lanes: Lanes) -> __m512 {
        // SAFETY: the token proves that the CPU has AVX-512F. Lanes outside the mask are not accessed, and
        // the caller guarantees the others.
        unsafe { _mm512_maskz_loadu_ps(mask(lanes), p) }
    }
    #[inline(always)]
    unsafe fn store_lanes(self, p: *mut f32, v: __m512, lanes: Lanes) {
        // SAFETY: the token proves that the CPU has AVX-512F. Lanes outside the mask are not accessed, and
        // the caller guarantees the others.
        unsafe { _mm512_mask_storeu_ps(p, mask(lanes), v) }
    }
    #[inline(always)]
    fn keep(self, v: __m512, lanes: Lanes) -> __m512 {
        // SAFETY: the token proves that the CPU has these instructions.
        unsafe { _mm512_maskz_mov_ps(mask(lanes), v) }
    }
    #[inline(always)]
    fn maximum(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the token proves that the CPU has AVX-512F. `max` returns a NaN of `b`. A NaN of `a` is
        // masked off and stays.
        unsafe { _mm512_mask_max_ps(a, _mm512_cmp_ps_mask::<_CMP_ORD_Q>(a, a), a, b) }
    }
    #[inline(always)]
    fn even(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the token proves that the CPU has these instructions.
        unsafe {
            let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
            _mm512_permutex2var_ps(a, even, b)
        }
    }
    #[inline(always)]
    fn odd(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the token proves that the CPU has these instructions.
        unsafe {
            let odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
            _mm512_permutex2var_ps(a, odd, b)
        }
    }
    #[inline(always)]
    unsafe fn index(self, p: *const u8) -> __m512i {
        // SAFETY: the token proves that the CPU has AVX-512F. The caller guarantees 16 readable bytes.
        unsafe { _mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast())) }
    }
    #[inline(always)]
    fn permute(self, v: __m512, index: __m512i) -> __m512 {
        // SAFETY: the token proves that the CPU has these instructions.
        unsafe { _mm512_permutexvar_ps(index, v) }
    }
    #[inline(always)]
    fn where_negative(self, x: __m512, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the token proves that the CPU has these instructions.
        unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(x, _mm512_setzero_ps()), b, a) }
    }
    #[inline(always)]
    fn where_equal(self, x: __m512, y: __m512, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the token proves that the CPU has these instructions.
        unsafe {
            let equal = _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(x, y) | _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
            _mm512_mask_blend_ps(equal, b, a)
        }
    }
    #[inline(always)]
    fn round(self, x: __m512) -> __m512 {
        // SAFETY: the token proves that the CPU has these instructions.
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x) }
    }
    #[inline(always)]
    fn pow2(self, n: __m512) -> __m512 {
        // SAFETY: the token proves that the CPU has these instructions.
        unsafe {
            let biased = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased))
        }
    }
    const POW2_STEPS: usize = 16;
    #[inline(always)]
    fn pow2_in_steps(self, offset_n: __m512) -> __m512 {
        static TABLE: [i32; 16] = pow2_table();
        // SAFETY: the token proves that the CPU has these instructions. The table is a vector.
        unsafe {
            let steps = _mm512_castps_si512(offset_n);
            let power = _mm512_permutexvar_epi32(steps, _mm512_loadu_si512(TABLE.as_ptr().cast()));
            _mm512_castsi512_ps(_mm512_add_epi32(power, _mm512_slli_epi32::<19>(steps)))
        }
    }
}
