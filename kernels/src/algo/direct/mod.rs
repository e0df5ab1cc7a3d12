//! Direct convolution (Zhang, Franchetti and Low 2018; Georganas et al. 2018). It builds no matrix: the tile
//! moves the kernel window over the image itself.
//!
//! ```text
//! for some images, group, stretch of output rows:  // its input stays in the second-level cache
//!     for block of input channels:                 // all of them, if they are few
//!         for panel of output channels:
//!             for image, row of the stretch, tile of the row:
//!                 C[tile, panel] (+)= window * weights
//! ```
//!
//! The image is read in place: channels must be adjacent, and there must be enough of them. Other images (few
//! channels, as in a first layer, or NCHW) are read as rows that store their padding (`algo/rows`).
//!
//! K is split into blocks of at most about two thousand products. The order of the sum depends only on the
//! problem, and not on tiles, regions or threads.

mod rows;
mod schedule;
mod work;

use super::operands::Operands;
use crate::algo::packed::GemmWeights;
use crate::algo::panels::Panel;
use crate::algo::tap_order::KernelRuns;
use crate::describe::{BLOCK, ConvDesc, ConvError, Layout};
use crate::memory::try_collect;
use crate::tile::direct::KernelRows;
use crate::tile::direct_table::{DirectImage, DirectK, DirectTile, DirectWeights, TileRow};
use crate::tile::output::{OutputRegion, OutputTile};
use crate::tile::post::{Addend, Post};
use crate::tile::table::KernelSet;
use crate::work::parts::SplitUnits;
pub(crate) use rows::span;
pub(crate) use schedule::{
    DirectSchedule, WEIGHTS_SHARE, groups_fit_blocks, kernel_blocks, reads_in_place, row_block, supports,
};
use std::ops::Range;
use std::sync::Arc;
pub(crate) use work::{Passes, estimate, kernel_rows_inside, outputs_of_columns};

/// Maximum number of output rows of one call.
const MOST_ROWS: usize = 16;

/// Whether tiles prefetch the pixels of the next one. The pixels of a tile are short pieces of many rows and blocks, which hardware
/// prefetchers follow badly. With one tap, or with many that read the same pixels, prefetching was measured not to help.
fn fetches(desc: &ConvDesc) -> bool {
    (2..=5).contains(&desc.kernel().w)
}

/// The columns that a tile writes of a panel. In a blocked layout, they are whole blocks.
fn written(desc: &ConvDesc, panel: &Panel) -> usize {
    let block = if desc.output_layout() == Layout::Nchw16c { BLOCK } else { 1 };
    panel.hi.next_multiple_of(block)
}

/// A planned direct convolution.
pub(crate) struct DirectConv {
    desc: ConvDesc,
    kernels: &'static KernelSet,
    pub(super) weights: Arc<GemmWeights>,
    schedule: DirectSchedule,
    /// The tiles of a row of narrow panels, and of wide ones, if there are such panels.
    narrow: Option<TileRow>,
    wide: Option<TileRow>,
    /// Input channels per group.
    channels: usize,
    /// Whether the next panel of weights is prefetched.
    ahead: bool,
}

impl DirectConv {
    /// Makes the driver of `schedule`, with weights in its form.
    pub(crate) fn new(
        desc: &ConvDesc,
        schedule: DirectSchedule,
        weights: Arc<GemmWeights>,
        kernels: &'static KernelSet,
    ) -> Result<Self, ConvError> {
        let tile = &kernels.direct;
        let runs = try_collect("runs of a kernel row", KernelRuns::new(desc, tile.taps).iter())?;
        let tiles = |narrow: bool| -> Result<Option<TileRow>, ConvError> {
            let mut columns = weights.all_panels().iter().map(|panel| written(desc, panel));
            let any = columns.find(|&columns| tile.is_narrow(columns) == narrow);
            any.map(|columns| rows::tile_row(desc, tile, columns, &runs)).transpose()
        };
        Ok(Self {
            desc: *desc,
            kernels,
            narrow: tiles(true)?,
            wide: tiles(false)?,
            channels: desc.ins(),
            weights,
            ahead: schedule.form.bytes() > WEIGHTS_SHARE,
            schedule,
        })
    }

