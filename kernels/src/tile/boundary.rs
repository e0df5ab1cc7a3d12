//! The one place that writes `#[target_feature]`, and the one list of features per instruction set.
//!
//! `B::enter_<isa>` is a function with the features of that instruction set whose body is `B::run`, inlined.
//! Everything below `B::run` must be `#[inline(always)]`: what is not inlined here is compiled without the
//! features, stays correct and loses all of its speed. `tests/codegen.rs` watches that.
//!
//! The entries are methods of the bodies rather than functions of this file, because rustc compiles a method in the
//! unit of its type's file. Functions of this file would all be in one unit, which one core would compile alone.

use crate::simd;

/// A kernel body, generic over the instruction set.
pub(crate) trait Body {
    /// Passed by reference, because a function pointer takes one argument.
    type Args;

    /// # Safety
    /// What the body says of its arguments.
    unsafe fn run<S: simd::Simd>(simd: S, args: &Self::Args);
}

/// A body behind its boundary.
pub(crate) type Entry<A> = unsafe fn(&A);

/// For each instruction set with features: detection and boundary, from one list.
macro_rules! features {
    ($($arch:literal $token:path, $enter:ident, $detect:ident, $is_detected:ident: [$($feature:tt)+];)+) => {
        /// A body behind the boundary of each instruction set.
        pub(crate) trait Enter: Body {
            $(
                /// Enters the body with the features of this instruction set enabled.
                /// # Safety
                /// The CPU must have them, and `args` must satisfy `run`.
                #[cfg(target_arch = $arch)]
                unsafe fn $enter(args: &Self::Args);
            )+

            /// Enters the body on the portable token: no features, no requirement.
            /// # Safety
            /// `args` must satisfy `run`.
            unsafe fn enter_portable(args: &Self::Args);
        }

        impl<B: Body> Enter for B {
            $(
                #[cfg(target_arch = $arch)]
                $(#[target_feature(enable = $feature)])+
                unsafe fn $enter(args: &B::Args) {
                    // SAFETY: the features are the caller's promise; so are the arguments.
                    unsafe { B::run(<$token>::assume(), args) }
                }
            )+

            unsafe fn enter_portable(args: &B::Args) {
                // SAFETY: the portable token needs nothing; the arguments are the caller's promise.
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
    "aarch64" simd::neon::Neon, enter_neon, detect_neon, is_aarch64_feature_detected: ["neon"];
}
