//! The gradient of a 3x3 filter as a Winograd convolution: F(3x3, 4x4). The outputs are the taps, and tiles of 4x4 gradients
//! of the output take the place of the filter. 36 products replace 144.
//!
//! ```text
//! for chunk, block of the filter:
//!     for stretch of tiles:
//!         V[point][input channel] = B^T d B              // tiles of 6x6 pixels of the image
//!         U[point][output channel] = G g G^T             // tiles of 4x4 gradients of the output
//!         for point: sums[point][input channel][output channel] += V * U
//!     filter = A^T sums A                                // once, as it is linear
//! ```
//!
//! `V` and `U` are the two operands of a 1x1 gradient at each point, whose pixels are tiles. The register tile of
//! `tile/taps.rs` multiplies them.

use super::windows::Windows;
use super::{GradientRegion, WeightsGradient, WeightsOperands, sums};
use crate::algo::grid::{Strip, TileGrid};
use crate::algo::winograd::{FoldedMap, TiledMap, coefficients};
use crate::describe::{BLOCK, ConvDesc, PixelRef, Size2};
use crate::memory::split_memory;
use crate::tile::output::OutputTile;
use crate::tile::post::Post;
use crate::tile::shape::{even_piece, odd_lines};
use crate::tile::table::KernelSet;
use crate::tile::taps::TapsLine;
use crate::tile::taps_table::{ImagePixels, OutputPixels, TapsSums, TapsTile};
use crate::tile::winograd::Coefficients;
use crate::tile::winograd_operands::{
    GRADIENT_PIXELS, GRADIENT_TILE, InputRows, ProductsOfRow, WinogradTile,
};
use std::ops::Range;

/// Tiles of a stretch. The sums of a register tile are read and written once for all of them.
const STRETCH: usize = 64;
/// Maximum channels of a block on both sides. Each is transformed once for each block of the other side.
const MOST_CHANNELS: usize = 128;
/// Tiles of a strip, whose rows are transformed together.
const MOST_STRIP: usize = 16;

/// Tiles of the image: 6x6 pixels, as far apart as those of the gradient.
const IMAGE_TILE: WinogradTile =
    WinogradTile { points: GRADIENT_TILE.points, outputs: Size2::square(GRADIENT_PIXELS) };

pub(super) struct WinogradGradient {
    pub(super) tile: &'static TapsTile,
    coefficients: Coefficients,
    /// Output channels of a panel of the last transform.
    panel: usize,
    /// Output channels of a block, a multiple of a panel, and input channels.
    outs: usize,
    ins: usize,
}

/// The parts of a slab.
struct Slab<'a> {
    /// `[point][channel / 16][tile][16]`.
    v: &'a mut [f32],
    u: &'a mut [f32],
    /// `[point][input channel][output channel]`.
    sums: &'a mut [f32],
    scratch: &'a mut [f32],
    rows: &'a mut [f32],
    /// `[input channel][tap][output channel]`.
    filter: &'a mut [f32],
    bias: &'a mut [f32],
}

/// A block of the filter.
struct Block {
    group: usize,
    outs: Range<usize>,
    /// Input channels of the group.
    ins: Range<usize>,
    bias: bool,
}

/// Tiles of all images that a run sums over.
pub(super) fn tiles(windows: &Windows) -> TileGrid {
    TileGrid::of_maps(windows.images, windows.output, IMAGE_TILE.outputs)
}

/// Number of stretches of all images.
pub(super) fn stretches(windows: &Windows) -> usize {
    tiles(windows).len().div_ceil(STRETCH)
}

impl WinogradGradient {
    pub(super) fn new(desc: &ConvDesc, kernels: &'static KernelSet) -> Self {
        let panel = kernels.winograd.shape.columns_for(desc.outs());
        // Transformed tiles are whole blocks.
        let outs = even_piece(desc.outs(), MOST_CHANNELS).next_multiple_of(panel.max(BLOCK));
        let ins = even_piece(desc.ins(), MOST_CHANNELS).next_multiple_of(BLOCK);
        let coefficients = coefficients(GRADIENT_TILE);
        Self { tile: &kernels.gradient.taps, coefficients, panel, outs, ins }
    }

    /// Output channels of whole panels and whole blocks.
    pub(super) fn columns(&self) -> usize {
        self.panel.max(BLOCK)
    }

    /// Output and input channels of a block.
    pub(super) fn block_of(&self) -> (usize, usize) {
        (self.outs, self.ins)
    }

    /// Distance between the points of a strip of transformed channels, and between those of the sums.
    fn point_of(channels: usize) -> usize {
        odd_lines(channels.next_multiple_of(BLOCK) * STRETCH)
    }

