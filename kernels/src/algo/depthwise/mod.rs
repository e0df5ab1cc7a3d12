//! Depthwise convolution, with any number of outputs per channel, and groups of few channels. The sums are
//! too short for a matrix product, so each vector of outputs is computed directly from the image.
//!
//! ```text
//! for image:
//!     for vectors of output channels that share cache lines:   // NCHW: channels
//!         for stretch of rows:                                 // what stays in the second-level cache
//!             for vector: one call of a tile's kernel
//! ```
//!
//! In NHWC, memory is read and written from one end to the other if all lanes are outputs:
//!
//! ```text
//! for image, lines of a tile, some columns: one call for all vectors
//! ```
//!
//! If channels are adjacent, a lane of the output can need a channel that is in another lane of the input. A
//! plan therefore makes a list of [`LaneSource`](crate::tile::depthwise_read::LaneSource)s once, one for each
//! vector and each channel of a group. A vector ends where its inputs no longer fit one vector of the input.

mod blocks;
mod transposed;
mod weights;
mod work;

use super::operands::Operands;
use crate::describe::{BLOCK, ConvDesc, Layout, PixelRef, Size2, Unsupported};
use crate::tile::copy_table::CopyTable;
use crate::tile::depthwise_read::{Axis, Reading};
use crate::tile::depthwise_table::{DepthwiseKernels, Image, Window};
use crate::tile::output::{OutputRegion, OutputTile, PixelBox};
use crate::tile::post::{Addend, Post};
use crate::tile::table::KernelSet;
use crate::work::parts::SplitUnits;
use std::ops::Range;
use std::sync::Arc;
pub(crate) use weights::{DepthwiseForm, DepthwiseWeights};
use weights::{Vector, transposes};
pub(crate) use work::estimate;

/// Maximum number of input channels of a group. With more channels, a matrix product has enough to sum.
const MOST_PER_GROUP: usize = 16;
/// In NHWC, the vectors of this many channels compute the same rows before any of them goes on to the next
/// rows.
const TOGETHER: usize = 4 * BLOCK;
/// Bytes of the input in these rows: a part of the second-level cache.
const NEAR: usize = 128 << 10;
/// Bytes of an input that does not stay in the second-level cache.
const FAR: usize = 2 << 20;
/// The same for the last level, where one thread has a part of it. In NHWC, a prefetch from there takes longer than it saves.
const FARTHEST: usize = 4 << 20;
/// Pixels of a line of a plane that is scaled: some vectors.
const LINE_OF_PLANE: usize = 4 * BLOCK;
/// Maximum number of outputs of a vector that take so little time that several vectors share a call.
const FEW_OUTPUTS: usize = 64;
/// Maximum number of outputs of a map that are computed one by one. A tile takes as long as some outputs to begin.
const FEWEST_OUTPUTS: usize = 9;
/// Minimum number of rows per call.
const MIN_STRETCH: usize = 4;
/// Minimum number of useful lanes in a vector of sixteen.
const LEAST_LANES: usize = 4;
/// In NHWC, bytes of a line that one call computes.
const LINE: usize = 4 << 10;

/// Outputs of one call.
struct Outputs {
    rows: Range<usize>,
    columns: Range<usize>,
}

/// A planned depthwise convolution.
pub(crate) struct Depthwise {
    desc: ConvDesc,
    kernels: &'static DepthwiseKernels,
    reading: Reading,
    pub(super) weights: Arc<DepthwiseWeights>,
    copy: &'static CopyTable,
    /// Whether vectors of channels are prefetched.
    fetch: bool,
}

pub(crate) fn supports(desc: &ConvDesc) -> Result<(), Unsupported> {
    let is_mixed = desc.layout() != desc.output_layout();
    if is_mixed && (desc.layout(), desc.output_layout()) != (Layout::Nchw, Layout::Nchw16c) {
        return Err(Unsupported::MixedLayouts);
    }
    let (ins, outs) = (desc.ins(), desc.outs());
    if ins > MOST_PER_GROUP {
        return Err(Unsupported::LargeGroups);
    }
    // Number of groups whose input channels fit one vector, at least one.
    let groups = (BLOCK / ins).clamp(1, desc.groups());
    if desc.layout() != Layout::Nchw && desc.groups() > groups && groups * outs < LEAST_LANES {
        return Err(Unsupported::ScatteredGroups);
    }
    Ok(())
}

