//! Convolution by Fourier transforms (Cooley and Tukey 1965; overlap-save: Helms 1967; for networks: Mathieu, Henaff and
//! LeCun 2014), of tiles of the output, sixteen channels at once.
//!
//! ```text
//! for group:
//!     for batch of tiles:
//!         X[block][bin][tile] = transform of what the tile reads           // for every block of input channels
//!         for panel of sixteen output channels:
//!             Y[bin][tile] = sum over c of X[c][bin][tile] * W[panel][bin][c]
//!             out[tile, panel] = act(bias + inverse transform of Y + residual)
//! ```
//!
//! Where groups have so few channels that most lanes of a panel would be empty, a panel is of all groups, and lanes are
//! multiplied one by one with the channels of their own.
//!
//! The tiles are cut from the whole output, not from what a thread has of it, and a sum is over the channels in their
//! order: so neither threads nor batches change a bit.

mod cut;
mod panels;
mod plane;

use super::{Grain, Operands};
use crate::describe::{BLOCK, ConvDesc, Layout, PixelRef, PixelView, Weights};
use crate::tile::fft::COMPLEX;
use crate::tile::fft_table::{Factors, FftKernels};
use crate::tile::layer_table::Source;
use crate::tile::output::{OutTile, OutputRegion, TileAt};
use crate::tile::table::{KernelSet, Post};
use cut::{Channels, Cut, Lanes};
pub(crate) use cut::{supports, time};
use panels::{Panel, Panels};
use plane::{Scratch, Transform};
use std::ops::Range;

/// A planned convolution by Fourier transforms.
pub(crate) struct FftConv {
    desc: ConvDesc,
    kernels: &'static KernelSet,
    cut: Cut,
    channels: Channels,
    transform: Transform,
    panels: Panels,
    /// Tiles of a product at most.
    batch: usize,
}

/// One tile of one image: its first output, and how many it has.
#[derive(Debug, Clone, Copy)]
struct Tile {
    n: usize,
    y: usize,
    x: usize,
    rows: usize,
    columns: usize,
}

/// The tiles of a box of the output.
struct Tiles {
    images: Range<usize>,
    /// Numbers of rows of tiles.
    rows: Range<usize>,
    columns: usize,
}

impl Tiles {
    fn len(&self) -> usize {
        self.images.len() * self.rows.len() * self.columns
    }
}

/// Neighbouring lanes that are neighbouring input channels.
#[derive(Debug, Clone, Copy, Default)]
struct Run {
    lane: usize,
    channel: usize,
    len: usize,
}

/// The input channels of sixteen lanes.
#[derive(Default)]
struct Runs {
    runs: [Run; BLOCK],
    count: usize,
}

impl Runs {
    /// Adds a lane, the one after all others.
    fn push(&mut self, lane: usize, channel: usize, layout: Layout) {
        if let Some(run) = self.runs[..self.count].last_mut() {
            let next = (run.lane + run.len, run.channel + run.len) == (lane, channel);
            if next && (layout != Layout::Nchw16c || !channel.is_multiple_of(BLOCK)) {
                run.len += 1;
                return;
            }
        }
        self.runs[self.count] = Run { lane, channel, len: 1 };
        self.count += 1;
    }
}

/// The parts of a slab.
struct Memory<'a> {
    scratch: Scratch<'a>,
    /// Spectra of the image.
    image: &'a mut [f32],
    /// Spectra of sixteen output channels.
    sums: &'a mut [f32],
    /// Of NCHW, a row of the output and one of the residual, sixteen channels each.
    lines: &'a mut [f32],
}

impl FftConv {
    /// Cuts the output, and transforms the weights. The problem must be one that [`supports`].
    pub(crate) fn new(desc: &ConvDesc, weights: &Weights<'_>, kernels: &'static KernelSet) -> Self {
        let channels = Channels::of(desc);
        let plan = cut::best(desc, &channels, kernels.fft().tiles());
        let cut::Plan { cut, batch, .. } = plan.expect("only what is supported is planned");
        let transform = Transform::new(&cut, kernels.fft());
        let panels = Panels::new(desc, &channels, weights, &transform);
        Self { desc: *desc, kernels, cut, channels, transform, panels, batch }
    }

