//! Convolution with bf16 products: on matrix tiles, or with dot products of bf16 numbers. The image and the
//! weights are split into bf16 parts (Henry, Tang and Heinecke 2019).
//!
//! ```text
//! for image, group, stretch of the output:
//!     split the pixels that the stretch reads          // into a slab that stays in the second-level cache
//!     for panel of 32 output channels:
//!         for block of K:                              // its weights stay in the second-level cache
//!             for tile of the stretch, step of the block:
//!                 sums[tile] += pixels * weights       // up to six products of parts
//!         epilogue, store
//! ```
//!
//! A step of K is 32 input channels of one tap. In the slab, the rows of the pixels of a tile are evenly
//! spaced, and the taps of a window are different addresses (`lower`). So one kernel computes any window,
//! stride and dilation. The order of the sum depends only on the problem, and not on tiles, regions or
//! threads.

mod balance;
mod lower;
mod schedule;
mod slab;
mod weights;
mod work;

use super::operands::Operands;
use super::planes::PlaneRows;
use crate::algo::panels::Panel;
use crate::describe::{BLOCK, ConvDesc, ConvError, Layout, PixelView, Products};
use crate::tile::output::{OutputRegion, OutputTile, TileOffset};
use crate::tile::parts::{COLUMNS, PART_WORDS};
use crate::tile::parts_table::{Offsets, PixelParts, SplitRows, WeightParts};
use crate::tile::post::{Addend, Post};
use crate::tile::table::KernelSet;
use crate::work::parts::SplitUnits;
use lower::Lowered;
use schedule::{MOST_TILES, ROUNDED_ROWS};
pub(crate) use schedule::{PartsSchedule, has_bf16_tensor, supports, supports_bf16_tensor};
use slab::Slab;
use std::ops::Range;
use std::sync::Arc;
use weights::Stored;
pub(crate) use weights::{PartsForm, PartsWeights};
pub(crate) use work::estimate;

/// A planned convolution with bf16 products.
pub(crate) struct PartsConv {
    desc: ConvDesc,
    kernels: &'static KernelSet,
    schedule: PartsSchedule,
    pub(super) weights: Arc<PartsWeights>,
    /// The steps of a whole block of K, and of the last block.
    steps: [Offsets; 2],
}

/// A stretch of the output of one image and one group.
struct Stretch<'a> {
    operands: &'a Operands<'a>,
    n: usize,
    group: usize,
    pixels: Range<usize>,
}

impl PartsConv {
    /// Makes the driver of `schedule`, with weights in its form.
    pub(crate) fn new(
        desc: &ConvDesc,
        schedule: PartsSchedule,
        weights: Arc<PartsWeights>,
        kernels: &'static KernelSet,
    ) -> Result<Self, ConvError> {
        let all = schedule.form.steps();
        let last = all - (all - 1) / schedule.block * schedule.block;
        let offsets = |count: usize| Offsets::new((0..count).map(|step| schedule.step_offset(step)));
        let steps = [offsets(schedule.block.min(all))?, offsets(last)?];
        Ok(Self { desc: *desc, kernels, weights, steps, schedule })
    }

    pub(crate) fn merges(&self, views: &[PixelView]) -> bool {
        self.schedule.mergeable && views.iter().all(PixelView::can_merge)
    }

    /// The layout that a residual can have besides that of the output: bf16 numbers are added to `f32` sums, and
    /// `f32` numbers to sums that are rounded to bf16.
    pub(crate) fn other_residuals(&self) -> Option<Layout> {
        match self.desc.output_layout() {
            Layout::Nchw16c if self.schedule.form.products == Products::Bf16 => Some(Layout::Nchw32cBf16),
            Layout::Nchw32cBf16 => Some(Layout::Nchw16c),
            _ => None,
        }
    }

    pub(crate) fn split_units(&self) -> SplitUnits {
        self.schedule.split_units()
    }

    pub(crate) fn workspace_len(&self) -> usize {
        self.schedule.lens(&self.desc).sum()
    }

