//! The only file with `#[target_feature]`, and the only list of features per instruction set.
//!
//! For each [`Body`] and instruction set, `enter_<isa>` is a function with the features of that set. `B::run`
//! is inlined into it. Everything that `B::run` calls must be `#[inline(always)]`: code that is not inlined
//! here is compiled without the features. It stays correct but loses all of its speed. `tests/codegen.rs`
//! checks this.
//!
//! The entries are methods of the bodies, not functions of this file. rustc compiles a method in the unit of
//! its type's file, so the kernels compile in parallel. Functions of this file would all be in one unit,
//! which one core would compile alone.

use crate::simd;

/// A kernel body, generic over the instruction set.
pub(crate) trait Body {
    /// The arguments. They are passed by reference, because a function pointer takes one argument.
    type Args;

    /// # Safety
    /// Each body states what its arguments must satisfy.
    unsafe fn run<S: simd::Simd>(simd: S, args: &Self::Args);
}

/// A function pointer to a body that was compiled for one instruction set.
pub(crate) type Entry<A> = unsafe fn(&A);

/// Makes, for each instruction set, its detection and its entries from one list of features.
macro_rules! features {
    ($($arch:literal $token:path, $enter:ident, $detect:ident, $is_detected:ident: [$($feature:tt)+];)+) => {
        /// The entries of a body, one per instruction set.
        pub(crate) trait Enter: Body {
            $(
                /// Enters the body with the features of this instruction set enabled.
                /// # Safety
                /// The CPU must have these features, and `args` must satisfy the contract of `run`.
                #[cfg(target_arch = $arch)]
                unsafe fn $enter(args: &Self::Args);
            )+

            /// Enters the body with the portable token, which needs no features.
            /// # Safety
            /// `args` must satisfy the contract of `run`.
            unsafe fn enter_portable(args: &Self::Args);
        }

        impl<B: Body> Enter for B {
            $(
                #[cfg(target_arch = $arch)]
                $(#[target_feature(enable = $feature)])+
                unsafe fn $enter(args: &B::Args) {
                    // SAFETY: the caller guarantees the features and the arguments.
                    unsafe { B::run(<$token>::assume(), args) }
                }
            )+

            unsafe fn enter_portable(args: &B::Args) {
                // SAFETY: the portable token needs no feature. The caller guarantees the arguments.
                unsafe { B::run(simd::portable::Portable::assume(), args) }
            }
        }

        $(
            #[cfg(target_arch = $arch)]
            pub(crate) fn $detect() -> bool {
                $(std::arch::$is_detected!($feature))&&+
            }
        )+
    };
}

features! {
    "x86_64" simd::avx2::Avx2Fma, enter_avx2fma, detect_avx2fma, is_x86_feature_detected: ["avx2" "fma"];
    "x86_64" simd::avx512::Avx512F, enter_avx512f, detect_avx512f, is_x86_feature_detected: ["avx512f" "avx2" "fma"];
    "x86_64" simd::avx512::Avx512F, enter_avx512bf16, detect_avx512bf16, is_x86_feature_detected: ["avx512f" "avx2" "fma" "avx512bw" "avx512bf16"];
    "aarch64" simd::neon::Neon, enter_neon, detect_neon, is_aarch64_feature_detected: ["neon"];
}
