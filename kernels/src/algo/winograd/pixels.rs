//! The pixels of a map that a strip of tiles reads.

use crate::algo::grid::Strip;
use crate::describe::{BLOCK, Layout, PixelRef, PixelView, Size2};
use crate::tile::copy_table::{CopyTable, InputTile};
use crate::tile::output::OutputTile;
use crate::tile::winograd::MOST_POINTS;
use crate::tile::winograd_table::InputRows;

/// A map whose tiles are transformed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TiledMap {
    pub(crate) size: Size2,
    /// Padding at the top and on the left.
    pub(crate) before: Size2,
    /// Rows of a tile.
    pub(crate) rows: usize,
}

impl TiledMap {
    /// The rows of a strip, which reads `columns` columns, in one block of channels: in the map itself, or copied to `memory`
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
        if from.view.layout == Layout::Nchw {
            gather(from, strip, channel, &mut rows, copies, memory);
            rows.data = memory;
        } else {
            rows.data = from.data;
        }
        rows
    }

    /// Elements of the memory that [`rows`](Self::rows) copies to.
    pub(crate) fn memory_len(&self, layout: Layout, columns: usize) -> usize {
        if layout == Layout::Nchw { self.rows * columns * BLOCK } else { 0 }
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
        let hi = (size.w + before.w).saturating_sub(strip.x).min(columns);
        let mut rows = [None; MOST_POINTS];
        for (i, row) in rows.iter_mut().take(self.rows).enumerate() {
            let y = (strip.y + i).wrapping_sub(before.h);
            if y < size.h && lo < hi {
                *row = Some(view.offset(strip.n, channel, y * size.w + (strip.x + lo - before.w)));
            }
        }
        InputRows { data: &[], rows, step: view.pixel, lo, hi: hi.max(lo), tiles: strip.tiles, channels }
    }
}

/// Copies the rows of a strip of an NCHW map so that the channels of a pixel are adjacent.
fn gather(
    from: &PixelRef<'_>,
    strip: &Strip,
    channel: usize,
    rows: &mut InputRows<'_>,
    copies: &CopyTable,
    to: &mut [f32],
) {
    let columns = rows.hi - rows.lo;
    for (i, row) in rows.rows.iter_mut().enumerate() {
        let Some(first) = *row else { continue };
        let p = first - from.view.offset(strip.n, channel, 0);
        let start = i * columns * BLOCK;
        let to = OutputTile::of_matrix_columns(&mut to[start..], columns, BLOCK, 0..rows.channels);
        copies.copy(InputTile::new(from, strip.n, channel, p), true, to);
        *row = Some(start);
    }
    rows.step = BLOCK;
}
