//! Convolution by Fourier transforms (Cooley and Tukey 1965; overlap-save: Helms 1967; for networks: Mathieu,
//! Henaff and LeCun 2014). The transforms are of tiles of the output, in sixteen channels at once.
//!
//! ```text
//! for group:
//!     for batch of tiles:
//!         X[block][bin][tile] = transform of the tile's input              // for every block of input channels
//!         for panel of sixteen output channels:
//!             Y[bin][tile] = sum over c of X[c][bin][tile] * W[panel][bin][c]
//!             out[tile, panel] = act(bias + inverse transform of Y + residual)
//! ```
//!
//! If groups have so few channels that most lanes of a panel would be empty, a panel has channels of several
//! groups. Each lane is then multiplied with the channels of its own group. Or the lanes are tiles
//! (`tiles.rs`).
//!
//! The tiles split the whole output, and not the part of a thread. A sum runs over the channels in their
//! order. So neither the threads nor the batches change a bit of the output.

mod plane;
mod schedule;
mod spectra;
mod tiles;
mod work;

use super::grid::TileGrid;
use super::operands::Operands;
use super::planes::PlaneRows;
use crate::algo::panels::Panel;
use crate::describe::{BLOCK, ConvDesc, Layout, PixelRef};
use crate::memory::split_memory;
use crate::tile::copy_table::InputTile;
use crate::tile::fft::COMPLEX;
use crate::tile::fft_table::{Factors, FftKernels};
use crate::tile::output::{OutputRegion, OutputTile};
use crate::tile::post::{Addend, Post};
use crate::tile::table::KernelSet;
use crate::work::parts::SplitUnits;
use plane::{Scratch, Transform};
use schedule::{Channels, Lanes};
pub(crate) use schedule::{FftSchedule, supports};
pub(crate) use spectra::{Spectra, SpectraForm};
use std::ops::Range;
use std::sync::Arc;
pub(crate) use work::{estimate, schedule, schedule_of};

/// A planned convolution by Fourier transforms.
pub(crate) struct FftConv {
    desc: ConvDesc,
    kernels: &'static KernelSet,
    schedule: FftSchedule,
    pub(super) spectra: Arc<Spectra>,
}

/// One tile of one image: its first output and its extents.
#[derive(Debug, Clone, Copy)]
struct Tile {
    n: usize,
    y: usize,
    x: usize,
    rows: usize,
    columns: usize,
}

/// Adjacent lanes that hold adjacent input channels.
#[derive(Debug, Clone, Copy, Default)]
struct LaneRun {
    lane: usize,
    channel: usize,
    len: usize,
}

/// The input channels of sixteen lanes.
#[derive(Default)]
struct LaneRuns {
    runs: [LaneRun; BLOCK],
    count: usize,
}

impl LaneRuns {
    /// Adds the next lane.
    fn push(&mut self, lane: usize, channel: usize, layout: Layout) {
        if let Some(run) = self.runs[..self.count].last_mut() {
            let next = (run.lane + run.len, run.channel + run.len) == (lane, channel);
            if next && (layout != Layout::Nchw16c || !channel.is_multiple_of(BLOCK)) {
                run.len += 1;
                return;
            }
        }
        self.runs[self.count] = LaneRun { lane, channel, len: 1 };
        self.count += 1;
    }
}

/// The parts of a slab.
struct Memory<'a> {
    scratch: Scratch<'a>,
    /// The spectra of the image.
    image: &'a mut [f32],
    /// The spectra of sixteen output channels.
    sums: &'a mut [f32],
    /// For NCHW output: a row of the output and a row of the residual, with sixteen channels each.
    lines: &'a mut [f32],
}

impl FftConv {
    /// Makes the driver of `schedule`, with weights in its form.
    pub(crate) fn new(
        desc: &ConvDesc,
        schedule: FftSchedule,
        spectra: Arc<Spectra>,
        kernels: &'static KernelSet,
    ) -> Self {
        Self { desc: *desc, kernels, schedule, spectra }
    }

