//! Gradients of fully connected layers, as matrix products.

use super::SliceGradient;
use crate::describe::{BLOCK, ConvError, Isa, Layout, Shape4, TensorMut, TensorRef};
use crate::memory::{WorkspaceReq, check_workspace};
use crate::ops::Ops;
use crate::run::Threads;
use crate::run::elementwise::WORTH_A_THREAD;
use crate::run::threads::Split;
use crate::tile::copy_table::InputTile;
use crate::tile::gemm_table::{ColumnsOf, GemmTile, Hint, RowsOf};
use crate::tile::output::OutputRegion;
use crate::tile::post::Post;
use crate::tile::shape::even_piece;
use crate::work::parts::SplitUnits;
use std::ops::Range;

/// Steps of K in a block, and rows whose packed operand stays in the second-level cache with it: half a megabyte.
const K_BLOCK: usize = 512;
const ROWS_AT_ONCE: usize = 256;

/// Panels of B that are packed together. A panel is as wide as a register tile, two cache lines of each row of B.
const PANELS: usize = 4;

/// Element operations per multiply-add of a matrix product, for the number of threads: a vector takes half a cycle.
const PRODUCTS_OF_AN_OPERATION: u64 = 16;

/// The gradients of a fully connected layer, `y[batch][out] = bias[out] + sum over in of x[batch][in] * w[out][in]`, which
/// [`LinearPlan`](crate::LinearPlan) computes. The weights are not packed, because training changes them.
///
/// ```
/// use kernels::*;
/// # fn main() -> Result<(), ConvError> {
/// let layer = LinearGradient::new(2, 3, 1, None)?; // two examples, three features in and one out
/// let mut workspace = Workspace::for_req(layer.workspace_req(1))?;
/// let (x, w, g) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [0.5, 0.25, 2.0], [1.0, 10.0]);
/// let (mut dx, mut dw, mut db) = ([0.0; 6], [0.0; 3], [0.0]);
/// layer.input(&w, &g, &mut dx[..], &mut workspace, Threads::Seq)?;
/// layer.weights(&x, &g, &mut dw[..], Some(SliceGradient::Write(&mut db)), &mut workspace, Threads::Seq)?;
/// assert_eq!(dx, [0.5, 0.25, 2.0, 5.0, 2.5, 20.0]);
/// assert_eq!((dw, db), ([41.0, 52.0, 63.0], [11.0]));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct LinearGradient {
    ops: Ops,
    batch: usize,
    ins: usize,
    outs: usize,
}

/// `C[rows][columns] = A[rows][k] * B[k][columns]`.
struct Product<'a> {
    tile: &'static GemmTile,
    rows: usize,
    k: usize,
    columns: usize,
    /// `A[rows][k]`, or its transpose, `[k][rows]`.
    a: &'a [f32],
    transposed: bool,
    b: &'a [f32],
    /// Whether to add to C.
    add: bool,
}

impl LinearGradient {
    /// Describes the layer, for the kernels of `isa` or of the best instruction set of this CPU.
    ///
    /// # Errors
    /// - [`ConvError::IsaUnavailable`] if this CPU does not have `isa`.
    /// - [`ConvError::InvalidField`] for zero features or an empty batch.
    /// - [`ConvError::SizeOverflow`] if a matrix overflows the address space.
    pub fn new(
        batch: usize,
        in_features: usize,
        out_features: usize,
        isa: Option<Isa>,
    ) -> Result<Self, ConvError> {
        let named = [("batch", batch), ("in_features", in_features), ("out_features", out_features)];
        crate::describe::check_positive(&named)?;
        for (rows, columns) in [(batch, in_features), (batch, out_features), (out_features, in_features)] {
            Shape4::new(1, columns, 1, rows).len(Layout::Nhwc)?;
        }
        Ok(Self { ops: Ops::new(isa)?, batch, ins: in_features, outs: out_features })
    }

    /// The workspace that [`input`](Self::input) and [`weights`](Self::weights) need for `threads` threads.
    pub fn workspace_req(&self, threads: usize) -> WorkspaceReq {
        let [a, b] = [(self.batch, self.outs), (self.outs, self.batch)];
        let lens = [a, b].map(|(rows, k)| slab_len(self.tile(rows), rows, k));
        WorkspaceReq::new(lens[0].max(lens[1]), threads.max(1))
    }

