//! The estimate of a direct convolution with few output channels.

use super::{
    Chunks, FewForm, blocks, can_overlap, chunks_of_block, inside, most_of_line, panels, split_units,
    workspace_len,
};
use crate::algo::direct::{kernel_rows_inside, outputs_of_columns};
use crate::describe::{BLOCK, ConvDesc, Size2};
use crate::tile::few_table::{FewKernels, Tiles};
use crate::tile::shape::IN_FLIGHT;
use crate::work::{Family, LargestPart, PlanEstimate, Term, ThreadShare, Work};

/// Estimates the memory and the work, for the choice.
pub(crate) fn estimate(desc: &ConvDesc, kernels: &FewKernels, share: &ThreadShare) -> PlanEstimate {
    let form = FewForm::new(desc);
    let packed = form.lens().into_iter().fold(0, usize::saturating_add).saturating_mul(size_of::<f32>());
    let part = LargestPart::new(desc, &split_units(desc), false, share.parts);
    let mut work = Work::new(Family::DirectFew);
    let rows = part.images * part.pixels / line(desc) as f64;
    // A group has the same position in its block as the group that is sixteen groups before it.
    let different = desc.groups().min(BLOCK);
    let repeated = part.groups * part.outs as f64 / (different * desc.outs()) as f64;
    let mut of_group = 0;
    for group in 0..different {
        let chunks = Chunks::of(group, desc.ins());
        let panels = panels(group * desc.outs()..(group + 1) * desc.outs());
        for panel in panels {
            of_group += 1;
            let row = RowOfPanel { desc, kernels, outs: panel.len(), joined: chunks.is_joined() };
            row.count(rows * repeated, &mut work);
        }
    }
    let panels = f64::from(of_group) / different as f64;
    let once = part.input_bytes + part.output_bytes;
    work.traffic.add(once, once + packed as f64, &share.caches);
    // Kernel rows that overlap read an input row again, and so does each panel.
    let again = panels * (desc.kernel().h as f64 / desc.stride().h as f64).max(1.0) - 1.0;
    let row = (chunks_of_block(desc) * BLOCK).min(desc.ins()) * desc.input().w * size_of::<f32>();
    work.traffic.add(part.input_bytes * again, (row * desc.kernel().h) as f64, &share.caches);
    // Every row reads the weights of its group.
    let weights = packed as f64 / desc.groups() as f64;
    work.traffic.add(weights * part.groups * (rows - 1.0).max(0.0), weights, &share.caches);
    work.flops = 2.0 * desc.cost().macs as f64;
    PlanEstimate { packed_bytes: packed, workspace_len: workspace_len(desc, kernels), work }
}

/// Outputs of a line: a row, or about so many pixels.
fn line(desc: &ConvDesc) -> usize {
    let Size2 { h, w } = desc.output().size();
    most_of_line(desc).map_or(w, |most| most.min(h.saturating_mul(w)))
}

/// A row of outputs of one panel.
struct RowOfPanel<'a> {
    desc: &'a ConvDesc,
    kernels: &'a FewKernels,
    outs: usize,
    /// Whether the ends of the group are in one chunk.
    joined: bool,
}

impl RowOfPanel<'_> {
    /// Counts the work of `rows` rows.
    fn count(&self, rows: f64, work: &mut Work) {
        let (desc, outs) = (self.desc, self.outs);
        let blocks = blocks(desc) as f64;
        let taps = kernel_rows_inside(desc) * desc.kernel().w as f64;
        let inside = if most_of_line(desc).is_some() { 0..line(desc) } else { inside(desc) };
        let tiles = |large| {
            let all = self.kernels.of_row(outs, line(desc), inside.clone(), can_overlap(desc));
            all.filter(move |tiles| tiles.large == large)
        };
        // Large tiles that overlap compute some pixels again.
        let most = |large| if large { inside.len() } else { usize::MAX };
        let pixels = |large| {
            let all: usize = tiles(large).map(|tiles| tiles.count * tiles.pixels).sum();
            all.min(most(large)) as f64
        };
        // At an edge, taps outside the row are skipped.
        let all =
            if most_of_line(desc).is_some() { line(desc) } else { outputs_of_columns(desc).sum::<usize>() };
        let all = all as f64 / desc.kernel().w as f64;
        let at_edge = (all - pixels(true)) / pixels(false).max(1.0);
        for tile in tiles(true).chain(tiles(false)) {
            let count = rows * tile.count as f64;
            let live = if tile.large { 1.0 } else { at_edge };
            work.add(Term::Fma, count * taps * live * self.slots(&tile));
            // At an edge, a tap takes a test of every pixel.
            let of_taps = if tile.large { taps / 8.0 } else { taps / 2.0 };
            work.add(Term::Tile, count * blocks * (1.0 + of_taps));
            let sums = 2.0 * outs as f64 * (blocks - 1.0);
            work.add(Term::Store, count * tile.pixels as f64 * (1.0 + sums));
        }
        work.add(Term::Call, rows * blocks);
    }

    /// Slots of one tap of a tile.
    fn slots(&self, tile: &Tiles) -> f64 {
        let (pixels, outs, chunks) = (tile.pixels, self.outs, Chunks::count(self.desc.ins()));
        // A core loads two vectors in the time of two FMAs. A tile loads its pixels and its weights.
        let of_chunk = (pixels * outs).max(pixels + outs);
        // One pixel sums several chunks apart.
        let of_chunk = if pixels > 1 || chunks < 4 { of_chunk.max(IN_FLIGHT) } else { of_chunk };
        // Two loads and a sum instead of one load.
        let joined = if self.joined { 2 * pixels } else { 0 };
        (BLOCK / self.kernels.lanes()) as f64 * (chunks * of_chunk + joined) as f64
    }
}
