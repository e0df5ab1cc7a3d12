//! The decisions of a direct convolution before it runs: how the image is read, and how K and the rows are
//! split.

use super::rows::{self, PackedRows};
use crate::algo::packed::GemmForm;
use crate::algo::planes::{layout_of_panels, matrices_len};
use crate::algo::tap_order::{KernelRuns, TapOrder};
use crate::describe::{BLOCK, ConvDesc, Layout, Unsupported};
use crate::tile::shape::even_piece;
use crate::tile::table::KernelSet;
use crate::work::parts::SplitUnits;

/// Maximum number of output columns, kernel columns and kernel rows. Planning visits the tiles and runs of a
/// row, and the rows of a kernel, one by one.
const MOST_WIDTH: usize = 1 << 16;
/// Maximum product of the outputs of a row and the taps of a kernel row, for the same reason.
const MOST_PLANNED: usize = 1 << 24;
/// Maximum number of elements of packed rows, which should stay in the second-level cache.
const MOST_PACKED: usize = 1 << 20;
/// Elements of the packed rows of a stretch.
const STRETCH_LEN: usize = 64 << 10;
/// Elements of the packed rows of a stretch if every stretch re-reads evicted weights.
const LONG_STRETCH_LEN: usize = 160 << 10;
/// Bytes of the image that a stretch of rows can read: the image's share of the second-level cache.
const IMAGE_SHARE: usize = 512 << 10;
/// Bytes of weights that stay in the second-level cache next to the image.
pub(super) const WEIGHTS_SHARE: usize = 1 << 20;
/// Output pixels of a stretch if the weights stay in the second-level cache.
const STRETCH_PIXELS: usize = 64;
/// Products that are summed before the sum is stored in the output. Longer sums lose accuracy.
const MOST_STEPS: usize = 2560;
/// Input channels of a block of K, if a group has more than twice as many. The weights of a block and those
/// of the next panel, which are being prefetched, fit the second-level cache. Shorter sums also lose less
/// accuracy.
const K_BLOCK: usize = 128;

/// Whether the image can be read in place, with enough adjacent channels to be worth it. Groups that begin inside
/// a block are copied.
fn in_place(desc: &ConvDesc) -> bool {
    desc.layout() != Layout::Nchw && desc.ins() >= BLOCK / 2 && rows::groups_are_blocks(desc, desc.layout())
}

/// Input rows from the first row of a window to its last.
pub(crate) fn span(desc: &ConvDesc) -> usize {
    (desc.kernel().h - 1).saturating_mul(desc.dilation().h).saturating_add(1)
}

/// Checks that every group begins at a block in the input and the output, if their layouts have blocks.
pub(crate) fn groups_fit_blocks(desc: &ConvDesc) -> Result<(), Unsupported> {
    let out_blocks =
        desc.output_layout() != Layout::Nchw16c || desc.groups() == 1 || desc.outs().is_multiple_of(BLOCK);
    if !rows::groups_are_blocks(desc, desc.layout()) || !out_blocks {
        return Err(Unsupported::GroupInsideBlock);
    }
    Ok(())
}

pub(crate) fn supports(desc: &ConvDesc) -> Result<(), Unsupported> {
    let rows = PackedRows::new(desc).channel_len();
    let len = rows.saturating_mul(desc.ins()).saturating_mul(span(desc).min(desc.input().h));
    let (kernel, width) = (desc.kernel(), desc.output().w);
    let is_long = [width, kernel.w, kernel.h].iter().any(|&len| len > MOST_WIDTH);
    if is_long || width * kernel.w > MOST_PLANNED || (!in_place(desc) && len > MOST_PACKED) {
        return Err(Unsupported::RowsTooLong);
    }
    Ok(())
}

/// How the tiles read the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ImageSource {
    /// In place.
    Image,
    /// From rows that are packed into the workspace.
    Rows(PackedRows),
}

/// The decisions of a direct convolution before there are weights.
pub(crate) struct DirectSchedule {
    pub(super) source: ImageSource,
    pub(crate) form: GemmForm,
    /// Input channels of a chunk of K.
    pub(super) chunk: usize,
    /// Input channels of a block of K, and kernel rows of a block.
    pub(super) k_block: usize,
    pub(super) row_block: usize,
    /// Output rows of a stretch.
    pub(super) stretch: usize,
    /// Number of runs of a kernel row.
    pub(super) runs: usize,
}

