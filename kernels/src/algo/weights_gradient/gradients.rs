//! Packing of the gradient of the output: some channels of the pixels of a stretch as a matrix.

use super::windows::{Segment, Windows};
use crate::describe::{BLOCK, Layout, PixelRef};
use crate::tile::copy_table::{CopyTable, InputTile};
use crate::tile::output::OutputTile;
use std::ops::Range;

/// Copies channels `channels` of the pixels of `stretch` to `to`, a matrix with a row of `columns` elements for each
/// pixel. Columns past the last channel keep their contents.
pub(super) fn pack(
    copies: &CopyTable,
    go: &PixelRef<'_>,
    (windows, stretch): (&Windows, usize),
    channels: &Range<usize>,
    columns: usize,
    to: &mut [f32],
) {
    let mut row = 0;
    for Segment { n, y, xs } in windows.stretch(stretch) {
        let p = y * windows.output.w + xs.start;
        let mut c = channels.start;
        while c < channels.end {
            // A tile ends with its block of channels.
            let end = match go.view.layout {
                Layout::Nchw16c => channels.end.min((c / BLOCK + 1) * BLOCK),
                _ => channels.end,
            };
            let to = &mut to[row * columns + (c - channels.start)..];
            let out = OutputTile::of_matrix_columns(to, xs.len(), columns, 0..end - c);
            copies.copy(InputTile::new(go, n, c, p), go.view.layout == Layout::Nchw, out);
            c = end;
        }
        row += xs.len();
    }
}
