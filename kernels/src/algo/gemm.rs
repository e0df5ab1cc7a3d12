//! Convolution as a matrix product `[pixels x K] * [K x O]`: the loops over tiles that im2col and 1x1 share.
//!
//! ```text
//! for image, group, stretch of pixels:         // a stretch fits the second-level cache
//!     for block of K:                          // 512 steps
//!         the stretch as an operand            // im2col: packed into the slab; 1x1: read in place
//!         for panel of output channels:
//!             for tile of the stretch:
//!                 C[tile, panel] (+)= pixels * weights
//! ```
//!
//! If channels are adjacent (NHWC, Nchw16c), pixels are the broadcast operand and channels the vectors. If
//! pixels are adjacent (NCHW), the operands swap, and the loops are the same. The order of the sum over K
//! depends only on the problem, and not on tiles, regions or threads.

use super::gemm_schedule::{GemmSchedule, Lookahead, PixelSource};
use super::operands::Operands;
use super::pixels::{PixelTiles, pack_columns, pack_rows};
use crate::algo::packed::{GemmWeights, Side};
use crate::algo::panels::Panel;
use crate::describe::{BLOCK, ConvDesc, PixelView};
use crate::simd::LINE;
use crate::tile::gemm_table::{ColumnsOf, Hint, RowsOf};
use crate::tile::output::OutputRegion;
use crate::tile::post::{Addend, Post};
use crate::work::parts::SplitUnits;
use std::ops::Range;
use std::sync::Arc;

/// A planned matrix product.
pub(crate) struct GemmConv {
    desc: ConvDesc,
    pub(crate) schedule: GemmSchedule,
    pub(crate) weights: Arc<GemmWeights>,
}

/// One block of K of one stretch of pixels of one group.
struct Block<'a> {
    operands: &'a Operands<'a>,
    n: usize,
    group: usize,
    pixels: Range<usize>,
    k: Range<usize>,
}

impl GemmConv {
    /// Makes the driver of `schedule`, with weights in its form. K runs `(kh, kw, c)` if channels are
    /// adjacent. In NCHW it runs `(c, kh, kw)`, the order of the filter.
    pub(crate) fn new(desc: &ConvDesc, schedule: GemmSchedule, weights: Arc<GemmWeights>) -> Self {
        Self { desc: *desc, schedule, weights }
    }

    pub(crate) fn merges(&self, views: &[PixelView]) -> bool {
        self.schedule.mergeable && views.iter().all(PixelView::can_merge)
    }

    pub(crate) fn split_units(&self) -> SplitUnits {
        self.schedule.split_units(&self.desc)
    }

    /// See [`GemmSchedule::workspace_len`].
    pub(crate) fn workspace_len(&self) -> usize {
        self.schedule.workspace_len()
    }

    pub(crate) fn run(&self, operands: &Operands<'_>, region: &mut OutputRegion<'_>, slab: &mut [f32]) {
        let (images, channels, pixels) =
            (region.images.clone(), region.channels.clone(), region.pixels.clone());
        for n in images {
            for group in self.desc.groups_of(&channels) {
                for start in pixels.clone().step_by(self.schedule.stretch) {
                    let stretch = start..pixels.end.min(start + self.schedule.stretch);
                    for k in (0..self.schedule.form.k).step_by(self.schedule.k_block) {
                        let k = k..self.schedule.form.k.min(k + self.schedule.k_block);
                        let block = Block { operands, n, group, pixels: stretch.clone(), k };
                        match self.schedule.form.side {
                            Side::Columns => self.channels_as_columns(&block, region, slab),
                            Side::Rows => self.channels_as_rows(&block, region, slab),
                        }
                    }
                }
            }
        }
    }

    /// The first input channel of a group.
    fn first_channel(&self, group: usize) -> usize {
        group * self.desc.ins()
    }

