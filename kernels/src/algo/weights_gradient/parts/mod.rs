//! The gradient of a filter with bf16 products: on matrix tiles, or with dot products of bf16 numbers. Image and gradients
//! are split into bf16 parts (Henry, Tang and Heinecke 2019), as in `algo/parts`.
//!
//! ```text
//! for chunk, block of the filter:                  // its sums stay in the second-level cache
//!     for stretch:
//!         split the windows of the block           // a row for each tap; K is pixels
//!         for panel of 32 output channels:
//!             split its gradients                  // pairs of pixels
//!             sums[taps, panel] += windows * gradients
//! ```
//!
//! A step of K is 32 pixels of the stretch, whatever rows and images they belong to. The last step is filled with zeros.
//! The sums of a stretch start from zero and are added to those of the stretches before, because a unit adds each product
//! of parts to the whole sum. A single product of bf16 numbers is less accurate than that addition.

mod gather;
mod pairs;

use super::blocks::{Block, blocks};
use super::windows::{MOST_PIXELS, Windows, channels_of_block};
use super::{GradientRegion, WeightsGradient, WeightsOperands};
use crate::describe::{BLOCK, ConvDesc, PixelRef, Products};
use crate::memory::split_memory;
use crate::tile::parts::{COLUMNS, PART_WORDS, ROW, ROW_WORDS};
use crate::tile::parts_table::{
    PartsKernels, PixelParts, SplitRows, SplitTo, Steps, WeightParts, rows_of_step, tiles_of_pixels,
};
use crate::tile::table::KernelSet;
use gather::Gather;
use std::ops::Range;

/// Words of the windows of a block in the second-level cache: 432 KB. For three parts, 288 taps.
const MOST_WORDS: usize = 108 << 10;
/// Sums of a block in the second-level cache: 576 KB.
const MOST_SUMS: usize = 144 << 10;
/// Taps of a block: as many as a block of channels has, within these limits.
const LEAST_TAPS: usize = 288;
const MOST_TAPS: usize = 1024;
/// Maximum number of steps of a stretch.
const MOST_STEPS: usize = MOST_PIXELS.div_ceil(ROW);
/// Maximum number of tiles of a block, with the bias.
const MOST_TILES: usize = 80;

pub(super) struct PartsGradient {
    pub(super) products: Products,
    parts: &'static PartsKernels,
    /// Taps and output channels of a block. The channels are whole panels.
    taps: usize,
    columns: usize,
    /// Steps of the longest stretch.
    steps: usize,
}

/// What the gradient of one group computes.
pub(super) struct PartsWork {
    /// Rows of 32 by 16 products, or the loads of their tiles where these take longer.
    pub(super) rows: f64,
    /// Rows of windows that are split, the squares that are transposed for them, and the segments that they come from.
    pub(super) windows: f64,
    pub(super) squares: f64,
    pub(super) segments: f64,
    /// Rows of gradients that are split, and the segments that they come from.
    pub(super) gradients: f64,
    pub(super) segments_of_gradients: f64,
    /// Sums, with those of no output channel.
    pub(super) sums: f64,
    /// Pixels and gradients that are read, each as often as it is split.
    pub(super) read: f64,
    /// Calls of the kernel that multiplies.
    pub(super) calls: f64,
}

/// The parts of the slab.
struct Slab<'a> {
    /// The split windows, `[step][part][tap][pair of pixels]`.
    windows: &'a mut [f32],
    /// The split gradients of a panel, `[step][part][half][pair of pixels][channel]`.
    gradients: &'a mut [f32],
    /// `[panel][tap][channel]`.
    sums: &'a mut [f32],
    /// The sums of one panel over one stretch.
    of_stretch: &'a mut [f32],
    /// Pixels before they are split.
    floats: &'a mut [f32],
}

/// The tiles of a block: their number, and the rows of each. The last ones can have rows of no tap.
#[derive(Clone, Copy)]
struct Tiles {
    count: usize,
    rows: usize,
}

impl Tiles {
    fn all(self) -> usize {
        self.count * self.rows
    }
}

/// A stretch: its index, and the number of its pixels.
#[derive(Clone, Copy)]
struct Stretch {
    index: usize,
    pixels: usize,
}

impl Stretch {
    fn new(windows: &Windows, index: usize) -> Self {
        Self { index, pixels: windows.stretch(index).map(|segment| segment.xs.len()).sum() }
    }

    fn steps(self) -> usize {
        self.pixels.div_ceil(ROW)
    }
}

