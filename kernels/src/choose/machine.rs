//! The machine: which instruction sets it has.

use crate::error::ConvError;
use crate::tile::table::KernelSet;
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
    const ALL: [Self; 4] = [Self::Portable, Self::Neon, Self::Avx2Fma, Self::Avx512F];

    /// The best of this CPU.
    pub fn detect() -> Self {
        Self::available().last().unwrap_or(Self::Portable)
    }

    /// Every instruction set of this CPU, worst first.
    pub fn available() -> impl DoubleEndedIterator<Item = Self> {
        Self::ALL.into_iter().filter(|&isa| KernelSet::get(isa).is_some())
    }

    /// `"portable"`, `"neon"`, `"avx2fma"` or `"avx512f"`: the last part of every kernel's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Neon => "neon",
            Self::Avx2Fma => "avx2fma",
            Self::Avx512F => "avx512f",
        }
    }

    /// The instruction set of that name.
    ///
    /// # Errors
    /// [`ConvError::InvalidField`] if there is none.
    pub fn from_name(name: &str) -> Result<Self, ConvError> {
        Self::ALL
            .into_iter()
            .find(|isa| isa.name() == name)
            .ok_or_else(|| ConvError::field("isa", "portable, neon, avx2fma or avx512f", name))
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The kernels of `isa`, or of the best instruction set. An override can only lower the level: what the CPU
/// does not have is an error.
pub(crate) fn kernels(isa: Option<Isa>) -> Result<&'static KernelSet, ConvError> {
    let best = Isa::detect();
    let isa = isa.unwrap_or(best);
    KernelSet::get(isa).ok_or(ConvError::IsaUnavailable { isa, best })
}
