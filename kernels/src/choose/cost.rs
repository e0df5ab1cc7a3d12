//! Predicts the time of an algorithm from its operation counts ([`Work`]) and the rates of the machine
//! ([`Profile`]).
//!
//! The time of a thread is a sum. FMA slots, tiles begun and ended, copies, transforms and calls are each
//! multiplied by a constant of the loop family ([`constants`](super::constants)). The bytes from each cache
//! level cost time at the rate of that level, multiplied by the fraction that other work does not hide. The
//! busiest thread decides.

use super::constants::of;
use super::profile::Profile;
use super::terms::{Bound, Terms};
use crate::algo::Schedule;
use crate::describe::{ConvDesc, Isa, Method};
use crate::tile::table::KernelSet;
use crate::work::prices::{Prices, Typical};
use crate::work::{Caches, Family, Term, ThreadShare, Traffic, Work};

/// The predicted time and the exact memory use of an algorithm.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Estimate {
    /// Seconds of one run with warm operands, left in cache by the previous run: the sum of `terms`.
    pub seconds: f64,
    /// How the seconds divide among parts of the work.
    pub terms: Terms,
    /// The largest part: compute, or the bytes of one cache level.
    pub bound: Bound,
    /// Floating-point operations of the multiplications, of all threads together. Winograd has fewer than the
    /// definition.
    pub flops: f64,
    /// Bytes that the busiest thread reads and writes beyond its first-level cache.
    pub traffic: Traffic,
    /// Bytes of workspace for all threads of the plan.
    pub workspace_bytes: usize,
    /// Bytes of packed weights.
    pub packed_bytes: usize,
}

/// The machine, in the units of the model.
#[derive(Clone, Copy)]
pub(crate) struct Machine<'a> {
    pub(super) kernels: &'static KernelSet,
    pub(super) prices: Prices<'a>,
    /// Seconds to hand work to other threads.
    region: f64,
    pub(super) share: ThreadShare,
    /// Number of threads that have a workspace.
    threads: usize,
}

impl<'a> Machine<'a> {
    /// A machine with `threads` threads, of which the problem is large enough to use `parts`.
    pub(crate) fn new(kernels: &'static KernelSet, profile: &Profile, parts: usize, threads: usize) -> Self {
        Self {
            kernels,
            prices: prices(kernels, profile, parts),
            region: if parts > 1 { profile.region_ns as f64 * 1e-9 } else { 0.0 },
            share: ThreadShare { parts, caches: caches(profile, parts), typical: typical(kernels) },
            threads,
        }
    }

    /// The machine on which other work touches `bytes` between two runs.
    pub(crate) fn with_bytes_between_runs(mut self, bytes: usize) -> Self {
        self.share.caches.between_runs = bytes as f64;
        self
    }

    /// The instruction set of the kernels.
    pub(super) fn isa(&self) -> Isa {
        self.kernels.isa()
    }

    /// Predicts `method`, which must support `desc`.
    pub(crate) fn estimate(&self, method: Method, desc: &ConvDesc) -> Estimate {
        let schedule = Schedule::new(method, desc, self.kernels, &self.share.typical);
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

    /// Groups the seconds of `work` into the terms that reports compare.
    fn terms(&self, work: &Work) -> Terms {
        let [fma, tile, store, pack, gather, call, l2, l3, dram] = self.prices.seconds(work);
        // FMA slots of the busiest thread if every lane contributed to an output.
        let lanes = self.kernels.gemm[0].shape.lanes as f64;
        let of_slot = if work.family.is_bf16() { f64::from(2 * 32 * 16) } else { 2.0 * lanes };
        let needed = work.flops / self.share.parts as f64 / of_slot;
        let slots = work.terms()[Term::Fma as usize];
        let useful = if slots > needed { needed / slots } else { 1.0 };
        let (arithmetic, edges) = (fma * useful, fma * (1.0 - useful));
        let (tiles, calls) = (tile + store, call + self.region);
        let terms = Terms { arithmetic, edges, tiles, calls, l2, l3, dram, ..Terms::default() };
        match work.family {
            // Depthwise packs nothing. Its `Pack` counts taps whose sums leave the registers, and its
            // `Gather` columns whose window crosses the border.
            Family::DepthwiseChannels | Family::DepthwisePermuted | Family::DepthwisePixels => {
                Terms { arithmetic: arithmetic + pack, edges: edges + gather, ..terms }
            }
            Family::Winograd | Family::WinogradParts | Family::Fft | Family::FftGroups | Family::FftTiles => {
                Terms { transforms: pack, packing: gather, ..terms }
            }
            _ => Terms { packing: pack + gather, ..terms },
        }
    }
}

/// Prices with the library's constants, for each of `parts` concurrent threads.
fn prices(kernels: &'static KernelSet, profile: &Profile, parts: usize) -> Prices<'static> {
    let lanes = kernels.gemm[0].shape.lanes as f64;
    Prices {
        constants: of(kernels.isa()),
        slot: 2.0 * lanes / (profile.fma_mflops as f64 * 1e6),
        bf16_row: f64::from(2 * 32 * 16) / (profile.bf16_mflops as f64 * 1e6),
        bytes: profile.rates(parts).map(|rate| 1.0 / (rate * 1e9)),
    }
}

/// Cache sizes per thread: concurrent threads share the third level.
fn caches(profile: &Profile, parts: usize) -> Caches {
    let Profile { l1_bytes, l2_bytes, l3_bytes, .. } = *profile;
    Caches { l1: l1_bytes as f64, l2: l2_bytes as f64, l3: l3_bytes as f64 / parts as f64, between_runs: 0.0 }
}

/// The fixed reference machine that algorithms optimize their schedules for.
pub(crate) fn typical(kernels: &'static KernelSet) -> Typical {
    let profile = Profile::typical(kernels.isa());
    Typical { prices: prices(kernels, &profile, 1), caches: caches(&profile, 1) }
}
