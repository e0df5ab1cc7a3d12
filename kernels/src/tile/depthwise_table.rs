//! [`DepthwiseKernels`]: the depthwise tiles of one instruction set behind one safe, length-checked call.
//!
//! The table belongs to a [`KernelSet`](super::table::KernelSet), which is returned only after its features
//! were detected.

use super::activate::SumsArgs;
use super::boundary::Entry;
use super::depthwise_read::{Axis, DepthwiseArgs, LaneSource, Reading};
use super::measure::{product, require, span};
use super::output::OutputTile;
use super::post::Post;
use crate::describe::BLOCK;

/// The kernels of one way of reading, as `(inner taps, stride, entry)`.
pub(super) type Windows = &'static [(usize, usize, Entry<DepthwiseArgs>)];

/// The kernels of depthwise convolution and of small groups.
pub struct DepthwiseKernels {
    pub(super) name: &'static str,
    pub(super) lanes: usize,
    /// Adjacent outputs of a line, and lines, if the window is not long.
    pub(super) tile: (usize, usize),
    /// Kernels per way of reading. Vectors of channels have separate kernels for NHWC and for Nchw16c.
    pub(super) channels: [Windows; 2],
    pub(super) permuted: [Windows; 2],
    pub(super) pixels: Windows,
    /// Kernels for all other windows, in the order of [`Reading`].
    pub(super) any: [Entry<DepthwiseArgs>; 4],
    /// The kernel for small maps of vectors of channels.
    pub(super) points: Entry<DepthwiseArgs>,
    pub(super) activate: Entry<SumsArgs>,
}

/// The number of lines, at most `most`, that share their reads of the input. Long lines of taps share less,
/// and the weights of two lines would leave too few registers.
pub(super) const fn lines_of(taps: usize, most: usize) -> usize {
    if taps < 7 { most } else { 1 }
}

/// `depthwise_kernels!(enter_<isa>, name: outputs by lines of lanes, ways of reading with their windows)`. A
/// window is `taps / stride`.
macro_rules! depthwise_kernels {
    (@windows $enter:ident, $mode:ident, $outputs:literal, $rows:literal, $step:expr, [$($taps:literal / $stride:literal)*]) => {
        &[$(($taps, $stride, <Depthwise<$mode, $taps, $stride, $outputs, { super::depthwise_table::lines_of($taps, $rows) }, { $step }>>::$enter)),*]
    };
    (@layouts $enter:ident, $mode:ident, $outputs:literal, $rows:literal, $windows:tt) => {
        [
            depthwise_kernels!(@windows $enter, $mode, $outputs, $rows, 0, $windows),
            depthwise_kernels!(@windows $enter, $mode, $outputs, $rows, crate::describe::BLOCK, $windows),
        ]
    };
    ($enter:ident, $name:literal: $outputs:literal by $rows:literal of $lanes:literal, channels $windows:tt, permuted $permuted:tt, pixels $pixels:tt) => {{
        use super::depthwise::Depthwise;
        use super::depthwise_read::{CHANNELS, PARTIAL, PERMUTED, PIXELS};
        use super::depthwise_table::{DepthwiseKernels, depthwise_kernels};
        DepthwiseKernels {
            name: $name,
            lanes: $lanes,
            tile: ($outputs, $rows),
            channels: depthwise_kernels!(@layouts $enter, CHANNELS, $outputs, $rows, $windows),
            permuted: depthwise_kernels!(@layouts $enter, PERMUTED, $outputs, $rows, $permuted),
            pixels: depthwise_kernels!(@windows $enter, PIXELS, $outputs, 1, 0, $pixels),
            any: [
                <Depthwise<CHANNELS, 0, 0, $outputs, 1, 0>>::$enter,
                <Depthwise<PERMUTED, 0, 0, $outputs, 1, 0>>::$enter,
                <Depthwise<PARTIAL, 0, 0, $outputs, 1, 0>>::$enter,
                <Depthwise<PIXELS, 0, 0, $outputs, 1, 0>>::$enter,
            ],
            points: super::depthwise_points::DepthwisePoints::$enter,
            activate: super::activate::ActivateSums::$enter,
        }
    }};
}
pub(super) use depthwise_kernels;

