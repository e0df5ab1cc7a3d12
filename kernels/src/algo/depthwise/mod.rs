//! Depthwise convolution, with any number of outputs per channel, and groups of few channels: no matrix product, for
//! there is next to nothing to sum. Each vector of outputs is computed from the image where it lies.
//!
//! ```text
//! for image:
//!     for vectors of output channels that share cache lines:   // NCHW: channels
//!         for stretch of rows:                                 // what stays in the second cache level
//!             for vector: one call of a tile's kernel
//! ```
//!
//! Where channels are neighbours, a lane whose group is not its own number takes its channel from another lane: a list
//! of [`LaneSource`]s, one for every vector and every channel of a group, is made once, here. Vectors end where what they
//! need is no longer in one vector of the input.

mod work;

use super::operands::Operands;
use crate::algo::packed::{PACKED, flushed};
use crate::describe::{BLOCK, ConvDesc, ConvError, Layout, PixelRef, PixelView, Unsupported, Weights};
use crate::memory::{Buffer, try_push, try_vec};
use crate::tile::depthwise_read::{Axis, LaneSource, Reading};
use crate::tile::depthwise_table::{DepthwiseKernels, Image, Window};
use crate::tile::output::OutputRegion;
use crate::tile::post::Post;
use crate::tile::table::KernelSet;
use crate::work::parts::SplitUnits;
use std::ops::Range;
pub(crate) use work::estimate;

/// Channels of a group from which on a matrix product has enough to sum.
const MOST_PER_GROUP: usize = 16;
/// Channels of NHWC whose vectors go over the same rows before any goes on to the next.
const TOGETHER: usize = 4 * BLOCK;
/// Bytes of the input that they go over: a part of the second cache level.
const NEAR: usize = 128 << 10;
/// Rows that are worth a call.
const MIN_STRETCH: usize = 4;
/// Lanes that a vector of sixteen must have a use for.
const LEAST_LANES: usize = 4;

/// A planned depthwise convolution.
pub(crate) struct Depthwise {
    desc: ConvDesc,
    kernels: &'static DepthwiseKernels,
    reading: Reading,
    /// In the order of their channels.
    vectors: Vec<Vector>,
    /// `[vector][channel of the group]`, where lanes are permuted.
    sources: Vec<LaneSource>,
    /// `[vector][channel of the group][kh][kw][lane]`; NCHW: `[output channel][channel of the group][kw][kh]`.
    weights: Buffer,
    /// A vector for each vector of outputs; NCHW: for each output channel, all lanes the same.
    bias: Buffer,
    slope: Buffer,
}

/// A vector of output channels; in NCHW, one channel.
#[derive(Debug, Clone, Copy)]
struct Vector {
    /// The channel of lane 0.
    first: usize,
    /// The lanes that are its own.
    lo: usize,
    hi: usize,
}

pub(crate) fn supports(desc: &ConvDesc) -> Result<(), Unsupported> {
    if desc.layout() != desc.output_layout() {
        return Err(Unsupported::MixedLayouts);
    }
    let (ins, outs) = (desc.ins(), desc.outs());
    if ins > MOST_PER_GROUP {
        return Err(Unsupported::LargeGroups);
    }
    // Input channels of that many groups are in one vector; of one group, always.
    let groups = (BLOCK / ins).clamp(1, desc.groups());
    if desc.layout() != Layout::Nchw && desc.groups() > groups && groups * outs < LEAST_LANES {
        return Err(Unsupported::ScatteredGroups);
    }
    Ok(())
}

fn reading(desc: &ConvDesc, lanes: usize) -> Reading {
    match desc.layout() {
        Layout::Nchw => Reading::Pixels,
        Layout::Nhwc if desc.input().c < lanes => Reading::Partial,
        _ if (desc.ins(), desc.outs()) == (1, 1) => Reading::Channels,
        _ => Reading::Permuted,
    }
}

