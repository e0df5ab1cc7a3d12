//! [`TileGrid`]: which tiles of the output lie in a region, for algorithms that cut the whole output into tiles.

use crate::tile::output::OutputRegion;
use std::ops::Range;

/// The tiles of a region, which begins at a whole row of them, counted image by image, row by row.
pub(crate) struct TileGrid {
    images: Range<usize>,
    /// Numbers of rows of tiles.
    rows: Range<usize>,
    pub(crate) columns: usize,
}

impl TileGrid {
    /// Tiles of `outputs.0` by `outputs.1` outputs, of images that are `width` wide.
    pub(crate) fn of(region: &OutputRegion<'_>, width: usize, outputs: (usize, usize)) -> Self {
        let row = outputs.0.saturating_mul(width);
        Self {
            images: region.images.clone(),
            rows: region.pixels.start / row..region.pixels.end.div_ceil(row),
            columns: width.div_ceil(outputs.1),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.images.len() * self.rows.len() * self.columns
    }

    /// Image, row and column of tile `index`.
    pub(crate) fn at(&self, index: usize) -> (usize, usize, usize) {
        let (row, column) = (index / self.columns, index % self.columns);
        (self.images.start + row / self.rows.len(), self.rows.start + row % self.rows.len(), column)
    }
}
