//! One output row of a direct convolution: its tiles, and the pixels that each tile reads.

use crate::algo::tap_order::KernelRun;
use crate::describe::{BLOCK, ConvDesc, ConvError, Layout};
use crate::memory::{try_collect, try_push, try_vec};
use crate::tile::direct::{KernelRows, TapRun};
use crate::tile::direct_table::TileRow;
use std::ops::Range;

/// Splits `width` pixels into tiles of the given sizes (ascending, from 1) so that the tiles take the least
/// time.
fn tile_sizes(width: usize, sizes: &[usize]) -> Result<Vec<usize>, ConvError> {
    // A tile of fewer than four pixels has too few sums in flight to hide the latency of an FMA. Each tile
    // costs about one pixel more to begin and to end. Costs are in eighths of the time of a pixel. Among
    // equal costs, the split with the smallest largest tile wins.
    let cost = |pixels: usize| 8 * pixels.max(4) + 6;
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
pub(crate) fn tile_row(desc: &ConvDesc, sizes: &[usize], kernel: &[KernelRun]) -> Result<TileRow, ConvError> {
    let pixels = tile_sizes(desc.output().w, sizes)?;
    let mut runs = try_vec("runs of a row", pixels.len().saturating_mul(kernel.len()))?;
    let mut x = 0;
    for &pixels in &pixels {
        runs.extend(kernel.iter().map(|run| image_run(desc, run, x, pixels)));
        x += pixels;
    }
    TileRow::new(sizes, desc.stride().w, &pixels, runs)
}

/// A run of pixels of the image row, clipped to the image.
fn image_run(desc: &ConvDesc, run: &KernelRun, x: usize, pixels: usize) -> TapRun {
    let (stride, width) = (desc.stride().w, desc.input().w);
    let first = (x * stride + run.first * desc.dilation().w) as isize - desc.pad().left as isize;
    let reach = pixels + run.taps - 1;
    let before = |end: isize| if end > 0 { (end as usize).div_ceil(stride).min(reach) } else { 0 };
    TapRun { first, lo: before(-first), hi: before(width as isize - first), taps: run.taps }
}

/// The taps of one axis that are inside the input. Tap 0 is at position `at` of the padded input, which begins with
/// `before` positions of padding.
fn taps_inside(at: usize, (before, input): (usize, usize), (taps, dilation): (usize, usize)) -> Range<usize> {
    let first = before.saturating_sub(at).div_ceil(dilation).min(taps);
    // Position `at + i * dilation` is inside if it is below `before + input`.
    let end = (before + input).saturating_sub(at).div_ceil(dilation).clamp(first, taps);
    first..end
}

impl KernelRows {
    pub(crate) fn of(desc: &ConvDesc, y: usize) -> Self {
        let (dilation, top) = (desc.dilation().h, desc.pad().top);
        let at = y * desc.stride().h;
        let Range { start: first, end } = taps_inside(at, (top, desc.input().h), (desc.kernel().h, dilation));
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

    /// The range of input rows that output rows `ys` read, including rows in between.
    pub(crate) fn input_rows(desc: &ConvDesc, ys: &Range<usize>) -> Range<usize> {
        let dilation = desc.dilation().h;
        let inside = ys.clone().map(|y| Self::of(desc, y)).filter(|rows| rows.rows > 0);
        inside.fold(0..0, |all, rows| {
            let end = rows.input_row + (rows.rows - 1) * dilation + 1;
            if all.is_empty() { rows.input_row..end } else { all.start.min(rows.input_row)..all.end.max(end) }
        })
    }
}

/// Whether the channels of a group are whole blocks, or the layout has no blocks.
pub(crate) fn groups_are_blocks(desc: &ConvDesc, layout: Layout) -> bool {
    layout != Layout::Nchw16c || desc.groups() == 1 || desc.ins().is_multiple_of(BLOCK)
}
