//! The work of a gradient with the tile of `tile/taps.rs`.

use super::TapsGradient;
use crate::algo::tap_order::KernelRun;
use crate::algo::weights_gradient::windows::Windows;
use crate::describe::{BLOCK, ConvDesc};
use crate::tile::shape::IN_FLIGHT;

/// What the gradient of one group computes, without padding.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::algo::weights_gradient) struct TapsWork {
    /// Multiply-adds of vectors.
    pub(in crate::algo::weights_gradient) products: f64,
    /// Multiply-adds that would be needed to hide the latency of those in flight.
    pub(in crate::algo::weights_gradient) stalls: f64,
    /// Pixels of the image that belong to fewer outputs than there are taps in a run, for each call.
    pub(in crate::algo::weights_gradient) edges: f64,
    /// Lines of all calls, and calls.
    pub(in crate::algo::weights_gradient) lines: f64,
    pub(in crate::algo::weights_gradient) calls: f64,
    /// Vectors of gradients that are copied, and segments of which they are copied.
    pub(in crate::algo::weights_gradient) packed: f64,
    pub(in crate::algo::weights_gradient) packed_rows: f64,
}

/// What a run of taps visits in a row.
#[derive(Debug, Clone, Copy, Default)]
struct Visited {
    /// Pairs of an output pixel and a tap.
    products: f64,
    /// Pixels of the image that belong to as many outputs as there are taps, and the others.
    whole: f64,
    edges: f64,
}

impl TapsGradient {
    /// Adds up what the gradient of one group computes.
    pub(in crate::algo::weights_gradient) fn work(&self, desc: &ConvDesc, windows: &Windows) -> TapsWork {
        let (outs, ins) = (desc.outs(), desc.ins());
        let inside = (0..windows.kernel.h).map(|kh| windows.images.saturating_mul(windows.rows_inside(kh)));
        let (mut rows, mut stretches) = (0.0, 0.0);
        for of_row in inside {
            rows += of_row as f64;
            stretches += windows.stretches().min(of_row.saturating_mul(windows.segments_of_row())) as f64;
        }
        let mut work = TapsWork::default();
        for run in self.runs.iter() {
            let line = self.visited(windows, run);
            // All panels are alike, except for the last one.
            let panels = [(outs / self.panel, self.panel), (1, outs % self.panel)];
            for (panels, columns) in panels {
                for (_, vectors) in self.widths(run.taps, columns) {
                    let most = self.tile.channels(run.taps, vectors);
                    let pieces = (ins / BLOCK * BLOCK.div_ceil(most) + (ins % BLOCK).div_ceil(most)) as f64;
                    let calls = panels as f64 * pieces;
                    let sums = (run.taps * vectors * ins) as f64 / pieces;
                    work.products += panels as f64 * rows * line.products * (vectors * ins) as f64;
                    work.stalls += calls * rows * line.whole * (IN_FLIGHT as f64 - sums).max(0.0);
                    work.edges += calls * rows * line.edges;
                    work.lines += calls * rows * windows.segments_of_row() as f64;
                    work.calls += calls * stretches;
                }
            }
        }
        let pixels = (windows.images * windows.output.h * windows.output.w) as f64;
        if !self.in_place {
            let blocks = ins.div_ceil(self.ins) as f64;
            work.packed = blocks * pixels * outs.div_ceil(self.tile.lanes) as f64;
            work.packed_rows = blocks * windows.segments() as f64 * outs.div_ceil(self.panel) as f64;
        }
        work
    }

    /// What one run of taps visits in the segments of a row.
    fn visited(&self, windows: &Windows, run: KernelRun) -> Visited {
        let mut visited = Visited::default();
        for segment in windows.row_segments() {
            let (lo, hi) = windows.inside(&segment, run.first, run.taps);
            let count = segment.len();
            let of_tap =
                |tap: usize| count.min(hi.saturating_sub(tap)).saturating_sub(lo.saturating_sub(tap));
            visited.products += (0..run.taps).map(of_tap).sum::<usize>() as f64;
            let whole = hi.min(count).saturating_sub(lo.max(run.taps - 1));
            visited.whole += whole as f64;
            visited.edges += (hi.saturating_sub(lo) - whole) as f64;
        }
        visited
    }
}
