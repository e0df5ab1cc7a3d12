//! What the units of [`Work`] cost on a machine.

use super::{Caches, Family, TERMS, Traffic, Work};

/// What a family of loops takes for each unit of what is counted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Constants {
    /// Slots of an FMA pipe, in the order of [`Term`](super::Term).
    pub(crate) terms: [f64; TERMS],
    /// Of the time of a byte from the second level, the third, and memory: what is not hidden behind other work.
    pub(crate) memory: [f64; 3],
}

/// Those of each family.
pub(crate) type Table = [Constants; Family::COUNT];

/// Seconds of each term, then of the bytes of each cache level.
pub(crate) type Seconds = [f64; TERMS + 3];

/// Seconds of every unit, in two factors: the machine's rates, and constants of each family.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Prices<'a> {
    pub(crate) constants: &'a Table,
    /// Seconds of one slot of an FMA pipe.
    pub(crate) slot: f64,
    /// Seconds of a byte from the second level, the third, and memory.
    pub(crate) bytes: [f64; 3],
}

impl Prices<'_> {
    /// At the machine's rates alone, before any constant: what the constants are fitted to.
    pub(crate) fn raw(&self, work: &Work) -> Seconds {
        let mut seconds = [0.0; TERMS + 3];
        for (seconds, count) in seconds.iter_mut().zip(work.terms()) {
            *seconds = count * self.slot;
        }
        let Traffic { l2, l3, dram } = work.traffic;
        for ((seconds, bytes), price) in seconds[TERMS..].iter_mut().zip([l2, l3, dram]).zip(self.bytes) {
            *seconds = bytes * price;
        }
        seconds
    }

    /// With the constants of its family. Whatever is hidden, bytes do not come faster from the third level and from memory than
    /// these have them: where that takes longer than all together, it is all that counts.
    pub(crate) fn seconds(&self, work: &Work) -> Seconds {
        let raw = self.raw(work);
        let Constants { terms, memory } = &self.constants[work.family as usize];
        let mut seconds = raw;
        for (seconds, constant) in seconds.iter_mut().zip(terms.iter().chain(memory)) {
            *seconds *= constant;
        }
        let [.., l3, dram] = raw;
        if l3 + dram > seconds.iter().sum() {
            seconds = [0.0; TERMS + 3];
            (seconds[TERMS + 1], seconds[TERMS + 2]) = (l3, dram);
        }
        seconds
    }

    /// The sum.
    pub(crate) fn total(&self, work: &Work) -> f64 {
        self.seconds(work).iter().sum()
    }
}

/// One thread of a usual machine: what an algorithm cuts for that must depend on neither threads nor profile, because the cut
/// decides the order of sums.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Typical {
    pub(crate) prices: Prices<'static>,
    pub(crate) caches: Caches,
}
