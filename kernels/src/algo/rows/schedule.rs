//! The decisions of a direct convolution over rows, before there are weights.

use super::PaddedRows;
use crate::algo::direct::{WEIGHTS_SHARE, kernel_rows_inside, row_block, span};
use crate::algo::packed::GemmForm;
use crate::algo::planes::{layout_of_panels, matrices_len};
use crate::algo::tap_order::TapOrder;
use crate::describe::{BLOCK, ConvDesc, Layout, Unsupported};
use crate::tile::rows_table::{RowsTile, STEPS, Steps};
use crate::work::parts::SplitUnits;

/// Maximum number of outputs of a row, whose offsets are listed.
const MOST_WIDTH: usize = 1 << 16;
/// Maximum number of elements of copied rows, which should stay in the second-level cache, and of taps.
const MOST_PACKED: usize = 1 << 20;
/// Elements of the rows of a stretch.
const STRETCH_LEN: usize = 64 << 10;
/// Elements of the rows of a stretch if every stretch re-reads evicted weights.
const LONG_STRETCH_LEN: usize = 160 << 10;
/// Maximum number of output rows of one call.
pub(super) const MOST_ROWS: usize = 16;
/// Outputs that are transposed together to NCHW.
const MOST_TRANSPOSED: usize = 256;

/// Whether the rows can be copied and the lists made.
pub(crate) fn supports(desc: &ConvDesc) -> Result<(), Unsupported> {
    let len = PaddedRows::new(desc).row_len().saturating_mul(span(desc).min(desc.input().h));
    if len > MOST_PACKED || desc.output().w > MOST_WIDTH || desc.taps() > MOST_PACKED {
        return Err(Unsupported::RowsTooLong);
    }
    Ok(())
}

pub(crate) struct RowsSchedule {
    pub(super) rows: PaddedRows,
    /// Whether an image without gaps is read in place.
    pub(super) in_place: bool,
    /// Whether tiles run on from one row of outputs to the next. They then read the padding above and below.
    pub(super) flat: bool,
    pub(crate) form: GemmForm,
    /// Kernel rows of a block of K.
    pub(super) row_block: usize,
    /// Output rows of a stretch, and of a call.
    pub(super) stretch: usize,
    pub(super) of_call: usize,
}

impl RowsSchedule {
    pub(crate) fn new(desc: &ConvDesc, tile: &RowsTile) -> Self {
        let rows = PaddedRows::new(desc);
        let form = GemmForm::new(desc, &tile.shape, layout_of_panels(desc), TapOrder::of_rows(desc));
        let flat = is_flat(desc, &rows, tile, form.panels.width);
        let in_place = fits_in_place(desc, &rows, flat);
        let row_block = row_block(desc, desc.ins());
        let transposed = (MOST_TRANSPOSED / desc.output().w).max(1);
        let is_planes = desc.output_layout() == Layout::Nchw;
        let most = if is_planes { transposed } else { usize::MAX };
        let stretch = if flat { stretch(desc, &rows).min(most) } else { stretch(desc, &rows) };
        let of_call = if flat { stretch } else { most.min(MOST_ROWS) };
        Self { rows, in_place, flat, form, row_block, stretch: stretch.min(desc.output().h), of_call }
    }

    /// Whole rows of the output.
    pub(crate) fn split_units(&self, desc: &ConvDesc) -> SplitUnits {
        // Two parts with the same pixels would both copy them, so parts share pixels only if nothing is copied.
        let channels_first = self.in_place && self.form.outweighs_image(desc);
        SplitUnits { channels_first, ..SplitUnits::new(desc.output().w, self.form.panels.width) }
    }

    /// Whether a call computes all whole panels of a stretch: the calls of layers with few taps take as long as their sums.
    /// All rows and taps must then belong to one call.
    pub(super) fn is_one_call(&self, desc: &ConvDesc) -> bool {
        let is_whole = self.stretch <= self.of_call && self.row_block >= desc.kernel().h;
        is_whole && desc.output_layout() != Layout::Nchw && self.form.panels.width.is_multiple_of(BLOCK)
    }

    pub(super) fn workspace_len(&self, desc: &ConvDesc) -> usize {
        self.packed_len(desc).saturating_add(self.lines_len(desc))
    }

    /// Maximum number of rows that a stretch reads, with padding if tiles read it.
    pub(super) fn input_rows(&self, desc: &ConvDesc) -> usize {
        let between = (self.stretch - 1).saturating_mul(desc.stride().h);
        let rows = between.saturating_add(span(desc));
        if self.flat { rows } else { rows.min(desc.input().h) }
    }

    /// Elements of copied rows.
    pub(super) fn packed_len(&self, desc: &ConvDesc) -> usize {
        let len = self.input_rows(desc).saturating_mul(self.rows.row_len());
        // The copy overwrites up to sixteen elements after the last row.
        len.saturating_add(BLOCK).checked_next_multiple_of(BLOCK).unwrap_or(usize::MAX)
    }