    pub(crate) fn tile(&self) -> &'static DirectTile {
        &self.kernels.direct
    }

    pub(crate) fn split_units(&self) -> SplitUnits {
        self.schedule.split_units(&self.desc)
    }

    pub(crate) fn run(&self, operands: &Operands<'_>, region: &mut OutputRegion<'_>) {
        let (images, channels, pixels) =
            (region.images.clone(), region.channels.clone(), region.pixels.clone());
        let width = self.desc.output().w;
        let rows = pixels.start / width..pixels.end.div_ceil(width);
        for n in images.clone().step_by(self.schedule.images) {
            let images = n..images.end.min(n + self.schedule.images);
            for group in self.desc.groups_of(&channels) {
                for y in rows.clone().step_by(self.schedule.stretch) {
                    let ys = y..rows.end.min(y.saturating_add(self.schedule.stretch));
                    for c in self.k_blocks(group) {
                        let block = Block { operands, images: images.clone(), group, ys: ys.clone(), c };
                        self.panels(&block, region);
                    }
                }
            }
        }
    }

    /// Channels of the first block of channels of a group that belong to other groups.
    fn skip(&self, group: usize) -> usize {
        if self.desc.layout() == Layout::Nchw16c { group * self.channels % BLOCK } else { 0 }
    }

    /// The input channels of each block of K of a group. A block of K ends where a block of channels does, or with the group.
    fn k_blocks(&self, group: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let (channels, skip) = (self.channels, self.skip(group));
        let step = if self.schedule.k_block < channels { self.schedule.k_block } else { skip + channels };
        (0..skip + channels)
            .step_by(step)
            .map(move |c| c.max(skip) - skip..channels.min(c.saturating_add(step) - skip))
    }

    /// Multiplies every panel of output channels with every row of a block.
    fn panels(&self, block: &Block<'_>, region: &mut OutputRegion<'_>) {
        let desc = &self.desc;
        let start = block.c.start * desc.kernel().h * desc.kernel().w;
        // The first panel reads the image from far away, the others from the second-level cache.
        let mut fetch = fetches(desc);
        // The rows of a call are evenly spaced.
        let most = region.even_rows(desc.output().w, MOST_ROWS);
        for (index, panel) in self.weights.panels(block.group, &region.channels.clone()) {
            let columns = self.weights.columns(index, start);
            let tiles = self.tiles_of(index);
            let mut hint = if self.ahead { self.weights.next_columns(index, start) } else { &[] };
            let calls = |n| block.ys.clone().step_by(most).map(move |y| (n, y));
            for (n, y) in block.images.clone().flat_map(calls) {
                let ys = y..block.ys.end.min(y + most);
                let weights = DirectWeights { data: columns.data, step: columns.step, hint };
                let rows = OutputRows { n, ys: ys.clone(), panel, index, weights, tiles, fetch };
                self.rows(block, &rows, region);
                if !hint.is_empty() {
                    // Each tile has prefetched one line per channel and run.
                    let (tiles, runs) = tiles.len();
                    let kernel_rows: usize = ys.map(|y| KernelRows::of(desc, y).rows).sum();
                    let hinted = tiles * kernel_rows * runs * block.c.len() * BLOCK;
                    hint = &hint[hinted.min(hint.len())..];
                }
            }
            fetch = false;
        }
    }

    /// The tiles of a row of panel `index`. Threads that share a panel have the same.
    fn tiles_of(&self, index: usize) -> &TileRow {
        let columns = written(&self.desc, &self.weights.all_panels()[index]);
        let tiles = if self.tile().is_narrow(columns) { &self.narrow } else { &self.wide };
        tiles.as_ref().expect("made for this panel")
    }

    /// Computes some rows of the output for one panel.
    fn rows(&self, block: &Block<'_>, rows: &OutputRows<'_>, region: &mut OutputRegion<'_>) {
        let Panel { channel, lo, hi } = rows.panel;
        let width = self.desc.output().w;
        let p = rows.ys.start * width..rows.ys.end * width;
        let residual = block.operands.residual_as_columns(rows.n, p.start, channel);
        for kernel in kernel_blocks(&self.desc, self.schedule.row_block) {
            let out = region.channels_as_columns(rows.n, p.clone(), channel, lo..hi);
            self.call(block, rows, &kernel, out, residual);
        }
    }

    /// Computes some rows of the output for one panel and some rows of the kernel.
    fn call(
        &self,
        block: &Block<'_>,
        rows: &OutputRows<'_>,
        kernel: &Range<usize>,
        out: OutputTile<'_>,
        residual: Addend<'_>,
    ) {
        let desc = &self.desc;
        let mut lines = [KernelRows::default(); MOST_ROWS];
        let lines = &mut lines[..rows.ys.len()];
        for (line, y) in lines.iter_mut().zip(rows.ys.clone()) {
            *line = KernelRows::of(desc, y).within(desc, kernel);
        }
        let skip = if block.c.start == 0 { self.skip(block.group) } else { 0 };
        let end = skip + block.c.len();
        let chunk = BLOCK.min(end);
        let k = DirectK {
            chunks: end.div_ceil(chunk),
            channels: chunk,
            skip,
            last_channels: (end - 1) % chunk + 1,
            lines,
            kernel_rows: desc.kernel().h,
        };
        let (bias, slope) = self.weights.per_channel(rows.index, 0);
        let post = Post {
            bias,
            slope,
            per_row: false,
            activation: desc.epilogue().activation,
            residual,
            first: block.c.start == 0 && kernel.start == 0,
            last: block.c.end == self.channels && kernel.end == desc.kernel().h,
        };
        self.tile().run(rows.tiles, &k, self.image(block, rows, skip), rows.weights, out, &post);
    }

    /// The image of some rows, from the first chunk of a block on, whose first `skip` channels are not in the block.
    fn image<'a>(&self, block: &Block<'a>, rows: &OutputRows<'_>, skip: usize) -> DirectImage<'a> {
        let input = &block.operands.input;
        let view = &input.view;
        let channel = block.group * self.channels + block.c.start - skip;
        let line = self.desc.input().w * view.pixel;
        let stride = self.desc.stride().h;
        DirectImage {
            data: &input.data[view.offset(rows.n, channel, 0)..],
            line,
            chunk: if view.layout == Layout::Nchw16c { view.plane } else { BLOCK },
            row: self.desc.dilation().h * line,
            pixel: view.pixel,
            fetch: rows.fetch,
            next_row: (rows.fetch && stride > 1).then(|| (rows.ys.len() * stride).saturating_mul(line)),
        }
    }
}

/// One block of K of one stretch of rows of one group.
struct Block<'a> {
    operands: &'a Operands<'a>,
    images: Range<usize>,
    group: usize,
    ys: Range<usize>,
    /// Input channels of the group in this block.
    c: Range<usize>,
}

/// Some rows of the output of one image, and one panel.
struct OutputRows<'a> {
    n: usize,
    ys: Range<usize>,
    panel: Panel,
    /// The index of the panel.
    index: usize,
    weights: DirectWeights<'a>,
    tiles: &'a TileRow,
    /// Whether pixels are prefetched.
    fetch: bool,
}