/// Elements of workspace.
fn workspace_len(desc: &ConvDesc, kernels: &DepthwiseKernels) -> usize {
    if transposes(desc) { transposed::workspace_len(desc) } else { blocks::workspace_len(desc, kernels) }
}

/// Whole rows of the output. In NCHW, whole tiles of rows.
fn split_units(desc: &ConvDesc, reading: Reading, kernels: &DepthwiseKernels) -> SplitUnits {
    let channels = if desc.output_layout() == Layout::Nchw { 1 } else { BLOCK };
    match reading {
        Reading::Pixels => SplitUnits::new(desc.output().w * kernels.outputs(), channels),
        _ => SplitUnits::new(desc.output().w, BLOCK),
    }
}

/// The granularity at which the output of `desc` is split.
#[cfg(feature = "internal")]
pub(crate) fn split_units_of(desc: &ConvDesc, kernels: &KernelSet) -> SplitUnits {
    let kernels = kernels.depthwise();
    split_units(desc, DepthwiseForm::new(desc, kernels.lanes()).reading(), kernels)
}

/// Whether vectors of channels are prefetched: those of strided lines, and those of pixels that lie apart. Prefetching what
/// is near takes longer than it saves.
fn fetches(desc: &ConvDesc) -> bool {
    let input = desc.input();
    let bytes = (input.n * input.c).saturating_mul(input.h * input.w).saturating_mul(size_of::<f32>());
    desc.stride().h > 1 && bytes > FAR || desc.layout() == Layout::Nhwc && bytes > FARTHEST
}

/// Whether a plane is scaled: a kernel of one tap, without padding or stride. The image is then one row.
fn scales(desc: &ConvDesc) -> bool {
    let one = Size2::new(1, 1);
    let (input, output) = (desc.input().size(), desc.output().size());
    desc.kernel() == one && desc.stride() == one && output == input && output.h == 1
}

impl Depthwise {
    /// Makes the driver of a problem that it [`supports`], with weights in the form for its layout.
    pub(crate) fn new(desc: &ConvDesc, weights: Arc<DepthwiseWeights>, kernels: &'static KernelSet) -> Self {
        let reading = weights.form.reading();
        let fetch = fetches(desc);
        Self { desc: *desc, kernels: kernels.depthwise(), reading, weights, copy: &kernels.copy, fetch }
    }