    /// The tiles of a stretch. `even` output pixels are evenly spaced.
    fn tiles(&self, pixels: &Range<usize>, even: usize) -> PixelTiles {
        let unbroken = match self.schedule.source {
            PixelSource::Image(access) => access.unbroken.min(even),
            PixelSource::Packed => even,
        };
        PixelTiles {
            pixels: pixels.clone(),
            most: self.schedule.tile_pixels(),
            unbroken,
            even: self.schedule.form.side == Side::Columns,
        }
    }

    fn post<'a>(&'a self, block: &Block<'_>, panel: usize, row: usize) -> Post<'a> {
        let (bias, slope) = self.weights.per_channel(panel, row);
        Post {
            bias,
            slope,
            per_row: self.schedule.form.side == Side::Rows,
            activation: self.desc.epilogue().activation,
            residual: Addend::None,
            first: block.k.start == 0,
            last: block.k.end == self.schedule.form.k,
        }
    }

    /// Computes NHWC and Nchw16c output: each pixel is broadcast and multiplied with vectors of output
    /// channels.
    fn channels_as_columns(&self, block: &Block<'_>, region: &mut OutputRegion<'_>, slab: &mut [f32]) {
        let Block { operands, n, group, ref pixels, ref k } = *block;
        let chunks = k.len().div_ceil(BLOCK);
        let tiles = self.tiles(pixels, region.even_pixels());
        if self.schedule.source == PixelSource::Packed {
            pack_rows(&self.desc, &operands.input, (n, group), tiles.clone(), k, slab);
        }
        // A strip is a run of evenly spaced pixels. One call computes all of its tiles.
        let tiles_of = |strip: &Range<usize>| strip.len().div_ceil(tiles.most);
        let strips = PixelTiles { most: usize::MAX, even: false, ..tiles.clone() };
        let steps = strips.clone().map(|strip| tiles_of(&strip)).sum::<usize>() * chunks;
        let lookahead = match self.schedule.ahead {
            Lookahead::Pixels if pixels.start == region.pixels.start => Lookahead::Weights,
            ahead => ahead,
        };
        let channels = region.channels.clone();
        let panels = self.weights.panels(group, &channels).count();
        for (number, (index, Panel { channel, lo, hi })) in self.weights.panels(group, &channels).enumerate()
        {
            let post = self.post(block, index, 0);
            let b = self.weights.columns(index, k.start);
            let mut ahead = match lookahead {
                Lookahead::Weights => {
                    let next = self.weights.next_columns(index, k.start);
                    Ahead::weights(&next[..next.len().min(k.len() * self.weights.width())], steps)
                }
                Lookahead::Pixels => Ahead::pixels(number, panels, self.schedule.tile.rows()),
                Lookahead::Nothing => Ahead::Nothing,
            };
            for p in strips.clone() {
                let image = |p: usize| match self.schedule.source {
                    PixelSource::Image(access) if p < region.pixels.end => {
                        Some(access.rows(&operands.input, n, p, self.first_channel(group) + k.start))
                    }
                    _ => None,
                };
                let before = (p.start - pixels.start) * chunks * BLOCK;
                let packed = || RowsOf { data: &slab[before..], row: BLOCK, chunk: None };
                let a = image(p.start).unwrap_or_else(packed);
                let hint =
                    ahead.hint(chunks, tiles_of(&p), || image(p.start.saturating_add(self.schedule.stretch)));
                let residual = operands.residual_as_columns(n, p.start, channel);
                let out = region.channels_as_columns(n, p, channel, lo..hi);
                self.schedule.tile.run(k.len(), a, b, out, &Post { residual, ..post }, hint);
            }
        }
    }

