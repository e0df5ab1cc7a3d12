//! Which instruction sets this machine has: those whose [`KernelSet`] is handed out.

use super::table::KernelSet;
use crate::describe::{ConvError, Isa};

impl Isa {
    /// The best of this CPU.
    pub fn detect() -> Self {
        Self::available().last().unwrap_or(Self::Portable)
    }

    /// Every instruction set of this CPU, worst first.
    pub fn available() -> impl DoubleEndedIterator<Item = Self> {
        Self::ALL.into_iter().filter(|&isa| KernelSet::get(isa).is_some())
    }
}

/// The kernels of `isa`, or of the best instruction set. An override can only lower the level: what the CPU
/// does not have is an error.
pub(crate) fn kernels(isa: Option<Isa>) -> Result<&'static KernelSet, ConvError> {
    let best = Isa::detect();
    let isa = isa.unwrap_or(best);
    KernelSet::get(isa).ok_or(ConvError::IsaUnavailable { isa, best })
}