/// The sliding window of one call, and how its vectors are read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) reading: Reading,
    pub(crate) inner: Axis,
    pub(crate) outer: Axis,
    /// Input channels of a group.
    pub(crate) channels: usize,
    /// Number of vectors of channels, or of output channels in NCHW. Of several vectors of channels, only the last can have
    /// lanes that are no outputs.
    pub(crate) vectors: usize,
    /// Whether the map is so small that its outputs are computed one by one, if vectors hold channels.
    pub(crate) small: bool,
    /// NCHW: output channels of a group, and those of the first group that come before the first one here.
    pub(crate) outs: usize,
    pub(crate) skip: usize,
    /// Vectors of channels: distance between two lines of outputs, in distances between two outputs.
    pub(crate) line: usize,
    /// Whether strided vectors of channels are prefetched. Hardware prefetchers follow strided lines badly.
    pub(crate) fetch: bool,
}

/// The input of one call.
#[derive(Clone, Copy)]
pub(crate) struct Image<'a> {
    /// The memory from the first position of both axes on.
    pub(crate) data: &'a [f32],
    /// Distance between channels (NCHW) or blocks of channels.
    pub(crate) plane: usize,
    /// One source for each channel of the group, if lanes are permuted.
    pub(crate) sources: &'a [LaneSource],
}

impl Image<'_> {
    /// The end of the elements that a call can read.
    fn reach(&self, window: &Window, lanes: usize) -> usize {
        let &Window { inner, outer, channels, vectors, outs, skip, .. } = window;
        let positions = [(inner.input, inner.step), (outer.input, outer.step)];
        let of_all = |(count, step)| span([positions[0], positions[1], (count, step)]);
        match window.reading {
            Reading::Channels => {
                let last = product([vectors, lanes]) - 1;
                of_all(((last / BLOCK).saturating_mul(self.plane).saturating_add(last % BLOCK + 1), 1))
            }
            Reading::Permuted | Reading::Partial => {
                let sources = self.sources.iter().map(|source| source.end(self.plane));
                of_all((sources.max().unwrap_or(0), 1))
            }
            Reading::Pixels => {
                let groups = (skip.saturating_add(vectors) - 1) / outs + 1;
                of_all((product([groups, channels]), self.plane))
            }
        }
    }
}

impl DepthwiseKernels {
    /// `depthwise_f32_<outputs times lines>x<lanes>_<isa>`. Code, tests, benches and reports use this name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Number of adjacent outputs of a line.
    pub fn outputs(&self) -> usize {
        self.tile.0
    }

    /// Number of lines of a tile, if the window is not long.
    pub fn lines(&self) -> usize {
        self.tile.1
    }

    /// Number of lanes of a vector. They are channels, or pixels in NCHW.
    pub fn lanes(&self) -> usize {
        self.lanes
    }

    /// Whether a kernel exists for exactly this window. Otherwise a kernel for any window is used. Each axis is
    /// given as its taps, its stride and its dilation.
    pub(crate) fn has(&self, reading: Reading, inner: [usize; 3], outer: [usize; 3]) -> bool {
        self.special(reading, inner, outer, 0).is_some()
    }

    fn special(
        &self,
        reading: Reading,
        inner: [usize; 3],
        outer: [usize; 3],
        blocked: usize,
    ) -> Option<Entry<DepthwiseArgs>> {
        let ([taps, stride, 1], [outer_taps, outer_stride, dilation]) = (inner, outer) else { return None };
        // Vectors of channels: every line between two rows of outputs must be under a tap. Vectors of pixels read
        // each outer tap on its own, so the distance between taps does not matter.
        let dense = dilation == 1 && outer_stride <= outer_taps;
        if stride != outer_stride || !(dense || reading == Reading::Pixels) {
            return None;
        }
        let fits = |window: &&(usize, usize, _)| (window.0, window.1) == (taps, stride);
        Some(self.windows(reading, blocked).iter().find(fits)?.2)
    }