/// Cuts the output channels into vectors whose input channels are each in one vector.
fn vectors(desc: &ConvDesc, lanes: usize, reading: Reading) -> impl Iterator<Item = Vector> {
    let channels = desc.output().c;
    let mut start = 0;
    std::iter::from_fn(move || {
        if start >= channels {
            return None;
        }
        // A vector of Nchw16c begins where vectors of its block do.
        let whole = if desc.layout() == Layout::Nchw16c { start / lanes * lanes } else { start };
        let most = channels.min(whole + lanes);
        let (first, end) = match reading {
            Reading::Pixels => (start, start + 1),
            // Read as it lies, the last vector of NHWC must not reach past the last channel, and begins earlier.
            Reading::Channels if desc.layout() == Layout::Nhwc => (start.min(channels - lanes), most),
            Reading::Channels => (whole, most),
            _ => (whole, (start + 1..most).find(|&end| !together(desc, lanes, start, end)).unwrap_or(most)),
        };
        let vector = Vector { first, lo: start - first, hi: end - first };
        start = end;
        Some(vector)
    })
}

/// How many [`vectors`] there are. Beyond millions of channels, whose weights hardly anybody has memory for, at least how
/// many: counting must not take longer than computing.
fn count_vectors(desc: &ConvDesc, lanes: usize, reading: Reading) -> usize {
    const MOST_COUNTED: usize = 1 << 22;
    let channels = desc.output().c;
    match reading {
        Reading::Pixels => channels,
        Reading::Channels => channels.div_ceil(lanes),
        _ if channels > MOST_COUNTED => channels.div_ceil(lanes),
        _ => vectors(desc, lanes, reading).count(),
    }
}

/// Whether output channels `a` and `b` take their input channels from one vector, whichever of their groups'.
fn together(desc: &ConvDesc, lanes: usize, a: usize, b: usize) -> bool {
    let (ins, outs) = (desc.ins(), desc.outs());
    let (a, b) = (a / outs * ins, b / outs * ins);
    let one_block = |c: usize| desc.layout() != Layout::Nchw16c || (a + c) / BLOCK == (b + c) / BLOCK;
    b - a < lanes && (0..ins).all(one_block)
}

/// Where the lanes of `vector` find channel `c` of their groups.
fn source(desc: &ConvDesc, lanes: usize, vector: &Vector, c: usize) -> LaneSource {
    let (ins, outs) = (desc.ins(), desc.outs());
    let wanted = |lane: usize| (vector.first + lane) / outs * ins + c;
    let first = wanted(vector.lo);
    // As early as need be for a whole vector.
    let (start, mut source) = if desc.layout() == Layout::Nchw16c {
        let (block, lane) = (first / BLOCK, (first % BLOCK).min(BLOCK - lanes));
        (block * BLOCK + lane, LaneSource::new(block, lane, lanes))
    } else {
        let start = first.min(desc.input().c.saturating_sub(lanes));
        (start, LaneSource::new(0, start, lanes.min(desc.input().c)))
    };
    // The other lanes have weights of zero and are never stored: any channel does.
    (vector.lo..vector.hi).for_each(|lane| source.take(lane, wanted(lane) - start));
    source
}

/// Whole rows of the output; in NCHW, whole tiles of them.
fn split_units(desc: &ConvDesc, reading: Reading, kernels: &DepthwiseKernels) -> SplitUnits {
    match reading {
        Reading::Pixels => SplitUnits::new(desc.output().w * kernels.outputs(), 1),
        _ => SplitUnits::new(desc.output().w, BLOCK),
    }
}

