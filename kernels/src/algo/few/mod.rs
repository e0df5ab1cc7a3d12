//! Direct convolution with few output channels and many input channels: dot products along the channels
//! (`tile/few.rs`).
//!
//! ```text
//! for image, row of outputs:
//!     for block of input channels:                   // its rows stay in the second-level cache
//!         for panel of up to four output channels:
//!             outputs at the left border, one by one: only the taps inside the row
//!             outputs inside, in tiles
//!             outputs at the right border
//! ```
//!
//! Between blocks, the sums of a row are in the workspace, as vectors.

mod weights;
mod work;

use super::direct::taps_inside;
use super::operands::Operands;
use crate::describe::{BLOCK, ConvDesc, Layout};
use crate::tile::direct::KernelRows;
use crate::tile::few_table::{FewKernels, FewWindow, MOST_OUTPUTS};
use crate::tile::output::OutputRegion;
use crate::tile::post::Post;
use crate::work::parts::SplitUnits;
use std::ops::Range;
use std::sync::Arc;
pub(crate) use weights::{FewForm, FewWeightsOf};
pub(crate) use work::estimate;

/// Maximum number of output channels: with more, a vector of output channels is used well enough. It is so with
/// [`MOST_NARROW`] if rows are short, because outputs at the borders are computed one by one.
const MOST: usize = 3 * MOST_OUTPUTS;
const MOST_NARROW: usize = 2 * MOST_OUTPUTS;
/// Minimum number of outputs of a row that is not short.
const LONG: usize = 20;
/// Bytes of the input rows of a block of channels.
const NEAR: usize = 128 << 10;

/// Whether this driver computes `desc`, which the direct algorithm must support.
pub(crate) fn fits(desc: &ConvDesc) -> bool {
    let most = if desc.output().w < LONG { MOST_NARROW } else { MOST };
    desc.layout() != Layout::Nchw
        && desc.layout() == desc.output_layout()
        && desc.groups() == 1
        && desc.output().c <= most
        && desc.input().c >= BLOCK
}

/// Input channels of a block: whole chunks whose rows under the kernel stay near.
fn block_of_channels(desc: &ConvDesc) -> usize {
    let rows = desc.kernel().h.min(desc.input().h).saturating_mul(desc.input().w);
    let chunk = rows.saturating_mul(BLOCK * size_of::<f32>());
    (NEAR / chunk.max(1)).max(1) * BLOCK
}

/// Elements of the sums of a row of one panel.
fn workspace_len(desc: &ConvDesc, kernels: &FewKernels) -> usize {
    if block_of_channels(desc) >= desc.input().c {
        return 0;
    }
    kernels.sums_len(desc.output().w).saturating_mul(desc.output().c.div_ceil(MOST_OUTPUTS))
}

/// A planned convolution with few output channels.
pub(crate) struct FewConv {
    desc: ConvDesc,
    kernels: &'static FewKernels,
    weights: Arc<FewWeightsOf>,
    /// The outputs of a row whose taps are all inside it.
    inside: Range<usize>,
}

impl FewConv {
    pub(crate) fn new(desc: &ConvDesc, weights: Arc<FewWeightsOf>, kernels: &'static FewKernels) -> Self {
        Self { desc: *desc, kernels, weights, inside: inside(desc) }
    }

