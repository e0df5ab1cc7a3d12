//! [`DepthwiseWeights`]: output channels as vectors, the sources of their lanes, and their weights.

use crate::algo::direct::span;
use crate::algo::packed::flushed;
use crate::algo::panels::PerChannel;
use crate::describe::{BLOCK, ConvDesc, ConvError, Layout, Size2, Weights};
use crate::memory::{Buffer, try_push, try_vec};
use crate::tile::depthwise_read::{LaneSource, Reading};
use std::ops::Range;

/// Minimum number of channels if pixels would have to be gathered.
const LEAST_GATHERED: usize = 4;
/// Maximum number of taps that are so few that transposing takes longer than summing.
const FEW_TAPS: usize = 3;

/// Whether the planes are transposed.
pub(super) fn transposes(desc: &ConvDesc) -> bool {
    // Every window begins and ends inside the image, so that each stretch reads some of its rows.
    let (pad, span) = (desc.pad(), span(desc));
    let inside = pad.top < span && pad.bottom < span;
    let (channels, taps) = (desc.output().c, desc.kernel().h * desc.kernel().w);
    let worth = if desc.stride().w > 2 {
        channels >= LEAST_GATHERED
    } else {
        // Most lanes of the vectors of channels are used.
        let idle = (BLOCK - channels % BLOCK) % BLOCK;
        let few_pixels = desc.output().h * desc.output().w <= BLOCK;
        (taps > FEW_TAPS || few_pixels) && 4 * idle <= channels
    };
    desc.layout() == Layout::Nchw && desc.ins() == 1 && desc.outs() == 1 && worth && inside
}

/// A vector of output channels. In NCHW, one channel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Vector {
    /// The channel of lane 0.
    pub(super) first: usize,
    /// The valid lanes, `lo..hi`.
    pub(super) lo: usize,
    pub(super) hi: usize,
}

/// How a filter is packed. It does not depend on the values of the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct DepthwiseForm {
    /// The layout that the kernels read.
    layout: Layout,
    /// Output channels, all groups together.
    channels: usize,
    /// Input channels per group, and of all groups together.
    ins: usize,
    all_ins: usize,
    /// Output channels per group.
    outs: usize,
    kernel: Size2,
    /// Lanes of a vector.
    pub(super) lanes: usize,
    per_channel: PerChannel,
}

impl DepthwiseForm {
    /// The form for vectors of `lanes` lanes.
    pub(crate) fn new(desc: &ConvDesc, lanes: usize) -> Self {
        Self {
            // Planes that are transposed are read like blocks.
            layout: if transposes(desc) { Layout::Nchw16c } else { desc.layout() },
            channels: desc.output().c,
            ins: desc.ins(),
            all_ins: desc.input().c,
            outs: desc.outs(),
            kernel: desc.kernel(),
            lanes,
            per_channel: PerChannel::of(&desc.epilogue()),
        }
    }

    /// How the kernels read the image.
    pub(super) fn reading(&self) -> Reading {
        match self.layout {
            Layout::Nchw => Reading::Pixels,
            Layout::Nhwc if self.all_ins < self.lanes => Reading::Partial,
            _ if (self.ins, self.outs) == (1, 1) => Reading::Channels,
            _ => Reading::Permuted,
        }
    }

    /// Elements of the packed filter, the packed bias and the packed slopes.
    pub(crate) fn lens(&self) -> [usize; 3] {
        let vectors = self.count_vectors();
        let [bias, slope] = self.per_channel.lens(vectors.saturating_mul(self.lanes));
        [vectors.saturating_mul(self.vector_len()), bias, slope]
    }

    /// Bytes of all packed data and of the lane sources.
    pub(super) fn bytes(&self) -> usize {
        let packed = self.lens().into_iter().fold(0, usize::saturating_add);
        let sources = self.count_sources().saturating_mul(size_of::<LaneSource>());
        packed.saturating_mul(size_of::<f32>()).saturating_add(sources)
    }

    /// Weights of one output channel.
    fn taps(&self) -> usize {
        self.ins * self.kernel.h * self.kernel.w
    }

    /// Elements of the weights of one vector.
    fn vector_len(&self) -> usize {
        self.taps().saturating_mul(if self.reading() == Reading::Pixels { 1 } else { self.lanes })
    }

