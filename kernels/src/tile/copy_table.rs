//! [`CopyTable`]: the kernels of copies behind safe, length-checked calls.
//!
//! The table belongs to a [`KernelSet`](super::table::KernelSet), which is returned only after its features
//! were detected.

use super::boundary::Entry;
use super::copy::{CopyArgs, PadArgs};
use super::measure::{product, require, span, span_of_rows};
use super::output::InPlace;
use super::output::{OutputTile, TileOffset};
use crate::describe::{BLOCK, Layout, PixelRef};

/// The copy kernels of one instruction set.
pub(crate) struct CopyTable {
    pub(super) rows: Entry<CopyArgs>,
    pub(super) transpose: Entry<CopyArgs>,
    pub(super) pad: Entry<PadArgs>,
}

/// `copy_table!(enter_<isa>)`.
macro_rules! copy_table {
    ($enter:ident) => {{
        use super::copy;
        super::copy_table::CopyTable {
            rows: copy::CopyRows::$enter,
            transpose: copy::Transpose::$enter,
            pad: copy::PadRows::$enter,
        }
    }};
}
pub(super) use copy_table;

/// A tile to read: the memory, and the place of the tile in it.
#[derive(Clone, Copy)]
pub(crate) struct InputTile<'a> {
    data: &'a [f32],
    pub(super) at: TileOffset,
}

impl<'a> InputTile<'a> {
    /// The tile that begins at channel `c` of pixel `p` of image `n`. Its rows are channels in NCHW, and
    /// pixels in the other layouts.
    pub(crate) fn new(from: &PixelRef<'a>, n: usize, c: usize, p: usize) -> Self {
        let at = match from.view.layout {
            Layout::Nchw => TileOffset::channels_as_rows(&from.view, n, p, c),
            Layout::Nhwc | Layout::Nchw16c | Layout::Nchw32cBf16 => {
                TileOffset::channels_as_columns(&from.view, n, p, c)
            }
        };
        Self { data: from.data, at }
    }

    /// The same tile with every `step`-th row.
    pub(crate) fn every(self, step: usize) -> Self {
        Self { at: TileOffset { row: self.at.row.saturating_mul(step), ..self.at }, ..self }
    }

    /// The first element of a tile of `rows` by `columns`. Neither is 0.
    ///
    /// # Panics
    /// If the tile ends outside the memory. That is a bug in this library.
    pub(super) fn measured(&self, rows: usize, columns: usize) -> *const f32 {
        let Self { data, at } = self;
        let needed = span_of_rows((rows, at.row), (columns, at.block)).saturating_add(at.offset);
        require("source of a layer", needed, data.len());
        data.as_ptr().wrapping_add(at.offset)
    }
}

/// Rows of planes that are copied with zeros on both sides.
#[derive(Clone, Copy)]
pub(crate) struct Padded<'a> {
    /// The memory from the first row of the first plane on.
    pub(crate) data: &'a [f32],
    /// The numbers of rows and of planes, and the distances between them.
    pub(crate) rows: (usize, usize),
    pub(crate) planes: (usize, usize),
    /// Number of elements of a row, and of the zeros before them.
    pub(crate) width: usize,
    pub(crate) before: usize,
    /// Length of a row with its zeros. Elements past it are not copied.
    pub(crate) line: usize,
}

/// Whether the columns of a row are adjacent.
pub(super) fn dense(tile: &InPlace) -> bool {
    tile.columns <= BLOCK || tile.block == BLOCK
}

/// Whether the tile has no elements.
pub(super) fn is_empty(tile: &InPlace) -> bool {
    tile.rows == 0 || tile.columns == 0
}

impl CopyTable {
    /// Copies a tile of another tensor to `out`. If `transposed`, the rows of the source are the columns of
    /// `out`, and the lanes of Nchw16c past the last channel are set to zero. The columns of each row must be adjacent.
    ///
    /// # Panics
    /// If they are not, or if the source is too short. That is a bug in this library.
    pub(crate) fn copy(&self, src: InputTile<'_>, transposed: bool, out: OutputTile<'_>) {
        let zeros = if transposed { out.zeros } else { 0 };
        let mut out = InPlace::of(&out);
        assert!(dense(&out) && zeros <= out.columns.next_multiple_of(BLOCK));
        if is_empty(&out) {
            return;
        }
        let (rows, columns) = if transposed { (out.columns, out.rows) } else { (out.rows, out.columns) };
        assert!(columns <= BLOCK || src.at.block == BLOCK);
        let from = src.measured(rows, columns);
        if !transposed && out.row == columns && src.at.row == columns {
            out = InPlace { columns: rows * columns, rows: 1, ..out };
        }
        let kernel = if transposed { self.transpose } else { self.rows };
        // SAFETY: the output is a borrowed tile, and the source was measured. Both have adjacent columns. The
        // features were detected.
        unsafe { kernel(&CopyArgs { out, src: from, src_row: src.at.row, zeros }) }
    }
    /// Copies rows with their padding to `to`, in the order `[row][plane][element]`. The sixteen elements after them
    /// are overwritten too.
    ///
    /// # Panics
    /// If the source or `to` is too short. That is a bug in this library.
    pub(crate) fn pad(&self, from: &Padded<'_>, to: &mut [f32]) {
        let Padded { data, rows, planes, width, before, line } = *from;
        if product([rows.0, planes.0, line]) == 0 {
            return;
        }
        require("source of padded rows", span([rows, planes, (width, 1)]), data.len());
        let lines = product([rows.0, planes.0, line]).saturating_add(BLOCK);
        require("target of padded rows", lines, to.len());
        let (src, to) = (data.as_ptr(), to.as_mut_ptr());
        // SAFETY: both operands were measured, and no vector is longer than sixteen elements. The features were
        // detected.
        unsafe { (self.pad)(&PadArgs { src, rows, planes, before, width, to, line }) }
    }
}
