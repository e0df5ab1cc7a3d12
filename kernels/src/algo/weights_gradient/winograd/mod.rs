//! The gradient of a filter as a Winograd convolution. The outputs are the taps, and tiles of gradients of the output take the
//! place of the filter. F(3x3, 4x4) computes a 3x3 filter with 36 products for 144.
//!
//! ```text
//! for chunk, block of the filter:
//!     for phase of the kernel:                        // one, if the stride is 1
//!         for stretch of tiles:
//!             V[point][input channel] = B^T d B       // tiles of the image, 6x6 pixels for F(3x3, 4x4)
//!             U[point][output channel] = G g G^T      // tiles of the gradients of the output, 4x4
//!             for point: sums[point][input channel][output channel] += V * U
//!         taps of the phase = A^T sums A              // once, as it is linear
//!     write the filter
//! ```
//!
//! `V` and `U` are the two operands of a 1x1 gradient at each point, whose pixels are tiles. The register tile of
//! `tile/taps.rs` multiplies them.

mod phases;

use super::{GradientRegion, WeightsGradient, WeightsOperands, sums, windows::part_of};
use crate::algo::grid::Strip;
use crate::describe::{BLOCK, ConvDesc, PixelRef, Size2};
use crate::memory::split_memory;
use crate::tile::output::OutputTile;
use crate::tile::post::Post;
use crate::tile::shape::{even_piece, odd_lines};
use crate::tile::table::KernelSet;
use crate::tile::taps::TapsLine;
use crate::tile::taps_table::{ImagePixels, OutputPixels, TapsSums, TapsTile};
use crate::tile::winograd_operands::ProductsOfRow;
use phases::Phase;
pub(super) use phases::taps_of;
use std::ops::Range;

/// Tiles of a stretch. The sums of a register tile are read and written once for all of them.
const STRETCH: usize = 64;
/// Maximum channels of a block on both sides. Each is transformed once for each block of the other side.
const MOST_CHANNELS: usize = 128;
/// Tiles of a strip, whose rows are transformed together.
const MOST_STRIP: usize = 16;

pub(super) struct WinogradGradient {
    pub(super) tile: &'static TapsTile,
    phases: Vec<Phase>,
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
    /// The taps of a phase, for one input channel and a panel of output channels.
    taps: &'a mut [f32],
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

fn stretches_of(phase: &Phase) -> usize {
    phase.tiles().len().div_ceil(STRETCH)
}

/// What a phase computes, for the choice.
pub(super) struct PhaseWork {
    /// Tiles of all images, and stretches.
    pub(super) tiles: usize,
    pub(super) stretches: usize,
    pub(super) points: usize,
    /// Number of axes that are transformed, at least 1: pixels are copied if there is none.
    pub(super) axes: usize,
}

impl WinogradGradient {
    /// `desc` must be supported.
    pub(super) fn new(desc: &ConvDesc, kernels: &'static KernelSet) -> Self {
        let panel = kernels.winograd.shape.columns_for(desc.outs());
        // Transformed tiles are whole blocks.
        let outs = even_piece(desc.outs(), MOST_CHANNELS).next_multiple_of(panel.max(BLOCK));
        let ins = even_piece(desc.ins(), MOST_CHANNELS).next_multiple_of(BLOCK);
        let phases = phases::phases(desc).expect("a supported convolution");
        Self { tile: &kernels.gradient.taps, phases, panel, outs, ins }
    }

    /// Number of stretches of all images, of the phase that has the fewest.
    pub(super) fn stretches(&self) -> usize {
        self.phases.iter().map(stretches_of).min().unwrap_or(1)
    }