    /// Splits the output channels into vectors. Each input channel index of a vector's groups must come from
    /// one vector of the input.
    fn vectors(self) -> impl Iterator<Item = Vector> {
        let Self { channels, lanes, layout, .. } = self;
        let reading = self.reading();
        let mut start = 0;
        std::iter::from_fn(move || {
            if start >= channels {
                return None;
            }
            // In Nchw16c, vectors begin at multiples of the lanes within a block.
            let whole = if layout == Layout::Nchw16c { start / lanes * lanes } else { start };
            let most = channels.min(whole + lanes);
            let (first, end) = match reading {
                Reading::Pixels => (start, start + 1),
                // In NHWC, the last vector is read in place. It begins earlier, so that it does not reach
                // past the last channel.
                Reading::Channels if layout == Layout::Nhwc => (start.min(channels - lanes), most),
                Reading::Channels => (whole, most),
                _ => (whole, (start + 1..most).find(|&end| !self.together(start, end)).unwrap_or(most)),
            };
            let vector = Vector { first, lo: start - first, hi: end - first };
            start = end;
            Some(vector)
        })
    }

    /// Returns the number of [`vectors`](Self::vectors). For millions of channels it is a lower bound,
    /// because counting must not take longer than computing. So many weights rarely fit in memory.
    pub(super) fn count_vectors(&self) -> usize {
        const MOST_COUNTED: usize = 1 << 22;
        match self.reading() {
            Reading::Pixels => self.channels,
            Reading::Channels => self.channels.div_ceil(self.lanes),
            _ if self.channels > MOST_COUNTED => self.channels.div_ceil(self.lanes),
            _ => self.vectors().count(),
        }
    }

    /// Number of lane sources: none if lane `i` of the output reads lane `i` of the input.
    fn count_sources(&self) -> usize {
        match self.reading() {
            Reading::Permuted | Reading::Partial => self.count_vectors().saturating_mul(self.ins),
            Reading::Channels | Reading::Pixels => 0,
        }
    }

    /// Whether output channels `a` and `b` find each input channel of their groups in one vector of the
    /// input.
    fn together(&self, a: usize, b: usize) -> bool {
        let Self { ins, outs, lanes, layout, .. } = *self;
        let (a, b) = (a / outs * ins, b / outs * ins);
        let one_block = |c: usize| layout != Layout::Nchw16c || (a + c) / BLOCK == (b + c) / BLOCK;
        b - a < lanes && (0..ins).all(one_block)
    }

    /// Where the lanes of `vector` find channel `c` of their groups.
    fn source(&self, vector: &Vector, c: usize) -> LaneSource {
        let Self { ins, outs, lanes, layout, all_ins, .. } = *self;
        let wanted = |lane: usize| (vector.first + lane) / outs * ins + c;
        let first = wanted(vector.lo);
        // The start is moved back if a whole vector would not fit otherwise.
        let (start, mut source) = if layout == Layout::Nchw16c {
            let (block, lane) = (first / BLOCK, (first % BLOCK).min(BLOCK - lanes));
            (block * BLOCK + lane, LaneSource::new(block, lane, lanes))
        } else {
            let start = first.min(all_ins.saturating_sub(lanes));
            (start, LaneSource::new(0, start, lanes.min(all_ins)))
        };
        // The other lanes have zero weights and are never stored, so any channel will do.
        (vector.lo..vector.hi).for_each(|lane| source.take(lane, wanted(lane) - start));
        source
    }
}

/// A packed filter.
pub(crate) struct DepthwiseWeights {
    pub(super) form: DepthwiseForm,
    /// The vectors, in the order of their channels.
    pub(super) vectors: Vec<Vector>,
    /// `[vector][channel of the group]`, if lanes are permuted; otherwise empty.
    sources: Vec<LaneSource>,
    /// `[vector][channel of the group][kh][kw][lane]`; NCHW: `[output channel][channel of the group][kw][kh]`.
    data: Buffer,
    /// The bias: one vector for each vector of outputs. In NCHW, one vector of equal lanes for each output
    /// channel.
    bias: Buffer,
    slope: Buffer,
}