    pub(crate) fn kernels(&self) -> &'static FftKernels {
        self.transform.kernels()
    }

    pub(crate) fn packed_bytes(&self) -> usize {
        self.panels.bytes() + self.transform.bytes()
    }

    /// Whole rows of tiles.
    pub(crate) fn grain(&self) -> Grain {
        Grain::new(self.cut.y.outputs.saturating_mul(self.desc.output().w), BLOCK)
    }

    pub(crate) fn workspace_len(&self) -> usize {
        self.transform.scratch_len() + self.image_len() + self.sums_len() + 2 * self.line_len()
    }

    fn image_len(&self) -> usize {
        self.channels.kept() * self.sums_len()
    }

    fn sums_len(&self) -> usize {
        self.batch * self.transform.spectrum_len()
    }

    fn line_len(&self) -> usize {
        if self.desc.output_layout() == Layout::Nchw { self.cut.x.outputs * BLOCK } else { 0 }
    }

    fn memory<'a>(&self, slab: &'a mut [f32]) -> Memory<'a> {
        let (scratch, slab) = slab.split_at_mut(self.transform.scratch_len());
        let (image, slab) = slab.split_at_mut(self.image_len());
        let (sums, lines) = slab.split_at_mut(self.sums_len());
        Memory { scratch: self.transform.scratch(scratch), image, sums, lines }
    }

    fn tiles(&self, region: &OutputRegion<'_>) -> Tiles {
        let row = self.cut.y.outputs.saturating_mul(self.desc.output().w);
        let rows = region.pixels.start / row..region.pixels.end.div_ceil(row);
        Tiles { images: region.images.clone(), rows, columns: self.cut.x.tiles }
    }

    /// Tile `index` of `tiles`.
    fn tile(&self, tiles: &Tiles, index: usize) -> Tile {
        let (Cut { y: cut_y, x: cut_x }, output) = (self.cut, self.desc.output());
        let (row, column) = (index / tiles.columns, index % tiles.columns);
        let (n, row) = (row / tiles.rows.len(), row % tiles.rows.len());
        let (y, x) = ((tiles.rows.start + row) * cut_y.outputs, column * cut_x.outputs);
        let (rows, columns) = (cut_y.outputs.min(output.h - y), cut_x.outputs.min(output.w - x));
        Tile { n: tiles.images.start + n, y, x, rows, columns }
    }

    pub(crate) fn run(&self, operands: &Operands<'_>, region: &mut OutputRegion<'_>, slab: &mut [f32]) {
        if region.channels.is_empty() {
            return;
        }
        let (mut memory, tiles) = (self.memory(slab), self.tiles(region));
        match self.channels.lanes {
            Lanes::Groups => self.every_lane(operands, region, &tiles, &mut memory),
            Lanes::Outputs => {
                let channels = region.channels.clone();
                let outs = self.channels.outs;
                for group in channels.start / outs..=(channels.end - 1) / outs {
                    for first in (0..tiles.len()).step_by(self.batch) {
                        let batch = first..tiles.len().min(first + self.batch);
                        self.group(operands, region, group, (&tiles, batch), &mut memory);
                    }
                }
            }
        }
    }

    /// A batch of tiles of all output channels of a group.
    fn group(
        &self,
        operands: &Operands<'_>,
        region: &mut OutputRegion<'_>,
        group: usize,
        (tiles, batch): (&Tiles, Range<usize>),
        memory: &mut Memory<'_>,
    ) {
        let Channels { ins, outs, .. } = self.channels;
        let (bins, count) = (self.transform.bins(), batch.len());
        let blocks = memory.image.chunks_exact_mut(bins * count * COMPLEX);
        for (block, image) in blocks.take(self.channels.kept()).enumerate() {
            let mut runs = Runs::default();
            for lane in 0..BLOCK.min(ins - block * BLOCK) {
                runs.push(lane, group * ins + block * BLOCK + lane, self.desc.layout());
            }
            for (t, index) in batch.clone().enumerate() {
                let tile = self.tile(tiles, index);
                let image = &mut image[t * COMPLEX..];
                self.forward(&operands.input, &tile, &runs, (&mut memory.scratch, image, count));
            }
        }
        let first = self.panels.panels.partition_point(|p| p.channel + p.lo < group * outs);
        let channels = region.channels.clone();
        for (index, panel) in self.panels.panels.iter().enumerate().skip(first) {
            if panel.channel + panel.lo >= (group + 1) * outs {
                break;
            }
            let Some(panel) = panel.within(&channels) else { continue };
            let factors =
                Factors { image: memory.image, weights: self.panels.spectra(index), bins, channels: ins };
            self.kernels().product(count, &factors, memory.sums);
            for (t, tile) in batch.clone().enumerate() {
                let tile = self.tile(tiles, tile);
                self.inverse(operands, region, (index, panel), &tile, (t, count), memory);
            }
        }
    }

    /// Every tile of the panels whose lanes are of different groups.
    fn every_lane(
        &self,
        operands: &Operands<'_>,
        region: &mut OutputRegion<'_>,
        tiles: &Tiles,
        memory: &mut Memory<'_>,
    ) {
        let Channels { ins, outs, .. } = self.channels;
        let channels = region.channels.clone();
        for (index, whole) in self.panels.panels.iter().enumerate() {
            let Some(panel) = whole.within(&channels) else { continue };
            let weights = self.panels.spectra(index);
            for tile in 0..tiles.len() {
                let tile = self.tile(tiles, tile);
                for c in 0..ins {
                    let mut runs = Runs::default();
                    for lane in whole.lo..whole.hi {
                        runs.push(lane, (whole.channel + lane) / outs * ins + c, self.desc.layout());
                    }
                    let image = (&mut memory.scratch, &mut *memory.image, 1);
                    self.forward(&operands.input, &tile, &runs, image);
                    let bins = self.transform.bins();
                    let weights = &weights[c * COMPLEX..];
                    let factors = Factors { image: memory.image, weights, bins, channels: ins };
                    self.kernels().lane_product(&factors, c > 0, memory.sums);
                }
                self.inverse(operands, region, (index, panel), &tile, (0, 1), memory);
            }
        }
    }

    /// The spectrum of what a tile reads of some channels, numbers `step` apart.
    fn forward(
        &self,
        input: &PixelRef<'_>,
        tile: &Tile,
        runs: &Runs,
        (scratch, spectrum, step): (&mut Scratch<'_>, &mut [f32], usize),
    ) {
        let (size, kernel, pad) = (self.desc.input(), self.desc.kernel(), self.desc.pad());
        let transposed = self.desc.layout() == Layout::Nchw;
        let ys = reads(tile.y, tile.rows, kernel.h, pad.top, size.h, self.cut.y.n);
        let xs = reads(tile.x, tile.columns, kernel.w, pad.left, size.w, self.cut.x.n);
        self.transform.forward(scratch, spectrum, step, |y, stage| {
            if !ys.contains(&y) {
                return false;
            }
            if xs.is_empty() {
                return true;
            }
            let pixel = (tile.y + y - pad.top) * size.w + tile.x + xs.start - pad.left;
            for run in &runs.runs[..runs.count] {
                let source = Source::new(input, tile.n, run.channel, pixel);
                let stage = &mut stage[xs.start * COMPLEX + run.lane..];
                let out = OutTile::of_matrix_columns(stage, xs.len(), COMPLEX, 0..run.len);
                self.kernels.ops.layers.copy(source, transposed, out);
            }
            true
        });
    }

    /// The outputs of tile `t` of `step` from their spectrum.
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
        self.transform.inverse(scratch, &mut sums[t * COMPLEX..], step, tile.rows, |row, sums| {
            let p = (tile.y + row) * width + tile.x;
            let place = Place { n: tile.n, p: p..p + tile.columns, index, panel };
            if self.desc.output_layout() == Layout::Nchw {
                self.row_of_planes(operands, region, &place, sums, lines);
            } else {
                let at = |r: &PixelRef<'_>| TileAt::channels_as_columns(&r.view, tile.n, p, panel.channel);
                let residual = operands.residual.as_ref().map(|r| (r.data, at(r)));
                let columns = panel.lo..panel.hi;
                let out = region.channels_as_columns(tile.n, place.p.clone(), panel.channel, columns);
                self.kernels().finish(sums, self.transform.scale(), out, &self.post(index, residual));
            }
        });
    }

    fn post<'a>(&'a self, index: usize, residual: Option<(&'a [f32], TileAt)>) -> Post<'a> {
        let (bias, slope) = self.panels.per_channel(index);
        let activation = self.desc.epilogue().activation;
        Post { bias, slope, per_row: false, activation, residual, first: true, last: true }
    }

    /// A row of NCHW output: pixels by channels in `lines` first, then transposed.
    fn row_of_planes(
        &self,
        operands: &Operands<'_>,
        region: &mut OutputRegion<'_>,
        Place { n, p, index, panel }: &Place,
        sums: &[f32],
        lines: &mut [f32],
    ) {
        let Panel { channel, lo, hi } = *panel;
        let (pixels, copy) = (p.len(), &self.kernels.ops.layers);
        let (line, residual) = lines[..2 * self.line_len()].split_at_mut(self.line_len());
        if let Some(from) = &operands.residual {
            let out = OutTile::of_matrix_columns(&mut residual[lo..], pixels, BLOCK, 0..hi - lo);
            copy.copy(Source::new(from, *n, channel + lo, p.start), true, out);
        }
        let at = TileAt { offset: 0, row: BLOCK, block: BLOCK };
        let residual = operands.residual.map(|_| (&residual[..], at));
        let out = OutTile::of_matrix_columns(line, pixels, BLOCK, lo..hi);
        self.kernels().finish(sums, self.transform.scale(), out, &self.post(*index, residual));
        let view = PixelView {
            layout: Layout::Nhwc,
            images: 1,
            channels: BLOCK,
            pixels,
            image: pixels * BLOCK,
            plane: 1,
            pixel: BLOCK,
        };
        let line = PixelRef { data: line, view };
        let out = region.channels_as_rows(*n, channel + lo..channel + hi, p.clone());
        copy.copy(Source::new(&line, 0, lo, 0), true, out);
    }
}

/// A row of outputs of a panel.
struct Place {
    n: usize,
    p: Range<usize>,
    /// The panel's.
    index: usize,
    panel: Panel,
}

/// Which numbers of a transform of `n` are inputs that a tile of `outputs` outputs from `first` on reads; before and after
/// them is padding.
fn reads(first: usize, outputs: usize, kernel: usize, before: usize, input: usize, n: usize) -> Range<usize> {
    let end = (before + input).saturating_sub(first).min(outputs + kernel - 1).min(n);
    before.saturating_sub(first).min(end)..end
}
