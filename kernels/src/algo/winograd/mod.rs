//! Winograd convolution (Winograd 1980; Lavin and Gray 2016). Tiles of the image and the filters are
//! transformed and multiplied point by point. The sums are transformed back. F(4x4, 3x3) has a quarter of the
//! multiplications of the definition.
//!
//! ```text
//! for block of tiles, of all images:
//!     V[point][channel] = B^T d B                    // strips of tiles, a block of channels at a time
//!     for panel of output channels, for point:       // or, if the weights are large, for point, for panel
//!         M[panel][point] = V[point] * U             // the GEMM, with K in blocks
//!     for panel:
//!         Y = A^T M A, epilogue in registers
//! ```
//!
//! The result of a tile depends only on its position in its image. Regions begin at whole tiles, so neither
//! blocks nor threads change a bit of the output.

mod folded;
mod matrices;
mod parts;
mod phases;
mod pixels;
mod schedule;
mod split;
mod weights;
mod work;

use super::grid::{Strip, TileGrid};
use super::operands::Operands;
use super::planes::PlaneRows;
use crate::algo::panels::Panel;
use crate::describe::{BLOCK, ConvDesc, ConvError, Layout, PixelRef, Size2};
use crate::memory::split_memory;
use crate::tile::output::{OutputRegion, OutputTile, PixelBox};
use crate::tile::parts_table::Offsets;
use crate::tile::post::{Addend, Post};
use crate::tile::shape::{even_piece, odd_lines};
use crate::tile::table::KernelSet;
use crate::tile::winograd_operands::{InputRows, Products, ProductsOfRow};
use crate::tile::winograd_table::WinogradKernels;
use crate::work::parts::SplitUnits;
pub(crate) use folded::{Folded, FoldedMap};
pub(crate) use matrices::coefficients;
pub(crate) use pixels::{Places, TiledMap};
use schedule::{K_BLOCK, SlabLens, v_point};
pub(crate) use schedule::{WinogradSchedule, fewest_points, supports};
use std::ops::Range;
use std::sync::Arc;
use weights::Order;
pub(crate) use weights::{WinogradForm, WinogradWeights};
pub(crate) use work::estimate;

/// A planned Winograd convolution.
pub(crate) struct WinogradConv {
    desc: ConvDesc,
    kernels: &'static KernelSet,
    schedule: WinogradSchedule,
    pub(super) weights: Arc<WinogradWeights>,
    /// The steps of K of a product of bf16 parts.
    steps: Offsets,
}

/// The parts of a slab.
struct Slab<'a> {
    v: &'a mut [f32],
    m: &'a mut [f32],
    pair: &'a mut [f32],
    sums: &'a mut [f32],
    scratch: &'a mut [f32],
    rows: &'a mut [f32],
    lines: &'a mut [f32],
}

/// Some tiles of one group.
struct Block<'a> {
    operands: &'a Operands<'a>,
    tiles: &'a TileGrid,
    group: usize,
    range: Range<usize>,
}

impl WinogradConv {
    /// Makes the driver of `schedule`, with weights in its form.
    pub(crate) fn new(
        desc: &ConvDesc,
        schedule: WinogradSchedule,
        weights: Arc<WinogradWeights>,
        kernels: &'static KernelSet,
    ) -> Result<Self, ConvError> {
        let steps = split::steps(schedule.parts.as_ref())?;
        Ok(Self { desc: *desc, kernels, weights, steps, schedule })
    }

    /// Channels of the phases of a group.
    fn channels(&self) -> usize {
        self.schedule.form.channels()
    }

    /// Elements of the parts of a slab.
    fn lens(&self) -> SlabLens {
        self.schedule.lens(&self.desc)
    }

    /// Distance between the points of transformed tiles.
    fn v_point(&self, tiles: usize) -> usize {
        self.schedule.parts.as_ref().map_or(v_point(self.channels(), tiles), |parts| parts.v_point)
    }

    fn m_point(&self, tiles: usize) -> usize {
        let rows = self.schedule.parts.as_ref().map_or(tiles, |parts| parts.rows_of(tiles));
        odd_lines(rows * self.weights.panels.width())
    }

    /// Output channels of a tile of products.
    pub(crate) fn columns(&self) -> usize {
        match self.schedule.parts {
            None => self.kernels().columns(),
            Some(_) => self.weights.panels.width(),
        }
    }

