//! Direct convolution with few output channels and many input channels, in each group: dot products along the channels
//! (`tile/few.rs`).
//!
//! ```text
//! for group, image, line of outputs:                 // a row, or with 1x1 kernels a part of the image
//!     for block of input channels:                   // its rows stay in the second-level cache
//!         for panel of up to four output channels:
//!             outputs at the left border, in tiles that skip taps outside the row
//!             outputs inside, in tiles
//!             outputs at the right border
//! ```
//!
//! Between blocks, the sums of a row are in the workspace, as vectors.
//!
//! A group need not begin at a block of sixteen channels. [`chunks`] says which lanes of which blocks are its own.

mod chunks;
mod weights;
mod work;

use super::operands::Operands;
use crate::describe::{BLOCK, ConvDesc, Layout, Pad2, Size2};
use crate::tile::direct::KernelRows;
use crate::tile::few::MOST_PIXELS;
use crate::tile::few_table::{FewKernels, FewWindow, MOST_OUTPUTS};
use crate::tile::output::OutputRegion;
use crate::tile::post::Post;
use crate::work::parts::SplitUnits;
use chunks::Chunks;
use std::ops::Range;
use std::sync::Arc;
use weights::panels;
pub(crate) use weights::{FewForm, FewWeightsOf};
pub(crate) use work::estimate;

/// Maximum number of output channels of a group: with more, a vector of output channels is used well enough.
const MOST: usize = 3 * MOST_OUTPUTS;
/// Minimum number of outputs of a row that is not short. Tiles at an edge take a larger share of the time of a short row.
const LONG: usize = 16;
/// Minimum number of input channels, of all groups and of one group.
const LEAST: usize = BLOCK;
const LEAST_OF_GROUP: usize = BLOCK / 2;
/// The lanes of a sum are added in the time of about this number of steps of K, those of a line of an image faster.
const FINISH: usize = 15;
const FINISH_OF_LINE: usize = 4;
/// Bytes of the input rows of a block of channels.
const NEAR: usize = 128 << 10;
/// Maximum number of pixels of a line of an image whose pixels do not depend on each other.
const LINE: usize = 128;

/// Whether this driver computes `desc`, which the direct algorithm must support, with vectors of `lanes` lanes.
pub(crate) fn fits(desc: &ConvDesc, lanes: usize) -> bool {
    desc.layout() != Layout::Nchw
        && desc.layout() == desc.output_layout()
        && desc.input().c >= LEAST
        && (desc.groups() == 1 || desc.ins() >= LEAST_OF_GROUP)
        && desc.outs() <= MOST
        && takes_less_time(desc, lanes)
}

/// Whether the steps of K of all outputs of a group take less time here than in the other driver of direct convolution,
/// which takes one step per input channel and tap. These limits were measured.
fn takes_less_time(desc: &ConvDesc, lanes: usize) -> bool {
    let (ins, outs) = (desc.ins(), desc.outs());
    let taps = desc.kernel().h.saturating_mul(desc.kernel().w);
    let finish = if most_of_line(desc).is_some() { FINISH_OF_LINE } else { FINISH };
    let here = outs.saturating_mul(Chunks::count(ins).saturating_mul(taps).saturating_add(finish));
    let there = ins.saturating_mul(taps);
    let (is_short, is_whole) = (desc.output().w < LONG, desc.groups() == 1);
    // Only with vectors as long as blocks does the other driver have large tiles of one vector.
    let percent = match (is_short, is_whole && lanes == BLOCK) {
        _ if is_whole && taps == 1 => 100,
        (false, false) => 100,
        (true, false) => 115,
        (false, true) => 110,
        (true, true) => 150,
    };
    here.saturating_mul(percent) <= there.saturating_mul(100)
}

/// Chunks of input channels in a block: those whose rows under the kernel stay near.
fn chunks_of_block(desc: &ConvDesc) -> usize {
    if most_of_line(desc).is_some() {
        return Chunks::count(desc.ins());
    }
    let rows = desc.kernel().h.min(desc.input().h).saturating_mul(desc.input().w);
    let chunk = rows.saturating_mul(BLOCK * size_of::<f32>());
    (NEAR / chunk.max(1)).max(1)
}

/// Maximum number of pixels of a line, if no pixel depends on another: then the image is computed in lines, which may run on
/// from one row to the next, and all channels are one block. Every line has the pixels of a large tile, and tiles overlap, so
/// that the bits of an output do not depend on where its line begins.
fn most_of_line(desc: &ConvDesc) -> Option<usize> {
    let one = Size2::square(1);
    let is_independent = (desc.kernel(), desc.stride(), desc.pad()) == (one, one, Pad2::all(0));
    let is_line = is_independent && desc.output().w >= MOST_PIXELS && !desc.epilogue().residual;
    let pixel = Chunks::count(desc.ins()) * BLOCK * size_of::<f32>();
    is_line.then(|| (NEAR / pixel).clamp(2 * MOST_PIXELS, LINE))
}

/// Whether a tile may compute outputs of another one again, which gives the same bits. Sums between blocks and what an output
/// holds would be added twice.
fn can_overlap(desc: &ConvDesc) -> bool {
    blocks(desc) == 1 && !desc.epilogue().residual
}

/// Number of blocks of input channels.
fn blocks(desc: &ConvDesc) -> usize {
    Chunks::count(desc.ins()).div_ceil(chunks_of_block(desc))
}