    /// The gradient of the input: `dx[batch][in] = sum over out of gradient[batch][out] * filter[out][in]`.
    ///
    /// # Errors
    /// - [`ConvError::BufferLen`] if a slice has the wrong length.
    /// - [`ConvError::WorkspaceTooSmall`] if the workspace is too small for one thread. If it is too small for all
    ///   threads, fewer take part.
    ///
    /// On an error `dx` is unchanged.
    pub fn input<'a>(
        &self,
        filter: &[f32],
        gradient: &[f32],
        dx: impl Into<SliceGradient<'a>>,
        scratch: &mut (impl AsMut<[f32]> + ?Sized),
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        let dx = dx.into();
        let Self { batch, ins, outs, .. } = *self;
        check_len("filter", outs * ins, filter)?;
        check_len("gradient of the output", batch * outs, gradient)?;
        dx.check("gradient of the input", batch * ins)?;
        let product = Product {
            tile: self.tile(batch),
            rows: batch,
            k: outs,
            columns: ins,
            a: gradient,
            transposed: false,
            b: filter,
            add: dx.adds(),
        };
        product.run(dx.into_slice(), scratch.as_mut(), threads)
    }

    /// The gradients of the parameters: `dfilter[out][in] = sum over batch of gradient[batch][out] * input[batch][in]`, and
    /// `dbias[out] = sum over batch of gradient[batch][out]`, if it is wanted.
    ///
    /// # Errors
    /// Those of [`input`](Self::input). On an error the gradients are unchanged.
    pub fn weights<'a>(
        &self,
        input: &[f32],
        gradient: &[f32],
        dfilter: impl Into<SliceGradient<'a>>,
        dbias: Option<SliceGradient<'_>>,
        scratch: &mut (impl AsMut<[f32]> + ?Sized),
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        let dfilter = dfilter.into();
        let Self { batch, ins, outs, .. } = *self;
        check_len("input", batch * ins, input)?;
        check_len("gradient of the output", batch * outs, gradient)?;
        dfilter.check("gradient of the filter", outs * ins)?;
        dbias.as_ref().map_or(Ok(()), |dbias| dbias.check("gradient of the bias", outs))?;
        let product = Product {
            tile: self.tile(outs),
            rows: outs,
            k: batch,
            columns: ins,
            a: gradient,
            transposed: true,
            b: input,
            add: dfilter.adds(),
        };
        product.run(dfilter.into_slice(), scratch.as_mut(), threads)?;
        if let Some(mut dbias) = dbias {
            let rows = TensorRef::packed(gradient, Shape4::new(1, outs, 1, batch), Layout::Nhwc)?.pixels();
            for first in (0..outs).step_by(BLOCK) {
                let (source, count) = (InputTile::new(&rows, 0, first, 0), BLOCK.min(outs - first));
                let sums = self.ops.kernels().ops.layers.column_moments(source, batch, count, None);
                dbias.put(first, &sums.plain[..count]);
            }
        }
        Ok(())
    }

    /// The register tile for a product of `rows` rows.
    fn tile(&self, rows: usize) -> &'static GemmTile {
        self.ops.kernels().gemm_tile_for(rows, self.ins)
    }
}

fn check_len(what: &'static str, expected: usize, slice: &[f32]) -> Result<(), ConvError> {
    match slice.len() {
        got if got == expected => Ok(()),
        got => Err(ConvError::BufferLen { what, expected, got }),
    }
}

/// The elements of the packed operands of one thread: some rows of A, and panels of B.
fn slab_len(tile: &GemmTile, rows: usize, k: usize) -> usize {
    let k = k.min(K_BLOCK);
    rows.min(ROWS_AT_ONCE) * k.next_multiple_of(BLOCK) + k * PANELS * tile.columns()
}

