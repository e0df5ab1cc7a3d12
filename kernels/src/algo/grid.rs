//! [`TileGrid`]: which tiles of the output lie in a region, for algorithms that cut the whole output into tiles.

use crate::describe::Size2;
use crate::tile::output::OutputRegion;
use crate::tile::shape::even_piece;
use std::ops::Range;

/// The tiles of a region, which begins at a whole row of them, counted image by image, row by row.
pub(crate) struct TileGrid {
    images: Range<usize>,
    /// Numbers of rows of tiles.
    rows: Range<usize>,
    columns: usize,
    /// Of a tile.
    outputs: Size2,
}

/// Neighbouring tiles of one row of tiles.
pub(crate) struct Strip {
    pub(crate) n: usize,
    /// The first output.
    pub(crate) y: usize,
    pub(crate) x: usize,
    pub(crate) tiles: usize,
    /// How many tiles of the range come before.
    pub(crate) index: usize,
}

impl TileGrid {
    /// Tiles of `outputs`, of images that are `width` wide.
    pub(crate) fn of(region: &OutputRegion<'_>, width: usize, outputs: Size2) -> Self {
        let row = outputs.h.saturating_mul(width);
        Self {
            images: region.images.clone(),
            rows: region.pixels.start / row..region.pixels.end.div_ceil(row),
            columns: width.div_ceil(outputs.w),
            outputs,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.images.len() * self.rows.len() * self.columns
    }

    /// The image of tile `index`, and its first output: row and column.
    pub(crate) fn at(&self, index: usize) -> (usize, usize, usize) {
        let (row, column) = (index / self.columns, index % self.columns);
        let (image, row) = (row / self.rows.len(), self.rows.start + row % self.rows.len());
        (self.images.start + image, row * self.outputs.h, column * self.outputs.w)
    }

    /// The tiles of `range` in strips of at most `most`.
    pub(crate) fn strips(&self, range: &Range<usize>, most: usize) -> impl Iterator<Item = Strip> {
        let (mut next, range) = (range.start, range.clone());
        std::iter::from_fn(move || {
            if next >= range.end {
                return None;
            }
            let (n, y, x) = self.at(next);
            let in_row = (self.columns - next % self.columns).min(range.end - next);
            let strip = Strip { n, y, x, tiles: even_piece(in_row, most), index: next - range.start };
            next += strip.tiles;
            Some(strip)
        })
    }
}