impl Depthwise {
    /// Packs `weights`; the problem must be one that [`supports`].
    pub(crate) fn new(
        desc: &ConvDesc,
        weights: &Weights<'_>,
        kernels: &'static KernelSet,
    ) -> Result<Self, ConvError> {
        let kernels = kernels.depthwise();
        let reading = reading(desc, kernels.lanes());
        // Room is made before the channels are gone over, so that too many of them are refused at once.
        let mut all = try_vec("vectors of channels", count_vectors(desc, kernels.lanes(), reading))?;
        for vector in vectors(desc, kernels.lanes(), reading) {
            try_push("vectors of channels", &mut all, vector)?;
        }
        let vectors = all;
        let sources = match reading {
            Reading::Permuted | Reading::Partial => {
                let of_channel = |vector: &Vector, c| source(desc, kernels.lanes(), vector, c);
                let of_vector = |vector| (0..desc.ins()).map(move |c| of_channel(vector, c));
                let mut sources = try_vec("sources of vectors", vectors.len().saturating_mul(desc.ins()))?;
                sources.extend(vectors.iter().flat_map(of_vector));
                sources
            }
            Reading::Channels | Reading::Pixels => Vec::new(),
        };
        let mut planned = Self {
            desc: *desc,
            kernels,
            reading,
            vectors,
            sources,
            weights: Buffer::empty(),
            bias: Buffer::empty(),
            slope: Buffer::empty(),
        };
        planned.weights = planned.pack(weights.filter)?;
        planned.bias = planned.per_channel(weights.bias)?;
        planned.slope = planned.per_channel(weights.slope)?;
        Ok(planned)
    }

