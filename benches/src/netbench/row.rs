//! The results of one engine on one network.

use super::alone::Alone;
use super::serve::Footprint;
use crate::peers::{is_comparable, tolerance};
use crate::turns::{Figures, Rival};
use kernels::Numerics;
use serde::Serialize;

/// One row of the results. Values that do not apply or were not measured are `None`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct NetRow {
    /// Name of the network.
    pub net: String,
    /// Images per pass.
    pub batch: usize,
    /// Number of threads.
    pub threads: usize,
    /// Name of the engine. `ours`, `ours-strict`, `ours-fast`, `ours-tf32` and `ours-bf16` stand for this library.
    pub engine: String,
    /// Milliseconds per pass in the fastest round.
    pub ms_min: Option<f64>,
    /// Milliseconds per pass in the median round.
    pub ms_median: Option<f64>,
    /// Floating-point operations of the definition per second in the median round, in 10^9.
    pub gflops: Option<f64>,
    /// Per cent of the FMA roof in the same rounds. Algorithms that save operations can exceed 100.
    pub roof_percent: Option<f64>,
    /// The roof of bf16 products in the same rounds, in 10^9 operations per second. `None` if the instruction set
    /// has no such products.
    pub bf16_roof_gflops: Option<f64>,
    /// Relative L2 distance of the output from the library's output.
    pub rel_l2_distance: Option<f64>,
    /// Peak memory of the whole process, in 10^6 bytes.
    pub peak_mb: Option<f64>,
    /// Milliseconds from the file to a runnable network.
    pub compile_ms: Option<f64>,
    /// Packed weights, in 10^6 bytes.
    pub packed_mb: Option<f64>,
    /// Activations and workspace, in 10^6 bytes.
    pub memory_mb: Option<f64>,
    /// The process before it loads the network, in 10^6 bytes.
    pub program_mb: Option<f64>,
    /// Per cent of a pass in layers that are neither convolutions nor fully connected.
    pub outside_percent: Option<f64>,
    /// The time of a pass divided by the sum of its layers, each timed alone with cold weights.
    pub pass_by_layers: Option<f64>,
    /// The rounding error of the engine's products.
    #[serde(skip)]
    pub numerics: Numerics,
    /// What the engine says about itself, or why it has no times.
    #[serde(skip)]
    pub note: String,
    /// Whether the output differs too much from the library's output.
    #[serde(skip)]
    pub is_wrong: bool,
}

impl NetRow {
    /// Records the distance of the output from the library's output in `f32`.
    pub(super) fn compared(&mut self, distance: f64) {
        self.rel_l2_distance = Some(distance).filter(|distance| distance.is_finite());
        // NaN counts as wrong.
        self.is_wrong = distance.is_nan() || distance > tolerance::of_network(self.numerics);
    }

    /// Records the times of `rival` and of the roofs in the same rounds, of FMAs and of bf16 products, unless a
    /// turn failed.
    pub(super) fn timed(&mut self, rival: &Rival<'_>, [fma, bf16]: [Option<&Rival<'_>>; 2]) {
        if let Some(Figures { ms_min, ms_median, gflops, roof_percent }) = rival.figures(fma) {
            (self.ms_min, self.ms_median) = (Some(ms_min), Some(ms_median));
            (self.gflops, self.roof_percent) = (Some(gflops), roof_percent);
            self.bf16_roof_gflops = bf16.map(Rival::median_gflops);
        }
    }

    pub(super) fn footprint(&mut self, footprint: Footprint) {
        self.compile_ms = Some(footprint.compile_ms);
        self.packed_mb = Some(megabytes(footprint.packed_bytes));
        self.memory_mb = Some(megabytes(footprint.memory_bytes));
        self.program_mb = Some(megabytes(footprint.program_bytes));
    }

    pub(super) fn alone(&mut self, alone: Alone) {
        self.outside_percent = Some(alone.outside_percent());
        self.pass_by_layers = Some(alone.ratio());
    }

    /// Whether both rows are of the same network, batch size and number of threads.
    pub(super) fn is_same_run(&self, other: &Self) -> bool {
        (&self.net, self.batch, self.threads) == (&other.net, other.batch, other.threads)
    }

    /// Whether a ratio of both rows compares equal precision.
    pub(super) fn is_comparable(&self, other: &Self) -> bool {
        is_comparable(self.numerics, other.numerics)
    }

    /// Whether the engine is this library.
    pub fn is_ours(&self) -> bool {
        self.engine.starts_with("ours")
    }

    /// Peak memory divided by the necessary memory: packed weights, activations, workspace and the program itself.
    pub(super) fn peak_ratio(&self) -> Option<f64> {
        Some(self.peak_mb? / (self.packed_mb? + self.memory_mb? + self.program_mb?))
    }
}

pub(super) fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
