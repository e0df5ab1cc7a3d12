//! Sums over images and pixels for each channel, band by band.
//!
//! A band has up to [`BAND`] channels in NHWC, where they share the way through memory, and up to 16 in the other
//! layouts. The images are read in pieces that stay in the second-level cache. Their size depends on the problem
//! alone, so the order of a sum does too.

use super::Sources;
use crate::describe::{BLOCK, Layout, PixelView};
use crate::ops::Ops;
use crate::ops::norm::runs;
use crate::tile::copy_table::InputTile;
use crate::tile::grad::table::{SumLines, SumOf};
use crate::tile::output::OutputRegion;
use crate::work::parts::SplitUnits;
use std::ops::Range;

/// Most channels of a band in NHWC.
pub(super) const BAND: usize = 256;

/// Elements of a piece: 128 KB, which the second sum of a variance finds in the second-level cache.
const PIECE: usize = 32 << 10;

/// Cuts between channels, or between blocks of channels if they are adjacent.
pub(super) fn channels_alone(region: &OutputRegion<'_>) -> SplitUnits {
    SplitUnits::new(region.pixels.end, if region.layout() == Layout::Nchw { 1 } else { BLOCK })
}

/// Splits `channels` into bands.
pub(super) fn bands(layout: Layout, channels: &Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
    let width = match layout {
        Layout::Nhwc => BAND,
        Layout::Nchw | Layout::Nchw16c | Layout::Nchw32cBf16 => BLOCK,
    };
    let Range { mut start, end } = *channels;
    std::iter::from_fn(move || {
        let band = start..end.min((start / width + 1) * width);
        start = band.end;
        (!band.is_empty()).then_some(band)
    })
}

/// Calls `each` with every piece of the images of `view`, and with the runs of `band` in a block.
pub(super) fn pieces(
    view: &PixelView,
    band: &Range<usize>,
    mut each: impl FnMut(usize, Range<usize>, Range<usize>),
) {
    let step = match view.layout {
        Layout::Nchw => PIECE,
        Layout::Nhwc => PIECE / view.channels.clamp(BLOCK, BAND),
        Layout::Nchw16c | Layout::Nchw32cBf16 => PIECE / BLOCK,
    };
    for n in 0..view.images {
        for p in (0..view.pixels).step_by(step) {
            runs(band).for_each(|run| each(n, p..view.pixels.min(p + step), run));
        }
    }
}

impl Ops {
    /// Two sums over images and pixels for each channel of `band`, whose numbers are `lines`.
    pub(super) fn band_sums(
        &self,
        of: SumOf,
        sources: &Sources<'_>,
        band: &Range<usize>,
        lines: SumLines<'_>,
    ) -> [[f64; BAND]; 2] {
        let mut sums = [[0.0; BAND]; 2];
        pieces(&sources.gradient.view, band, |n, pixels, run| {
            let first = run.start - band.start;
            let found = self.run_sums(of, sources, n, (&pixels, &run), lines.from(first));
            for (sums, found) in sums.iter_mut().zip(found) {
                sums[first..].iter_mut().zip(&found[..run.len()]).for_each(|(sum, x)| *sum += f64::from(*x));
            }
        });
        sums
    }

    /// Two sums over some pixels of image `n` for each of `channels`, which lie in one block.
    pub(super) fn run_sums(
        &self,
        of: SumOf,
        sources: &Sources<'_>,
        n: usize,
        (pixels, channels): (&Range<usize>, &Range<usize>),
        lines: SumLines<'_>,
    ) -> [[f32; BLOCK]; 2] {
        let grad = &self.kernels().grad;
        let (g, x) = (&sources.gradient, &sources.value);
        if g.view.layout != Layout::Nchw {
            let tiles = [g, x].map(|source| InputTile::new(source, n, channels.start, pixels.start));
            return grad.column_sums(of, tiles, (pixels.len(), channels.len()), lines);
        }
        let mut sums = [[0.0; BLOCK]; 2];
        for (i, c) in channels.clone().enumerate() {
            let [g, x] =
                [g, x].map(|source| &source.data[source.view.offset(n, c, pixels.start)..][..pixels.len()]);
            [sums[0][i], sums[1][i]] = grad.run_sums(of, g, x, lines.from(i));
        }
        sums
    }
}
