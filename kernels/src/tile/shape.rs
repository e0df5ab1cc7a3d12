//! The extents of a register tile, and the split of a length into tiles.

use crate::describe::BLOCK;

/// FMAs that two pipes begin while one is computed (four cycles). With fewer sums, an FMA waits for the one before it in its sum.
pub(crate) const IN_FLIGHT: usize = 8;

/// The extents of a register tile.
pub(crate) struct TileShape {
    /// Maximum number of rows of a GEMM tile, or of pixels of another tile.
    pub(crate) rows: usize,
    /// The numbers of vectors that have kernels, ascending.
    pub(crate) vectors: &'static [usize],
    /// Number of elements of a vector.
    pub(crate) lanes: usize,
}

impl TileShape {
    /// Number of columns of the whole tile.
    pub(crate) fn columns(&self) -> usize {
        self.vectors[self.vectors.len() - 1] * self.lanes
    }

    /// Index of the width with `columns` columns, which must be a width that has kernels.
    ///
    /// # Panics
    /// If there is none. That is a bug in this library.
    pub(super) fn index_of(&self, columns: usize) -> usize {
        let width = self.vectors.iter().position(|vectors| vectors * self.lanes == columns);
        width.expect("a width of the table")
    }

    /// The narrowest width that covers `columns`. If none does, it is the width of the whole tile.
    pub(crate) fn columns_for(&self, columns: usize) -> usize {
        let mut widths = self.vectors.iter().map(|vectors| vectors * self.lanes);
        widths.find(|&width| columns <= width).unwrap_or(self.columns())
    }
}

/// The extents of a tile: lanes of a vector, numbers of vectors, and numbers of rows. Both lists are
/// ascending.
macro_rules! tile_shape {
    ($lanes:literal, [$($vectors:literal)+], [$($rows:literal)+]) => {
        TileShape {
            rows: [$($rows),+][[$($rows),+].len() - 1],
            vectors: &[$($vectors),+],
            lanes: $lanes,
        }
    };
}

/// The length of the first piece if `n` is split as evenly as possible into the fewest pieces of at most
/// `most`.
pub(crate) fn even_piece(n: usize, most: usize) -> usize {
    n.div_ceil(n.div_ceil(most))
}

/// The lengths of all pieces of `n` that [`even_piece`] would split off, one after another.
pub(crate) fn even_pieces(n: usize, most: usize) -> impl Iterator<Item = usize> {
    let pieces = n.div_ceil(most);
    let (len, longer) = (n / pieces.max(1), n % pieces.max(1));
    (0..pieces).map(move |piece| len + usize::from(piece < longer))
}

/// Rounds up to an odd number of cache lines, so that the points do not map to a few sets of a cache.
pub(crate) fn odd_lines(len: usize) -> usize {
    (len.div_ceil(BLOCK) | 1).saturating_mul(BLOCK)
}

pub(super) use tile_shape;
