//! What is known of one engine on one network.

use super::alone::Alone;
use super::serve::Footprint;
use crate::turns::{Figures, Rival};
use serde::Serialize;

/// The relative L2 distance from the library's output from which on a peer computes something else.
const TOLERANCE: f64 = 1e-4;

/// One line of the result. What does not apply, or was not measured, is missing.
#[derive(Debug, Clone, Default, Serialize)]
pub struct NetRow {
    /// The network.
    pub net: String,
    /// Images of a pass.
    pub batch: usize,
    /// How many threads.
    pub threads: usize,
    /// The library's own is `ours`, `ours-strict` or `ours-fast`.
    pub engine: String,
    /// Milliseconds of a pass in the best round.
    pub ms_min: Option<f64>,
    /// Milliseconds of a pass in the middle round.
    pub ms_median: Option<f64>,
    /// Operations of the definition by the middle round, 10^9 a second.
    pub gflops: Option<f64>,
    /// Of the FMA roof in the same rounds: more than 100 if algorithms save operations.
    pub roof_percent: Option<f64>,
    /// Relative L2 distance of the output from the library's.
    pub rel_l2_distance: Option<f64>,
    /// Of the process, with everything in it, in 10^6 bytes.
    pub peak_mb: Option<f64>,
    /// From the file to a network that can be run.
    pub compile_ms: Option<f64>,
    /// Packed weights.
    pub packed_mb: Option<f64>,
    /// Activations and workspace.
    pub memory_mb: Option<f64>,
    /// The process before there was a network.
    pub program_mb: Option<f64>,
    /// Percent of a pass in layers that are neither convolutions nor fully connected.
    pub outside_percent: Option<f64>,
    /// A pass by the sum of its layers, each alone with cold weights.
    pub pass_by_layers: Option<f64>,
    /// What a peer says of itself, or why it has no times.
    #[serde(skip)]
    pub note: String,
    /// Whether the output is too far from the library's.
    #[serde(skip)]
    pub is_wrong: bool,
}

impl NetRow {
    /// With the distance of its output from the library's.
    pub(super) fn compared(&mut self, distance: f64) {
        self.rel_l2_distance = Some(distance).filter(|distance| distance.is_finite());
        // Not a number is wrong too.
        self.is_wrong = distance.is_nan() || distance > TOLERANCE;
    }

    /// With the times of `rival`, unless one of its turns failed, and of the roof in the same rounds.
    pub(super) fn timed(&mut self, rival: &Rival<'_>, roof: Option<&Rival<'_>>) {
        if let Some(Figures { ms_min, ms_median, gflops, roof_percent }) = rival.figures(roof) {
            (self.ms_min, self.ms_median) = (Some(ms_min), Some(ms_median));
            (self.gflops, self.roof_percent) = (Some(gflops), roof_percent);
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

    /// Whether it is the library's own.
    pub fn is_ours(&self) -> bool {
        self.engine.starts_with("ours")
    }

    /// The peak by what has to be there: packed weights, activations, workspace, the program itself.
    pub(super) fn peak_ratio(&self) -> Option<f64> {
        Some(self.peak_mb? / (self.packed_mb? + self.memory_mb? + self.program_mb?))
    }
}

pub(super) fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
