//! Macros that implement the methods of a token that are one intrinsic each.

/// `one_intrinsic_each!(vector: splat, load, store; method(arguments) = intrinsic(arguments); ...)`. It is
/// used inside an implementation of [`Simd`](super::Simd) whose token proves that the CPU has these
/// intrinsics.
macro_rules! one_intrinsic_each {
    ($vector:ty: $splat:ident, $load:ident, $store:ident;
     $($method:ident($($x:ident),+) = $intrinsic:ident($($y:ident),+);)+) => {
        type V = $vector;

        #[inline(always)]
        fn splat(self, x: f32) -> $vector {
            // SAFETY: the token proves that the CPU has these instructions.
            unsafe { $splat(x) }
        }
        #[inline(always)]
        unsafe fn load(self, p: *const f32) -> $vector {
            // SAFETY: the token proves that the CPU has the instruction. The caller guarantees that `p` is
            // valid.
            unsafe { $load(p) }
        }
        #[inline(always)]
        unsafe fn store(self, p: *mut f32, v: $vector) {
            // SAFETY: the token proves that the CPU has the instruction. The caller guarantees that `p` is
            // valid.
            unsafe { $store(p, v) }
        }
        $(
            #[inline(always)]
            fn $method(self, $($x: $vector),+) -> $vector {
                // SAFETY: the token proves that the CPU has these instructions.
                unsafe { $intrinsic($($y),+) }
            }
        )+
    };
}
pub(super) use one_intrinsic_each;

/// Returns `x`, after an empty inline assembly block that hides its value from the compiler.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[inline(always)]
pub(super) fn opaque(mut x: usize) -> usize {
    // SAFETY: the assembly has no instruction, and `x` is its only operand.
    unsafe {
        std::arch::asm!("/* {x} */", x = inout(reg) x, options(nomem, nostack, preserves_flags));
    }
    x
}

/// The prefetches of x86-64, and its stores past the caches: `x86_hints!(vector, intrinsic)`.
#[cfg(target_arch = "x86_64")]
macro_rules! x86_hints {
    ($vector:ty, $stream:ident) => {
        #[inline(always)]
        unsafe fn stream(self, p: *mut f32, v: $vector) {
            // SAFETY: the token proves that the CPU has this instruction. The caller guarantees a writable, aligned vector,
            // and a fence before it is read.
            unsafe { $stream(p, v) }
        }
        #[inline(always)]
        fn prefetch_write(self, p: *const f32) {
            // SAFETY: a prefetch never faults. A CPU without PREFETCHW executes it as a no-op.
            unsafe { _mm_prefetch::<_MM_HINT_ET0>(p.cast()) }
        }
        #[inline(always)]
        fn prefetch(self, p: *const f32) {
            // SAFETY: a prefetch never faults. SSE belongs to the baseline of x86-64.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
        }
    };
}
#[cfg(target_arch = "x86_64")]
pub(super) use x86_hints;