impl DirectSchedule {
    pub(crate) fn new(desc: &ConvDesc, kernels: &'static KernelSet) -> Self {
        let tile = &kernels.direct;
        let channels = desc.ins();
        let source =
            if in_place(desc) { ImageSource::Image } else { ImageSource::Rows(PackedRows::new(desc)) };
        let chunk = if source == ImageSource::Image { BLOCK } else { channels };
        let layout = layout_of_panels(desc);
        let order = TapOrder::of_direct(desc, tile.taps, source == ImageSource::Image);
        let form = GemmForm::new(desc, &tile.shape, layout, order);
        let (k_block, stretch) = match source {
            ImageSource::Image => image_blocks(desc, form.bytes()),
            ImageSource::Rows(rows) => (channels, packed_stretch(desc, rows)),
        };
        let row_block = even_piece(desc.kernel().h, (MOST_STEPS / (k_block * desc.kernel().w)).max(1));
        let runs = KernelRuns::new(desc, tile.taps).iter().count();
        Self { source, form, chunk, k_block, row_block, stretch, runs }
    }

    /// Whole rows of the output.
    pub(crate) fn split_units(&self, desc: &ConvDesc) -> SplitUnits {
        let (pixels, channels) = (desc.output().w, self.form.panels.width);
        // Two parts with the same pixels would both pack them, so parts share pixels only if nothing is
        // packed.
        let in_place = matches!(self.source, ImageSource::Image);
        let channels_first = in_place && self.form.outweighs_image(desc);
        SplitUnits { channels_first, ..SplitUnits::new(pixels, channels) }
    }

    pub(super) fn workspace_len(&self, desc: &ConvDesc) -> usize {
        self.packed_len(desc).saturating_add(self.lines_len(desc))
    }

    /// Maximum number of input rows that a stretch reads.
    pub(super) fn input_rows(&self, desc: &ConvDesc) -> usize {
        let between = (self.stretch - 1).saturating_mul(desc.stride().h);
        between.saturating_add(span(desc)).min(desc.input().h)
    }

    /// Elements of packed rows.
    pub(super) fn packed_len(&self, desc: &ConvDesc) -> usize {
        let ImageSource::Rows(rows) = self.source else { return 0 };
        let len = self.input_rows(desc).saturating_mul(rows.channel_len()).saturating_mul(desc.ins());
        len.checked_next_multiple_of(BLOCK).unwrap_or(usize::MAX)
    }

    /// Elements of one output row of a panel and of its residual, before they are transposed to NCHW.
    pub(super) fn lines_len(&self, desc: &ConvDesc) -> usize {
        matrices_len(desc, desc.output().w, self.form.panels.width)
    }
}

/// Returns the channels per block of K, and the output rows per stretch, for an image that is read in place.
fn image_blocks(desc: &ConvDesc, weights: usize) -> (usize, usize) {
    let channels = desc.ins();
    let k_block = if channels > 2 * K_BLOCK { K_BLOCK } else { channels };
    let row = desc.input().w * desc.stride().h.min(desc.input().h) * k_block * size_of::<f32>();
    let rows = (IMAGE_SHARE / row.max(1)).max(4);
    if weights <= WEIGHTS_SHARE {
        // All weights stay in cache. The image is read once, a few tiles at a time.
        return (k_block, rows.min(STRETCH_PIXELS.div_ceil(desc.output().w)));
    }
    (k_block, rows)
}

/// Output rows of a stretch of packed rows, at least one.
fn packed_stretch(desc: &ConvDesc, rows: PackedRows) -> usize {
    let row = rows.channel_len() * desc.ins();
    let span = span(desc);
    let len =
        if desc.filter_len() * size_of::<f32>() <= WEIGHTS_SHARE { STRETCH_LEN } else { LONG_STRETCH_LEN };
    let fit = (len / row.max(1)).max(span);
    (fit - span) / desc.stride().h + 1
}
