//! The cost of the units of [`Work`] on a machine.

use super::{Caches, Family, TERMS, Term, Traffic, Work};

/// Cost factors of a loop family, per unit of work.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Constants {
    /// FMA slots per unit, in the order of [`Term`].
    pub(crate) terms: [f64; TERMS],
    /// Fraction of the time for a byte from the second level, the third level and memory that other work does
    /// not hide.
    pub(crate) memory: [f64; 3],
}

/// The constants of every family.
pub(crate) type Table = [Constants; Family::COUNT];

/// Seconds of each term, then of the bytes of each cache level.
pub(crate) type Seconds = [f64; TERMS + 3];

/// Seconds per unit of work, as two factors: the machine's rates, and the constants of each family.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Prices<'a> {
    pub(crate) constants: &'a Table,
    /// Seconds per FMA slot.
    pub(crate) slot: f64,
    /// Seconds per row of 32 by 16 products of bf16 numbers.
    pub(crate) bf16_row: f64,
    /// Seconds per byte from the second level, the third level and memory.
    pub(crate) bytes: [f64; 3],
}

impl Prices<'_> {
    /// Seconds at the machine's rates without constants; `fit` fits the constants to these.
    pub(crate) fn raw(&self, work: &Work) -> Seconds {
        let mut seconds = [0.0; TERMS + 3];
        for (seconds, count) in seconds.iter_mut().zip(work.terms()) {
            *seconds = count * self.slot;
        }
        if work.family.is_bf16() {
            seconds[Term::Fma as usize] *= self.bf16_row / self.slot;
        }
        let Traffic { l2, l3, dram } = work.traffic;
        for ((seconds, bytes), price) in seconds[TERMS..].iter_mut().zip([l2, l3, dram]).zip(self.bytes) {
            *seconds = bytes * price;
        }
        seconds
    }

    /// Seconds with the constants of the family. Bytes from the third level and memory cannot arrive faster
    /// than their full rate, however well they are hidden. If they alone take longer than the sum, they are
    /// the whole time.
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

    /// The predicted time of `work` in seconds.
    pub(crate) fn total(&self, work: &Work) -> f64 {
        self.seconds(work).iter().sum()
    }
}

/// One thread of a typical machine. Schedules are optimized for it, and not for the caller's threads or
/// profile, because the schedule decides the order of sums.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Typical {
    pub(crate) prices: Prices<'static>,
    pub(crate) caches: Caches,
}