impl DepthwiseWeights {
    /// Makes a filter in `form`. The buffers are packed already, or zeros until [`pack`](Self::pack) and
    /// [`fill`](Self::fill).
    pub(crate) fn new(form: DepthwiseForm, [data, bias, slope]: [Buffer; 3]) -> Result<Self, ConvError> {
        // Memory is reserved before the channels are visited, so that a refusal comes at once.
        let mut vectors = try_vec("vectors of channels", form.count_vectors())?;
        for vector in form.vectors() {
            try_push("vectors of channels", &mut vectors, vector)?;
        }
        let mut sources = try_vec("sources of vectors", form.count_sources())?;
        if sources.capacity() > 0 {
            let of_vector = |vector| (0..form.ins).map(move |c| form.source(vector, c));
            sources.extend(vectors.iter().flat_map(of_vector));
        }
        Ok(Self { form, vectors, sources, data, bias, slope })
    }

    /// Packs the bias and the slopes, one vector for each vector of outputs.
    pub(crate) fn pack(&mut self, weights: &Weights<'_>) {
        let (lanes, reading) = (self.form.lanes, self.form.reading());
        for (to, from) in [(&mut self.bias, weights.bias), (&mut self.slope, weights.slope)] {
            let Some(from) = from else { continue };
            for (&Vector { first, lo, hi }, to) in self.vectors.iter().zip(to.chunks_exact_mut(lanes)) {
                match reading {
                    Reading::Pixels => to.fill(from[first]),
                    _ => to[lo..hi].copy_from_slice(&from[first + lo..first + hi]),
                }
            }
        }
    }

    /// Packs the whole filter. Subnormal weights are [`flushed`].
    pub(crate) fn fill(&mut self, filter: &[f32]) {
        let (reading, kernel, taps) = (self.form.reading(), self.form.kernel, self.form.taps());
        let window = kernel.h * kernel.w;
        let packed = self.data.chunks_exact_mut(self.form.vector_len());
        for (vector, packed) in self.vectors.iter().zip(packed) {
            for lane in vector.lo..vector.hi {
                for (tap, &w) in filter[(vector.first + lane) * taps..][..taps].iter().enumerate() {
                    let (channel, y, x) = (tap / window, tap % window / kernel.w, tap % kernel.w);
                    let to = match reading {
                        Reading::Pixels => channel * window + x * kernel.h + y,
                        _ => tap * self.form.lanes + lane,
                    };
                    packed[to] = flushed(w);
                }
            }
        }
    }

    /// The numbers of the vectors that contain some of `channels`.
    pub(super) fn of_channels(&self, channels: &Range<usize>) -> Range<usize> {
        let first = self.vectors.partition_point(|vector| vector.first + vector.hi <= channels.start);
        first..self.vectors.partition_point(|vector| vector.first + vector.lo < channels.end)
    }

    /// Vector `number`, with those of its lanes that are in `channels`.
    pub(super) fn vector_in(&self, number: usize, channels: &Range<usize>) -> Vector {
        let Vector { first, lo, hi } = self.vectors[number];
        let lo = lo.max(channels.start.saturating_sub(first));
        let hi = hi.min(channels.end.saturating_sub(first));
        Vector { first, lo, hi }
    }

    /// The lane sources of vector `number`.
    pub(super) fn sources(&self, number: usize) -> &[LaneSource] {
        self.of_vectors(&self.sources, number..number + 1)
    }

    /// The weights of some vectors.
    pub(super) fn weights(&self, numbers: Range<usize>) -> &[f32] {
        self.of_vectors(&self.data, numbers)
    }

    /// The bias and the slopes of some vectors; empty where there are none.
    pub(super) fn per_channel(&self, numbers: Range<usize>) -> (&[f32], &[f32]) {
        (self.of_vectors(&self.bias, numbers.clone()), self.of_vectors(&self.slope, numbers))
    }

    /// The part of some vectors in `of_all`, which has an equal part for each vector, or is empty.
    fn of_vectors<'a, X>(&self, of_all: &'a [X], numbers: Range<usize>) -> &'a [X] {
        let each = of_all.len() / self.vectors.len();
        &of_all[numbers.start * each..numbers.end * each]
    }

    /// The packed filter, bias and slopes.
    pub(crate) fn buffers(&self) -> [&Buffer; 3] {
        [&self.data, &self.bias, &self.slope]
    }

    /// Bytes of the lane sources.
    pub(crate) fn source_bytes(&self) -> usize {
        self.sources.len() * size_of::<LaneSource>()
    }
}
