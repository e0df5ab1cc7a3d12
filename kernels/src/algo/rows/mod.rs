//! Direct convolution over rows that store their padding (`tile/rows.rs`): images with few channels, such as the
//! input of a network, and NCHW.
//!
//! ```text
//! for image, group, stretch of output rows:
//!     copy the input rows of the stretch, with their padding      // unless the image can be read in place
//!     for panel of output channels:
//!         for some rows of the stretch, block of kernel rows:
//!             C[rows, panel] (+)= window * weights
//! ```
//!
//! An image with few channels and no padding is read in place. Short rows of outputs are treated as one line, so that
//! tiles are not cut off at the end of each. NCHW output is computed as a matrix in the workspace and transposed from
//! there.
//!
//! The order of the sum depends only on the problem, and not on tiles, regions or threads.

mod padded;
mod schedule;
mod work;

use super::direct::{kernel_blocks, span};
use super::operands::Operands;
use super::planes::PlaneRows;
use crate::algo::packed::GemmWeights;
use crate::algo::panels::Panel;
use crate::describe::{ConvDesc, ConvError, Layout};
use crate::tile::direct::KernelRows;
use crate::tile::output::{OutputRegion, OutputTile};
use crate::tile::post::{Addend, Post};
use crate::tile::rows_table::{Places, RowsTile, RowsWeights, RowsWindow};
use crate::tile::table::KernelSet;
use crate::work::parts::SplitUnits;
use padded::PaddedRows;
use schedule::MOST_ROWS;
pub(crate) use schedule::{RowsSchedule, supports};
use std::ops::Range;
use std::sync::Arc;
pub(crate) use work::estimate;

/// A planned direct convolution over rows.
pub(crate) struct RowsConv {
    desc: ConvDesc,
    kernels: &'static KernelSet,
    pub(super) weights: Arc<GemmWeights>,
    schedule: RowsSchedule,
    /// The places of outputs and taps in copied rows, and in an image without gaps if it is read in place.
    packed: Places,
    in_place: Option<Places>,
}

impl RowsConv {
    /// Makes the driver of `schedule`, with weights in its form.
    pub(crate) fn new(
        desc: ConvDesc,
        schedule: RowsSchedule,
        weights: Arc<GemmWeights>,
        kernels: &'static KernelSet,
    ) -> Result<Self, ConvError> {
        let kernel = (desc.kernel(), desc.ins());
        let steps = schedule.packed_steps(&desc);
        let packed = Places::new(kernel, steps, schedule.pixels(&desc, steps.line, schedule.rows.steps().1))?;
        let in_place = if schedule.in_place {
            let (steps, pixel) = schedule::steps_in_place(&desc);
            Some(Places::new(kernel, steps, schedule.pixels(&desc, steps.line, pixel))?)
        } else {
            None
        };
        Ok(Self { desc, kernels, weights, schedule, packed, in_place })
    }

