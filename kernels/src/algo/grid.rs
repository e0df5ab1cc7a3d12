//! [`TileGrid`]: the tiles of a region, for algorithms that split the whole output into tiles.

use crate::describe::Size2;
use crate::tile::output::OutputRegion;
use crate::tile::shape::even_piece;
use std::ops::Range;

/// The tiles of a region, numbered image by image and row by row. The region begins at a whole row of tiles, or within the only
/// row of its images.
pub(crate) struct TileGrid {
    images: Range<usize>,
    /// The rows of tiles of each image.
    rows: Range<usize>,
    /// The tiles of each row.
    columns: Range<usize>,
    /// Outputs of a tile.
    outputs: Size2,
    /// The column of tiles at which a strip ends, because the last row of outputs has only those before it; 0 if it has all.
    partial: usize,
    /// If strips go down the columns: the rows of tiles that form strips. A tile in another row is a strip of its own.
    down: Option<Range<usize>>,
}

/// Adjacent tiles of one row, or of one column.
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
        let (row, Range { start, end }) = (outputs.h.saturating_mul(width), region.pixels.clone());
        let rows = start / row..end.div_ceil(row);
        let columns = if (rows.len(), outputs.h) == (1, 1) {
            let before = rows.start * row;
            (start - before) / outputs.w..(end - before).div_ceil(outputs.w)
        } else {
            0..width.div_ceil(outputs.w)
        };
        Self { images: region.images.clone(), rows, columns, outputs, partial: 0, down: None }
    }

    /// All tiles of `outputs` outputs of some maps.
    pub(crate) fn of_maps(images: usize, size: Size2, outputs: Size2) -> Self {
        Self {
            images: 0..images,
            rows: 0..size.h.div_ceil(outputs.h),
            columns: 0..size.w.div_ceil(outputs.w),
            outputs,
            partial: 0,
            down: None,
        }
    }

    /// The same tiles, for images whose last row has `columns` columns, or all if that is 0. A tile must have one column.
    pub(crate) fn with_partial_row(self, columns: usize) -> Self {
        debug_assert!(columns == 0 || self.outputs.w == 1);
        Self { partial: columns, ..self }
    }

    /// The same tiles in strips that go down the columns, within some rows of tiles.
    pub(crate) fn down(self, rows: Range<usize>) -> Self {
        Self { down: Some(rows), ..self }
    }

    pub(crate) fn len(&self) -> usize {
        self.images.len() * self.rows.len() * self.columns.len()
    }

    /// The image of tile `index`, and the row and column of its first output.
    pub(crate) fn at(&self, index: usize) -> (usize, usize, usize) {
        let of_image = self.rows.len() * self.columns.len();
        let (image, index) = (index / of_image, index % of_image);
        let (row, column) = match self.down {
            None => (index / self.columns.len(), index % self.columns.len()),
            Some(_) => (index % self.rows.len(), index / self.rows.len()),
        };
        let (row, column) = (self.rows.start + row, self.columns.start + column);
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
            let in_line = match &self.down {
                None => {
                    let column = next % self.columns.len();
                    let end = if column < self.partial { self.partial } else { self.columns.len() };
                    end - column
                }
                Some(rows) => {
                    let row = y / self.outputs.h;
                    if rows.contains(&row) { rows.end.min(self.rows.end) - row } else { 1 }
                }
            };
            let in_line = in_line.min(range.end - next);
            let strip = Strip { n, y, x, tiles: even_piece(in_line, most), index: next - range.start };
            next += strip.tiles;
            Some(strip)
        })
    }
}