impl Product<'_> {
    /// Computes C. Threads divide its rows and columns.
    ///
    /// ```text
    /// for rows at once, for block of K:
    ///     pack A                                  // in tiles of rows, as the kernels broadcast them
    ///     for some panels of columns:
    ///         pack the panels of B                // long runs of its rows
    ///         for panel:
    ///             C[rows][panel] (+)= A * B       // register tiles
    /// ```
    fn run(&self, c: &mut [f32], scratch: &mut [f32], threads: Threads<'_>) -> Result<(), ConvError> {
        let slab_len = slab_len(self.tile, self.rows, self.k);
        check_workspace(scratch, slab_len)?;
        let products =
            [self.k, self.columns].iter().fold(self.rows as u64, |p, n| p.saturating_mul(*n as u64));
        let worth =
            usize::try_from(products / (PRODUCTS_OF_AN_OPERATION * WORTH_A_THREAD)).unwrap_or(usize::MAX);
        let parts = threads.count().min(worth.max(1)).min(scratch.len() / slab_len);
        let split_units = SplitUnits::new(self.tile.rows(), self.tile.columns());
        let region = TensorMut::packed(c, Shape4::new(1, self.columns, 1, self.rows), Layout::Nhwc)?;
        let region = OutputRegion::new(region, false);
        let split = Split { parts, split_units, slab_len };
        split.run(threads, region, scratch, &|mut region, slab| {
            for first in region.pixels.clone().step_by(ROWS_AT_ONCE) {
                let rows = first..region.pixels.end.min(first + ROWS_AT_ONCE);
                for k in (0..self.k).step_by(K_BLOCK) {
                    self.run_block(&mut region, rows.clone(), k..self.k.min(k + K_BLOCK), slab);
                }
            }
        });
        Ok(())
    }

    fn run_block(
        &self,
        region: &mut OutputRegion<'_>,
        rows: Range<usize>,
        k: Range<usize>,
        slab: &mut [f32],
    ) {
        let (a, b) = slab.split_at_mut(rows.len() * k.len().next_multiple_of(BLOCK));
        self.pack_rows(&rows, &k, a);
        let post = Post { first: k.start == 0 && !self.add, last: k.end == self.k, ..Post::NONE };
        let (width, Range { start, end }) = (self.tile.columns(), region.channels.clone());
        for panels in (start..end).step_by(PANELS * width) {
            let columns = panels..end.min(panels + PANELS * width);
            self.pack_columns(&columns, &k, b);
            for (b, first) in b.chunks_exact(k.len() * width).zip(columns.step_by(width)) {
                let out = region.channels_as_columns(0, rows.clone(), first, 0..width.min(end - first));
                let a = RowsOf { data: a, row: BLOCK, chunk: None };
                let b = ColumnsOf { data: b, step: width, tile: 0 };
                self.tile.run(k.len(), a, b, out, &post, Hint::NONE);
            }
        }
    }

    /// Packs steps `k` of some columns of B as `[panel][k][column]`, with zeros after the last column.
    fn pack_columns(&self, columns: &Range<usize>, k: &Range<usize>, to: &mut [f32]) {
        let width = self.tile.columns();
        for (i, step) in k.clone().enumerate() {
            let from = &self.b[step * self.columns..][columns.clone()];
            for (panel, from) in from.chunks(width).enumerate() {
                let to = &mut to[(panel * k.len() + i) * width..][..width];
                let (to, zeros) = to.split_at_mut(from.len());
                to.copy_from_slice(from);
                zeros.fill(0.0);
            }
        }
    }

    /// Packs steps `k` of some rows of A as `[tile][k / 16][row][16]`.
    fn pack_rows(&self, rows: &Range<usize>, k: &Range<usize>, to: &mut [f32]) {
        let (mut row, mut to) = (rows.start, to);
        while row < rows.end {
            let len = even_piece(rows.end - row, self.tile.rows());
            let (tile, rest) = to.split_at_mut(len * k.len().next_multiple_of(BLOCK));
            for (chunk, first) in tile.chunks_exact_mut(len * BLOCK).zip(k.clone().step_by(BLOCK)) {
                let steps = BLOCK.min(k.end - first);
                if steps < BLOCK {
                    chunk.fill(0.0);
                }
                if self.transposed {
                    for step in 0..steps {
                        let from = &self.a[(first + step) * self.rows + row..][..len];
                        chunk[step..].iter_mut().step_by(BLOCK).zip(from).for_each(|(to, x)| *to = *x);
                    }
                } else {
                    for (i, to) in chunk.chunks_exact_mut(BLOCK).enumerate() {
                        to[..steps].copy_from_slice(&self.a[(row + i) * self.k + first..][..steps]);
                    }
                }
            }
            to = rest;
            row += len;
        }
    }
}