    pub(crate) fn kernels(&self) -> &'static DepthwiseKernels {
        self.kernels
    }

    pub(crate) fn packed_bytes(&self) -> usize {
        let sources = self.sources.len() * size_of::<LaneSource>();
        self.weights.bytes() + self.bias.bytes() + self.slope.bytes() + sources
    }

    pub(crate) fn split_units(&self) -> SplitUnits {
        split_units(&self.desc, self.reading, self.kernels)
    }

    /// Output channels of a vector.
    fn width(&self) -> usize {
        if self.reading == Reading::Pixels { 1 } else { self.kernels.lanes() }
    }

    /// Elements of the weights of a vector.
    fn weights_len(&self) -> usize {
        self.desc.taps().saturating_mul(self.width())
    }

    /// Subnormal weights are [`flushed`].
    fn pack(&self, filter: &[f32]) -> Result<Buffer, ConvError> {
        let (kernel, taps, width) = (self.desc.kernel(), self.desc.taps(), self.width());
        let window = kernel.h * kernel.w;
        let mut packed = Buffer::zeroed_for(PACKED, self.vectors.len().saturating_mul(self.weights_len()))?;
        for (vector, packed) in self.vectors.iter().zip(packed.chunks_exact_mut(self.weights_len())) {
            for lane in vector.lo..vector.hi {
                for (tap, &w) in filter[(vector.first + lane) * taps..][..taps].iter().enumerate() {
                    let (channel, y, x) = (tap / window, tap % window / kernel.w, tap % kernel.w);
                    let to = match self.reading {
                        Reading::Pixels => channel * window + x * kernel.h + y,
                        _ => tap * width + lane,
                    };
                    packed[to] = flushed(w);
                }
            }
        }
        Ok(packed)
    }

    /// `numbers`, a vector for each vector of outputs.
    fn per_channel(&self, numbers: Option<&[f32]>) -> Result<Buffer, ConvError> {
        let Some(numbers) = numbers else { return Ok(Buffer::empty()) };
        let lanes = self.kernels.lanes();
        let mut packed = Buffer::zeroed_for("bias and slopes", self.vectors.len() * lanes)?;
        for (&Vector { first, lo, hi }, packed) in self.vectors.iter().zip(packed.chunks_exact_mut(lanes)) {
            match self.reading {
                Reading::Pixels => packed.fill(numbers[first]),
                _ => packed[lo..hi].copy_from_slice(&numbers[first + lo..first + hi]),
            }
        }
        Ok(packed)
    }

    pub(crate) fn run(&self, operands: &Operands<'_>, region: &mut OutputRegion<'_>) {
        let (channels, width) = (region.channels.clone(), self.desc.output().w);
        let rows = region.pixels.start / width..region.pixels.end / width;
        let (together, stretch) = self.order();
        let number = |channel: usize| self.vectors.partition_point(|v| v.first + v.hi <= channel);
        let numbers = number(channels.start)..self.vectors.partition_point(|v| v.first + v.lo < channels.end);
        for n in region.images.clone() {
            for first in numbers.clone().step_by(together) {
                for start in rows.clone().step_by(stretch) {
                    let rows = start..rows.end.min(start.saturating_add(stretch));
                    for vector in first..numbers.end.min(first + together) {
                        self.rows_of_vector(operands, region, (n, vector), rows.clone());
                    }
                }
            }
        }
    }

    /// Vectors that go over the same lines of the input, and how many rows of the output each does at a time: what lies
    /// beside its own channels, and comes near with them, is still near when the others need it.
    fn order(&self) -> (usize, usize) {
        let (input, kernel) = (self.desc.input(), self.desc.kernel());
        let together = match self.desc.layout() {
            Layout::Nchw => return (1, usize::MAX),
            Layout::Nhwc => TOGETHER,
            Layout::Nchw16c => BLOCK,
        };
        if input.c.min(together) <= self.kernels.lanes() {
            return (1, usize::MAX);
        }
        let rows = NEAR / (together * size_of::<f32>()) / input.w;
        let shared = (kernel.h - 1).saturating_mul(self.desc.dilation().h);
        let stretch = (rows.saturating_sub(shared) / self.desc.stride().h).max(MIN_STRETCH);
        (together / self.kernels.lanes(), stretch)
    }

    fn rows_of_vector(
        &self,
        operands: &Operands<'_>,
        region: &mut OutputRegion<'_>,
        (n, number): (usize, usize),
        rows: Range<usize>,
    ) {
        let width = self.desc.output().w;
        let Vector { first, lo, hi } = self.vectors[number];
        let lo = lo.max(region.channels.start.saturating_sub(first));
        let hi = hi.min(region.channels.end.saturating_sub(first));
        let pixels = rows.start * width..rows.end * width;
        let residual = match self.reading {
            Reading::Pixels => operands.residual_as_rows(n, pixels.start, first),
            _ => operands.residual_as_columns(n, pixels.start, first),
        };
        let post = Post {
            bias: self.of_vector(&self.bias, number),
            slope: self.of_vector(&self.slope, number),
            per_row: false,
            activation: self.desc.epilogue().activation,
            residual,
            first: true,
            last: true,
        };
        let weights = self.of_vector(&self.weights, number);
        let (window, image) =
            (self.window(&operands.input.view, rows), self.image(&operands.input, n, number));
        let out = match self.reading {
            Reading::Pixels => region.channels_as_rows(n, first..first + 1, pixels),
            _ => region.channels_as_columns(n, pixels, first, lo..hi),
        };
        self.kernels.run(&window, image, weights, out, &post);
    }

    /// The window over `rows` of the output.
    fn window(&self, view: &PixelView, rows: Range<usize>) -> Window {
        let desc = &self.desc;
        let y = Axis {
            input: desc.input().h,
            step: desc.input().w * view.pixel,
            taps: desc.kernel().h,
            stride: desc.stride().h,
            dilation: desc.dilation().h,
            before: desc.pad().top,
            start: rows.start,
            end: rows.end,
        };
        let x = Axis {
            input: desc.input().w,
            step: view.pixel,
            taps: desc.kernel().w,
            stride: desc.stride().w,
            dilation: desc.dilation().w,
            before: desc.pad().left,
            start: 0,
            end: desc.output().w,
        };
        let (inner, outer) = if self.reading == Reading::Pixels { (y, x) } else { (x, y) };
        Window { reading: self.reading, inner, outer, channels: desc.ins() }
    }

    /// What vector `number` reads of image `n`.
    fn image<'a>(&'a self, input: &PixelRef<'a>, n: usize, number: usize) -> Image<'a> {
        let (ins, outs) = (self.desc.ins(), self.desc.outs());
        let first = self.vectors[number].first;
        let channel = match self.reading {
            Reading::Channels => first,
            Reading::Permuted | Reading::Partial => 0,
            Reading::Pixels => first / outs * ins,
        };
        Image {
            data: &input.data[input.view.offset(n, channel, 0)..],
            plane: input.view.plane,
            sources: self.of_vector(&self.sources, number),
        }
    }

    /// The part of vector `number` of what has one for each of them, or is empty.
    fn of_vector<'a, X>(&self, of_all: &'a [X], number: usize) -> &'a [X] {
        let each = of_all.len() / self.vectors.len();
        &of_all[number * each..(number + 1) * each]
    }
}
