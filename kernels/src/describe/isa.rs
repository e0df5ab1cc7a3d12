//! [`Isa`]: the supported instruction sets.

use std::fmt;

/// An instruction set with kernels, in ascending order of preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Isa {
    /// The build's baseline, through the `wide` crate. It is always available.
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
    pub const ALL: [Self; 4] = [Self::Portable, Self::Neon, Self::Avx2Fma, Self::Avx512F];

    /// The name: `"portable"`, `"neon"`, `"avx2fma"` or `"avx512f"`. Kernel names end with it.
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
