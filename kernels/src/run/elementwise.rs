//! Layers that compute each element on its own: their tiles, and how they are split among threads.

use super::Threads;
use super::threads::Split;
#[cfg(feature = "ops")]
use crate::describe::Activation;
use crate::describe::{BLOCK, Layout, PixelView, Shape4};
use crate::tile::output::{OutputRegion, OutputTile};
use crate::work::parts::SplitUnits;
use std::ops::Range;

/// Whether all images can be seen as one row of pixels with the same channels.
pub(crate) fn merges(view: &PixelView) -> bool {
    view.can_merge() && (view.channels_last() || view.pixels == 1)
}

/// The position of a tile in its tensor.
pub(crate) struct Spot {
    pub(crate) n: usize,
    pub(crate) channels: Range<usize>,
    /// The first pixel.
    pub(crate) p: usize,
    /// Whether channels are the rows of the tile (NCHW) rather than its columns.
    #[cfg_attr(not(feature = "ops"), allow(dead_code))] // copies do not ask
    pub(crate) per_row: bool,
}

/// Calls `run` with every tile of `region`. A tile has all pixels of at most `step` channels of one image; in
/// Nchw16c, of at most one block.
pub(crate) fn tiles(region: &mut OutputRegion<'_>, step: usize, mut run: impl FnMut(OutputTile<'_>, Spot)) {
    let (pixels, Range { start, end }) = (region.pixels.clone(), region.channels.clone());
    let per_row = region.layout() == Layout::Nchw;
    let step = if region.layout() == Layout::Nchw16c { step.min(BLOCK) } else { step };
    for n in region.images.clone() {
        for c in (start..end).step_by(step) {
            let channels = c..end.min(c.saturating_add(step));
            let tile = if per_row {
                region.channels_as_rows(n, channels.clone(), pixels.clone())
            } else {
                region.channels_as_columns(n, pixels.clone(), c, 0..channels.len())
            };
            run(tile, Spot { n, channels, p: pixels.start, per_row });
        }
    }
}

/// The granularity at which an elementwise layer can be cut.
pub(crate) fn split_units(layout: Layout) -> SplitUnits {
    match layout {
        Layout::Nchw => SplitUnits::new(4096, 1),
        Layout::Nhwc | Layout::Nchw16c | Layout::Nchw32cBf16 => SplitUnits::new(64, BLOCK),
    }
}

/// Number of elements. The tensor exists, so the product cannot overflow.
pub(crate) fn elements(shape: Shape4) -> u64 {
    [shape.n, shape.c, shape.h, shape.w].iter().fold(1, |product, &extent| product * extent as u64)
}

/// Element operations that justify waking one more thread: about 2 microseconds on one core.
pub(crate) const WORTH_A_THREAD: u64 = 100_000;

/// Cuts `region` into parts for at most `threads`, as many as `work` element operations justify, and runs
/// them.
pub(crate) fn split<'a, F>(
    region: OutputRegion<'a>,
    split_units: SplitUnits,
    work: u64,
    threads: Threads<'_>,
    run: &F,
) where
    F: Fn(OutputRegion<'a>) + Sync,
{
    let worth = usize::try_from(work / WORTH_A_THREAD).unwrap_or(usize::MAX).max(1);
    let split = Split { parts: threads.count().min(worth), split_units, slab_len: 0 };
    split.run(threads, region, &mut [], &|region, _| run(region));
}

/// Estimated operations per element of an in-place activation.
#[cfg(feature = "ops")]
pub(crate) fn cost(activation: Activation) -> u64 {
    use Activation::{Elu, Sigmoid, Silu, Tanh};
    if matches!(activation, Sigmoid | Tanh | Elu { .. } | Silu) { 16 } else { 2 }
}
