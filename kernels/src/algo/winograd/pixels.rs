//! The pixels of a map that a strip of tiles reads.

use super::folded::FoldedMap;
use crate::algo::grid::Strip;
use crate::describe::{BLOCK, Layout, PixelRef, PixelView, Size2};
use crate::tile::copy_table::{CopyTable, InputTile};
use crate::tile::output::OutputTile;
use crate::tile::winograd::MOST_POINTS;
use crate::tile::winograd_operands::InputRows;

/// A map whose tiles are transformed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TiledMap {
    pub(crate) size: FoldedMap,
    /// Padding at the top and on the left.
    pub(crate) before: Size2,
    /// Rows of a tile.
    pub(crate) rows: usize,
    /// If strips go down the columns: pixels from one tile to the next.
    pub(crate) down: Option<usize>,
    pub(crate) places: Places,
}

/// The pixels of the tensor that form a map.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Places {
    pub(crate) first: usize,
    /// Distance between rows, and between the pixels of a row.
    pub(crate) row: usize,
    pub(crate) column: usize,
}

impl Places {
    /// All pixels of a map of this width.
    pub(crate) fn all(width: usize) -> Self {
        Self { first: 0, row: width, column: 1 }
    }

    /// Pixels from the first of `columns` columns to the last.
    pub(crate) fn span(&self, columns: usize) -> usize {
        columns.saturating_sub(1) * self.column + columns.min(1)
    }
}

impl TiledMap {
    /// The pixels of a map that one phase of a strided kernel reads: every `stride`-th from its first tap on. `before` is the
    /// padding of the map, and `rows` the rows of a tile.
    pub(crate) fn of_phase(input: Size2, stride: Size2, before: Size2, first: Size2, rows: usize) -> Self {
        // Along one axis: the padding, the first pixel after it, and the number of pixels.
        let along = |first: usize, before: usize, stride: usize, extent: usize| {
            let padding = before.saturating_sub(first).div_ceil(stride);
            let start = padding * stride + first - before;
            (padding, start, extent.saturating_sub(start).div_ceil(stride))
        };
        let (top, y, height) = along(first.h, before.h, stride.h, input.h);
        let (left, x, width) = along(first.w, before.w, stride.w, input.w);
        Self {
            size: FoldedMap::of(Size2::new(height, width)),
            before: Size2::new(top, left),
            rows,
            down: None,
            places: Places { first: y * input.w + x, row: stride.h * input.w, column: stride.w },
        }
    }

    /// The rows of a strip, which reads `columns` columns, in up to sixteen channels: in the map itself, or copied to `memory`
    /// if the channels of a pixel are not adjacent there.
    pub(crate) fn rows<'a>(
        &self,
        from: &PixelRef<'a>,
        (strip, columns): (&Strip, usize),
        (channel, channels): (usize, usize),
        copies: &CopyTable,
        memory: &'a mut [f32],
    ) -> InputRows<'a> {
        let mut rows = self.inside(&from.view, (strip, columns), (channel, channels));
        if are_adjacent(from.view.layout, channel, channels) {
            rows.data = from.data;
        } else {
            self.gather(from, strip, channel, &mut rows, copies, memory);
            rows.data = memory;
        }
        rows
    }

    /// Elements of the memory that [`rows`](Self::rows) copies to.
    pub(crate) fn memory_len(&self, layout: Layout, columns: usize) -> usize {
        if layout == Layout::Nchw { self.rows * self.places.span(columns) * BLOCK } else { 0 }
    }

    /// The positions of a strip's pixels in the map. The caller adds the data.
    fn inside(
        &self,
        view: &PixelView,
        (strip, columns): (&Strip, usize),
        (channel, channels): (usize, usize),
    ) -> InputRows<'static> {
        let Self { size, before, .. } = *self;
        // The columns inside the map: those for which `strip.x + column - before.w` is a column of the map.
        let lo = before.w.saturating_sub(strip.x).min(columns);
        let hi = match self.down {
            None => (size.width + before.w).saturating_sub(strip.x).min(columns),
            Some(_) => columns,
        };
        let mut rows = [None; MOST_POINTS];
        if lo < hi {
            for (i, row) in rows.iter_mut().take(self.rows).enumerate() {
                *row = self.pixel(strip, i, lo).map(|p| view.offset(strip.n, channel, p));
            }
        }
        let step = view.pixel * self.down.unwrap_or(self.places.column);
        InputRows { data: &[], rows, step, lo, hi: hi.max(lo), tiles: strip.tiles, channels }
    }

    /// The pixel of the map in a column of row `i` of a strip. The column must be inside the map.
    fn pixel(&self, strip: &Strip, i: usize, column: usize) -> Option<usize> {
        let Self { size, before, places: Places { first, row, column: step }, .. } = *self;
        let (y, x) = ((strip.y + i).wrapping_sub(before.h), strip.x + column - before.w);
        (y < size.rows_at(x)).then(|| first + y * row + x * step)
    }

    /// Copies the rows of a strip so that the channels of a pixel are adjacent. Pixels between those of the map are copied, too.
    fn gather(
        &self,
        from: &PixelRef<'_>,
        strip: &Strip,
        channel: usize,
        rows: &mut InputRows<'_>,
        copies: &CopyTable,
        to: &mut [f32],
    ) {
        let (columns, is_nchw) = (rows.hi - rows.lo, from.view.layout == Layout::Nchw);
        // In Nchw16c, the channels lie in two blocks.
        let first = if is_nchw { rows.channels } else { BLOCK - channel % BLOCK };
        if columns == 0 {
            return;
        }
        let pixels = self.places.span(columns);
        for (i, row) in rows.rows.iter_mut().enumerate().take(self.rows) {
            let Some(p) = self.pixel(strip, i, rows.lo) else { continue };
            let start = i * pixels * BLOCK;
            for lanes in [0..first, first..rows.channels] {
                let tile = InputTile::new(from, strip.n, channel + lanes.start, p);
                let to = &mut to[start + lanes.start..];
                copies.copy(tile, is_nchw, OutputTile::of_matrix_columns(to, pixels, BLOCK, 0..lanes.len()));
            }
            *row = Some(start);
        }
        rows.step = BLOCK * self.places.column;
    }
}

/// Whether some channels of a pixel are adjacent, which are at most sixteen.
fn are_adjacent(layout: Layout, channel: usize, channels: usize) -> bool {
    match layout {
        Layout::Nchw => false,
        Layout::Nchw16c => channel % BLOCK + channels <= BLOCK,
        Layout::Nhwc | Layout::Nchw32cBf16 => true,
    }
}