    fn windows(&self, reading: Reading, blocked: usize) -> Windows {
        match reading {
            Reading::Channels => self.channels[blocked],
            Reading::Permuted => self.permuted[blocked],
            Reading::Partial => &[],
            Reading::Pixels => self.pixels,
        }
    }

    fn entry(&self, window: &Window, row: usize) -> Entry<DepthwiseArgs> {
        if window.small && window.reading == Reading::Channels {
            return self.points;
        }
        let Window { reading, inner, outer, .. } = *window;
        let blocked = usize::from(inner.step == BLOCK && row == BLOCK);
        let of = |axis: Axis| [axis.taps, axis.stride, axis.dilation];
        self.special(reading, of(inner), of(outer), blocked).unwrap_or(self.any[reading as usize])
    }

    /// `out = act(bias + window * weights + residual)`. `weights` is `[channel][outer tap][inner tap][lane]`.
    /// In NCHW it has no lanes.
    ///
    /// # Panics
    /// If an operand is too short. That is a bug in this library.
    pub(crate) fn run(
        &self,
        window: &Window,
        image: Image<'_>,
        weights: &[f32],
        out: OutputTile<'_>,
        post: &Post<'_>,
    ) {
        let Window { reading, inner, outer, channels, vectors, outs, skip, line, fetch, .. } = *window;
        if inner.start >= inner.end || outer.start >= outer.end || out.lo >= out.hi {
            return;
        }
        let (along, lines) = (inner.end - inner.start, outer.end - outer.start);
        let pixels = reading == Reading::Pixels;
        assert!(inner.taps > 0 && outer.taps > 0 && inner.stride > 0 && outer.stride > 0);
        assert!(inner.input > 0 && outer.input > 0 && channels > 0 && vectors > 0 && outs > 0);
        assert!(vectors == 1 || pixels || (reading == Reading::Channels && image.plane >= BLOCK));
        require("image of a depthwise tile", image.reach(window, self.lanes), image.data.len());
        let permuted = |least: usize| {
            image.sources.len() == channels
                && image.sources.iter().all(|s| (least..=self.lanes).contains(&s.lanes()))
        };
        assert!(match reading {
            Reading::Permuted => permuted(self.lanes),
            Reading::Partial => permuted(1),
            Reading::Channels | Reading::Pixels => true,
        });
        let of_tap = if pixels { 1 } else { self.lanes };
        let needed = product([vectors, channels, outer.taps, inner.taps, of_tap]);
        require("weights of a depthwise tile", needed, weights.len());
        // In NCHW, each row of the tile is the pixels of a channel, which are split at the ends of image rows.
        let outputs = if pixels { product([along, lines]) } else { span([(lines, line), (along, 1)]) };
        let of_vectors = product([vectors, self.lanes]);
        let (rows, columns) = if pixels { (vectors, outputs) } else { (outputs, of_vectors) };
        require("outputs of a depthwise tile", rows, out.rows);
        assert!(if pixels { columns <= out.hi && out.lo == 0 } else { out.hi <= columns });
        assert!(post.first && post.last && !post.per_row);
        let before = of_vectors - self.lanes;
        assert!(vectors == 1 || pixels || (out.lo == 0 && out.hi > before));
        let mut target = post.target(&out, of_vectors, self.activate);
        if pixels {
            (target.out.block, target.residual.block) = (target.out.row, target.residual.row);
            (target.out.row, target.residual.row) = (lines, lines);
        }
        let args = DepthwiseArgs {
            input: image.data.as_ptr(),
            inner,
            outer,
            channels,
            vectors,
            last: (out.hi.saturating_sub(before), out.zeros.saturating_sub(before)),
            outs,
            skip,
            line,
            fetch,
            plane: image.plane,
            source: image.sources.as_ptr(),
            weights: weights.as_ptr(),
            target,
        };
        // SAFETY: the operands were measured above. The output tile lies in a region that this call borrows.
        // The set that holds the entry was returned only after its features were detected.
        unsafe { self.entry(window, out.place.row)(&args) }
    }
}
