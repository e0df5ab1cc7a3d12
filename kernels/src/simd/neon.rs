//! NEON (Advanced SIMD): four lanes, 32 registers, no masked loads and stores. It belongs to the baseline of
//! AArch64.

use super::forward::{one_intrinsic_each, opaque};
use super::{Lanes, Simd};
use std::arch::aarch64::*;

/// Proof that the CPU has Advanced SIMD.
#[derive(Clone, Copy)]
pub(crate) struct Neon(());

impl Neon {
    /// # Safety
    /// The CPU must have every feature that `tile/boundary.rs` lists for this token.
    #[inline(always)]
    pub(crate) unsafe fn assume() -> Self {
        Self(())
    }
}

/// Repeats the statement for each lane, with a constant lane number. A loop would become a call of `memcpy`.
macro_rules! each_lane {
    ($lane:ident => $statement:stmt) => {{
        const $lane: usize = 0;
        $statement
    }
    {
        const $lane: usize = 1;
        $statement
    }
    {
        const $lane: usize = 2;
        $statement
    }
    {
        const $lane: usize = 3;
        $statement
    }};
}

// SAFETY: every intrinsic below belongs to Advanced SIMD, and the token proves that the CPU has it. Callers
// guarantee that pointers are valid.
unsafe impl Simd for Neon {
    /// Four byte positions per lane.
    type Index = uint8x16_t;
    const LANES: usize = 4;

    one_intrinsic_each! { float32x4_t: vdupq_n_f32, vld1q_f32, vst1q_f32;
        add(a, b) = vaddq_f32(a, b);
        sub(a, b) = vsubq_f32(a, b);
        mul(a, b) = vmulq_f32(a, b);
        div(a, b) = vdivq_f32(a, b);
        sqrt(x) = vsqrtq_f32(x);
        mul_add(a, b, c) = vfmaq_f32(c, a, b);
        neg_mul_add(a, b, c) = vfmsq_f32(c, a, b);
        maximum(a, b) = vmaxq_f32(a, b);
        even(a, b) = vuzp1q_f32(a, b);
        odd(a, b) = vuzp2q_f32(a, b);
        round(x) = vrndnq_f32(x);
    }

    #[inline(always)]
    fn opaque(self, x: usize) -> usize {
        opaque(x)
    }
    #[inline(always)]
    unsafe fn load_lanes(self, p: *const f32, lanes: Lanes) -> float32x4_t {
        // SAFETY: the token proves that the CPU has these instructions.
        let mut v = unsafe { vdupq_n_f32(0.0) };
        each_lane! { LANE => if lanes.lo <= LANE && LANE < lanes.hi {
            // SAFETY: the token proves that the CPU has Advanced SIMD. The caller guarantees the selected
            // lanes.
            v = unsafe { vld1q_lane_f32::<{ LANE as i32 }>(p.wrapping_add(LANE), v) };
        } }
        v
    }
    #[inline(always)]
    unsafe fn store_lanes(self, p: *mut f32, v: float32x4_t, lanes: Lanes) {
        each_lane! { LANE => if lanes.lo <= LANE && LANE < lanes.hi {
            // SAFETY: the token proves that the CPU has Advanced SIMD. The caller guarantees the selected
            // lanes.
            unsafe { vst1q_lane_f32::<{ LANE as i32 }>(p.wrapping_add(LANE), v) };
        } }
    }
    #[inline(always)]
    fn min(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: the token proves that the CPU has these instructions.
        unsafe { vbslq_f32(vcltq_f32(a, b), a, b) }
    }
    #[inline(always)]
    fn max(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: the token proves that the CPU has these instructions.
        unsafe { vbslq_f32(vcgtq_f32(a, b), a, b) }
    }
    #[inline(always)]
    unsafe fn index(self, p: *const u8) -> uint8x16_t {
        let mut bytes = [0u8; 16];
        for i in 0..16 {
            // SAFETY: the caller guarantees 16 readable bytes, and four are read.
            bytes[i] = unsafe { *p.wrapping_add(i / 4) }.wrapping_mul(4).wrapping_add(i as u8 % 4);
        }
        // SAFETY: the token proves that the CPU has Advanced SIMD. The array has sixteen bytes.
        unsafe { vld1q_u8(bytes.as_ptr()) }
    }
    #[inline(always)]
    fn permute(self, v: float32x4_t, index: uint8x16_t) -> float32x4_t {
        // SAFETY: the token proves that the CPU has these instructions.
        unsafe { vreinterpretq_f32_u8(vqtbl1q_u8(vreinterpretq_u8_f32(v), index)) }
    }
    #[inline(always)]
    fn where_negative(self, x: float32x4_t, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: the token proves that the CPU has these instructions.
        unsafe { vbslq_f32(vcltzq_f32(x), a, b) }
    }
    #[inline(always)]
    fn where_equal(self, x: float32x4_t, y: float32x4_t, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: the token proves that the CPU has these instructions.
        unsafe { vbslq_f32(vceqq_f32(x, y), a, vbslq_f32(vceqq_f32(x, x), b, a)) }
    }
    #[inline(always)]
    fn pow2(self, n: float32x4_t) -> float32x4_t {
        // SAFETY: the token proves that the CPU has these instructions.
        unsafe {
            let biased = vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127));
            vreinterpretq_f32_s32(vshlq_n_s32::<23>(biased))
        }
    }
    #[inline(always)]
    fn prefetch(self, p: *const f32) {
        // SAFETY: a prefetch never faults, and it changes no register and no flag.
        unsafe {
            std::arch::asm!("prfm pldl2keep, [{p}]", p = in(reg) p, options(nostack, readonly, preserves_flags))
        }
    }
}
