//! Detection of the instruction sets of this machine. A set is available if it has a [`KernelSet`].

use super::table::KernelSet;
use crate::describe::{ConvError, Isa};

impl Isa {
    /// The best instruction set of this CPU.
    pub fn detect() -> Self {
        Self::available().last().unwrap_or(Self::Portable)
    }

    /// Every instruction set of this CPU, from worst to best.
    pub fn available() -> impl DoubleEndedIterator<Item = Self> {
        Self::ALL.into_iter().filter(|&isa| KernelSet::get(isa).is_some())
    }
}

/// The kernels of `isa`, or of the best instruction set. An override can only select a lower set: it is an
/// error to ask for a set that the CPU does not have.
pub(crate) fn kernels(isa: Option<Isa>) -> Result<&'static KernelSet, ConvError> {
    let best = Isa::detect();
    let isa = isa.unwrap_or(best);
    KernelSet::get(isa).ok_or(ConvError::IsaUnavailable { isa, best })
}