    /// Elements of the outputs of a call and of their residual, before they are transposed to NCHW.
    pub(super) fn lines_len(&self, desc: &ConvDesc) -> usize {
        let rows = self.of_call.min(desc.output().h);
        matrices_len(desc, rows.saturating_mul(desc.output().w), self.form.panels.width)
    }

    /// Distances in the copied rows.
    pub(super) fn packed_steps(&self, desc: &ConvDesc) -> Steps {
        let (channel, pixel) = self.rows.steps();
        steps(desc, self.rows.row_len(), channel, pixel)
    }

    /// Offsets of the outputs of a line: a row, or if flat all rows of a stretch.
    pub(super) fn pixels(
        &self,
        desc: &ConvDesc,
        line: usize,
        pixel: usize,
    ) -> impl ExactSizeIterator<Item = usize> + Clone + use<> {
        let (width, stride) = (desc.output().w, desc.stride());
        let rows = if self.flat { self.stretch } else { 1 };
        (0..rows * width).map(move |p| p / width * stride.h * line + p % width * stride.w * pixel)
    }
}

/// Distances in an image whose rows, channels and pixels are so far apart.
fn steps(desc: &ConvDesc, line: usize, channel: usize, pixel: usize) -> Steps {
    let dilation = desc.dilation();
    Steps { line, row: dilation.h * line, channel, tap: dilation.w * pixel }
}

/// Distances in an image without gaps: its steps, and between pixels.
pub(super) fn steps_in_place(desc: &ConvDesc) -> (Steps, usize) {
    let width = desc.input().w;
    let (channel, pixel) = match desc.layout() {
        Layout::Nchw => (desc.input().h * width, 1),
        Layout::Nhwc => (1, desc.input().c),
        Layout::Nchw16c | Layout::Nchw32cBf16 => (1, BLOCK),
    };
    (steps(desc, width * pixel, channel, pixel), pixel)
}

/// Whether an image without gaps can be read in place: few channels and no padding that tiles read.
fn fits_in_place(desc: &ConvDesc, rows: &PaddedRows, flat: bool) -> bool {
    // With many planes, every channel would be on a page of its own. In blocks, a group can begin anywhere.
    let few = desc.ins() < BLOCK && (desc.layout() != Layout::Nchw16c || desc.groups() == 1);
    let columns = desc.pad().left == 0 && rows.pixels() <= desc.input().w;
    let last = (desc.output().h - 1) * desc.stride().h + span(desc);
    let inside = !flat || (desc.pad().top == 0 && last <= desc.input().h);
    let (Steps { line, channel, .. }, _) = steps_in_place(desc);
    let near = [line.checked_mul(desc.input().h), channel.checked_mul(desc.ins())];
    let near = near.iter().all(|end| end.is_some_and(|end| end < 1 << 31));
    few && columns && inside && near
}

/// Whether tiles that run over several rows take less time than tiles that end with each row. They have more outputs,
/// but multiply the padding above and below.
fn is_flat(desc: &ConvDesc, rows: &PaddedRows, tile: &RowsTile, columns: usize) -> bool {
    /// The start and the end of a tile, in FMAs.
    const TILE: f64 = 60.0;
    let (height, width) = (desc.output().h, desc.output().w);
    let (most, vectors) = (tile.most_outputs(columns), columns / tile.shape.lanes);
    if height == 1 || width >= 2 * most {
        return false;
    }
    // The offset of a listed output is loaded before its pixel. With one vector, a tile would load as often as it multiplies
    // without a list.
    let listed = if vectors == 1 { 1.6 } else { 1.15 };
    let time = |outputs: usize, kernel_rows: f64, loads: f64| {
        let tiles = outputs.div_ceil(most);
        let sums = (outputs as f64 / tiles as f64 * vectors as f64 * loads).max(8.0);
        tiles as f64 * (kernel_rows * (desc.ins() * desc.kernel().w) as f64 * sums + TILE)
    };
    let apart = desc.stride().w.saturating_mul(rows.steps().1);
    let of_row = if apart < STEPS { 1.0 } else { listed };
    let one_by_one = height as f64 * time(width, kernel_rows_inside(desc), of_row);
    time(height * width, desc.kernel().h as f64, listed) < one_by_one
}

/// Output rows of a stretch, at least one.
fn stretch(desc: &ConvDesc, rows: &PaddedRows) -> usize {
    let span = span(desc);
    let len =
        if desc.filter_len() * size_of::<f32>() <= WEIGHTS_SHARE { STRETCH_LEN } else { LONG_STRETCH_LEN };
    let fit = (len / rows.row_len().max(1)).max(span);
    (fit - span) / desc.stride().h + 1
}