    fn kernels(&self) -> &'static FftKernels {
        self.kernels.fft()
    }

    pub(crate) fn kernel_name(&self) -> &'static str {
        match self.schedule.channels.lanes {
            Lanes::Tiles => self.kernels().tiles_name(),
            Lanes::Outputs | Lanes::Groups => self.kernels().name(),
        }
    }

    fn transform(&self) -> Transform<'_> {
        self.spectra.transform(self.kernels())
    }

    pub(crate) fn split_units(&self) -> SplitUnits {
        self.schedule.split_units(&self.desc)
    }

    pub(crate) fn workspace_len(&self) -> usize {
        self.schedule.lens(&self.desc).sum()
    }

    fn memory<'a>(&self, slab: &'a mut [f32]) -> Memory<'a> {
        let lens = self.schedule.lens(&self.desc);
        let lens = [lens.scratch, lens.image, lens.sums, lens.lines];
        let ([scratch, image, sums, lines], _) = split_memory(slab, lens, 1);
        Memory { scratch: self.transform().scratch(scratch), image, sums, lines }
    }

    /// Tile `index` of `tiles`.
    fn tile(&self, tiles: &TileGrid, index: usize) -> Tile {
        let (outputs, output) = (self.schedule.tiling.outputs(), self.desc.output());
        let (n, y, x) = tiles.at(index);
        Tile { n, y, x, rows: outputs.h.min(output.h - y), columns: outputs.w.min(output.w - x) }
    }

    pub(crate) fn run(&self, operands: &Operands<'_>, region: &mut OutputRegion<'_>, slab: &mut [f32]) {
        let tiles = TileGrid::of(region, self.desc.output().w, self.schedule.tiling.outputs());
        match self.schedule.channels.lanes {
            Lanes::Tiles => self.run_tiles(operands, region, &tiles, slab),
            Lanes::Groups => self.every_lane(operands, region, &tiles, &mut self.memory(slab)),
            Lanes::Outputs => {
                let mut memory = self.memory(slab);
                for group in self.desc.groups_of(&region.channels) {
                    for first in (0..tiles.len()).step_by(self.schedule.batch) {
                        let batch = first..tiles.len().min(first + self.schedule.batch);
                        self.group(operands, region, group, (&tiles, batch), &mut memory);
                    }
                }
            }
        }
    }

    /// Computes a batch of tiles for all output channels of a group.
    fn group(
        &self,
        operands: &Operands<'_>,
        region: &mut OutputRegion<'_>,
        group: usize,
        (tiles, batch): (&TileGrid, Range<usize>),
        memory: &mut Memory<'_>,
    ) {
        let ins = self.schedule.channels.ins;
        let (bins, count) = (self.schedule.tiling.bins(), batch.len());
        let blocks = memory.image.chunks_exact_mut(bins * count * COMPLEX);
        for (block, image) in blocks.take(self.schedule.channels.kept()).enumerate() {
            let mut runs = LaneRuns::default();
            for lane in 0..BLOCK.min(ins - block * BLOCK) {
                runs.push(lane, group * ins + block * BLOCK + lane, self.desc.layout());
            }
            for (t, index) in batch.clone().enumerate() {
                let tile = self.tile(tiles, index);
                let image = &mut image[t * COMPLEX..];
                self.forward(&operands.input, &tile, &runs, (&mut memory.scratch, image, count));
            }
        }
        let channels = region.channels.clone();
        for (index, panel) in self.spectra.panels.of_group(group, &channels) {
            let factors =
                Factors { image: memory.image, weights: self.spectra.of(index), bins, channels: ins };
            self.kernels().product(count, &factors, memory.sums);
            for (t, tile) in batch.clone().enumerate() {
                let tile = self.tile(tiles, tile);
                self.inverse(operands, region, (index, panel), &tile, (t, count), memory);
            }
        }
    }

    /// Computes every tile of the panels whose lanes belong to different groups.
    fn every_lane(
        &self,
        operands: &Operands<'_>,
        region: &mut OutputRegion<'_>,
        tiles: &TileGrid,
        memory: &mut Memory<'_>,
    ) {
        let Channels { ins, outs, .. } = self.schedule.channels;
        let channels = region.channels.clone();
        for (index, panel) in self.spectra.panels.of_group(0, &channels) {
            let (whole, weights) = (&self.spectra.panels.all()[index], self.spectra.of(index));
            for tile in 0..tiles.len() {
                let tile = self.tile(tiles, tile);
                for c in 0..ins {
                    let mut runs = LaneRuns::default();
                    for lane in whole.lo..whole.hi {
                        runs.push(lane, (whole.channel + lane) / outs * ins + c, self.desc.layout());
                    }
                    let image = (&mut memory.scratch, &mut *memory.image, 1);
                    self.forward(&operands.input, &tile, &runs, image);
                    let bins = self.schedule.tiling.bins();
                    let weights = &weights[c * COMPLEX..];
                    let factors = Factors { image: memory.image, weights, bins, channels: ins };
                    self.kernels().lane_product(&factors, c > 0, memory.sums);
                }
                self.inverse(operands, region, (index, panel), &tile, (0, 1), memory);
            }
        }
    }

    /// Transforms the input of a tile in some channels. The numbers of the spectrum are `step` apart.
    fn forward(
        &self,
        input: &PixelRef<'_>,
        tile: &Tile,
        runs: &LaneRuns,
        (scratch, spectrum, step): (&mut Scratch<'_>, &mut [f32], usize),
    ) {
        let (size, kernel, pad) = (self.desc.input(), self.desc.kernel(), self.desc.pad());
        let transposed = self.desc.layout() == Layout::Nchw;
        let ys = reads(tile.y, tile.rows, kernel.h, pad.top, size.h, self.schedule.tiling.y.n);
        let xs = reads(tile.x, tile.columns, kernel.w, pad.left, size.w, self.schedule.tiling.x.n);
        self.transform().forward(scratch, spectrum, step, |y, stage| {
            if !ys.contains(&y) {
                return false;
            }
            if xs.is_empty() {
                return true;
            }
            let pixel = (tile.y + y - pad.top) * size.w + tile.x + xs.start - pad.left;
            for run in &runs.runs[..runs.count] {
                let source = InputTile::new(input, tile.n, run.channel, pixel);
                let stage = &mut stage[xs.start * COMPLEX + run.lane..];
                let out = OutputTile::of_matrix_columns(stage, xs.len(), COMPLEX, 0..run.len);
                self.kernels.copy.copy(source, transposed, out);
            }
            true
        });
    }

    /// Transforms back tile `t` of a batch of `step` tiles, and writes its outputs.
    fn inverse(
        &self,
        operands: &Operands<'_>,
        region: &mut OutputRegion<'_>,
        (index, panel): (usize, Panel),
        tile: &Tile,
        (t, step): (usize, usize),
        memory: &mut Memory<'_>,
    ) {
        let Memory { scratch, sums, lines, .. } = memory;
        let width = self.desc.output().w;
        let transform = self.transform();
        transform.inverse(scratch, &mut sums[t * COMPLEX..], step, tile.rows, |row, sums| {
            let (n, p) = (tile.n, (tile.y + row) * width + tile.x);
            let (channel, columns) = (panel.channel, panel.lo..panel.hi);
            let finish = |out: OutputTile<'_>, residual: Addend<'_>| {
                self.kernels().finish(sums, transform.scale(), out, &self.post(index, residual));
            };
            if self.desc.output_layout() == Layout::Nchw {
                let pixels = tile.columns;
                let place = PlaneRows { n, p, rows: 1, pixels, line: width, panel, columns: BLOCK };
                let (residual, copy) = (operands.residual.tensor(), &self.kernels.copy);
                place.write(residual, copy, region, lines, |matrix, residual| {
                    finish(OutputTile::of_matrix_columns(matrix, pixels, BLOCK, columns), residual);
                });
            } else {
                let residual = operands.residual_as_columns(n, p, channel);
                finish(region.channels_as_columns(n, p..p + tile.columns, channel, columns), residual);
            }
        });
    }

    fn post<'a>(&'a self, index: usize, residual: Addend<'a>) -> Post<'a> {
        let (bias, slope) = self.spectra.panels.per_channel(index, 0);
        let activation = self.desc.epilogue().activation;
        Post { bias, slope, per_row: false, activation, residual, first: true, last: true }
    }
}

/// The numbers of a transform of length `n` that are inputs of a tile. The tile has `outputs` outputs from
/// `first` on. The numbers before and after them are padding.
fn reads(first: usize, outputs: usize, kernel: usize, before: usize, input: usize, n: usize) -> Range<usize> {
    let end = (before + input).saturating_sub(first).min(outputs + kernel - 1).min(n);
    before.saturating_sub(first).min(end)..end
}