impl PartsGradient {
    pub(super) fn new(
        products: Products,
        desc: &ConvDesc,
        windows: &Windows,
        kernels: &'static KernelSet,
    ) -> Self {
        let steps = windows.pixels_of_stretch().div_ceil(ROW);
        let most = (BLOCK * windows.taps()).clamp(LEAST_TAPS, MOST_TAPS);
        let most = most.min(MOST_WORDS / (steps * products.parts() * ROW_WORDS));
        // Whole blocks of channels, or as many channels as fit.
        let unit = (0..=4).rev().map(|shift| windows.taps() << shift).find(|&taps| taps <= most);
        let most = unit.map_or(most, |unit| most / unit * unit);
        let taps = most.min(desc.taps());
        let columns = (MOST_SUMS / taps / COLUMNS).max(1).min(desc.outs().div_ceil(COLUMNS)) * COLUMNS;
        Self { products, parts: &kernels.parts, taps, columns, steps }
    }

    pub(super) fn kernel_name(&self) -> &'static str {
        self.parts.name(self.products)
    }

    /// Output channels of a panel.
    pub(super) fn columns(&self) -> usize {
        COLUMNS
    }

    /// Whether the sums of a stretch start from zero.
    fn starts_from_zero(&self) -> bool {
        self.products != Products::Bf16
    }

    fn tiles(&self, rows: usize) -> Tiles {
        let (count, rows) = tiles_of_pixels(rows, self.parts.rows(), self.parts.together());
        Tiles { count, rows }
    }

    /// Elements of the parts of the slab.
    fn lens(&self) -> [usize; 5] {
        let rows = self.taps + self.parts.rows();
        let words = self.steps * self.products.parts();
        [
            words * rows * ROW_WORDS,
            words * PART_WORDS,
            self.columns * rows,
            if self.starts_from_zero() { COLUMNS * rows } else { 0 },
            self.steps * ROW * COLUMNS,
        ]
    }

    pub(super) fn workspace_len(&self) -> usize {
        self.lens().iter().sum()
    }

    /// Adds up what the gradient of one group computes.
    pub(super) fn work(&self, desc: &ConvDesc, windows: &Windows) -> PartsWork {
        let (taps, outs) = (desc.taps(), desc.outs());
        let steps = (windows.stretches() * self.steps) as f64;
        let panels = outs.div_ceil(COLUMNS) as f64;
        let blocks = taps.div_ceil(self.taps);
        let tiles = self.tiles(taps.div_ceil(blocks) + 1);
        let (blocks, of_outs) = (blocks as f64, outs.div_ceil(self.columns) as f64);
        let multiplied = rows_of_step(self.products, tiles.rows, self.parts.together());
        let calls = panels * blocks * windows.stretches() as f64;
        // Channels of a tap that are gathered together.
        let together = (self.taps / windows.taps()).clamp(1, BLOCK);
        let pieces = of_outs * (windows.taps() * desc.ins().div_ceil(together)) as f64;
        let segments = windows.segments() as f64;
        PartsWork {
            rows: panels * blocks * steps * tiles.count as f64 * multiplied,
            windows: of_outs * steps * taps as f64,
            squares: pieces * steps,
            segments: pieces * segments,
            gradients: blocks * panels * steps * (PART_WORDS / ROW_WORDS) as f64,
            segments_of_gradients: blocks * panels * segments,
            sums: panels * (COLUMNS * taps) as f64,
            read: of_outs * (windows.images * windows.input.h * windows.input.w * desc.ins()) as f64
                + blocks * (windows.images * windows.output.h * windows.output.w * outs) as f64,
            calls,
        }
    }

    pub(super) fn run(
        &self,
        gradient: &WeightsGradient,
        operands: &WeightsOperands<'_>,
        region: &mut GradientRegion<'_>,
        slab: &mut [f32],
    ) {
        let ([windows, gradients, sums, of_stretch, floats], _) = split_memory(slab, self.lens(), 1);
        let mut slab = Slab { windows, gradients, sums, of_stretch, floats };
        for (chunk, block) in blocks(gradient, region, (self.taps, self.columns)) {
            let rows = self.tiles(block.rows()).all();
            self.block(gradient, operands, (&block, chunk), &mut slab);
            for (channels, sums) in panels(&block.channels).zip(slab.sums.chunks(rows * COLUMNS)) {
                block.write(gradient.kernels, region, (chunk, channels), (sums, COLUMNS));
            }
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
        let tiles = self.tiles(block.rows());
        slab.sums[..block.channels.len().div_ceil(COLUMNS) * tiles.all() * COLUMNS].fill(0.0);
        if block.bias {
            self.split_ones(block, tiles, slab);
        }
        for index in gradient.stretches_of(chunk) {
            let stretch = Stretch::new(&gradient.windows, index);
            self.split_windows(gradient, &operands.input, (block, stretch, tiles), slab);
            for (panel, channels) in panels(&block.channels).enumerate() {
                let (from, go) = ((&gradient.windows, &gradient.kernels.copy), &operands.grad_output);
                let to = (&mut *slab.floats, &mut *slab.gradients);
                pairs::split((self.parts, self.products), from, go, (&channels, stretch), to);
                self.multiply(panel, (stretch, tiles), slab);
            }
        }
    }

    /// Where the rows of a tap are written.
    fn place(&self, tiles: Tiles, between_rows: usize) -> SplitTo {
        let part = tiles.all() * ROW_WORDS;
        SplitTo { row: between_rows * ROW_WORDS, part, block: self.products.parts() * part }
    }

    /// Splits the row of the bias: ones.
    fn split_ones(&self, block: &Block, tiles: Tiles, slab: &mut Slab<'_>) {
        slab.floats[..ROW].fill(1.0);
        let halves = [(0, BLOCK), (BLOCK, BLOCK)];
        let from = SplitRows { data: slab.floats, halves, step: 0, rows: 1, blocks: (self.steps, 0) };
        let to = &mut slab.windows[block.taps.len() * ROW_WORDS..];
        self.parts.split(self.products, &from, to, self.place(tiles, 0));
    }

    /// Splits the windows of a stretch: one row per tap.
    fn split_windows(
        &self,
        gradient: &WeightsGradient,
        input: &PixelRef<'_>,
        (block, stretch, tiles): (&Block, Stretch, Tiles),
        slab: &mut Slab<'_>,
    ) {
        let (windows, copies, steps) = (&gradient.windows, &gradient.kernels.copy, stretch.steps());
        let gather = Gather { windows, copies, input, stretch: stretch.index };
        let row = row_len(steps);
        let floats = &mut slab.floats[..BLOCK * row];
        floats.chunks_exact_mut(row).for_each(|row| row[stretch.pixels..].fill(0.0));
        let (taps, first) = (windows.taps(), block.group * gradient.desc.ins());
        for tap in 0..taps {
            let of_group = block.channels_of_tap(tap, taps);
            let mut left = first + of_group.start..first + of_group.end;
            while !left.is_empty() {
                let channels = channels_of_block(&input.view, &left);
                left.start = channels.end;
                gather.tap(tap, &channels, (floats, row));
                let (halves, rows) = ([(0, BLOCK), (BLOCK, BLOCK)], channels.len());
                let from = SplitRows { data: floats, halves, step: row, rows, blocks: (steps, ROW) };
                let at = (channels.start - first) * taps + tap - block.taps.start;
                let to = &mut slab.windows[at * ROW_WORDS..];
                self.parts.split(self.products, &from, to, self.place(tiles, taps));
            }
        }
    }

    /// Adds the products of the windows with the gradients of a panel.
    fn multiply(&self, panel: usize, (stretch, tiles): (Stretch, Tiles), slab: &mut Slab<'_>) {
        let Tiles { count, rows } = tiles;
        let place = self.place(tiles, 0);
        let starts: [usize; MOST_TILES] = std::array::from_fn(|tile| tile * rows * ROW_WORDS);
        let steps: [usize; MOST_STEPS] = std::array::from_fn(|step| step * place.block);
        let a = PixelParts {
            data: slab.windows,
            part: place.part,
            row: ROW_WORDS,
            tiles: &starts[..count],
            rows,
        };
        let steps = Steps::new(&steps[..stretch.steps()]);
        let b = WeightParts { data: slab.gradients, ahead: false };
        let len = tiles.all() * COLUMNS;
        let sums = &mut slab.sums[panel * len..][..len];
        if self.starts_from_zero() {
            let of_stretch = &mut slab.of_stretch[..len];
            self.parts.product(self.products, &a, steps, &b, of_stretch, true);
            self.parts.accumulate(sums, of_stretch);
        } else {
            self.parts.product(self.products, &a, steps, &b, sums, false);
        }
    }
}

/// The panels of some output channels.
fn panels(channels: &Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
    let Range { start, end } = *channels;
    (start..end).step_by(COLUMNS).map(move |o| o..end.min(o + COLUMNS))
}

/// The length of a row of `steps` steps before it is split: an odd number of cache lines, because rows a power of two apart
/// would share few sets of the cache.
fn row_len(steps: usize) -> usize {
    ((steps * ROW / BLOCK) | 1) * BLOCK
}