    pub(super) fn work_of_phases(&self) -> impl Iterator<Item = PhaseWork> {
        self.phases.iter().map(|phase| {
            let Size2 { h, w } = phase.of_image.points;
            let axes = usize::from(h > 1) + usize::from(w > 1);
            let tiles = phase.tiles().len();
            PhaseWork { tiles, stretches: stretches_of(phase), points: h * w, axes: axes.max(1) }
        })
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
    fn lens(&self, gradient: &WeightsGradient) -> [usize; 8] {
        let most = |of: &dyn Fn(&Phase) -> usize| self.phases.iter().map(of).max().unwrap_or(0);
        let points = most(&|phase| phase.of_image.products());
        let columns = |phase: &Phase| phase.of_image.columns(MOST_STRIP);
        let [of_image, of_output] = [gradient.desc.layout(), gradient.desc.output_layout()];
        let rows = |phase: &Phase| {
            let image = phase.image.memory_len(of_image, columns(phase));
            image.max(phase.gradients.memory_len(of_output, MOST_STRIP * phase.of_image.outputs.w))
        };
        [
            points * Self::point_of(self.ins),
            points * Self::point_of(self.outs),
            points * self.sums_point(),
            most(&|phase| phase.of_image.points.h * columns(phase) * BLOCK),
            most(&rows),
            most(&|phase| phase.taps() * self.panel),
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
        let ([v, u, sums, scratch, rows, of_phase, filter, bias], _) =
            split_memory(slab, self.lens(gradient), 1);
        let mut slab = Slab { v, u, sums, scratch, rows, taps: of_phase, filter, bias };
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

    /// Sums a block over a chunk, phase by phase and point by point.
    fn block(
        &self,
        gradient: &WeightsGradient,
        operands: &WeightsOperands<'_>,
        (block, chunk): (&Block, usize),
        slab: &mut Slab<'_>,
    ) {
        slab.bias.fill(0.0);
        for (i, phase) in self.phases.iter().enumerate() {
            let tiles = phase.tiles();
            // Every phase reads all gradients.
            let bias = block.bias && i == 0;
            for point in slab.sums.chunks_mut(self.sums_point()).take(phase.of_image.products()) {
                point.fill(0.0);
            }
            for stretch in part_of(stretches_of(phase), chunk, gradient.chunks) {
                let range = stretch * STRETCH..tiles.len().min((stretch + 1) * STRETCH);
                for strip in tiles.strips(&range, MOST_STRIP) {
                    self.transform_image(gradient, phase, &operands.input, (block, &strip), slab);
                    let of = (block, &strip, bias);
                    self.transform_gradients(gradient, phase, &operands.grad_output, of, slab);
                }
                self.multiply(block, (phase.of_image.products(), range.len()), slab);
            }
            self.transform_sums(gradient, phase, block, slab);
        }
    }

    /// Computes `V` of a strip.
    fn transform_image(
        &self,
        gradient: &WeightsGradient,
        phase: &Phase,
        input: &PixelRef<'_>,
        (block, strip): (&Block, &Strip),
        slab: &mut Slab<'_>,
    ) {
        let kernels = gradient.kernels;
        let columns = phase.of_image.columns(strip.tiles);
        for c in block.ins.clone().step_by(BLOCK) {
            let channels = (block.group * gradient.desc.ins() + c, BLOCK.min(block.ins.end - c));
            let rows = phase.image.rows(input, (strip, columns), channels, &kernels.copy, slab.rows);
            let v = &mut slab.v[(c - block.ins.start) * STRETCH + strip.index * BLOCK..];
            let v = (v, Self::point_of(self.ins));
            kernels.winograd.input(phase.of_image, &phase.coefficients, &rows, slab.scratch, v);
        }
    }

    /// Computes `U` of a strip, and adds its gradients to the bias if they are part of it.
    fn transform_gradients(
        &self,
        gradient: &WeightsGradient,
        phase: &Phase,
        go: &PixelRef<'_>,
        (block, strip, bias): (&Block, &Strip, bool),
        slab: &mut Slab<'_>,
    ) {
        let kernels = gradient.kernels;
        let columns = strip.tiles * phase.of_image.outputs.w;
        for o in block.outs.clone().step_by(BLOCK) {
            let channels = (o, BLOCK.min(block.outs.end - o));
            let rows = phase.gradients.rows(go, (strip, columns), channels, &kernels.copy, slab.rows);
            let bias = bias.then_some(&mut slab.bias[o - block.outs.start..]);
            let u = &mut slab.u[(o - block.outs.start) * STRETCH + strip.index * BLOCK..];
            let u = (u, Self::point_of(self.outs));
            kernels.winograd.filter(phase.of_image, &phase.coefficients, &rows, u, bias);
        }
    }

    /// `sums += V * U` for `tiles` tiles and every point.
    fn multiply(&self, block: &Block, (points, tiles): (usize, usize), slab: &mut Slab<'_>) {
        let (ins, outs) = (block.ins.len(), block.outs.len());
        let line = [TapsLine { hi: tiles, count: tiles, ..TapsLine::default() }];
        for point in 0..points {
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
                    looks_ahead: false,
                };
                let mut left = 0..ins;
                while !left.is_empty() {
                    let c = left.start;
                    let len = even_piece((BLOCK - c % BLOCK).min(left.len()), most);
                    let data = &v[c / BLOCK * (STRETCH * BLOCK) + c % BLOCK..];
                    let x = ImagePixels { data, pixel: BLOCK, channels: (len, 1), looks_ahead: false };
                    let data = &mut sums[c * self.outs + column..];
                    let sums = TapsSums { data, taps: (1, 0), channel: self.outs };
                    self.tile.run(vectors, &line, go, x, sums);
                    left.start += len;
                }
                column += vectors * self.tile.lanes;
            }
        }
    }

    /// Transforms the sums of a phase to its taps of the filter.
    fn transform_sums(&self, gradient: &WeightsGradient, phase: &Phase, block: &Block, slab: &mut Slab<'_>) {
        let (all, taps) = (gradient.windows.taps(), phase.of_filter.outputs);
        for column in (0..block.outs.len()).step_by(self.panel) {
            for c in 0..block.ins.len() {
                let products = ProductsOfRow {
                    m: &slab.sums[c * self.outs + column..],
                    width: self.panel,
                    m_point: self.sums_point(),
                    tiles: 1,
                    rows: taps.h,
                    last: taps.w,
                    line: taps.w,
                    step: taps.w,
                };
                let of_phase = &mut slab.taps[..phase.taps() * self.panel];
                let out = OutputTile::of_matrix_columns(of_phase, phase.taps(), self.panel, 0..self.panel);
                let kernels = &gradient.kernels.winograd;
                kernels.output(phase.of_filter, &phase.coefficients, &products, out, &Post::NONE);
                let filter = &mut slab.filter[c * all * self.outs + column..];
                for (tap, from) in phase.places(&gradient.windows).zip(of_phase.chunks_exact(self.panel)) {
                    filter[tap * self.outs..][..self.panel].copy_from_slice(from);
                }
            }
        }
    }

    /// Writes the gradients of a block.
    fn write(
        &self,
        gradient: &WeightsGradient,
        (block, chunk): (&Block, usize),
        region: &mut GradientRegion<'_>,
        slab: &mut Slab<'_>,
    ) {
        let taps = gradient.windows.taps();
        let of_filter = block.ins.start * taps..block.ins.end * taps;
        let filter = (&*slab.filter, self.outs);
        sums::write(gradient.kernels, filter, &mut region.filter, chunk, block.outs.clone(), of_filter);
        if block.bias {
            sums::write_bias(region, chunk, block.outs.clone(), slab.bias);
        }
    }
}
