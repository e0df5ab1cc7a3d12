//! The lines that a call of the tile reads: pixels of a row of the image, with the gradients that meet them.

use super::Panel;
use crate::algo::tap_order::KernelRun;
use crate::algo::weights_gradient::windows::{MOST_SEGMENTS, Segment, Windows};
use crate::describe::PixelView;
use crate::tile::taps::TapsLine;

impl Panel<'_> {
    /// The segments of a stretch, each with the offset of its first pixel.
    pub(super) fn places(&self, windows: &Windows, stretch: usize) -> impl Iterator<Item = (usize, Segment)> {
        let (windows, packed, view, pixel) = (*windows, self.packed, self.view, self.go.pixel);
        windows.stretch(stretch).scan(0, move |row, segment| {
            let p = if packed { *row } else { segment.y * windows.output.w + segment.xs.start };
            let offset = if packed { 0 } else { view.image_at(segment.n) };
            *row += segment.xs.len();
            Some((offset + p * pixel, segment))
        })
    }
}

/// A stretch, and a later one that is prefetched meanwhile.
pub(super) type Stretches = (usize, Option<usize>);

/// The lines of a run of taps in kernel row `kh`, for a stretch and a later one. Returns their number.
pub(super) fn lines_of(
    windows: &Windows,
    (panel, view): (&Panel<'_>, &PixelView),
    ((stretch, next), kh, run): (Stretches, usize, KernelRun),
    lines: &mut [TapsLine; MOST_SEGMENTS],
) -> usize {
    let lines_in = |stretch| {
        panel.places(windows, stretch).filter_map(|(go, segment)| {
            let line = line_of(windows, &segment, kh, run)?;
            // The line has the position of the pixel in the image.
            Some(TapsLine { go, x: view.image_at(segment.n) + line.x * view.pixel, ..line })
        })
    };
    let mut later = next.into_iter().flat_map(lines_in);
    let mut count = 0;
    for line in lines_in(stretch) {
        let later = later.next().unwrap_or(line);
        let (go_ahead, x_ahead) = (later.go.wrapping_sub(line.go), later.x.wrapping_sub(line.x));
        lines[count] = TapsLine { go_ahead, x_ahead, ..line };
        count += 1;
    }
    count
}

/// What a run of taps in kernel row `kh` reads for a segment. `x` is the position of its first pixel in the image.
/// Returns `None` if it reads padding only.
fn line_of(windows: &Windows, segment: &Segment, kh: usize, run: KernelRun) -> Option<TapsLine> {
    let row = windows.row(segment.y, kh)?;
    let (lo, hi) = windows.inside(&segment.xs, run.first, run.taps);
    let column = segment.xs.start * windows.stride.w + run.first * windows.dilation.w + lo * windows.stride.w;
    let x = row * windows.input.w + column.checked_sub(windows.before.w)?;
    (lo < hi).then_some(TapsLine { x, lo, hi, count: segment.xs.len(), ..TapsLine::default() })
}
