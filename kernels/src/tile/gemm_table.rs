//! [`GemmTile`]: the register tiles of the matrix product for one instruction set, behind a safe,
//! length-checked call.
//!
//! The table belongs to a [`KernelSet`](super::table::KernelSet), which is returned only after its features
//! were detected.

use super::activate::SumsArgs;
use super::boundary::Entry;
use super::gemm::{GemmArgs, LinesOfChunk, ProductOperands};
use super::measure::{product, require, span};
use super::output::OutputTile;
use super::post::Post;
use super::shape::{TileShape, even_pieces};
use crate::describe::BLOCK;

/// A GEMM register tile of `rows` rows by `vectors` vectors. It has a kernel for every smaller number of rows
/// too.
pub struct GemmTile {
    pub(super) name: &'static str,
    pub(crate) shape: TileShape,
    /// Kernels by number of rows, then by number of vectors, both ascending. Rows of A are 16 elements apart.
    pub(super) packed: &'static [&'static [Entry<GemmArgs>]],
    /// The same kernels for rows of A that are any distance apart.
    pub(super) strided: &'static [&'static [Entry<GemmArgs>]],
    /// The kernel that applies the activations that are not applied in registers.
    pub(super) activate: Entry<SumsArgs>,
}

/// The broadcast operand: rows in chunks of 16 consecutive steps of K.
#[derive(Clone, Copy)]
pub(crate) struct RowsOf<'a> {
    /// The memory from the first element on.
    pub(crate) data: &'a [f32],
    /// Distance between rows.
    pub(crate) row: usize,
    /// Distance between chunks. It is `None` if rows are packed tile by tile, `[tile][k / 16][row][16]`.
    pub(crate) chunk: Option<usize>,
}

/// The vector operand: the whole width of a tile at every step of K.
#[derive(Clone, Copy)]
pub(crate) struct ColumnsOf<'a> {
    /// The memory from the first element on.
    pub(crate) data: &'a [f32],
    /// Distance between steps of K.
    pub(crate) step: usize,
    /// Distance between tiles, if there are more columns than one tile has.
    pub(crate) tile: usize,
}

/// Memory that later tiles will read. It is prefetched into the second-level cache: during chunk `q` of K,
/// `lines` cache lines from `q * chunk` on. A prefetch is not an access, so the prefetches of the last tile
/// can run past the end of `data`.
#[derive(Clone, Copy)]
pub(crate) struct Hint<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) chunk: usize,
    pub(crate) lines: usize,
    /// Distance from the hint of one tile to the hint of the next. It is `tile`, plus `row` for each row of
    /// the tile.
    pub(crate) tile: usize,
    pub(crate) row: usize,
}

impl Hint<'_> {
    pub(crate) const NONE: Self = Self { data: &[], chunk: 0, lines: 0, tile: 0, row: 0 };
}

impl GemmTile {
    /// `gemm_f32_<rows>x<columns>_<isa>`. Code, tests, benches and reports use this name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Number of rows of C.
    pub fn rows(&self) -> usize {
        self.shape.rows
    }

    /// Number of columns of C. They are whole vectors.
    pub fn columns(&self) -> usize {
        self.shape.columns()
    }

