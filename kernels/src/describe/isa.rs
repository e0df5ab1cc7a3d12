//! [`Isa`]: the supported instruction sets.

use super::Products;
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
    /// AVX-512 with dot products of bf16 numbers (AVX512-BF16), on CPUs where these are faster than multiply-adds:
    /// AMD's. Its `f32` kernels are those of
    /// [`Avx512F`](Self::Avx512F).
    Avx512Bf16,
    /// AVX-512 with matrix tiles of bf16 numbers (AMX-BF16). Its `f32` kernels are those of
    /// [`Avx512F`](Self::Avx512F).
    Amx,
}

impl Isa {
    /// Every instruction set, in ascending order of preference.
    pub const ALL: [Self; 6] =
        [Self::Portable, Self::Neon, Self::Avx2Fma, Self::Avx512F, Self::Avx512Bf16, Self::Amx];

    /// The name: `"portable"`, `"neon"`, `"avx2fma"`, `"avx512f"`, `"avx512bf16"` or `"amx"`. Kernel names end
    /// with it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Neon => "neon",
            Self::Avx2Fma => "avx2fma",
            Self::Avx512F => "avx512f",
            Self::Avx512Bf16 => "avx512bf16",
            Self::Amx => "amx",
        }
    }

    /// The products that the hardware has instructions for. The choice considers only these. Any products can
    /// be forced on any instruction set, but loops without such instructions are slow.
    pub const fn products(self) -> &'static [Products] {
        match self {
            Self::Portable | Self::Neon | Self::Avx2Fma | Self::Avx512F => &[Products::F32],
            // A dot product does twice the work of a multiply-add, so only single products are faster.
            Self::Avx512Bf16 => &[Products::F32, Products::Bf16],
            Self::Amx => &Products::ALL,
        }
    }

    /// The instruction set of the `f32` kernels.
    pub const fn of_f32(self) -> Self {
        match self {
            Self::Avx512Bf16 | Self::Amx => Self::Avx512F,
            other => other,
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
