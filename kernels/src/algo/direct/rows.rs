//! One output row of a direct convolution: its tiles, and the pixels that each tile reads.

use crate::algo::tap_order::KernelRun;
use crate::describe::{ConvDesc, ConvError};
use crate::memory::{try_collect, try_push, try_vec};
use crate::tile::direct::{KernelRows, TapRun};
use crate::tile::direct_table::{DirectTile, TileRow};
use std::ops::Range;

/// Splits `width` pixels into tiles for `columns` output channels so that the tiles take the least time.
fn tile_sizes(width: usize, tile: &DirectTile, columns: usize) -> Result<Vec<usize>, ConvError> {
    let sizes = tile.sizes(columns);
    // Each tile costs about one pixel more to begin and to end. Costs are in eighths of the time of a pixel. Among equal costs,
    // the split with the smallest largest tile wins.
    let cost = |pixels: usize| 8 * tile.time(pixels, columns) + 6;
    let mut best = try_collect("tiles of a row", (0..=width).map(|_| (0, 0, 0)))?;
    for x in 1..=width {
        let after = |&size: &usize| {
            let (time, largest, _) = best[x - size];
            (time + cost(size), size.max(largest), size)
        };
        best[x] =
            sizes.iter().filter(|&&size| size <= x).map(after).min().expect("there is a tile of one pixel");
    }
    let mut tiles = Vec::new();
    let mut left = width;
    while left > 0 {
        try_push("tiles of a row", &mut tiles, best[left].2)?;
        left -= best[left].2;
    }
    Ok(tiles)
}

/// Makes the tiles of an output row.
pub(crate) fn tile_row(
    desc: &ConvDesc,
    tile: &DirectTile,
    columns: usize,
    kernel: &[KernelRun],
) -> Result<TileRow, ConvError> {
    let pixels = tile_sizes(desc.output().w, tile, columns)?;
    let mut runs = try_vec("runs of a row", pixels.len().saturating_mul(kernel.len()))?;
    let mut x = 0;
    for &pixels in &pixels {
        runs.extend(kernel.iter().map(|run| image_run(desc, run, x, pixels)));
        x += pixels;
    }
    TileRow::new(tile, desc.stride().w, &pixels, runs)
}

/// A run of pixels of the image row, clipped to the image.
fn image_run(desc: &ConvDesc, run: &KernelRun, x: usize, pixels: usize) -> TapRun {
    let (stride, width) = (desc.stride().w, desc.input().w);
    let first = (x * stride + run.first * desc.dilation().w) as isize - desc.pad().left as isize;
    let reach = pixels + run.taps - 1;
    let before = |end: isize| if end > 0 { (end as usize).div_ceil(stride).min(reach) } else { 0 };
    TapRun { first, lo: before(-first), hi: before(width as isize - first), taps: run.taps }
}

/// Input rows from the first row of a window to its last.
pub(crate) fn span(desc: &ConvDesc) -> usize {
    (desc.kernel().h - 1).saturating_mul(desc.dilation().h).saturating_add(1)
}

impl KernelRows {
    pub(crate) fn of(desc: &ConvDesc, y: usize) -> Self {
        let (dilation, kernel, top) = (desc.dilation().h, desc.kernel().h, desc.pad().top);
        // A division takes as long as the sums of a tiny row, and mostly nothing is dilated.
        let rows_within = |len: usize| if dilation == 1 { len } else { len.div_ceil(dilation) };
        let at = y * desc.stride().h;
        let first = rows_within(top.saturating_sub(at)).min(kernel);
        // Kernel row `i` is inside if `at + i * dilation` is below `top + input`.
        let end = rows_within((top + desc.input().h).saturating_sub(at)).clamp(first, kernel);
        let rows = end - first;
        let input_row = if rows == 0 { 0 } else { at + first * dilation - top };
        Self { first, rows, input_row }
    }

    /// Keeps only the kernel rows that are in `block`.
    pub(crate) fn within(self, desc: &ConvDesc, block: &Range<usize>) -> Self {
        let first = self.first.max(block.start);
        let rows = (self.first + self.rows).min(block.end).saturating_sub(first);
        if rows == 0 {
            return Self { first: block.start, rows, input_row: 0 };
        }
        Self { first, rows, input_row: self.input_row + (first - self.first) * desc.dilation().h }
    }

    /// The range of input rows from the first to the last that the windows of output rows `ys` cover.
    pub(crate) fn input_rows(desc: &ConvDesc, ys: &Range<usize>) -> Range<usize> {
        let (stride, top) = (desc.stride().h, desc.pad().top);
        let end = (ys.end - 1).saturating_mul(stride).saturating_add(span(desc)).saturating_sub(top);
        let (start, end) = (ys.start * stride, end.min(desc.input().h));
        let start = start.saturating_sub(top);
        if start < end { start..end } else { 0..0 }
    }
}
