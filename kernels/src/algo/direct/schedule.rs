//! The decisions of a direct convolution before it runs: how the image is read, and how K and the rows are
//! split.

use crate::algo::packed::GemmForm;
use crate::algo::tap_order::{KernelRuns, TapOrder};
use crate::describe::{BLOCK, ConvDesc, Layout, Unsupported};
use crate::tile::shape::even_piece;
use crate::tile::table::KernelSet;
use crate::work::parts::SplitUnits;
use std::ops::Range;

/// Maximum number of output columns, kernel columns and kernel rows. Planning visits the tiles and runs of a
/// row, and the rows of a kernel, one by one.
const MOST_WIDTH: usize = 1 << 16;
/// Maximum product of the outputs of a row and the taps of a kernel row, for the same reason.
const MOST_PLANNED: usize = 1 << 24;
/// Bytes of the image that a stretch of rows can read: the image's share of the second-level cache.
const IMAGE_SHARE: usize = 512 << 10;
/// Bytes of weights that stay in the second-level cache next to the image.
pub(crate) const WEIGHTS_SHARE: usize = 1 << 20;
/// Output pixels of a stretch if the weights stay in the second-level cache.
const STRETCH_PIXELS: usize = 64;
/// Products that are summed before the sum is stored in the output. Longer sums lose accuracy.
const MOST_STEPS: usize = 2560;
/// Input channels of a block of K, if a group has more than twice as many. The weights of a block and those
/// of the next panel, which are being prefetched, fit the second-level cache. Shorter sums also lose less
/// accuracy.
const K_BLOCK: usize = 128;

/// Whether the image can be read in place, with enough adjacent channels to be worth it. Other images are read as rows
/// that store their padding (`algo/rows`).
pub(crate) fn reads_in_place(desc: &ConvDesc) -> bool {
    desc.layout() != Layout::Nchw && desc.ins() >= BLOCK / 2
}

/// Checks that every group begins at a block in the input and the output, if their layouts have blocks.
pub(crate) fn groups_fit_blocks(desc: &ConvDesc) -> Result<(), Unsupported> {
    if desc.ins_split_blocks() || desc.outs_split_blocks() {
        return Err(Unsupported::GroupInsideBlock);
    }
    Ok(())
}

pub(crate) fn supports(desc: &ConvDesc) -> Result<(), Unsupported> {
    let (kernel, width) = (desc.kernel(), desc.output().w);
    let is_long = [width, kernel.w, kernel.h].iter().any(|&len| len > MOST_WIDTH);
    if is_long || width * kernel.w > MOST_PLANNED {
        return Err(Unsupported::RowsTooLong);
    }
    Ok(())
}

/// The decisions of a direct convolution before there are weights.
pub(crate) struct DirectSchedule {
    pub(crate) form: GemmForm,
    /// Input channels of a block of K, and kernel rows of a block.
    pub(super) k_block: usize,
    pub(super) row_block: usize,
    /// Output rows of a stretch, and images whose stretches are computed together.
    pub(super) stretch: usize,
    pub(super) images: usize,
    /// Number of runs of a kernel row.
    pub(super) runs: usize,
}

impl DirectSchedule {
    pub(crate) fn new(desc: &ConvDesc, kernels: &'static KernelSet) -> Self {
        let tile = &kernels.direct;
        let order = TapOrder::of_direct(desc, tile.taps);
        let form = GemmForm::new(desc, &tile.shape, desc.output_layout(), order);
        let (k_block, stretch, images) = image_blocks(desc, form.bytes());
        let row_block = row_block(desc, k_block);
        let runs = KernelRuns::new(desc, tile.taps).iter().count();
        Self { form, k_block, row_block, stretch, images, runs }
    }

    /// Whole rows of the output.
    pub(crate) fn split_units(&self, desc: &ConvDesc) -> SplitUnits {
        let (pixels, channels) = (desc.output().w, self.form.panels.width);
        SplitUnits { channels_first: self.form.outweighs_image(desc), ..SplitUnits::new(pixels, channels) }
    }
}

/// Kernel rows of a block of K that has `channels` input channels.
pub(crate) fn row_block(desc: &ConvDesc, channels: usize) -> usize {
    even_piece(desc.kernel().h, (MOST_STEPS / (channels * desc.kernel().w)).max(1))
}

/// The blocks of `step` kernel rows. Each block is accumulated separately.
pub(crate) fn kernel_blocks(desc: &ConvDesc, step: usize) -> impl Iterator<Item = Range<usize>> + use<> {
    let rows = desc.kernel().h;
    (0..rows).step_by(step).map(move |first| first..rows.min(first + step))
}

/// Returns the channels per block of K, the output rows per stretch, and the images per stretch.
fn image_blocks(desc: &ConvDesc, weights: usize) -> (usize, usize, usize) {
    let channels = desc.ins();
    let k_block = if channels > 2 * K_BLOCK { K_BLOCK } else { channels };
    let row = desc.input().w * desc.stride().h.min(desc.input().h) * k_block * size_of::<f32>();
    let rows = (IMAGE_SHARE / row.max(1)).max(4);
    if weights <= WEIGHTS_SHARE {
        // All weights stay in cache. The image is read once, a few tiles at a time.
        return (k_block, rows.min(STRETCH_PIXELS.div_ceil(desc.output().w)), 1);
    }
    // The weights are read once for several small images.
    (k_block, rows, (rows / desc.output().h).max(1))
}
