//! The methods of a token that are one intrinsic each.

/// `one_intrinsic_each!(vector: splat, load, store; method(arguments) = intrinsic(arguments); ...)`, inside of the
/// implementation of [`Simd`](super::Simd) for a token that proves that the CPU has these intrinsics.
macro_rules! one_intrinsic_each {
    ($vector:ty: $splat:ident, $load:ident, $store:ident;
     $($method:ident($($x:ident),+) = $intrinsic:ident($($y:ident),+);)+) => {
        type V = $vector;

        #[inline(always)]
        fn splat(self, x: f32) -> $vector {
            // SAFETY: the token.
            unsafe { $splat(x) }
        }
        #[inline(always)]
        unsafe fn load(self, p: *const f32) -> $vector {
            // SAFETY: the token; `p` by the caller.
            unsafe { $load(p) }
        }
        #[inline(always)]
        unsafe fn store(self, p: *mut f32, v: $vector) {
            // SAFETY: the token; `p` by the caller.
            unsafe { $store(p, v) }
        }
        $(
            #[inline(always)]
            fn $method(self, $($x: $vector),+) -> $vector {
                // SAFETY: the token.
                unsafe { $intrinsic($($y),+) }
            }
        )+
    };
}
pub(super) use one_intrinsic_each;

/// `x`, through an empty instruction.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[inline(always)]
pub(super) fn opaque(mut x: usize) -> usize {
    // SAFETY: no instruction at all.
    unsafe {
        std::arch::asm!("/* {x} */", x = inout(reg) x, options(nomem, nostack, preserves_flags));
    }
    x
}

/// The hints of x86-64.
#[cfg(target_arch = "x86_64")]
macro_rules! x86_hints {
    () => {
        #[inline(always)]
        fn prefetch_write(self, p: *const f32) {
            // SAFETY: a hint never faults; where there is none, the instruction does nothing.
            unsafe { _mm_prefetch::<_MM_HINT_ET0>(p.cast()) }
        }
        #[inline(always)]
        fn prefetch(self, p: *const f32) {
            // SAFETY: a hint never faults; SSE is in the baseline.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
        }
    };
}
#[cfg(target_arch = "x86_64")]
pub(super) use x86_hints;
