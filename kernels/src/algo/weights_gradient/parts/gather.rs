//! What the taps of a filter read for the pixels of a stretch, as rows of pixels.

use crate::algo::weights_gradient::windows::{Segment, Windows};
use crate::describe::{Layout, PixelRef};
use crate::tile::copy_table::{CopyTable, InputTile};
use crate::tile::output::OutputTile;
use std::ops::Range;

/// The pixels of one stretch.
pub(super) struct Gather<'a> {
    pub(super) windows: &'a Windows,
    pub(super) copies: &'a CopyTable,
    pub(super) input: &'a PixelRef<'a>,
    pub(super) stretch: usize,
}

impl Gather<'_> {
    /// Copies what some channels, of one block of channels, contribute through tap `tap`: one row of `to` for each channel,
    /// of which `row` elements later begins the next.
    pub(super) fn tap(&self, tap: usize, channels: &Range<usize>, (to, row): (&mut [f32], usize)) {
        // Filling everything takes less time than finding the pixels that are padding.
        if self.segments(tap).any(|(Segment { xs, .. }, inside, _)| inside.len() < xs.len()) {
            to[..channels.len() * row].fill(0.0);
        }
        let mut at = 0;
        for (Segment { n, xs, .. }, inside, pixel) in self.segments(tap) {
            let to = &mut to[at + inside.start..];
            at += xs.len();
            if let Some(pixel) = pixel {
                self.segment((n, pixel), channels, (to, row, inside.len()));
            }
        }
    }

    /// The segments, each with its pixels for which the tap is inside the image, and what the first of them reads.
    fn segments(&self, tap: usize) -> impl Iterator<Item = (Segment, Range<usize>, Option<usize>)> + '_ {
        let windows = self.windows;
        let (kh, kw) = (tap / windows.kernel.w, tap % windows.kernel.w);
        windows.stretch(self.stretch).map(move |segment| {
            let line = windows.row(segment.y, kh).map(|row| row * windows.input.w);
            let (lo, hi) = line.map_or((0, 0), |_| windows.inside(&segment.xs, kw, 1));
            let column = if lo < hi { windows.column(segment.xs.start + lo, kw) } else { None };
            let pixel = line.zip(column).map(|(line, column)| line + column);
            (segment, lo..hi.max(lo), pixel)
        })
    }

    /// Copies the `len` pixels of a segment that are inside the image, from pixel `first` on.
    fn segment(
        &self,
        (n, first): (usize, usize),
        channels: &Range<usize>,
        (to, row, len): (&mut [f32], usize, usize),
    ) {
        let (PixelRef { data, view, .. }, stride) = (self.input, self.windows.stride.w);
        let is_planar = view.layout == Layout::Nchw;
        if is_planar && stride > 1 {
            for (channel, to) in channels.clone().zip(to.chunks_mut(row)) {
                let from = &data[view.offset(n, channel, first)..];
                to.iter_mut().take(len).zip(from.iter().step_by(stride)).for_each(|(to, &x)| *to = x);
            }
            return;
        }
        let tile = InputTile::new(self.input, n, channels.start, first);
        let tile = if is_planar { tile } else { tile.every(stride) };
        let out = OutputTile::of_matrix_columns(to, channels.len(), row, 0..len);
        self.copies.copy(tile, !is_planar, out);
    }
}
