//! The time that an algorithm should take: what it would do ([`Work`]), at the rates of the machine ([`Profile`]).
//!
//! A thread's time is a sum: slots of the FMA pipes, begun and ended tiles, copies, transforms and calls, each with a
//! constant of the family of loops ([`constants`](super::constants)); and the bytes that come from each cache level, at that level's rate, as
//! far as they are not hidden behind the rest. The thread that has the most to do is what counts.

use super::constants::of;
use super::profile::Profile;
use super::terms::{Bound, Terms};
use crate::algo::Schedule;
use crate::describe::{Algorithm, ConvDesc};
use crate::tile::table::KernelSet;
use crate::work::prices::{Prices, Typical};
use crate::work::{Caches, Family, Term, ThreadShare, Traffic, Work};

/// What an algorithm would take: its time by the model, its memory exactly.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Estimate {
    /// Seconds of one run, with operands where the run before left them: the sum of `terms`.
    pub seconds: f64,
    /// Where these seconds go.
    pub terms: Terms,
    /// What most of them go to: compute, or the bytes of one level.
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
    pub(super) prices: Prices<'a>,
    /// Seconds of handing work to other threads.
    region: f64,
    pub(super) share: ThreadShare,
    /// Threads that the workspace is for.
    threads: usize,
}

impl<'a> Machine<'a> {
    /// Of `threads` threads, of which the work is worth `parts`.
    pub(crate) fn new(kernels: &'static KernelSet, profile: &Profile, parts: usize, threads: usize) -> Self {
        Self {
            kernels,
            prices: prices(kernels, profile, parts),
            region: if parts > 1 { profile.region_ns as f64 * 1e-9 } else { 0.0 },
            share: ThreadShare { parts, caches: caches(profile, parts), typical: typical(kernels) },
            threads,
        }
    }

    /// The estimate for `algorithm`, which must support `desc`.
    pub(crate) fn estimate(&self, algorithm: Algorithm, desc: &ConvDesc) -> Estimate {
        let schedule = Schedule::new(algorithm, desc, self.kernels, &self.share.typical);
        self.estimate_schedule(&schedule, desc)
    }

    /// The estimate for a schedule of `desc`.
    pub(crate) fn estimate_schedule(&self, schedule: &Schedule, desc: &ConvDesc) -> Estimate {
        let estimate = schedule.estimate(desc, self.kernels, &self.share);
        let terms = self.terms(&estimate.work);
        let workspace = estimate.workspace_len.saturating_mul(self.threads);
        Estimate {
            seconds: terms.total(),
            terms,
            bound: terms.bound(),
            flops: estimate.work.flops,
            traffic: estimate.work.traffic,
            workspace_bytes: workspace.saturating_mul(size_of::<f32>()),
            packed_bytes: estimate.packed_bytes,
        }
    }

    /// The seconds of `work`, by what a reader wants to compare.
    fn terms(&self, work: &Work) -> Terms {
        let [fma, tile, store, pack, gather, call, l2, l3, dram] = self.prices.seconds(work);
        // Slots that the busiest thread would have to fill if every lane of them did something that an output needs.
        let lanes = self.kernels.gemm[0].shape.lanes as f64;
        let needed = work.flops / self.share.parts as f64 / (2.0 * lanes);
        let slots = work.terms()[Term::Fma as usize];
        let useful = if slots > needed { needed / slots } else { 1.0 };
        let (arithmetic, edges) = (fma * useful, fma * (1.0 - useful));
        let (tiles, calls) = (tile + store, call + self.region);
        let terms = Terms { arithmetic, edges, tiles, calls, l2, l3, dram, ..Terms::default() };
        match work.family {
            // Nothing is packed: taps whose sums do not stay in registers, and columns whose window reaches over the border.
            Family::DepthwiseChannels | Family::DepthwisePermuted | Family::DepthwisePixels => {
                Terms { arithmetic: arithmetic + pack, edges: edges + gather, ..terms }
            }
            Family::Winograd | Family::Fft | Family::FftGroups => {
                Terms { transforms: pack, packing: gather, ..terms }
            }
            _ => Terms { packing: pack + gather, ..terms },
        }
    }
}

/// With the library's constants, for each of `parts` threads that work at the same time.
fn prices(kernels: &'static KernelSet, profile: &Profile, parts: usize) -> Prices<'static> {
    let lanes = kernels.gemm[0].shape.lanes as f64;
    Prices {
        constants: of(kernels.isa()),
        slot: 2.0 * lanes / (profile.fma_mflops as f64 * 1e6),
        bytes: profile.rates(parts).map(|rate| 1.0 / (rate * 1e9)),
    }
}

/// Threads that work at the same time share the third level.
fn caches(profile: &Profile, parts: usize) -> Caches {
    let Profile { l1_bytes, l2_bytes, l3_bytes, .. } = *profile;
    Caches { l1: l1_bytes as f64, l2: l2_bytes as f64, l3: l3_bytes as f64 / parts as f64 }
}

/// What the cuts of algorithms are made for.
pub(crate) fn typical(kernels: &'static KernelSet) -> Typical {
    let profile = Profile::typical(kernels.isa());
    Typical { prices: prices(kernels, &profile, 1), caches: caches(&profile, 1) }
}
