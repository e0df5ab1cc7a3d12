//! [`Isa`]: the instruction sets that kernels exist for.

use std::fmt;

/// An instruction set that kernels exist for, in ascending order of preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Isa {
    /// Whatever the build's baseline has, through the `wide` crate. Always there.
    Portable,
    /// AArch64 Advanced SIMD.
    Neon,
    /// x86-64 AVX2 with FMA.
    Avx2Fma,
    /// x86-64 AVX-512 Foundation.
    Avx512F,
}

impl Isa {
    /// Every instruction set, in ascending order of preference.
    pub(crate) const ALL: [Self; 4] = [Self::Portable, Self::Neon, Self::Avx2Fma, Self::Avx512F];

    /// `"portable"`, `"neon"`, `"avx2fma"` or `"avx512f"`: the last part of every kernel's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Neon => "neon",
            Self::Avx2Fma => "avx2fma",
            Self::Avx512F => "avx512f",
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