    /// Computes NCHW output: each weight is broadcast and multiplied with vectors of pixels.
    fn channels_as_rows(&self, block: &Block<'_>, region: &mut OutputRegion<'_>, slab: &mut [f32]) {
        let Block { operands, n, group, ref pixels, ref k } = *block;
        let width = self.schedule.tile_pixels();
        // Whole tiles are read from the image in place. The remaining pixels at the end of the plane are
        // packed.
        let in_place = match self.schedule.source {
            PixelSource::Image(_) => pixels.len() / width * width,
            PixelSource::Packed => 0,
        };
        let (here, rest) = (pixels.start..pixels.start + in_place, pixels.start + in_place..pixels.end);
        if let PixelSource::Image(access) = self.schedule.source
            && !here.is_empty()
        {
            let channel = self.first_channel(group) + k.start;
            let columns = access.columns(&operands.input, n, here.start, channel, width);
            self.row_panels(block, region, &here, columns);
        }
        if !rest.is_empty() {
            let tiles = self.tiles(&rest, usize::MAX);
            pack_columns(&self.desc, &operands.input, (n, group), tiles, k, (width, slab));
            let columns = ColumnsOf { data: slab, step: width, tile: k.len() * width };
            self.row_panels(block, region, &rest, columns);
        }
    }

    /// Multiplies every panel of output channels with some pixels.
    fn row_panels(
        &self,
        block: &Block<'_>,
        region: &mut OutputRegion<'_>,
        pixels: &Range<usize>,
        columns: ColumnsOf<'_>,
    ) {
        let Block { operands, n, group, ref k, .. } = *block;
        for (index, Panel { channel, lo, hi }) in self.weights.panels(group, &region.channels.clone()) {
            let post = self.post(block, index, lo);
            let a = self.weights.rows(index, lo, k.start);
            let residual = operands.residual_as_rows(n, pixels.start, channel + lo);
            let out = region.channels_as_rows(n, channel + lo..channel + hi, pixels.clone());
            self.schedule.tile.run(k.len(), a, columns, out, &Post { residual, ..post }, Hint::NONE);
        }
    }
}

/// Prefetches of later operands into the second-level cache, a few lines per chunk of K. A burst would fill
/// the line buffers that the tile itself needs.
enum Ahead<'a> {
    /// The next panel of weights, spread over all tiles of this panel. Used if the weights do not stay in the
    /// second-level cache.
    Weights {
        panel: &'a [f32],
        lines: usize,
    },
    /// The same tiles of the next stretch of the image, with their lines spread over the panels. Used if the
    /// weights stay in the second-level cache.
    Pixels {
        first_line: usize,
        lines: usize,
    },
    Nothing,
}

impl<'a> Ahead<'a> {
    /// Maximum number of lines per chunk. Eight lines prefetch the whole next panel even if a stretch has
    /// only four tiles. Fewer lines leave a part of the panel to wait for. Measurements showed no gain from
    /// more lines.
    const MOST: usize = 8;

    /// `steps` is the number of chunks in all tiles of a panel.
    fn weights(panel: &'a [f32], steps: usize) -> Self {
        let lines = panel.len().div_ceil(LINE);
        Self::Weights { panel, lines: lines.div_ceil(steps.max(1)).min(Self::MOST) }
    }

    /// Panel number `number` of `panels`. Tiles have `rows` lines per chunk.
    fn pixels(number: usize, panels: usize, rows: usize) -> Self {
        let lines = rows.div_ceil(panels);
        let first_line = number * lines;
        if first_line < rows { Self::Pixels { first_line, lines } } else { Self::Nothing }
    }

    /// Returns the hint of the next `tiles` tiles, which have `chunks` chunks each. `later` returns where the
    /// first of the corresponding tiles of the next stretch is, if there is one.
    fn hint(&mut self, chunks: usize, tiles: usize, later: impl FnOnce() -> Option<RowsOf<'a>>) -> Hint<'a> {
        match self {
            Self::Nothing => Hint::NONE,
            Self::Weights { panel, lines } => {
                let (lines, tile) = (*lines, chunks * *lines * LINE);
                let (now, rest) = panel.split_at(panel.len().min(tiles * tile));
                *panel = rest;
                Hint { data: now, chunk: lines * LINE, lines, tile, row: 0 }
            }
            Self::Pixels { first_line, lines } => match later() {
                Some(RowsOf { data, row, chunk: Some(chunk) }) if *first_line * row < data.len() => {
                    Hint { data: &data[*first_line * row..], chunk, lines: *lines, tile: 0, row }
                }
                _ => Hint::NONE,
            },
        }
    }
}