    fn sums_point(&self) -> usize {
        odd_lines(self.ins * self.outs)
    }

    /// Elements of the parts of a [`Slab`], in its order.
    fn lens(&self, gradient: &WeightsGradient) -> [usize; 7] {
        let points = GRADIENT_TILE.products();
        let columns = IMAGE_TILE.columns(MOST_STRIP);
        let [image, output] = maps(gradient);
        let [of_image, of_output] = [gradient.desc.layout(), gradient.desc.output_layout()];
        let rows = image.memory_len(of_image, columns).max(output.memory_len(of_output, columns));
        [
            points * Self::point_of(self.ins),
            points * Self::point_of(self.outs),
            points * self.sums_point(),
            GRADIENT_TILE.points.h * columns * BLOCK,
            rows,
            self.ins * gradient.windows.taps() * self.outs,
            self.outs,
        ]
    }

    pub(super) fn workspace_len(&self, gradient: &WeightsGradient) -> usize {
        self.lens(gradient).iter().sum()
    }

    pub(super) fn run(
        &self,
        gradient: &WeightsGradient,
        operands: &WeightsOperands<'_>,
        region: &mut GradientRegion<'_>,
        slab: &mut [f32],
    ) {
        let ([v, u, sums, scratch, rows, filter, bias], _) = split_memory(slab, self.lens(gradient), 1);
        let mut slab = Slab { v, u, sums, scratch, rows, filter, bias };
        let taps = gradient.windows.taps();
        let channels = region.filter.channels.clone();
        let ins = region.filter.pixels.start / taps..region.filter.pixels.end / taps;
        for chunk in region.filter.images.clone() {
            for (group, outs) in gradient.in_groups(&channels) {
                for o in outs.clone().step_by(self.outs) {
                    for c in ins.clone().step_by(self.ins) {
                        let block = Block {
                            group,
                            outs: o..outs.end.min(o + self.outs),
                            ins: c..ins.end.min(c + self.ins),
                            bias: region.bias.is_some() && c == ins.start,
                        };
                        self.block(gradient, operands, (&block, chunk), &mut slab);
                        self.write(gradient, (&block, chunk), region, &mut slab);
                    }
                }
            }
        }
    }

    /// Sums a block over a chunk, point by point.
    fn block(
        &self,
        gradient: &WeightsGradient,
        operands: &WeightsOperands<'_>,
        (block, chunk): (&Block, usize),
        slab: &mut Slab<'_>,
    ) {
        let tiles = tiles(&gradient.windows);
        slab.sums.fill(0.0);
        slab.bias.fill(0.0);
        for stretch in gradient.stretches_of(chunk) {
            let range = stretch * STRETCH..tiles.len().min((stretch + 1) * STRETCH);
            for strip in tiles.strips(&range, MOST_STRIP) {
                self.transform_image(gradient, &operands.input, (block, &strip), slab);
                self.transform_gradients(gradient, &operands.grad_output, (block, &strip), slab);
            }
            self.multiply(block, range.len(), slab);
        }
    }

    /// Computes `V` of a strip.
    fn transform_image(
        &self,
        gradient: &WeightsGradient,
        input: &PixelRef<'_>,
        (block, strip): (&Block, &Strip),
        slab: &mut Slab<'_>,
    ) {
        let kernels = gradient.kernels;
        let columns = IMAGE_TILE.columns(strip.tiles);
        for c in block.ins.clone().step_by(BLOCK) {
            let channels = (block.group * gradient.desc.ins() + c, BLOCK.min(block.ins.end - c));
            let rows = maps(gradient)[0].rows(input, (strip, columns), channels, &kernels.copy, slab.rows);
            let v = &mut slab.v[(c - block.ins.start) * STRETCH + strip.index * BLOCK..];
            let v = (v, Self::point_of(self.ins));
            kernels.winograd.input(IMAGE_TILE, &self.coefficients, &rows, slab.scratch, v);
        }
    }

    /// Computes `U` of a strip, and adds its gradients to the bias.
    fn transform_gradients(
        &self,
        gradient: &WeightsGradient,
        go: &PixelRef<'_>,
        (block, strip): (&Block, &Strip),
        slab: &mut Slab<'_>,
    ) {
        let kernels = gradient.kernels;
        let columns = strip.tiles * GRADIENT_PIXELS;
        for o in block.outs.clone().step_by(BLOCK) {
            let channels = (o, BLOCK.min(block.outs.end - o));
            let rows = maps(gradient)[1].rows(go, (strip, columns), channels, &kernels.copy, slab.rows);
            if block.bias {
                Self::add_to_bias(&rows, &mut slab.bias[o - block.outs.start..]);
            }
            let u = &mut slab.u[(o - block.outs.start) * STRETCH + strip.index * BLOCK..];
            kernels.winograd.filter(&self.coefficients, &rows, (u, Self::point_of(self.outs)));
        }
    }