    pub(crate) fn tile(&self) -> &'static RowsTile {
        &self.kernels.rows
    }

    /// Whether each row of the output is written on its own. Otherwise all rows of a stretch are one line of pixels.
    pub(crate) fn writes_lines(&self) -> bool {
        !self.schedule.flat
    }

    pub(crate) fn split_units(&self) -> SplitUnits {
        self.schedule.split_units(&self.desc)
    }

    pub(crate) fn workspace_len(&self) -> usize {
        self.schedule.workspace_len(&self.desc)
    }

    pub(crate) fn run(&self, operands: &Operands<'_>, region: &mut OutputRegion<'_>, slab: &mut [f32]) {
        let (channels, width) = (region.channels.clone(), self.desc.output().w);
        let rows = region.pixels.start / width..region.pixels.end.div_ceil(width);
        let (packed, lines) = slab.split_at_mut(self.schedule.packed_len(&self.desc));
        for n in region.images.clone() {
            for group in self.desc.groups_of(&channels) {
                for y in rows.clone().step_by(self.schedule.stretch) {
                    let ys = y..rows.end.min(y.saturating_add(self.schedule.stretch));
                    let source = self.source(operands, (n, group, ys.clone()), packed);
                    self.panels(&Stretch { operands, n, group, ys, source }, region, lines);
                }
            }
        }
    }

    /// The image of a stretch, in place or copied to `packed`.
    fn source<'a>(
        &'a self,
        operands: &Operands<'a>,
        (n, group, ys): (usize, usize, Range<usize>),
        packed: &'a mut [f32],
    ) -> Source<'a> {
        let (desc, input) = (&self.desc, &operands.input);
        let channel = group * desc.ins();
        if let Some(places) = &self.in_place
            && schedule::steps_in_place(desc).1 == input.view.pixel
            && (desc.layout() != Layout::Nchw || input.view.plane == input.view.pixels)
        {
            return Source { places, image: &input.data[input.view.offset(n, channel, 0)..], origin: 0 };
        }
        // If tiles read padding, rows are counted from the first row of it.
        let (rows, origin) = if self.schedule.flat {
            let first = ys.start * desc.stride().h;
            (first..(ys.end - 1) * desc.stride().h + span(desc), first)
        } else {
            let (inside, top) = (KernelRows::input_rows(desc, &ys), desc.pad().top);
            (top + inside.start..top + inside.end, inside.start)
        };
        self.schedule.rows.pack(desc, &self.kernels.copy, input, (n, channel, rows), packed);
        Source { places: &self.packed, image: packed, origin }
    }

    /// Computes every panel of output channels for a stretch.
    fn panels(&self, stretch: &Stretch<'_>, region: &mut OutputRegion<'_>, lines: &mut [f32]) {
        let is_planes = self.desc.output_layout() == Layout::Nchw;
        // The rows of a call are evenly spaced.
        let most = region.even_rows(self.desc.output().w, self.schedule.of_call);
        let together = self.schedule.is_one_call(&self.desc) && stretch.ys.len() <= most;
        for (indices, panel) in self.weights.pieces(stretch.group, &region.channels.clone(), together) {
            for y in stretch.ys.clone().step_by(most) {
                let ys = y..stretch.ys.end.min(y + most);
                let rows = OutputRows { ys, panel, indices: indices.clone() };
                if is_planes {
                    self.planes(stretch, &rows, region, lines);
                } else {
                    self.channels(stretch, &rows, region);
                }
            }
        }
    }

    /// Computes some rows of NHWC or Nchw16c output.
    fn channels(&self, stretch: &Stretch<'_>, rows: &OutputRows, region: &mut OutputRegion<'_>) {
        let Panel { channel, lo, hi } = rows.panel;
        let width = self.desc.output().w;
        let p = rows.ys.start * width..rows.ys.end * width;
        let residual = stretch.operands.residual_as_columns(stretch.n, p.start, channel);
        for block in kernel_blocks(&self.desc, self.schedule.row_block) {
            let out = region.channels_as_columns(stretch.n, p.clone(), channel, lo..hi);
            self.call(stretch, rows, &block, out, residual);
        }
    }

    /// Computes some rows of NCHW output for one panel: first a matrix of pixels by channels in `lines`, then its
    /// transposition.
    fn planes(
        &self,
        stretch: &Stretch<'_>,
        rows: &OutputRows,
        region: &mut OutputRegion<'_>,
        lines: &mut [f32],
    ) {
        let (columns, panel) = (self.weights.width(), rows.panel);
        let (width, p) = (self.desc.output().w, rows.ys.start * self.desc.output().w);
        let pixels = rows.ys.len() * width;
        let place = PlaneRows { n: stretch.n, p, rows: 1, pixels, line: pixels, panel, columns };
        let (residual, copy) = (stretch.operands.residual.tensor(), &self.kernels.copy);
        let lines = &mut lines[..self.schedule.lines_len(&self.desc)];
        place.write(residual, copy, region, lines, |matrix, residual| {
            for block in kernel_blocks(&self.desc, self.schedule.row_block) {
                let out = OutputTile::of_matrix_columns(matrix, pixels, columns, panel.lo..panel.hi);
                self.call(stretch, rows, &block, out, residual);
            }
        });
    }

    /// Computes some rows of the output for one block of kernel rows.
    fn call(
        &self,
        stretch: &Stretch<'_>,
        rows: &OutputRows,
        block: &Range<usize>,
        out: OutputTile<'_>,
        residual: Addend<'_>,
    ) {
        let desc = &self.desc;
        let mut lines = [KernelRows::default(); MOST_ROWS];
        let lines = if self.schedule.flat {
            lines[0] =
                KernelRows { first: 0, rows: desc.kernel().h, input_row: rows.ys.start * desc.stride().h };
            &lines[..1]
        } else {
            for (line, y) in lines.iter_mut().zip(rows.ys.clone()) {
                *line = KernelRows::of(desc, y);
            }
            &lines[..rows.ys.len()]
        };
        let Source { places, image, origin } = stretch.source;
        let width = rows.ys.len() * desc.output().w / lines.len();
        let window = RowsWindow { places, image, origin, lines, width, block: (block.start, block.end) };
        let (data, bias, slope) = self.weights.of_panels(rows.indices.clone());
        let post = Post {
            bias,
            slope,
            per_row: false,
            activation: desc.epilogue().activation,
            residual,
            first: block.start == 0,
            last: block.end == desc.kernel().h,
        };
        let weights = RowsWeights { data, step: self.weights.width(), panels: rows.indices.len() };
        self.tile().run(&window, &weights, out, &post);
    }
}

/// One stretch of rows of one group.
struct Stretch<'a> {
    operands: &'a Operands<'a>,
    n: usize,
    group: usize,
    ys: Range<usize>,
    source: Source<'a>,
}

/// An image or copied rows. Row `origin` is the first.
#[derive(Clone, Copy)]
struct Source<'a> {
    places: &'a Places,
    image: &'a [f32],
    origin: usize,
}

/// Some rows of the output, and one panel or several as one.
struct OutputRows {
    ys: Range<usize>,
    panel: Panel,
    /// The indices of the panels.
    indices: Range<usize>,
}
