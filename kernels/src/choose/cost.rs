//! The time that an algorithm should take: what it would do ([`Work`]), at the rates of the machine ([`Profile`]).
//!
//! A thread's time is a sum: slots of the FMA pipes, begun and ended tiles, copies, transforms and calls, each with a
//! constant of the family of loops ([`constants`](super::constants)); and the bytes that come from each cache level, at that level's rate, as
//! far as they are not hidden behind the rest. The thread that has the most to do is what counts.

use super::Profile;
use super::constants::{Constants, Table, of};
use crate::algo;
use crate::describe::{Algorithm, ConvDesc};
use crate::tile::table::KernelSet;
use crate::work::{Caches, Family, Share, TERMS, Traffic, Work};
use std::fmt;

/// What most of the time goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bound {
    /// Multiply-adds, transforms, copies and calls.
    Compute,
    /// Bytes from the second cache level.
    L2,
    /// Bytes from the third cache level.
    L3,
    /// Bytes from memory.
    Dram,
}

impl Bound {
    /// `"compute"`, `"L2"`, `"L3"` or `"DRAM"`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Compute => "compute",
            Self::L2 => "L2",
            Self::L3 => "L3",
            Self::Dram => "DRAM",
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What an algorithm would take: its time by the model, its memory exactly.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Estimate {
    /// Seconds of one run, with operands where the run before left them.
    pub seconds: f64,
    /// What most of them go to.
    pub bound: Bound,
    /// Floating-point operations of its multiplications, of all threads: fewer than the definition's for Winograd.
    pub flops: f64,
    /// Bytes that the busiest thread gets from beyond its first cache level.
    pub traffic: Traffic,
    /// Bytes of workspace of all threads that the plan is for.
    pub workspace_bytes: usize,
    /// Bytes of packed weights.
    pub packed_bytes: usize,
}

/// The machine as the model sees it.
#[derive(Clone, Copy)]
pub(crate) struct Machine<'a> {
    kernels: &'static KernelSet,
    profile: &'a Profile,
    constants: &'a Table,
    /// Threads that the work is worth.
    parts: usize,
    /// Threads that the workspace is for.
    threads: usize,
}

impl<'a> Machine<'a> {
    /// Of `threads` threads, of which the work is worth `parts`.
    pub(crate) fn new(
        kernels: &'static KernelSet,
        profile: &'a Profile,
        parts: usize,
        threads: usize,
    ) -> Self {
        Self { kernels, profile, constants: of(kernels.isa()), parts, threads }
    }

    /// With these constants instead of the library's.
    pub(super) fn with(self, constants: &'a Table) -> Self {
        Self { constants, ..self }
    }

    /// Threads that work at the same time share the third level.
    fn share(&self) -> Share {
        let Profile { l1_bytes, l2_bytes, l3_bytes, .. } = *self.profile;
        let caches =
            Caches { l1: l1_bytes as f64, l2: l2_bytes as f64, l3: l3_bytes as f64 / self.parts as f64 };
        Share { parts: self.parts, caches }
    }

    /// Of `algorithm`, which must support `desc`.
    pub(crate) fn estimate(&self, algorithm: Algorithm, desc: &ConvDesc) -> Estimate {
        let sketch = algo::sketch(algorithm, desc, self.kernels, &self.share());
        let (seconds, bound) = self.time(&sketch.work);
        let workspace = sketch.workspace_len.saturating_mul(self.threads);
        Estimate {
            seconds,
            bound,
            flops: sketch.work.flops,
            traffic: sketch.work.traffic,
            workspace_bytes: workspace.saturating_mul(size_of::<f32>()),
            packed_bytes: sketch.packed_bytes,
        }
    }

    fn time(&self, work: &Work) -> (f64, Bound) {
        let constants = &self.constants[work.family as usize];
        let parts = self.parts(work);
        let compute: f64 =
            parts[..TERMS].iter().zip(&constants.terms).map(|(part, constant)| part * constant).sum();
        let memory = [0, 1, 2].map(|level| parts[TERMS + level] * constants.memory[level]);
        let bounds = [(Bound::L2, memory[0]), (Bound::L3, memory[1]), (Bound::Dram, memory[2])];
        let longest =
            bounds.into_iter().fold((Bound::Compute, compute), |a, b| if b.1 > a.1 { b } else { a });
        let region = if self.parts > 1 { self.profile.region_ns as f64 * 1e-9 } else { 0.0 };
        let sum = compute + memory.iter().sum::<f64>();
        // Whatever is hidden, bytes do not come faster than they can.
        let far = [(Bound::L3, parts[TERMS + 1]), (Bound::Dram, parts[TERMS + 2])];
        let least: f64 = far.iter().map(|&(_, seconds)| seconds).sum();
        if least > sum {
            let bound = if far[0].1 > far[1].1 { far[0].0 } else { far[1].0 };
            return (least + region, bound);
        }
        (sum + region, longest.0)
    }

    /// Seconds of each term and of each cache level, before any constant: what the constants are fitted to.
    fn parts(&self, work: &Work) -> [f64; TERMS + 3] {
        let lanes = self.kernels.gemm[0].shape.lanes as f64;
        // Of one slot of an FMA pipe.
        let slot = 2.0 * lanes / (self.profile.fma_mflops as f64 * 1e6);
        let mut parts = [0.0; TERMS + 3];
        for (part, count) in parts.iter_mut().zip(work.terms()) {
            *part = count * slot;
        }
        let Traffic { l2, l3, dram } = work.traffic;
        let rates = self.profile.rates(self.parts);
        for ((part, bytes), rate) in parts[TERMS..].iter_mut().zip([l2, l3, dram]).zip(rates) {
            *part = bytes / (rate * 1e9);
        }
        parts
    }
}

/// The parts of the time of `algorithm`, its family, and their constants: for the tool that fits them.
#[doc(hidden)]
pub fn parts_of(
    desc: &ConvDesc,
    algorithm: Algorithm,
    kernels: &'static KernelSet,
    profile: &Profile,
    parts: usize,
) -> (&'static str, Vec<f64>, Vec<f64>) {
    let machine = Machine::new(kernels, profile, parts, parts);
    let work = algo::sketch(algorithm, desc, kernels, &machine.share()).work;
    let Constants { terms, memory } = &machine.constants[work.family as usize];
    let constants = terms.iter().chain(memory).copied().collect();
    (Family::NAMES[work.family as usize], machine.parts(&work).to_vec(), constants)
}
