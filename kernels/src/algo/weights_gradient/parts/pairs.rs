//! [`Pairs`]: the gradients of a panel of output channels, split into parts. Two pixels of a stretch are a pair.

use super::Stretch;
use crate::algo::weights_gradient::gradients;
use crate::algo::weights_gradient::windows::{Segment, Windows};
use crate::describe::{BLOCK, Layout, PixelRef, Products};
use crate::tile::copy_table::CopyTable;
use crate::tile::parts::{COLUMNS, PART_WORDS, ROW, ROW_WORDS};
use crate::tile::parts_table::{PartsKernels, SplitRows, SplitTo};
use std::ops::Range;

/// Pairs of a step.
const PAIRS: usize = ROW / 2;
/// Halves of a panel, and the words of a half.
const HALVES: usize = COLUMNS / BLOCK;
const HALF_WORDS: usize = PART_WORDS / HALVES;

/// Splits the gradients of `channels` in the pixels of a stretch to `to`, `[step][part][half][pair][channel]`. Its last step ends
/// with zeros. `floats` has room for the gradients.
pub(super) fn split(
    (parts, products): (&'static PartsKernels, Products),
    (windows, copies): (&Windows, &CopyTable),
    go: &PixelRef<'_>,
    (channels, stretch): (&Range<usize>, Stretch),
    (floats, to): (&mut [f32], &mut [f32]),
) {
    let view = &go.view;
    let is_block = view.layout == Layout::Nhwc || channels.start.is_multiple_of(BLOCK);
    let count = channels.len();
    if view.layout == Layout::Nchw || !is_block {
        let stretch_of = (windows, stretch.index);
        gradients::pack(copies, go, stretch_of, channels, COLUMNS, floats);
        let mut pairs =
            Pairs { parts, products, data: floats, pixel: COLUMNS, half: BLOCK, count, to, done: 0 };
        let last = pairs.run(None, 0, stretch.pixels);
        return pairs.end(last, stretch.steps());
    }
    let half = if view.layout == Layout::Nhwc { BLOCK } else { view.plane };
    let mut pairs = Pairs { parts, products, data: go.data, pixel: view.pixel, half, count, to, done: 0 };
    let mut segments = windows.stretch(stretch.index).peekable();
    let offset = |of: &Segment| view.offset(of.n, channels.start, of.y * windows.output.w + of.xs.start);
    let mut last = None;
    while let Some(first) = segments.next() {
        let (start, mut len) = (offset(&first), first.xs.len());
        // Rows that follow each other in memory are one run.
        while let Some(next) = segments.next_if(|next| offset(next) == start + len * view.pixel) {
            len += next.xs.len();
        }
        last = pairs.run(last, start, len);
    }
    pairs.end(last, stretch.steps());
}

/// Writes pairs one after another.
struct Pairs<'a> {
    parts: &'static PartsKernels,
    products: Products,
    data: &'a [f32],
    /// Distances between pixels, and between the halves of the panel.
    pixel: usize,
    half: usize,
    /// Number of channels.
    count: usize,
    to: &'a mut [f32],
    /// Pairs that were written.
    done: usize,
}

impl Pairs<'_> {
    /// Splits `len` pixels from offset `start` on. The first makes a pair with `last`, if that is there. Returns the pixel that
    /// is left over.
    fn run(&mut self, last: Option<usize>, mut start: usize, mut len: usize) -> Option<usize> {
        if last.is_some() {
            self.pairs((last, Some(start)), 1);
            (start, len) = (start + self.pixel, len - 1);
        }
        self.pairs((Some(start), Some(start + self.pixel)), len / 2);
        (len % 2 == 1).then(|| start + (len - 1) * self.pixel)
    }

    /// Splits the last pixel, and zeros up to the end of step `steps`.
    fn end(mut self, last: Option<usize>, steps: usize) {
        if last.is_some() {
            self.pairs((last, None), 1);
        }
        self.pairs((None, None), steps * PAIRS - self.done);
    }

    /// Splits `count` pairs, from that at these offsets on. What has no offset is zero.
    fn pairs(&mut self, (first, second): (Option<usize>, Option<usize>), count: usize) {
        let (words, apart) = (self.products.parts() * PART_WORDS, 2 * self.pixel);
        let end = self.done + count;
        let mut ahead = 0;
        while self.done < end {
            let (step, pair) = (self.done / PAIRS, self.done % PAIRS);
            let rows = (PAIRS - pair).min(end - self.done);
            for half in 0..HALVES {
                let len = self.count.saturating_sub(half * BLOCK).min(BLOCK);
                let from = |at: Option<usize>| match at {
                    Some(at) if len > 0 => (at + ahead + half * self.half, len),
                    _ => (0, 0),
                };
                let halves = [from(first), from(second)];
                let rows = SplitRows { data: self.data, halves, step: apart, rows, blocks: (1, 0) };
                let to = &mut self.to[step * words + half * HALF_WORDS + pair * ROW_WORDS..];
                let place = SplitTo { row: ROW_WORDS, part: PART_WORDS, block: 0 };
                self.parts.split_pairs(self.products, &rows, to, place);
            }
            (self.done, ahead) = (self.done + rows, ahead + rows * apart);
        }
    }
}
