//! The estimate of a direct convolution with few output channels.

use super::{FewForm, block_of_channels, inside, split_units, workspace_len};
use crate::describe::{BLOCK, ConvDesc};
use crate::tile::few_table::{FewKernels, MOST_OUTPUTS};
use crate::work::{Family, LargestPart, PlanEstimate, Term, ThreadShare, Work};

/// Estimates the memory and the work, for the choice.
pub(crate) fn estimate(desc: &ConvDesc, kernels: &FewKernels, share: &ThreadShare) -> PlanEstimate {
    let form = FewForm::new(desc);
    let packed = form.lens().into_iter().fold(0, usize::saturating_add).saturating_mul(size_of::<f32>());
    let part = LargestPart::new(desc, &split_units(desc), false, share.parts);
    let mut work = Work::new(Family::DirectFew);
    let (width, kernel) = (desc.output().w, desc.kernel());
    let rows = part.images * part.pixels / width as f64;
    let vectors = (BLOCK / kernels.lanes()) as f64 * desc.input().c.div_ceil(BLOCK) as f64;
    let steps = (kernel.h * kernel.w) as f64 * vectors;
    let inside = inside(desc).len();
    let border = width - inside;
    for panel in form.panels() {
        let (outs, pixels) = (panel.len(), kernels.pixels(panel.len()));
        let (tiles, single) = (inside / pixels, inside % pixels + border);
        // A core loads two vectors in the time of two FMAs. A tile loads its pixels and its weights.
        let of_tile = (pixels * outs).max(pixels + outs) as f64;
        work.add(Term::Fma, rows * steps * (tiles as f64 * of_tile + single as f64 * (outs + 1) as f64));
        let blocks = desc.input().c.div_ceil(block_of_channels(desc)) as f64;
        let taps = (kernel.h * kernel.w) as f64;
        work.add(Term::Tile, rows * blocks * (tiles + single) as f64 * (1.0 + taps / 8.0));
        work.add(
            Term::Store,
            rows * (tiles * pixels + single) as f64 * (1.0 + 2.0 * outs as f64 * (blocks - 1.0)),
        );
        work.add(Term::Call, rows * blocks * (border + 1) as f64);
    }
    let panels = desc.output().c.div_ceil(MOST_OUTPUTS) as f64;
    let once = part.input_bytes + part.output_bytes;
    work.traffic.add(once, once + packed as f64, &share.caches);
    // Kernel rows that overlap read an input row again, and so does each panel.
    let again = panels * (kernel.h as f64 / desc.stride().h as f64).max(1.0) - 1.0;
    let row = block_of_channels(desc).min(desc.input().c) * desc.input().w * size_of::<f32>();
    work.traffic.add(part.input_bytes * again, (row * kernel.h) as f64, &share.caches);
    work.traffic.add(packed as f64 * (rows - 1.0).max(0.0), packed as f64, &share.caches);
    work.flops = 2.0 * desc.cost().macs as f64;
    PlanEstimate { packed_bytes: packed, workspace_len: workspace_len(desc, kernels), work }
}