    pub(crate) fn kernels(&self) -> &'static FewKernels {
        self.kernels
    }

    /// Whole rows of the output.
    pub(crate) fn split_units(&self) -> SplitUnits {
        split_units(&self.desc)
    }

    pub(crate) fn workspace_len(&self) -> usize {
        workspace_len(&self.desc, self.kernels)
    }

    pub(crate) fn run(&self, operands: &Operands<'_>, region: &mut OutputRegion<'_>, slab: &mut [f32]) {
        let (channels, width) = (self.desc.input().c, self.desc.output().w);
        let rows = region.pixels.start / width..region.pixels.end.div_ceil(width);
        let step = block_of_channels(&self.desc);
        for n in region.images.clone() {
            for y in rows.clone() {
                let kernel = KernelRows::of(&self.desc, y);
                for first in (0..channels).step_by(step) {
                    let row = Row { n, y, kernel, channels: first..channels.min(first + step) };
                    self.row(operands, &row, region, slab);
                }
            }
        }
    }

    /// Adds a block of input channels to a row of all output channels.
    fn row(&self, operands: &Operands<'_>, row: &Row, region: &mut OutputRegion<'_>, slab: &mut [f32]) {
        let (width, taps) = (self.desc.output().w, self.desc.kernel().w);
        // With one block of channels there are no sums between blocks.
        let of_panel = if slab.is_empty() { 0 } else { self.kernels.sums_len(width) };
        for (index, panel) in self.weights.panels().enumerate() {
            let sums = &mut slab[index * of_panel..][..of_panel];
            for x in (0..self.inside.start).chain(self.inside.end..width) {
                self.pixels(operands, row, (index, &panel), (x..x + 1, self.taps_inside(x)), region, sums);
            }
            self.pixels(operands, row, (index, &panel), (self.inside.clone(), 0..taps), region, sums);
        }
    }

    /// The taps of a kernel row that are inside the row for output `x`.
    fn taps_inside(&self, x: usize) -> Range<usize> {
        let desc = &self.desc;
        let (row, kernel) = ((desc.pad().left, desc.input().w), (desc.kernel().w, desc.dilation().w));
        taps_inside(x * desc.stride().w, row, kernel)
    }

    /// Adds the taps `taps` of outputs `xs` of a row. For all of them, these taps are inside the row.
    fn pixels(
        &self,
        operands: &Operands<'_>,
        row: &Row,
        (index, panel): (usize, &Range<usize>),
        (xs, taps): (Range<usize>, Range<usize>),
        region: &mut OutputRegion<'_>,
        sums: &mut [f32],
    ) {
        let (desc, view) = (&self.desc, &operands.input.view);
        let rows = row.kernel;
        let column = (xs.start * desc.stride().w + taps.start * desc.dilation().w)
            .saturating_sub(desc.pad().left)
            .min(desc.input().w - 1);
        let first = view.offset(row.n, row.channels.start, rows.input_row * desc.input().w + column);
        let window = FewWindow {
            image: &operands.input.data[first..],
            pixel: desc.stride().w * view.pixel,
            tap: desc.dilation().w * view.pixel,
            row: desc.dilation().h * desc.input().w * view.pixel,
            chunk: if view.layout == Layout::Nchw16c { view.plane } else { BLOCK },
            taps: taps.len(),
            rows: rows.rows,
            channels: row.channels.len(),
        };
        let weights = self.weights.of_panel(index, (rows.first, taps.start, row.channels.start));
        let (bias, slope) = self.weights.per_channel(index);
        let p = row.y * desc.output().w + xs.start;
        let post = Post {
            bias,
            slope,
            per_row: false,
            activation: desc.epilogue().activation,
            residual: operands.residual_as_columns(row.n, p, panel.start),
            first: row.channels.start == 0,
            last: row.channels.end == desc.input().c,
        };
        let out = region.channels_as_columns(row.n, p..p + xs.len(), panel.start, 0..panel.len());
        let from = if sums.is_empty() { 0 } else { self.kernels.sums_len(xs.start) };
        self.kernels.run(&window, weights, &mut sums[from..], out, &post);
    }
}

/// Whole rows of the output, and all channels.
pub(crate) fn split_units(desc: &ConvDesc) -> SplitUnits {
    SplitUnits::new(desc.output().w, BLOCK)
}

/// The outputs of a row whose taps are all inside it.
fn inside(desc: &ConvDesc) -> Range<usize> {
    let (stride, width) = (desc.stride().w, desc.output().w);
    let first = desc.pad().left.div_ceil(stride).min(width);
    let reach = (desc.kernel().w - 1) * desc.dilation().w;
    let room = (desc.input().w + desc.pad().left).checked_sub(reach + 1);
    let end = room.map_or(0, |room| room / stride + 1).min(width);
    first..end.max(first)
}

/// A row of outputs and a block of input channels.
struct Row {
    n: usize,
    y: usize,
    /// The kernel rows inside the image.
    kernel: KernelRows,
    channels: Range<usize>,
}
