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
        if self.segments(tap).any(|(Segment { xs, .. }, inside)| inside.len() < xs.len()) {
            to[..channels.len() * row].fill(0.0);
        }
        let windows = self.windows;
        let (kh, kw) = (tap / windows.kernel.w, tap % windows.kernel.w);
        let mut at = 0;
        for (Segment { n, y, xs }, inside) in self.segments(tap) {
            let to = &mut to[at + inside.start..];
            at += xs.len();
            let read = windows.row(y, kh).zip(windows.column(xs.start + inside.start, kw));
            if let Some((line, column)) = read.filter(|_| !inside.is_empty()) {
                self.segment((n, line * windows.input.w + column), channels, (to, row, inside.len()));
            }
        }
    }

    /// The segments, each with its pixels for which the tap is inside the image.
    fn segments(&self, tap: usize) -> impl Iterator<Item = (Segment, Range<usize>)> + '_ {
        let (kh, kw) = (tap / self.windows.kernel.w, tap % self.windows.kernel.w);
        self.windows.stretch(self.stretch).map(move |segment| {
            let (lo, hi) =
                self.windows.row(segment.y, kh).map_or((0, 0), |_| self.windows.inside(&segment.xs, kw, 1));
            (segment, lo..hi.max(lo))
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
