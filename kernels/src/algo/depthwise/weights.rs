//! [`DepthwiseWeights`]: output channels as vectors, where their lanes find their inputs, and their weights.

use crate::algo::packed::{PerChannel, flushed};
use crate::describe::{BLOCK, ConvDesc, ConvError, Layout, Size2, Weights};
use crate::memory::{Buffer, try_push, try_vec};
use crate::tile::depthwise_read::{LaneSource, Reading};
use std::ops::Range;

/// A vector of output channels; in NCHW, one channel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Vector {
    /// The channel of lane 0.
    pub(super) first: usize,
    /// The lanes that are its own.
    pub(super) lo: usize,
    pub(super) hi: usize,
}

/// How a filter is packed. No weights are needed to know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct DepthwiseForm {
    layout: Layout,
    /// Output channels, of all groups.
    channels: usize,
    /// Input channels of a group, and of all groups.
    ins: usize,
    all_ins: usize,
    /// Output channels of a group.
    outs: usize,
    kernel: Size2,
    /// Of a vector.
    pub(super) lanes: usize,
    per_channel: PerChannel,
}

impl DepthwiseForm {
    /// The form for vectors of `lanes`.
    pub(crate) fn new(desc: &ConvDesc, lanes: usize) -> Self {
        Self {
            layout: desc.layout(),
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

    /// Elements of the filter, of bias and of slopes.
    pub(crate) fn lens(&self) -> [usize; 3] {
        let vectors = self.count_vectors();
        let [bias, slope] = self.per_channel.lens(vectors.saturating_mul(self.lanes));
        [vectors.saturating_mul(self.vector_len()), bias, slope]
    }

    /// Bytes of everything packed, and of the sources of the lanes.
    pub(super) fn bytes(&self) -> usize {
        let packed = self.lens().into_iter().fold(0, usize::saturating_add);
        let sources = self.count_sources().saturating_mul(size_of::<LaneSource>());
        packed.saturating_mul(size_of::<f32>()).saturating_add(sources)
    }

    /// Weights of one output channel.
    fn taps(&self) -> usize {
        self.ins * self.kernel.h * self.kernel.w
    }

    /// Elements of the weights of a vector.
    fn vector_len(&self) -> usize {
        self.taps().saturating_mul(if self.reading() == Reading::Pixels { 1 } else { self.lanes })
    }

    /// Cuts the output channels into vectors whose input channels are each in one vector.
    fn vectors(self) -> impl Iterator<Item = Vector> {
        let Self { channels, lanes, layout, .. } = self;
        let reading = self.reading();
        let mut start = 0;
        std::iter::from_fn(move || {
            if start >= channels {
                return None;
            }
            // A vector of Nchw16c begins where vectors of its block do.
            let whole = if layout == Layout::Nchw16c { start / lanes * lanes } else { start };
            let most = channels.min(whole + lanes);
            let (first, end) = match reading {
                Reading::Pixels => (start, start + 1),
                // The last vector of NHWC is read as it lies. It begins earlier, so as not to reach past the last channel.
                Reading::Channels if layout == Layout::Nhwc => (start.min(channels - lanes), most),
                Reading::Channels => (whole, most),
                _ => (whole, (start + 1..most).find(|&end| !self.together(start, end)).unwrap_or(most)),
            };
            let vector = Vector { first, lo: start - first, hi: end - first };
            start = end;
            Some(vector)
        })
    }

    /// How many [`vectors`](Self::vectors) there are. Beyond millions of channels it is a lower bound: hardly anybody has
    /// memory for so many weights, and counting must not take longer than computing.
    pub(super) fn count_vectors(&self) -> usize {
        const MOST_COUNTED: usize = 1 << 22;
        match self.reading() {
            Reading::Pixels => self.channels,
            Reading::Channels => self.channels.div_ceil(self.lanes),
            _ if self.channels > MOST_COUNTED => self.channels.div_ceil(self.lanes),
            _ => self.vectors().count(),
        }
    }

    /// Sources of lanes: none where lane `i` of the output reads lane `i` of the input.
    fn count_sources(&self) -> usize {
        match self.reading() {
            Reading::Permuted | Reading::Partial => self.count_vectors().saturating_mul(self.ins),
            Reading::Channels | Reading::Pixels => 0,
        }
    }

    /// Whether output channels `a` and `b` take their input channels from one vector, whichever of their groups'.
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
        // As early as need be for a whole vector.
        let (start, mut source) = if layout == Layout::Nchw16c {
            let (block, lane) = (first / BLOCK, (first % BLOCK).min(BLOCK - lanes));
            (block * BLOCK + lane, LaneSource::new(block, lane, lanes))
        } else {
            let start = first.min(all_ins.saturating_sub(lanes));
            (start, LaneSource::new(0, start, lanes.min(all_ins)))
        };
        // The other lanes have weights of zero and are never stored: any channel does.
        (vector.lo..vector.hi).for_each(|lane| source.take(lane, wanted(lane) - start));
        source
    }
}

/// A packed filter.
pub(crate) struct DepthwiseWeights {
    pub(super) form: DepthwiseForm,
    /// In the order of their channels.
    pub(super) vectors: Vec<Vector>,
    /// `[vector][channel of the group]`, where lanes are permuted.
    sources: Vec<LaneSource>,
    /// `[vector][channel of the group][kh][kw][lane]`; NCHW: `[output channel][channel of the group][kw][kh]`.
    data: Buffer,
    /// A vector for each vector of outputs; NCHW: for each output channel, all lanes the same.
    bias: Buffer,
    slope: Buffer,
}

impl DepthwiseWeights {
    /// The filter in `form`. The buffers are packed, or zeros until [`pack`](Self::pack) and [`fill`](Self::fill).
    pub(crate) fn new(form: DepthwiseForm, [data, bias, slope]: [Buffer; 3]) -> Result<Self, ConvError> {
        // Room is made before the channels are gone over, so that too many of them are refused at once.
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

    /// Packs bias and slopes, a vector of them for each vector of outputs.
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

    /// The numbers of the vectors that have some of `channels`.
    pub(super) fn of_channels(&self, channels: &Range<usize>) -> Range<usize> {
        let first = self.vectors.partition_point(|vector| vector.first + vector.hi <= channels.start);
        first..self.vectors.partition_point(|vector| vector.first + vector.lo < channels.end)
    }

    /// Where the lanes of vector `number` find their inputs.
    pub(super) fn sources(&self, number: usize) -> &[LaneSource] {
        self.of_vector(&self.sources, number)
    }

    /// The weights of vector `number`.
    pub(super) fn weights(&self, number: usize) -> &[f32] {
        self.of_vector(&self.data, number)
    }

    /// Bias and slopes of vector `number`; empty where there are none.
    pub(super) fn per_channel(&self, number: usize) -> (&[f32], &[f32]) {
        (self.of_vector(&self.bias, number), self.of_vector(&self.slope, number))
    }

    /// The part of vector `number` of something that has an equal part for each vector, or is empty.
    fn of_vector<'a, X>(&self, of_all: &'a [X], number: usize) -> &'a [X] {
        let each = of_all.len() / self.vectors.len();
        &of_all[number * each..(number + 1) * each]
    }

    /// The packed filter, bias and slopes.
    pub(crate) fn buffers(&self) -> [&Buffer; 3] {
        [&self.data, &self.bias, &self.slope]
    }

    /// Bytes of the sources of the lanes.
    pub(crate) fn source_bytes(&self) -> usize {
        self.sources.len() * size_of::<LaneSource>()
    }
}
