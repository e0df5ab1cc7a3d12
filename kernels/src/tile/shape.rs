//! The extents of a register tile, and how a length is cut into tiles.

/// The extents of a register tile.
pub(crate) struct TileShape {
    /// Pixels (of a GEMM: rows) at most.
    pub(crate) rows: usize,
    /// Numbers of vectors that there are kernels for, ascending.
    pub(crate) vectors: &'static [usize],
    /// Elements of a vector.
    pub(crate) lanes: usize,
}

impl TileShape {
    /// Columns of the whole tile.
    pub(crate) fn columns(&self) -> usize {
        self.vectors[self.vectors.len() - 1] * self.lanes
    }

    /// Which of the widths is one of `columns`, whole vectors that there are kernels for.
    ///
    /// # Panics
    /// If there are none: a defect of this library.
    pub(super) fn index_of(&self, columns: usize) -> usize {
        let width = self.vectors.iter().position(|vectors| vectors * self.lanes == columns);
        width.expect("a width of the table")
    }

    /// The narrowest whole width that covers `columns`, or the whole tile's.
    pub(crate) fn columns_for(&self, columns: usize) -> usize {
        let mut widths = self.vectors.iter().map(|vectors| vectors * self.lanes);
        widths.find(|&width| columns <= width).unwrap_or(self.columns())
    }
}

/// The extents of a tile: lanes of a vector, numbers of vectors, numbers of rows, both ascending.
macro_rules! tile_shape {
    ($lanes:literal, [$($vectors:literal)+], [$($rows:literal)+]) => {
        TileShape {
            rows: [$($rows),+][[$($rows),+].len() - 1],
            vectors: &[$($vectors),+],
            lanes: $lanes,
        }
    };
}

/// The length of the first piece if `n` is cut into the fewest pieces of at most `most`, all of them as even as can be.
pub(crate) fn even_piece(n: usize, most: usize) -> usize {
    n.div_ceil(n.div_ceil(most))
}
pub(super) use tile_shape;