    pub(crate) fn kernel_name(&self) -> &'static str {
        match self.schedule.parts {
            None => self.kernels().name(),
            Some(_) => self.kernels.parts.name(self.schedule.form.products),
        }
    }

    pub(crate) fn kernels(&self) -> &'static WinogradKernels {
        &self.kernels.winograd
    }

    pub(crate) fn workspace_len(&self) -> usize {
        self.lens().sum()
    }

    pub(crate) fn split_units(&self) -> SplitUnits {
        self.schedule.split_units()
    }

    /// See [`Driver::writes_lines`](super::Driver::writes_lines).
    pub(crate) fn writes_lines(&self) -> bool {
        self.schedule.folded.by == 1
    }

    pub(crate) fn run(&self, operands: &Operands<'_>, region: &mut OutputRegion<'_>, slab: &mut [f32]) {
        let (outputs, map) = (self.schedule.tile.outputs, self.schedule.folded.output);
        let mut tiles = TileGrid::of(region, map.width, outputs).with_partial_row(map.partial);
        if self.schedule.down {
            tiles = tiles.down(self.schedule.folded.inner_rows(self.schedule.tile.points.h, outputs.h));
        }
        if tiles.len() == 0 {
            return;
        }
        let SlabLens { v, m, pair, sums, scratch, rows, lines } = self.lens();
        let (parts, _) = split_memory(slab, [v, m, pair, sums, scratch, rows, lines], 1);
        let [v, m, pair, sums, scratch, rows, lines] = parts;
        let mut slab = Slab { v, m, pair, sums, scratch, rows, lines };
        let block = even_piece(tiles.len(), self.schedule.block);
        for start in (0..tiles.len()).step_by(block) {
            let range = start..tiles.len().min(start + block);
            for group in self.desc.groups_of(&region.channels) {
                let block = Block { operands, tiles: &tiles, group, range: range.clone() };
                match &self.schedule.parts {
                    None => self.transform_input(&block, &mut slab),
                    Some(parts) => self.transform_and_split(parts, &block, &mut slab),
                }
                match self.schedule.form.order {
                    Order::Panels => self.panel_by_panel(&block, region, &mut slab),
                    Order::Points => self.point_by_point(&block, region, &mut slab),
                }
            }
        }
    }

    /// Computes `V` of all channels of the group.
    fn transform_input(&self, block: &Block<'_>, slab: &mut Slab<'_>) {
        let count = block.range.len();
        let v_point = self.v_point(count);
        for strip in block.tiles.strips(&block.range, self.schedule.strip) {
            for c in (0..self.channels()).step_by(BLOCK) {
                let v = &mut slab.v[c * count + strip.index * BLOCK..];
                let rows = self.rows(&block.operands.input, &strip, (block.group, c), slab.rows);
                self.kernels().input(
                    self.schedule.tile,
                    &self.weights.coefficients,
                    &rows,
                    slab.scratch,
                    (v, v_point),
                );
            }
        }
    }

    /// The input rows of a strip in one block of channels of a group, from channel `c` on. They are in the
    /// image itself, or in `memory` if the channels of a pixel are not adjacent in the image.
    fn rows<'a>(
        &self,
        from: &PixelRef<'a>,
        strip: &Strip,
        (group, c): (usize, usize),
        memory: &'a mut [f32],
    ) -> InputRows<'a> {
        let channels = BLOCK.min(self.channels() - c);
        let phases = self.schedule.form.phases;
        if phases.are_gathered(self.desc.ins()) {
            let (rows, columns) = (self.schedule.tile.points.h, self.schedule.tile.columns(strip.tiles));
            let (y, x) = (strip.y..strip.y + rows, strip.x..strip.x + columns);
            let first = group * self.desc.ins();
            phases.gather(&self.desc, from, (strip.n, first), c..c + channels, (y, x), memory);
            let starts = std::array::from_fn(|i| (i < rows).then_some(i * columns * BLOCK));
            let (lo, hi) = (0, columns);
            return InputRows {
                data: memory,
                rows: starts,
                step: BLOCK,
                lo,
                hi,
                tiles: strip.tiles,
                channels,
            };
        }
        let (folded, rows) = (&self.schedule.folded, self.schedule.tile.points.h);
        let phase = phases.at(c, self.desc.ins());
        let map = if phases.stride == Size2::square(1) {
            let down = self.schedule.down.then(|| self.schedule.step());
            let places = Places::all(folded.input.width);
            TiledMap { size: folded.input, before: folded.before, rows, down, places }
        } else {
            let (size, first) = (self.desc.input().size(), Size2::new(phase.y, phase.x));
            TiledMap::of_phase(size, phases.stride, folded.before, first, rows)
        };
        let columns = self.schedule.tile.columns(strip.tiles);
        let channel = group * self.desc.ins() + phase.channel;
        map.rows(from, (strip, columns), (channel, channels), &self.kernels.copy, memory)
    }

    /// Multiplies `points` points of the transformed tiles with a panel of weights.
    fn multiply(
        &self,
        block: &Block<'_>,
        (v, u): (&[f32], &[f32]),
        points: usize,
        (m, sums): (&mut [f32], &mut [f32]),
    ) {
        match &self.schedule.parts {
            None => self.kernels().products(&self.products(block, v, u, points), m),
            Some(parts) => self.multiply_parts(parts, block, (v, u), points, (m, sums)),
        }
    }

    fn products<'a>(&'a self, block: &Block<'_>, v: &'a [f32], u: &'a [f32], points: usize) -> Products<'a> {
        let tiles = block.range.len();
        Products {
            v,
            v_point: self.v_point(tiles),
            u,
            width: self.weights.panels.width(),
            m_point: self.m_point(tiles),
            points,
            tiles,
            channels: self.channels(),
            k_block: K_BLOCK,
            // Weights that stay in cache between blocks must be read into it by the first block.
            ahead: self.schedule.ahead || block.range.start == 0,
        }
    }

    /// For few weights: computes all points of a panel. Their products stay in cache until they are
    /// transformed.
    fn panel_by_panel(&self, block: &Block<'_>, region: &mut OutputRegion<'_>, slab: &mut Slab<'_>) {
        let channels = region.channels.clone();
        for (index, panel) in self.weights.panels.of_group(block.group, &channels) {
            let u = self.weights.matrices(index, 0);
            self.multiply(block, (slab.v, u), self.schedule.tile.products(), (slab.m, slab.sums));
            self.transform_output(block, region, (index, panel), slab.m, slab.lines);
        }
    }

    /// For many weights: reads each weight once.
    fn point_by_point(&self, block: &Block<'_>, region: &mut OutputRegion<'_>, slab: &mut Slab<'_>) {
        let channels = region.channels.clone();
        let (v_point, m_point) = (self.v_point(block.range.len()), self.m_point(block.range.len()));
        let of_panel = self.schedule.tile.products() * m_point;
        for point in 0..self.schedule.tile.products() {
            let v = &slab.v[point * v_point..];
            let panels = self.weights.panels.of_group(block.group, &channels);
            for ((index, _), m) in panels.zip(slab.m.chunks_exact_mut(of_panel)) {
                let u = self.weights.matrices(index, point);
                self.multiply(block, (v, u), 1, (&mut m[point * m_point..], slab.sums));
            }
        }
        let panels = self.weights.panels.of_group(block.group, &channels);
        for (panel, m) in panels.zip(slab.m.chunks_exact(of_panel)) {
            self.transform_output(block, region, panel, m, slab.lines);
        }
    }

    /// Transforms the products `m` of a panel and writes the outputs.
    fn transform_output(
        &self,
        block: &Block<'_>,
        region: &mut OutputRegion<'_>,
        (index, panel): (usize, Panel),
        m: &[f32],
        lines: &mut [f32],
    ) {
        let (output, outputs) = (self.schedule.folded.output, self.schedule.tile.outputs);
        let (bias, slope) = self.weights.panels.per_channel(index, 0);
        let post = Post {
            bias,
            slope,
            per_row: false,
            activation: self.desc.epilogue().activation,
            residual: Addend::None,
            first: true,
            last: true,
        };
        let width = self.weights.panels.width();
        let m_point = self.m_point(block.range.len());
        for strip in block.tiles.strips(&block.range, self.schedule.strip) {
            let rows = outputs.h.min(output.rows_at(strip.x).saturating_sub(strip.y));
            if rows == 0 {
                continue;
            }
            // The box that the strip writes.
            let (rows_of_box, pixels) = match self.schedule.down {
                true => ((strip.tiles - 1) * outputs.h + rows, 1),
                false => (rows, (strip.tiles * outputs.w).min(output.width - strip.x)),
            };
            let before_last = if self.schedule.down { 0 } else { (strip.tiles - 1) * outputs.w };
            let products = ProductsOfRow {
                m: &m[strip.index * width..],
                width,
                m_point,
                tiles: strip.tiles,
                rows,
                last: pixels - before_last,
                line: output.width,
                step: self.schedule.step(),
            };
            let Panel { channel, lo, hi } = panel;
            let (tile, coefficients) = (self.schedule.tile, &self.weights.coefficients);
            let first = strip.y * output.width + strip.x;
            if self.desc.output_layout() == Layout::Nchw {
                let place = PlaneRows {
                    n: strip.n,
                    p: first,
                    rows,
                    pixels,
                    line: output.width,
                    panel,
                    columns: width,
                };
                let (residual, copy) = (block.operands.residual.tensor(), &self.kernels.copy);
                place.write(residual, copy, region, lines, |matrix, residual| {
                    let out = OutputTile::of_matrix_columns(matrix, rows * pixels, width, lo..hi);
                    let products = ProductsOfRow { line: pixels, ..products };
                    self.kernels().output(tile, coefficients, &products, out, &Post { residual, ..post });
                });
                continue;
            }
            let of = PixelBox { first, rows: rows_of_box, pixels, width: output.width };
            let residual = block.operands.residual_as_columns(strip.n, first, channel);
            let (out, line) = region.box_as_columns(strip.n, of, channel, lo..hi);
            let products = ProductsOfRow { line, ..products };
            self.kernels().output(tile, coefficients, &products, out, &Post { residual, ..post });
        }
    }
}