    /// `out = act(bias + a * b + residual)` over `k` steps. It takes any number of rows, which it splits into
    /// tiles as evenly as possible. If channels are rows, it takes any number of columns too.
    ///
    /// # Panics
    /// If an operand is too short. That is a bug in this library.
    pub(crate) fn run(
        &self,
        k: usize,
        a: RowsOf<'_>,
        b: ColumnsOf<'_>,
        out: OutputTile<'_>,
        post: &Post<'_>,
        hint: Hint<'_>,
    ) {
        let OutputTile { rows, lo, hi, zeros, .. } = out;
        if rows == 0 || lo >= hi {
            return;
        }
        let whole = self.columns();
        let tiles = hi.div_ceil(whole);
        // Several tiles must follow each other in a row of pixels.
        assert!(tiles == 1 || (post.per_row && lo == 0 && zeros == 0 && out.place.block == BLOCK));
        a.measure(rows, k);
        let target = post.target(&out, whole.min(self.shape.columns_for(hi)), self.activate);
        let mut args = GemmArgs {
            operands: ProductOperands {
                chunks: k / BLOCK,
                k_tail: k % BLOCK,
                a: a.data.as_ptr(),
                a_chunk: a.chunk.unwrap_or(0),
                b: b.data.as_ptr(),
            },
            a_row: a.row,
            b_step: b.step,
            hint: LinesOfChunk { at: hint.data.as_ptr(), chunk: hint.chunk, lines: hint.lines },
            target,
        };
        for tile in 0..tiles {
            let first = tile * whole;
            args.target = target.ahead(first, first);
            args.target.hi = (hi - first).min(whole);
            args.target.zeros = zeros.min(whole);
            let wanted = args.target.hi.max(args.target.zeros).div_ceil(self.shape.lanes);
            let width = self.shape.vectors.iter().position(|&vectors| vectors >= wanted);
            let width = width.expect("a tile is at least as wide as its columns");
            let columns = self.shape.vectors[width] * self.shape.lanes;
            let needed = span([(tile + 1, b.tile), (k, b.step), (columns, 1)]);
            require("columns of a product", needed, b.data.len());
            args.operands.b = b.data.as_ptr().wrapping_add(tile * b.tile);
            self.tiles_of_rows(rows, &a, width, &hint, &mut args);
        }
    }

    /// Computes every row for the columns of one tile.
    fn tiles_of_rows(&self, rows: usize, a: &RowsOf<'_>, width: usize, hint: &Hint<'_>, args: &mut GemmArgs) {
        let table = if a.row == BLOCK { self.packed } else { self.strided };
        let packed_row = (args.operands.chunks + usize::from(args.operands.k_tail > 0)) * BLOCK;
        let (mut start, mut hinted) = (0, 0);
        for len in even_pieces(rows, self.shape.rows) {
            let from = start * if a.chunk.is_some() { a.row } else { packed_row };
            args.operands.a = a.data.as_ptr().wrapping_add(from);
            args.operands.a_chunk = a.chunk.unwrap_or(len * BLOCK);
            args.hint.at = hint.data.as_ptr().wrapping_add(hinted);
            args.hint.lines = if hinted < hint.data.len() { hint.lines } else { 0 };
            // SAFETY: `run` has measured the operands for all rows and columns. The output lies in a region
            // that `run` borrows. The set that holds this table was returned only after its features were
            // detected.
            unsafe { table[len - 1][width](args) };
            args.target.advance(len * args.target.out.row, len * args.target.residual.row);
            start += len;
            hinted += hint.tile + len * hint.row;
        }
    }
}

impl RowsOf<'_> {
    /// Checks that there are `k` steps of `rows` rows.
    ///
    /// # Panics
    /// If there are not.
    fn measure(&self, rows: usize, k: usize) {
        const ROWS: &str = "rows of a product";
        let (chunks, k_tail) = (k / BLOCK, k % BLOCK);
        let Some(chunk) = self.chunk else {
            assert!(self.row == BLOCK);
            return require(ROWS, product([rows, k.div_ceil(BLOCK), BLOCK]), self.data.len());
        };
        let whole = span([(chunks, chunk), (rows, self.row), (BLOCK, 1)]);
        let tail = span([(chunks + 1, chunk), (rows, self.row), (k_tail, 1)]);
        require(ROWS, whole.max(tail), self.data.len());
    }
}

/// The table of one tile: `tile!(enter_isa, name: lanes 16, widths [1 2], rows [1 2 3 ... 14])`.
macro_rules! tile {
    (@row $enter:ident, $mr:literal, $apart:literal, [$($nv:literal)+]) => {
        &[$(<super::gemm::Gemm<$mr, $nv, $apart>>::$enter as Entry<_>),+]
    };
    ($enter:ident, $name:literal: lanes $lanes:literal, widths $widths:tt, rows [$($mr:literal)+]) => {
        GemmTile {
            name: $name,
            shape: tile_shape!($lanes, $widths, [$($mr)+]),
            packed: &[$(tile!(@row $enter, $mr, 16, $widths)),+],
            strided: &[$(tile!(@row $enter, $mr, 0, $widths)),+],
            activate: ActivateSums::$enter,
        }
    };
}
pub(super) use tile;