/// Elements of the sums of a row of all panels of a group.
fn workspace_len(desc: &ConvDesc, kernels: &FewKernels) -> usize {
    if blocks(desc) == 1 {
        return 0;
    }
    // A block of output channels can end inside a group.
    let panels = desc.outs().div_ceil(MOST_OUTPUTS) + usize::from(desc.groups() > 1);
    kernels.sums_len(desc.output().w).saturating_mul(panels)
}

/// Whether tiles prefetch the pixels of the next one. It helps where pieces of many rows and blocks are apart. At stride 1 it was
/// measured to take up to a third longer.
fn fetches(desc: &ConvDesc) -> bool {
    let (stride, taps) = (desc.stride().w, desc.kernel().w);
    stride > 1 && taps > 1 && taps <= 2 * stride
}

/// A planned convolution with few output channels.
pub(crate) struct FewConv {
    desc: ConvDesc,
    kernels: &'static FewKernels,
    pub(super) weights: Arc<FewWeightsOf>,
    /// The outputs of a row whose taps are all inside it.
    inside: Range<usize>,
    /// See [`most_of_line`] and [`can_overlap`].
    most_of_line: Option<usize>,
    overlap: bool,
}

impl FewConv {
    pub(crate) fn new(desc: &ConvDesc, weights: Arc<FewWeightsOf>, kernels: &'static FewKernels) -> Self {
        let (most_of_line, overlap) = (most_of_line(desc), can_overlap(desc));
        Self { desc: *desc, kernels, weights, inside: inside(desc), most_of_line, overlap }
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
        let (pixels, width) = (region.pixels.clone(), self.desc.output().w);
        // In an output whose rows lie apart, a line ends with its row.
        let (even, most) = match self.most_of_line {
            Some(most) if region.even_pixels() >= pixels.len() => (pixels.len().max(1), most),
            Some(most) => (width, most),
            None => (width, width),
        };
        for group in self.desc.groups_of(&region.channels) {
            for n in region.images.clone() {
                for start in pixels.clone().step_by(even) {
                    let len = even.min(pixels.end - start);
                    let lines = len.div_ceil(most);
                    for i in 0..lines {
                        let p = start + len * i / lines..start + len * (i + 1) / lines;
                        self.line(operands, (group, n, p), region, slab);
                    }
                }
            }
        }
    }

    /// Computes a line of the output channels of a group that are in the region.
    fn line(
        &self,
        operands: &Operands<'_>,
        (group, n, p): (usize, usize, Range<usize>),
        region: &mut OutputRegion<'_>,
        slab: &mut [f32],
    ) {
        let desc = &self.desc;
        let kernel = KernelRows::of(desc, p.start / desc.output().w);
        let chunks = Chunks::of(group, desc.ins());
        let (count, step) = (Chunks::count(desc.ins()), chunks_of_block(desc));
        let view = &operands.input.view;
        let (first, width, inside) = if self.most_of_line.is_some() {
            (p.start, p.len(), 0..p.len())
        } else {
            (kernel.input_row * desc.input().w, desc.input().w, self.inside.clone())
        };
        let from = view.offset(n, group * desc.ins() / BLOCK * BLOCK, first);
        for first in (0..count).step_by(step) {
            let of_block = first..count.min(first + step);
            let window = FewWindow {
                image: &operands.input.data[from..],
                width,
                before: desc.pad().left,
                stride: desc.stride().w,
                dilation: desc.dilation().w,
                column: view.pixel,
                row: desc.dilation().h * desc.input().w * view.pixel,
                block: if view.layout == Layout::Nchw16c { view.plane } else { BLOCK },
                taps: desc.kernel().w,
                rows: kernel.rows,
                inside: inside.clone(),
                overlap: self.overlap,
                chunks: chunks.within(&of_block),
                fetch: fetches(desc),
            };
            let line = Line { n, p: p.clone(), group, first_row: kernel.first, chunks: of_block };
            self.panels(operands, &line, &window, region, slab);
        }
    }

    /// Adds a block of input channels to a line of all output channels of a group.
    fn panels(
        &self,
        operands: &Operands<'_>,
        line: &Line,
        window: &FewWindow<'_>,
        region: &mut OutputRegion<'_>,
        slab: &mut [f32],
    ) {
        let desc = &self.desc;
        // With one block of channels there are no sums between blocks.
        let of_panel = if slab.is_empty() { 0 } else { self.kernels.sums_len(desc.output().w) };
        let p = &line.p;
        for (index, panel) in panels(line.group * desc.outs()..(line.group + 1) * desc.outs()).enumerate() {
            // A region ends at a multiple of sixteen channels, so it has all of a panel or nothing.
            if !region.channels.contains(&panel.start) {
                continue;
            }
            let (bias, slope) = self.weights.per_channel(&panel);
            let post = Post {
                bias,
                slope,
                per_row: false,
                activation: desc.epilogue().activation,
                residual: operands.residual_as_columns(line.n, p.start, panel.start),
                first: line.chunks.start == 0,
                last: line.chunks.end == Chunks::count(desc.ins()),
            };
            let weights = self.weights.of_panel(&panel, (line.first_row, line.chunks.start));
            let sums = &mut slab[index * of_panel..][..of_panel];
            let out = region.channels_as_columns(line.n, p.clone(), panel.start, 0..panel.len());
            self.kernels.run(window, weights, sums, out, &post);
        }
    }
}

/// Whole rows of the output, and whole panels.
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

/// A line of outputs of a group, and a block of its input channels.
struct Line {
    n: usize,
    p: Range<usize>,
    group: usize,
    /// The first kernel row inside the image.
    first_row: usize,
    /// The chunks of the block.
    chunks: Range<usize>,
}