    pub(crate) fn kernel_name(&self) -> &'static str {
        self.kernels.parts.name(self.schedule.form.products)
    }

    pub(crate) fn run(&self, operands: &Operands<'_>, region: &mut OutputRegion<'_>, slab: &mut [f32]) {
        let (images, channels, pixels) =
            (region.images.clone(), region.channels.clone(), region.pixels.clone());
        let mut slab = self.schedule.lens(&self.desc).cut(slab);
        for n in images {
            for group in self.desc.groups_of(&channels) {
                for start in pixels.clone().step_by(self.schedule.stretch) {
                    let pixels = start..pixels.end.min(start + self.schedule.stretch);
                    let stretch = Stretch { operands, n, group, pixels };
                    let lowered =
                        Lowered { desc: &self.desc, schedule: &self.schedule, kernels: self.kernels };
                    lowered.fill(&operands.input, (n, group), &stretch.pixels, &mut slab);
                    self.panels(&stretch, region, &mut slab);
                }
            }
        }
    }

    /// Multiplies every panel of output channels with the pixels of a stretch.
    fn panels(&self, stretch: &Stretch<'_>, region: &mut OutputRegion<'_>, slab: &mut Slab<'_>) {
        let mut tiles = [0; MOST_TILES];
        let (count, rows) = self.schedule.tiles_of(stretch.pixels.len(), &mut tiles);
        let data = match self.schedule.in_place {
            Some(_) => {
                let input = &stretch.operands.input;
                &input.data[input.view.offset(stretch.n, 0, stretch.pixels.start)..]
            }
            None => &*slab.pixels,
        };
        let a = self.schedule.pixel_parts(data, &tiles[..count], rows);
        let len = count * rows * COLUMNS;
        for (index, panel) in self.weights.panels.of_group(stretch.group, &region.channels.clone()) {
            self.sum(index, &a, len, (slab.weights, slab.sums, slab.more));
            self.finish(stretch, (index, panel), region, (&slab.sums[..len], rows), slab.lines);
        }
    }

    /// Sums all products of a panel.
    fn sum(
        &self,
        panel: usize,
        a: &PixelParts<'_>,
        len: usize,
        (split, sums, more): (&mut [f32], &mut [f32], &mut [f32]),
    ) {
        let (form, kernels) = (&self.schedule.form, &self.kernels.parts);
        let all = form.steps();
        for first in (0..all).step_by(self.schedule.block) {
            let count = self.schedule.block.min(all - first);
            let steps = self.steps[usize::from(first + count == all)].steps();
            let stored = self.weights.steps(panel, first);
            let data = match form.stored {
                Stored::Parts => stored,
                Stored::Floats => {
                    self.split_weights(stored, count, split);
                    &*split
                }
            };
            let a = PixelParts { data: &a.data[self.schedule.step_offset(first)..], ..*a };
            let b = WeightParts { data, ahead: form.stored == Stored::Parts && self.schedule.ahead };
            if first == 0 || !self.schedule.blocks_apart {
                kernels.product(form.products, &a, steps, &b, &mut sums[..len], first == 0);
            } else {
                kernels.product(form.products, &a, steps, &b, &mut more[..len], true);
                kernels.accumulate(&mut sums[..len], &more[..len]);
            }
        }
    }

    /// Splits the weights of `count` steps, which are stored as floats.
    fn split_weights(&self, from: &[f32], count: usize, to: &mut [f32]) {
        let products = self.schedule.form.products;
        let (floats, words) = (2 * PART_WORDS, products.parts() * PART_WORDS);
        for (from, to) in from.chunks_exact(floats).zip(to.chunks_exact_mut(words)).take(count) {
            self.kernels.parts.split_step(products, from, to);
        }
    }

    /// Applies the epilogue to the sums of a panel and writes the outputs.
    fn finish(
        &self,
        stretch: &Stretch<'_>,
        (index, panel): (usize, Panel),
        region: &mut OutputRegion<'_>,
        (sums, rows): (&[f32], usize),
        lines: &mut [f32],
    ) {
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
        let Panel { channel, lo, hi } = panel;
        let (p, len) = (stretch.pixels.start, stretch.pixels.len());
        let (kernels, operands, n) = (&self.kernels.parts, stretch.operands, stretch.n);
        if self.schedule.planes {
            let place = PlaneRows { n, p, rows: 1, pixels: len, line: len, panel, columns: COLUMNS };
            let (residual, copy) = (operands.residual.tensor(), &self.kernels.copy);
            let lines = &mut lines[..2 * len * COLUMNS];
            place.write(residual, copy, region, lines, |matrix, residual| {
                for run in self.schedule.runs_of(len, rows) {
                    let first = run.pixel * COLUMNS;
                    let out = OutputTile::of_matrix_columns(&mut matrix[first..], run.len, COLUMNS, lo..hi);
                    let residual = residual.ahead(first);
                    kernels.finish(&sums[run.row * COLUMNS..], out, &Post { residual, ..post });
                }
            });
            return;
        }
        for run in self.schedule.runs_of(len, rows) {
            let pixels = p + run.pixel..p + run.pixel + run.len;
            let sums = &sums[run.row * COLUMNS..];
            let widens = operands.residual.tensor().is_some_and(|r| r.view.layout == Layout::Nchw32cBf16);
            if self.schedule.rounds || widens {
                self.finish_bf16(stretch, (pixels, panel), region, (sums, lines), &post);
                continue;
            }
            let residual = operands.residual_as_columns(n, pixels.start, channel);
            let out = region.channels_as_columns(n, pixels, channel, lo..hi);
            kernels.finish(sums, out, &Post { residual, ..post });
        }
    }

    /// Like [`finish`](Self::finish), if the output or the residual holds bf16 numbers. Some rows at a time are
    /// `f32` in `lines`.
    fn finish_bf16(
        &self,
        stretch: &Stretch<'_>,
        (pixels, panel): (Range<usize>, Panel),
        region: &mut OutputRegion<'_>,
        (sums, lines): (&[f32], &mut [f32]),
        post: &Post<'_>,
    ) {
        let (kernels, n, Panel { channel, lo, hi }) = (&self.kernels.parts, stretch.n, panel);
        let residual = stretch.operands.residual.tensor();
        let words = residual.filter(|from| from.view.layout == Layout::Nchw32cBf16);
        if self.schedule.rounds && words.is_some() == residual.is_some() {
            let residual = words.map(|r| (&r.data[r.view.offset(n, channel, pixels.start)..], r.view.pixel));
            if kernels.finish_words(sums, residual, &region.words(n, pixels.clone(), channel), post) {
                return;
            }
        }
        let (matrix, addend) = lines.split_at_mut(ROUNDED_ROWS * COLUMNS);
        let at = TileOffset { offset: 0, row: COLUMNS, block: BLOCK };
        for start in pixels.clone().step_by(ROUNDED_ROWS) {
            let some = start..pixels.end.min(start + ROUNDED_ROWS);
            let sums = &sums[(start - pixels.start) * COLUMNS..];
            let residual = match words {
                Some(from) => {
                    let rows = &from.data[from.view.offset(n, channel, start)..];
                    kernels.widen(rows, addend, some.len());
                    Addend::Tile(&*addend, at)
                }
                None => stretch.operands.residual_as_columns(n, start, channel),
            };
            let post = Post { residual, ..*post };
            if !self.schedule.rounds {
                kernels.finish(sums, region.channels_as_columns(n, some, channel, lo..hi), &post);
                continue;
            }
            let out = OutputTile::of_matrix_columns(matrix, some.len(), COLUMNS, lo..hi);
            kernels.finish(sums, out, &post);
            let halves = [(0, BLOCK), (BLOCK, BLOCK)];
            let rows = SplitRows { data: matrix, halves, step: COLUMNS, rows: some.len(), blocks: (1, 0) };
            kernels.round(&rows, region.words(n, some, channel));
        }
    }
}

/// Whether the driver writes the output as rows of channels that are transposed to planes.
fn writes_planes(desc: &ConvDesc, covers: bool) -> bool {
    desc.output_layout() == Layout::Nchw && !covers
}
