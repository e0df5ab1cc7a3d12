//! [`TileGrid`]: the tiles of a region, for algorithms that split the whole output into tiles.

use crate::describe::Size2;
use crate::tile::output::OutputRegion;
use crate::tile::shape::even_piece;
use std::ops::Range;

/// The tiles of a region, numbered image by image and row by row. The region begins at a whole row of tiles.
pub(crate) struct TileGrid {
    images: Range<usize>,
    /// The rows of tiles of each image.
    rows: Range<usize>,
    columns: usize,
    /// Outputs of a tile.
    outputs: Size2,
}

/// Adjacent tiles of one row of tiles.
pub(crate) struct Strip {
    pub(crate) n: usize,
    /// The row and the column of the first output.
    pub(crate) y: usize,
    pub(crate) x: usize,
    pub(crate) tiles: usize,
    /// Number of tiles of the range before this strip.
    pub(crate) index: usize,
}

impl TileGrid {
    /// The tiles of `outputs` outputs each, in images of `width` columns.
    pub(crate) fn of(region: &OutputRegion<'_>, width: usize, outputs: Size2) -> Self {
        let row = outputs.h.saturating_mul(width);
        Self {
            images: region.images.clone(),
            rows: region.pixels.start / row..region.pixels.end.div_ceil(row),
            columns: width.div_ceil(outputs.w),
            outputs,
        }
    }

    /// All tiles of `outputs` outputs of some maps.
    pub(crate) fn of_maps(images: usize, size: Size2, outputs: Size2) -> Self {
        Self {
            images: 0..images,
            rows: 0..size.h.div_ceil(outputs.h),
            columns: size.w.div_ceil(outputs.w),
            outputs,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.images.len() * self.rows.len() * self.columns
    }

    /// The image of tile `index`, and the row and column of its first output.
    pub(crate) fn at(&self, index: usize) -> (usize, usize, usize) {
        let (row, column) = (index / self.columns, index % self.columns);
        let (image, row) = (row / self.rows.len(), self.rows.start + row % self.rows.len());
        (self.images.start + image, row * self.outputs.h, column * self.outputs.w)
    }

    /// The tiles of `range`, in strips of at most `most` tiles.
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
