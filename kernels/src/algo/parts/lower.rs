//! [`Lowered`]: the pixels that a stretch of the output reads, split into parts. In the slab, the rows of the
//! pixels of a tile are evenly spaced, and each tap of a window is at a fixed distance.

use super::schedule::{Layer, PartsSchedule};
use super::slab::Slab;
use crate::algo::direct::span;
use crate::algo::pixels::{PixelTiles, pack_rows};
use crate::describe::{BLOCK, ConvDesc, Layout, PixelRef};
use crate::tile::copy_table::InputTile;
use crate::tile::output::OutputTile;
use crate::tile::parts::{ROW, ROW_WORDS};
use crate::tile::parts_table::{SplitRows, SplitTo};
use crate::tile::table::KernelSet;
use std::ops::Range;

/// Splits pixels into the slab.
pub(super) struct Lowered<'a> {
    pub(super) desc: &'a ConvDesc,
    pub(super) schedule: &'a PartsSchedule,
    pub(super) kernels: &'static KernelSet,
}

/// Evenly spaced pixels of the input, and their positions in the slab.
struct PixelRun {
    /// The first pixel, and the distance to the next.
    from: usize,
    step: usize,
    len: usize,
    /// The position of the first.
    to: usize,
}

impl Lowered<'_> {
    /// Fills the slab with the pixels that the outputs `pixels` of image `n` read in the channels of `group`.
    pub(super) fn fill(
        &self,
        input: &PixelRef<'_>,
        (n, group): (usize, usize),
        pixels: &Range<usize>,
        slab: &mut Slab<'_>,
    ) {
        if self.schedule.in_place.is_some() {
            return;
        }
        for channels in 0..self.schedule.form.order.groups() {
            let at = (n, group, channels);
            match self.schedule.layer {
                Layer::Rows { pitch } => self.rows(input, at, pixels, pitch, slab),
                Layer::Columns { classes, rows } => self.columns(input, at, pixels, (classes, rows), slab),
                Layer::Pixels => self.pixels(input, at, pixels, slab),
                Layer::Matrix => self.matrix(input, at, pixels, slab),
            }
        }
    }

    /// The part of the slab for 32 channels.
    fn of_channels<'b>(&self, channels: usize, slab: &'b mut [f32]) -> &'b mut [f32] {
        let len = self.schedule.form.products.parts() * self.schedule.positions * ROW_WORDS;
        &mut slab[channels * len..][..len]
    }

    /// Sets positions to zero in every part.
    fn clear(&self, positions: Range<usize>, slab: &mut [f32]) {
        for part in slab.chunks_exact_mut(self.schedule.positions * ROW_WORDS) {
            part[positions.start * ROW_WORDS..positions.end * ROW_WORDS].fill(0.0);
        }
    }

    /// Splits a run of pixels.
    fn run(
        &self,
        input: &PixelRef<'_>,
        (n, group, channels): (usize, usize, usize),
        run: &PixelRun,
        (slab, scratch): (&mut [f32], &mut [f32]),
    ) {
        if run.len == 0 {
            return;
        }
        let all = self.schedule.form.order.channels();
        let first = group * all + channels * ROW;
        let len = ROW.min(all - channels * ROW);
        let lens = [len.min(BLOCK), len.saturating_sub(BLOCK)];
        let view = &input.view;
        if view.layout == Layout::Nchw32cBf16 {
            let from = &input.data[view.offset(n, first, run.from)..];
            let to = slab[run.to * ROW_WORDS..].chunks_exact_mut(ROW_WORDS);
            let step = run.step * view.pixel;
            to.take(run.len)
                .enumerate()
                .for_each(|(i, to)| to.copy_from_slice(&from[i * step..][..ROW_WORDS]));
            return;
        }
        let rows = if view.layout == Layout::Nchw {
            let pixels = (run.len - 1) * run.step + 1;
            let to = OutputTile::of_matrix_columns(scratch, pixels, ROW, 0..len);
            self.kernels.copy.copy(InputTile::new(input, n, first, run.from), true, to);
            let halves = [(0, lens[0]), (BLOCK, lens[1])];
            SplitRows { data: scratch, halves, step: ROW * run.step, rows: run.len, blocks: (1, 0) }
        } else {
            let start = |half: usize| match lens[half] {
                0 => 0,
                _ => view.offset(n, first + half * BLOCK, run.from),
            };
            let halves = [(start(0), lens[0]), (start(1), lens[1])];
            SplitRows { data: input.data, halves, step: view.pixel * run.step, rows: run.len, blocks: (1, 0) }
        };
        let part = self.schedule.positions * ROW_WORDS;
        let to = &mut slab[run.to * ROW_WORDS..];
        self.kernels.parts.split(
            self.schedule.form.products,
            &rows,
            to,
            SplitTo { row: ROW_WORDS, part, block: 0 },
        );
    }

    /// Input rows with their padding.
    fn rows(
        &self,
        input: &PixelRef<'_>,
        at: (usize, usize, usize),
        pixels: &Range<usize>,
        pitch: usize,
        slab: &mut Slab<'_>,
    ) {
        let (desc, width) = (self.desc, self.desc.output().w);
        let (shape, pad) = (desc.input(), desc.pad());
        let first = pixels.start / width * desc.stride().h;
        let outputs = pixels.len() / width;
        let to = self.of_channels(at.2, slab.pixels);
        let left = pad.left.min(pitch);
        let len = shape.w.min(pitch - left);
        for row in 0..(outputs - 1) * desc.stride().h + span(desc) {
            let start = row * pitch;
            let y = (first + row).wrapping_sub(pad.top);
            if y >= shape.h {
                self.clear(start..start + pitch, to);
                continue;
            }
            self.clear(start..start + left, to);
            let run = PixelRun { from: y * shape.w, step: 1, len, to: start + left };
            self.run(input, at, &run, (to, slab.rows));
            self.clear(start + left + len..start + pitch, to);
        }
    }

    /// For each kernel column, the pixels that it reads.
    fn columns(
        &self,
        input: &PixelRef<'_>,
        at: (usize, usize, usize),
        pixels: &Range<usize>,
        (classes, more): (usize, usize),
        slab: &mut Slab<'_>,
    ) {
        let (desc, width) = (self.desc, self.desc.output().w);
        let (shape, pad, stride) = (desc.input(), desc.pad(), desc.stride());
        let (first, outputs) = (pixels.start / width, pixels.len() / width);
        let rows = self.schedule.rows_of_class(more);
        let to = self.of_channels(at.2, slab.pixels);
        for kw in 0..desc.kernel().w {
            // The outputs `lo..hi` of a row read a pixel of the image through this column.
            let shift = kw * desc.dilation().w;
            let lo = pad.left.saturating_sub(shift).div_ceil(stride.w).min(width);
            let hi = (pad.left + shape.w).saturating_sub(shift).div_ceil(stride.w).clamp(lo, width);
            for class in 0..classes {
                for row in 0..outputs + more {
                    let start = ((kw * classes + class) * rows + row) * width;
                    let y = ((first + row) * stride.h + class).wrapping_sub(pad.top);
                    if y >= shape.h {
                        self.clear(start..start + width, to);
                        continue;
                    }
                    self.clear(start..start + lo, to);
                    let x = (lo * stride.w + shift).wrapping_sub(pad.left);
                    let from = (y * shape.w).wrapping_add(x);
                    let run = PixelRun { from, step: stride.w, len: hi - lo, to: start + lo };
                    self.run(input, at, &run, (to, slab.rows));
                    self.clear(start + hi..start + width, to);
                }
            }
        }
    }

    /// The pixels of a 1x1 kernel.
    fn pixels(
        &self,
        input: &PixelRef<'_>,
        at: (usize, usize, usize),
        pixels: &Range<usize>,
        slab: &mut Slab<'_>,
    ) {
        let (width, stride) = (self.desc.output().w, self.desc.stride());
        let to = self.of_channels(at.2, slab.pixels);
        let unit = stride.h == 1 && stride.w == 1;
        let in_place = self.schedule.mergeable || (unit && input.view.layout != Layout::Nchw);
        let mut p = pixels.start;
        while p < pixels.end {
            // Without a stride, all pixels follow each other; planes are transposed a row at a time.
            let len = if in_place { pixels.end - p } else { (width - p % width).min(pixels.end - p) };
            let from = match in_place {
                true => p,
                false => p / width * stride.h * self.desc.input().w + p % width * stride.w,
            };
            let run = PixelRun { from, step: if in_place { 1 } else { stride.w }, len, to: p - pixels.start };
            self.run(input, at, &run, (to, slab.rows));
            p += len;
        }
    }

    /// All taps of each pixel, 32 at a time.
    fn matrix(
        &self,
        input: &PixelRef<'_>,
        (n, group, step): (usize, usize, usize),
        pixels: &Range<usize>,
        slab: &mut Slab<'_>,
    ) {
        let k = step * ROW..(step * ROW + ROW).min(self.schedule.form.order.len());
        let to = self.of_channels(step, slab.pixels);
        let tiles = PixelTiles { pixels: pixels.clone(), most: ROW, unbroken: usize::MAX, even: false };
        for tile in tiles {
            let (start, rows) = (tile.start - pixels.start, tile.len());
            let one = PixelTiles { pixels: tile, most: ROW, unbroken: usize::MAX, even: false };
            pack_rows(self.desc, input, (n, group), one, &k, slab.rows);
            let halves = [(0, k.len().min(BLOCK)), (rows * BLOCK, k.len().saturating_sub(BLOCK))];
            let from = SplitRows { data: slab.rows, halves, step: BLOCK, rows, blocks: (1, 0) };
            let part = self.schedule.positions * ROW_WORDS;
            let products = self.schedule.form.products;
            self.kernels.parts.split(
                products,
                &from,
                &mut to[start * ROW_WORDS..],
                SplitTo { row: ROW_WORDS, part, block: 0 },
            );
        }
    }
}