    /// Adds the pixels of rows of gradients, for the channels of a block.
    fn add_to_bias(rows: &InputRows<'_>, bias: &mut [f32]) {
        // Sums of a strip first: a long sum rounds more often.
        let mut sums = [0.0; BLOCK];
        for start in rows.rows.iter().flatten() {
            for pixel in 0..rows.hi {
                let from = &rows.data[start + pixel * rows.step..][..rows.channels];
                sums.iter_mut().zip(from).for_each(|(sum, &gradient)| *sum += gradient);
            }
        }
        bias.iter_mut().zip(sums).for_each(|(sum, of_strip)| *sum += of_strip);
    }

    /// `sums += V * U` for `tiles` tiles and every point.
    fn multiply(&self, block: &Block, tiles: usize, slab: &mut Slab<'_>) {
        let (ins, outs) = (block.ins.len(), block.outs.len());
        let line = [TapsLine { go: 0, x: 0, lo: 0, hi: tiles, count: tiles }];
        for point in 0..GRADIENT_TILE.products() {
            let v = &slab.v[point * Self::point_of(self.ins)..];
            let u = &slab.u[point * Self::point_of(self.outs)..];
            let sums = &mut slab.sums[point * self.sums_point()..];
            let mut column = 0;
            while column < outs {
                let vectors = self.tile.vectors(1, outs - column);
                let most = self.tile.channels(1, vectors);
                let go = OutputPixels {
                    data: &u[column / BLOCK * (STRETCH * BLOCK) + column % BLOCK..],
                    pixel: BLOCK,
                    block: STRETCH * BLOCK,
                };
                let mut left = 0..ins;
                while !left.is_empty() {
                    let c = left.start;
                    let len = even_piece((BLOCK - c % BLOCK).min(left.len()), most);
                    let data = &v[c / BLOCK * (STRETCH * BLOCK) + c % BLOCK..];
                    let x = ImagePixels { data, pixel: BLOCK, channels: (len, 1) };
                    let data = &mut sums[c * self.outs + column..];
                    let sums = TapsSums { data, taps: (1, 0), channel: self.outs };
                    self.tile.run(vectors, &line, go, x, sums);
                    left.start += len;
                }
                column += vectors * self.tile.lanes;
            }
        }
    }

    /// Transforms the sums of a block back, and writes them.
    fn write(
        &self,
        gradient: &WeightsGradient,
        (block, chunk): (&Block, usize),
        region: &mut GradientRegion<'_>,
        slab: &mut Slab<'_>,
    ) {
        let (kernels, taps) = (gradient.kernels, gradient.windows.taps());
        let kernel = gradient.windows.kernel;
        for column in (0..block.outs.len()).step_by(self.panel) {
            for c in 0..block.ins.len() {
                let products = ProductsOfRow {
                    m: &slab.sums[c * self.outs + column..],
                    width: self.panel,
                    m_point: self.sums_point(),
                    tiles: 1,
                    rows: kernel.h,
                    last: kernel.w,
                    line: kernel.w,
                    step: kernel.w,
                };
                let filter = &mut slab.filter[c * taps * self.outs + column..];
                let out = OutputTile::of_matrix_columns(filter, taps, self.outs, 0..self.panel);
                kernels.winograd.output(GRADIENT_TILE, &self.coefficients, &products, out, &Post::NONE);
            }
        }
        let of_filter = block.ins.start * taps..block.ins.end * taps;
        let filter = (&*slab.filter, self.outs);
        sums::write(kernels, filter, &mut region.filter, chunk, block.outs.clone(), of_filter);
        if block.bias {
            sums::write_bias(region, chunk, block.outs.clone(), slab.bias);
        }
    }
}

/// The image and the gradient of the output, as maps of tiles.
fn maps(gradient: &WeightsGradient) -> [TiledMap; 2] {
    let Windows { input, output, before, .. } = gradient.windows;
    let image = TiledMap { size: FoldedMap::of(input), before, rows: GRADIENT_TILE.points.h, down: None };
    let size = FoldedMap::of(output);
    [image, TiledMap { size, before: Size2::square(0), rows: GRADIENT_PIXELS, down: None }]
}