    pub(crate) fn kernels(&self) -> &'static DepthwiseKernels {
        self.kernels
    }

    pub(crate) fn split_units(&self) -> SplitUnits {
        split_units(&self.desc, self.reading, self.kernels)
    }

    /// Elements of workspace.
    pub(crate) fn workspace_len(&self) -> usize {
        workspace_len(&self.desc, self.kernels)
    }

    pub(crate) fn run(&self, operands: &Operands<'_>, region: &mut OutputRegion<'_>, slab: &mut [f32]) {
        if transposes(&self.desc) {
            return self.run_transposed(operands, region, slab);
        }
        if self.desc.layout() != self.desc.output_layout() {
            return self.run_blocks(operands, region, slab);
        }
        let (channels, width) = (region.channels.clone(), self.desc.output().w);
        let rows = region.pixels.start / width..region.pixels.end / width;
        let mut numbers = self.weights.of_channels(&channels);
        let together = numbers.start..self.end_of_whole(&numbers, &channels, rows.len() * width);
        if !together.is_empty() {
            for n in region.images.clone() {
                for part in self.parts(rows.clone()) {
                    self.outputs_of_vectors(operands, region, (n, together.clone()), part);
                }
            }
        }
        numbers.start = together.end;
        let (together, stretch) = self.order();
        for n in region.images.clone() {
            for first in numbers.clone().step_by(together) {
                for start in rows.clone().step_by(stretch) {
                    let rows = start..rows.end.min(start.saturating_add(stretch));
                    for vector in first..numbers.end.min(first + together) {
                        let part = Outputs { rows: rows.clone(), columns: 0..width };
                        self.outputs_of_vectors(operands, region, (n, vector..vector + 1), part);
                    }
                }
            }
        }
    }

    /// Returns the number of vectors that share input lines, and the rows of the output that each computes at
    /// a time.
    ///
    /// A cache line holds channels of several vectors. If these vectors compute the same rows one after
    /// another, the lines are still in cache when the later vectors need them.
    fn order(&self) -> (usize, usize) {
        let (input, kernel) = (self.desc.input(), self.desc.kernel());
        let together = match self.desc.layout() {
            Layout::Nchw => return (1, usize::MAX),
            Layout::Nhwc => TOGETHER,
            Layout::Nchw16c | Layout::Nchw32cBf16 => BLOCK,
        };
        if input.c.min(together) <= self.kernels.lanes() {
            return (1, usize::MAX);
        }
        let rows = NEAR / (together * size_of::<f32>()) / input.w;
        let shared = (kernel.h - 1).saturating_mul(self.desc.dilation().h);
        let stretch = (rows.saturating_sub(shared) / self.desc.stride().h).max(MIN_STRETCH);
        (together / self.kernels.lanes(), stretch)
    }

    /// The end of the first of `numbers` that one call computes. Their outputs are adjacent lanes. Vectors of channels with
    /// many outputs have calls of their own, in the [`order`](Self::order) of their cache lines.
    fn end_of_whole(&self, numbers: &Range<usize>, channels: &Range<usize>, outputs: usize) -> usize {
        match self.reading {
            Reading::Pixels => numbers.end,
            // The last vector begins inside the one before it.
            Reading::Channels if self.desc.layout() == Layout::Nhwc => {
                (channels.end / self.kernels.lanes()).max(numbers.start)
            }
            Reading::Channels if outputs <= FEW_OUTPUTS => numbers.end,
            _ => numbers.start,
        }
    }

    /// The parts of `rows` that one call computes for several vectors: all of them, but in NHWC the lines of a tile, and
    /// columns in which the vectors have about [`LINE`] bytes. Vectors that lie apart would be read without the help of a
    /// prefetcher, and those of a power of two of bytes would be in the same few sets of a cache.
    fn parts(&self, rows: Range<usize>) -> impl Iterator<Item = Outputs> + use<> {
        let width = self.desc.output().w;
        let (lines, columns) = match self.desc.layout() {
            Layout::Nhwc => {
                let of_pixel = self.desc.input().c * size_of::<f32>();
                let columns = (LINE / of_pixel).next_multiple_of(self.kernels.outputs());
                (self.kernels.lines(), columns.max(self.kernels.outputs()))
            }
            _ => (rows.len().max(1), width),
        };
        rows.clone().step_by(lines).flat_map(move |y| {
            let rows = y..rows.end.min(y + lines);
            (0..width).step_by(columns).map(move |x| Outputs {
                rows: rows.clone(),
                columns: x..width.min(x.saturating_add(columns)),
            })
        })
    }

    /// Computes some outputs of some vectors in one call. Of several vectors of channels, only the last can have lanes that
    /// are no outputs.
    fn outputs_of_vectors(
        &self,
        operands: &Operands<'_>,
        region: &mut OutputRegion<'_>,
        (n, numbers): (usize, Range<usize>),
        Outputs { rows, columns }: Outputs,
    ) {
        if numbers.is_empty() || rows.is_empty() {
            return;
        }
        if self.reading == Reading::Pixels && scales(&self.desc) {
            return self.planes(operands, region, (n, numbers));
        }
        let width = self.desc.output().w;
        let mut window = self.window(operands.input.view.pixel, rows.clone());
        let pixels = rows.start * width + columns.start..rows.end * width;
        let Vector { first, lo, .. } = self.weights.vector_in(numbers.start, &region.channels);
        let (residual, out) = if self.reading == Reading::Pixels {
            let channels = first..first + numbers.len();
            (operands.residual_as_rows(n, pixels.start, first), region.channels_as_rows(n, channels, pixels))
        } else {
            let residual = operands.residual_as_columns(n, pixels.start, first);
            let of = PixelBox { first: pixels.start, rows: rows.len(), pixels: columns.len(), width };
            let last = self.weights.vector_in(numbers.end - 1, &region.channels);
            let lanes = lo..last.first + last.hi - first;
            let (out, line) = region.box_as_columns(n, of, first, lanes);
            (window.inner.start, window.inner.end) = (columns.start, columns.end);
            window.line = line;
            (residual, out)
        };
        let image = self.image(&operands.input, n, numbers.start);
        self.call(numbers, &window, image, out, residual);
    }

    /// Computes the planes of a kernel of one tap. Tiles have several lines, so the row is split into lines.
    fn planes(
        &self,
        operands: &Operands<'_>,
        region: &mut OutputRegion<'_>,
        (n, numbers): (usize, Range<usize>),
    ) {
        let (first, pixels) = (self.weights.vectors[numbers.start].first, region.pixels.clone());
        let lines = pixels.len() / LINE_OF_PLANE;
        let whole = pixels.start + lines * LINE_OF_PLANE;
        let parts = [(pixels.start, lines, LINE_OF_PLANE), (whole, 1, pixels.end - whole)];
        for (start, lines, width) in parts {
            let axis = |input, step| Axis {
                input,
                step,
                taps: 1,
                stride: 1,
                dilation: 1,
                before: 0,
                start: 0,
                end: input,
            };
            let (inner, outer) = (axis(lines, width), axis(width, 1));
            let window = Window { inner, outer, ..self.window(1, 0..1) };
            let residual = operands.residual_as_rows(n, start, first);
            let out = region.channels_as_rows(n, first..first + numbers.len(), start..start + lines * width);
            let mut image = self.image(&operands.input, n, numbers.start);
            image.data = &image.data[start..];
            self.call(numbers.clone(), &window, image, out, residual);
        }
    }

    /// Computes the outputs of `window` for some vectors.
    fn call(
        &self,
        numbers: Range<usize>,
        window: &Window,
        image: Image<'_>,
        out: OutputTile<'_>,
        residual: Addend<'_>,
    ) {
        let (bias, slope) = self.weights.per_channel(numbers.clone());
        let post = Post {
            bias,
            slope,
            per_row: false,
            activation: self.desc.epilogue().activation,
            residual,
            first: true,
            last: true,
        };
        let skip = self.weights.vectors[numbers.start].first % self.desc.outs();
        let window = Window { vectors: numbers.len(), skip, ..*window };
        self.kernels.run(&window, image, self.weights.weights(numbers), out, &post);
    }

    /// The window of `rows` of the output, on an image whose pixels are `pixel` elements apart.
    fn window(&self, pixel: usize, rows: Range<usize>) -> Window {
        let desc = &self.desc;
        let y = Axis {
            input: desc.input().h,
            step: desc.input().w * pixel,
            taps: desc.kernel().h,
            stride: desc.stride().h,
            dilation: desc.dilation().h,
            before: desc.pad().top,
            start: rows.start,
            end: rows.end,
        };
        let x = Axis {
            input: desc.input().w,
            step: pixel,
            taps: desc.kernel().w,
            stride: desc.stride().w,
            dilation: desc.dilation().w,
            before: desc.pad().left,
            start: 0,
            end: desc.output().w,
        };
        let (inner, outer) = if self.reading == Reading::Pixels { (y, x) } else { (x, y) };
        let (reading, channels, outs, fetch) = (self.reading, desc.ins(), desc.outs(), self.fetch);
        let line = desc.output().w;
        let small = desc.output().h.saturating_mul(line) <= FEWEST_OUTPUTS;
        Window { reading, inner, outer, channels, outs, skip: 0, vectors: 1, small, line, fetch }
    }

    /// The input of vector `number` in image `n`.
    fn image<'a>(&'a self, input: &PixelRef<'a>, n: usize, number: usize) -> Image<'a> {
        let (ins, outs) = (self.desc.ins(), self.desc.outs());
        let first = self.weights.vectors[number].first;
        let channel = match self.reading {
            Reading::Channels => first,
            Reading::Permuted | Reading::Partial => 0,
            Reading::Pixels => first / outs * ins,
        };
        Image {
            data: &input.data[input.view.offset(n, channel, 0)..],
            plane: if self.desc.layout() == Layout::Nhwc { BLOCK } else { input.view.plane },
            sources: self.weights.sources(number),
        }
    }
}
