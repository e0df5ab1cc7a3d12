//! The gradient of a filter as a matrix product with packed windows: the sums of a block of taps are the product of the
//! windows of a stretch, one row per tap, with the gradients of its pixels.
//!
//! It computes every problem, and packs each window once per block of output channels.

use super::blocks::{Block, blocks};
use super::windows::{Segment, Windows};
use super::{GradientRegion, WeightsGradient, WeightsOperands, gradients};
use crate::describe::{BLOCK, ConvDesc, PixelRef};
use crate::memory::split_memory;
use crate::tile::gemm_table::{ColumnsOf, GemmTile, Hint, RowsOf};
use crate::tile::output::OutputTile;
use crate::tile::post::Post;
use crate::tile::table::KernelSet;

/// Maximum number of taps of a block.
const MOST_TAPS: usize = 512;
/// Maximum number of output channels of a block, unless one tile has more.
const MOST_COLUMNS: usize = 96;

pub(super) struct GemmGradient {
    pub(super) tile: &'static GemmTile,
    /// Taps and output channels of a block. The channels are whole tiles.
    pub(super) taps: usize,
    columns: usize,
}

/// The parts of the slab.
struct Slab<'a> {
    /// `[tap][output channel]`.
    sums: &'a mut [f32],
    /// `[pixel / 16][tap][pixel % 16]`.
    windows: &'a mut [f32],
    /// `[pixel][channel of the tile]`.
    gradients: &'a mut [f32],
}

impl GemmGradient {
    pub(super) fn new(desc: &ConvDesc, kernels: &'static KernelSet) -> Self {
        let tile = &kernels.gemm[0];
        let whole = tile.columns();
        let columns = (MOST_COLUMNS / whole).max(1).min(desc.outs().div_ceil(whole)) * whole;
        Self { tile, taps: MOST_TAPS.min(desc.taps()), columns }
    }

    /// Output channels of a block.
    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    /// Elements of the parts of the slab.
    fn lens(&self, windows: &Windows) -> [usize; 3] {
        let (pixels, rows) = (windows.pixels_of_stretch(), self.taps + 1);
        [rows * self.columns, rows * pixels.next_multiple_of(BLOCK), pixels * self.tile.columns()]
    }

    pub(super) fn workspace_len(&self, windows: &Windows) -> usize {
        self.lens(windows).iter().sum()
    }

    pub(super) fn run(
        &self,
        gradient: &WeightsGradient,
        operands: &WeightsOperands<'_>,
        region: &mut GradientRegion<'_>,
        slab: &mut [f32],
    ) {
        let ([sums, windows, gradients], _) = split_memory(slab, self.lens(&gradient.windows), 1);
        let mut slab = Slab { sums, windows, gradients };
        for (chunk, block) in blocks(gradient, region, (self.taps, self.columns)) {
            self.block(gradient, operands, (&block, chunk), &mut slab);
            let (place, sums) = ((chunk, block.channels.clone()), (&*slab.sums, self.columns));
            block.write(gradient.kernels, region, place, sums);
        }
    }

    /// Sums a block over a chunk.
    fn block(
        &self,
        gradient: &WeightsGradient,
        operands: &WeightsOperands<'_>,
        (block, chunk): (&Block, usize),
        slab: &mut Slab<'_>,
    ) {
        let windows = &gradient.windows;
        slab.sums[..block.rows() * self.columns].fill(0.0);
        for stretch in gradient.stretches_of(chunk) {
            pack_windows(gradient, &operands.input, (block, stretch), slab.windows);
            let pixels = windows.stretch(stretch).map(|segment| segment.xs.len()).sum();
            for o in block.channels.clone().step_by(self.tile.columns()) {
                let channels = o..block.channels.end.min(o + self.tile.columns());
                let columns = self.tile.shape.columns_for(channels.len());
                let go = &operands.grad_output;
                gradients::pack(
                    &gradient.kernels.copy,
                    go,
                    (windows, stretch),
                    &channels,
                    columns,
                    slab.gradients,
                );
                let a = RowsOf { data: slab.windows, row: BLOCK, chunk: Some(block.rows() * BLOCK) };
                let b = ColumnsOf { data: slab.gradients, step: columns, tile: 0 };
                let sums = &mut slab.sums[o - block.channels.start..];
                let out = OutputTile::of_matrix_columns(sums, block.rows(), self.columns, 0..channels.len());
                let post = Post { first: false, ..Post::NONE };
                self.tile.run(pixels, a, b, out, &post, Hint::NONE);
            }
        }
    }
}

/// Packs the windows of a stretch: one row per tap, and a row of ones for the bias.
fn pack_windows(
    gradient: &WeightsGradient,
    input: &PixelRef<'_>,
    (block, stretch): (&Block, usize),
    to: &mut [f32],
) {
    let (windows, rows) = (&gradient.windows, block.rows());
    let kernel = windows.kernel;
    for (row, tap) in block.taps.clone().enumerate() {
        let (c, kh, kw) = (tap / windows.taps(), tap / kernel.w % kernel.h, tap % kernel.w);
        let channel = block.group * gradient.desc.ins() + c;
        let mut k = 0;
        for Segment { n, y, xs } in windows.stretch(stretch) {
            let line = windows.row(y, kh).map(|line| line * windows.input.w);
            for x in xs {
                let pixel = line
                    .zip(windows.column(x, kw))
                    .map_or(0.0, |(line, column)| input.data[input.view.offset(n, channel, line + column)]);
                to[(k / BLOCK * rows + row) * BLOCK + k % BLOCK] = pixel;
                k += 1;
            }
        }
    }
    if block.bias {
        for k in 0..windows.pixels_of_stretch().next_multiple_of(BLOCK) {
            to[(k / BLOCK * rows + block.taps.len()) * BLOCK + k % BLOCK] = 1.0;
        }
    }
}
