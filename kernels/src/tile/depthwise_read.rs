//! The arguments of a depthwise tile, and the ways to read the vector of one position: plain, permuted or
//! strided.

use super::target::TileTarget;
use crate::describe::BLOCK;
use crate::simd::{Lanes, Simd};

/// How the vector of a position is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// A vector of output channels. The input channels are the same ones.
    Channels,
    /// A vector of output channels. Its input channels all lie in one vector, in any order, and can repeat.
    Permuted,
    /// Like `Permuted`, with fewer input channels than lanes.
    Partial,
    /// A vector of pixels of one row.
    Pixels,
}

// The same as parameters of kernels.
pub(super) const CHANNELS: u8 = Reading::Channels as u8;
pub(super) const PERMUTED: u8 = Reading::Permuted as u8;
pub(super) const PARTIAL: u8 = Reading::Partial as u8;
pub(super) const PIXELS: u8 = Reading::Pixels as u8;

/// The input channels that a vector of output channels reads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LaneSource {
    block: usize,
    lane: usize,
    lanes: usize,
    index: [u8; 16],
}

impl LaneSource {
    /// The `lanes` channels from `lane` of `block` on. The distance between blocks is a plane.
    pub(crate) fn new(block: usize, lane: usize, lanes: usize) -> Self {
        Self { block, lane, lanes, index: [0; 16] }
    }

    /// Makes output lane `to` read channel `from` of the source.
    ///
    /// # Panics
    /// If the source has no such channel. That is a bug in this library.
    pub(crate) fn take(&mut self, to: usize, from: usize) {
        assert!(from < self.lanes);
        self.index[to] = from as u8;
    }

    /// Number of channels that are read.
    pub(crate) fn lanes(&self) -> usize {
        self.lanes
    }

    /// The end of the source, counted from the first channel of the input. It is `usize::MAX` if the sum
    /// overflows.
    pub(super) fn end(&self, plane: usize) -> usize {
        self.block.saturating_mul(plane).saturating_add(self.lane).saturating_add(self.lanes)
    }

    /// Offset of the source from the first channel of the input.
    #[inline(always)]
    pub(super) fn offset(&self, plane: usize) -> usize {
        self.block.wrapping_mul(plane).wrapping_add(self.lane)
    }
}

/// One axis of the sliding window, and the range of outputs to compute along it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Axis {
    /// Number of positions of the input, and the distance between them in elements.
    pub(crate) input: usize,
    pub(crate) step: usize,
    pub(crate) taps: usize,
    pub(crate) stride: usize,
    pub(crate) dilation: usize,
    /// Padding before the first position.
    pub(crate) before: usize,
    /// The outputs `start..end`.
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Axis {
    /// The position of the first tap of output `o`. It is negative in the padding.
    #[inline(always)]
    pub(super) fn first(&self, o: usize) -> isize {
        // The sum can wrap, because the descriptor has checked every sum that matters.
        o.wrapping_mul(self.stride).wrapping_sub(self.before) as isize
    }

    /// The first output of the tile of `T` outputs that begins at output `o`. The last tile of a line begins earlier
    /// if it would reach past the end: it then computes some outputs again, with the same bits, instead of a few
    /// outputs one by one.
    #[inline(always)]
    pub(super) fn tile_at<const T: usize>(&self, o: usize) -> usize {
        let last = self.end.wrapping_sub(T);
        if o > last && self.end.wrapping_sub(self.start) >= T { last } else { o }
    }

    /// The bound on first positions without padding. If the first tap of the first of `outputs` outputs is at
    /// a position from 0 up to this bound, then every tap of all of them is inside the input, and `more`
    /// positions after the last tap are too.
    #[inline(always)]
    pub(super) fn inside_before(&self, outputs: usize, more: usize) -> usize {
        let reach = (outputs - 1).saturating_mul(self.stride);
        let reach = reach.saturating_add((self.taps - 1).saturating_mul(self.dilation)).saturating_add(more);
        self.input.saturating_sub(reach)
    }

    /// The part of `count` adjacent positions from `first` on that is inside the input, relative to `first`.
    #[inline(always)]
    pub(super) fn positions_inside(&self, first: isize, count: usize) -> (usize, usize) {
        let up_to = |distance: isize| if distance <= 0 { 0 } else { count.min(distance as usize) };
        let end = up_to((self.input as isize).wrapping_sub(first));
        (up_to(first.wrapping_neg()).min(end), end)
    }

    /// Which of `lanes` outputs have a given tap inside the input. The first output has the tap at
    /// `position`.
    #[inline(always)]
    pub(super) fn lanes_inside(&self, position: isize, lanes: usize) -> Lanes {
        let (lo, hi) = self.steps_inside(position, self.stride, lanes);
        Lanes { lo, hi }
    }

    /// The range of the taps of output `o` that are inside the input.
    #[inline(always)]
    pub(super) fn taps_inside(&self, o: usize) -> (usize, usize) {
        self.steps_inside(self.first(o), self.dilation, self.taps)
    }

    /// Which of the `count` positions `first`, `first + step`, ... are inside the input.
    #[inline(always)]
    fn steps_inside(&self, first: isize, step: usize, count: usize) -> (usize, usize) {
        // A step is never zero. `max` tells the compiler.
        let step = step.max(1);
        let up_to = |distance: isize| {
            if distance <= 0 { 0 } else { ((distance as usize - 1) / step).wrapping_add(1).min(count) }
        };
        let end = up_to((self.input as isize).wrapping_sub(first));
        (up_to(first.wrapping_neg()).min(end), end)
    }
}

/// The arguments of one call. `tile/depthwise_table.rs` builds and checks them.
#[derive(Clone, Copy)]
pub(crate) struct DepthwiseArgs {
    /// The first position of both axes.
    pub(super) input: *const f32,
    pub(super) inner: Axis,
    pub(super) outer: Axis,
    /// Input channels of a group.
    pub(super) channels: usize,
    /// Whether the taps of the next line of outputs are prefetched.
    pub(super) fetch: bool,
    /// Distance between channels (NCHW) or blocks of channels (Nchw16c).
    pub(super) plane: usize,
    /// One source for each channel of the group. It is read only if lanes are permuted.
    pub(super) source: *const LaneSource,
    /// Vectors `[channel][outer tap][inner tap]`, or single numbers if weights are broadcast.
    pub(super) weights: *const f32,
    /// Number of vectors of channels, which follow each other in blocks of sixteen channels. In NCHW, number of output
    /// channels.
    pub(super) vectors: usize,
    /// The valid lanes of the last vector of channels, and the end of those that are set to zero. All others are whole.
    pub(super) last: (usize, usize),
    /// NCHW: output channels of a group, and those of the first group that come before the first vector.
    pub(super) outs: usize,
    pub(super) skip: usize,
    /// Vectors of channels: distance between two lines of outputs, in distances between two outputs.
    pub(super) line: usize,
    /// The target of all outputs. `base` is the first output, and `row` is the distance between outputs along
    /// the inner axis. `block` is the distance between blocks of channels, or in NCHW between channels.
    pub(super) target: TileTarget,
}

impl DepthwiseArgs {
    /// The arguments of vector `vector` alone; if vectors hold channels, of the `NV` vectors from this one on.
    #[inline(always)]
    pub(super) fn at_vectors<S: Simd, const MODE: u8, const NV: usize>(&self, vector: usize) -> Self {
        let taps = self.inner.taps.wrapping_mul(self.outer.taps);
        let first = vector.wrapping_mul(S::LANES);
        if MODE == PIXELS {
            let group = self.skip.wrapping_add(vector) / self.outs.max(1);
            let weights = vector.wrapping_mul(self.channels).wrapping_mul(taps);
            return Self {
                input: self.input.wrapping_add(group.wrapping_mul(self.channels).wrapping_mul(self.plane)),
                weights: self.weights.wrapping_add(weights),
                target: self.target.of_plane(vector, first),
                ..*self
            };
        }
        let ahead = (first / BLOCK).wrapping_mul(self.plane).wrapping_add(first % BLOCK);
        let mut target = self.target.at_column(first);
        let is_last = vector.wrapping_add(NV) == self.vectors;
        let (hi, zeros) = if is_last { self.last } else { (S::LANES, 0) };
        let before = (NV - 1) * S::LANES;
        (target.hi, target.zeros) = (hi.wrapping_add(before), zeros.wrapping_add(before));
        Self {
            input: self.input.wrapping_add(ahead),
            weights: self.weights.wrapping_add(first.wrapping_mul(taps)),
            target,
            ..*self
        }
    }
}

/// The state that all positions of one channel of the group share.
#[derive(Clone, Copy)]
pub(super) struct Reader<S: Simd> {
    s: S,
    index: S::Index,
    /// Distance between the pixels of a vector.
    stride: usize,
    /// The channels to read, or the pixels that are inside the input.
    pub(super) lanes: Lanes,
}

impl<S: Simd> Reader<S> {
    /// Returns the reader of channel `channel` of the group, and the address that its positions are relative
    /// to.
    ///
    /// # Safety
    /// If lanes are permuted, the source of the channel must be readable.
    #[inline(always)]
    pub(super) unsafe fn new<const MODE: u8>(
        s: S,
        args: &DepthwiseArgs,
        channel: usize,
    ) -> (*const f32, Self) {
        let mut base = args.input;
        let (mut index, mut lanes) = (&[0; 16], S::LANES);
        if MODE == PERMUTED || MODE == PARTIAL {
            // SAFETY: the caller guarantees the source of this channel.
            let source = unsafe { &*args.source.wrapping_add(channel) };
            base = base.wrapping_add(source.offset(args.plane));
            (index, lanes) = (&source.index, source.lanes);
        } else if MODE == PIXELS {
            base = base.wrapping_add(channel.wrapping_mul(args.plane));
        }
        let reader = Self {
            s,
            // SAFETY: the array has sixteen elements. Each is a lane: `take` checks that it is less than the
            // number of lanes read, and `tile/depthwise_table.rs` limits that to `LANES`.
            index: unsafe { s.index(index.as_ptr()) },
            stride: args.outer.stride,
            lanes: Lanes { lo: 0, hi: lanes },
        };
        (base, reader)
    }

    /// Reads the vector of the position at `p`. `STRIDE` is the stride of pixels, or 0 for any stride.
    ///
    /// # Safety
    /// `p` must be valid for a whole vector. With [`PARTIAL`], it must be valid for the lanes only. With
    /// [`PIXELS`] and `EDGE`, it must be valid for the lanes, a stride apart. With [`PIXELS`] and without
    /// `EDGE`, it must be valid for all elements up to the start of the next strided vector.
    #[inline(always)]
    pub(super) unsafe fn read<const MODE: u8, const STRIDE: usize, const EDGE: bool>(
        &self,
        p: *const f32,
    ) -> S::V {
        let s = self.s;
        match MODE {
            // SAFETY: the caller upholds the contract of this function.
            CHANNELS => unsafe { s.load(p) },
            // SAFETY: the caller upholds the contract of this function.
            PERMUTED => s.permute(unsafe { s.load(p) }, self.index),
            // SAFETY: the caller upholds the contract of this function.
            PARTIAL => s.permute(unsafe { s.load_lanes(p, self.lanes) }, self.index),
            _ => {
                let stride = if STRIDE == 0 { self.stride } else { STRIDE };
                // SAFETY: the caller upholds the contract of this function.
                unsafe {
                    match (stride, EDGE) {
                        (1, false) => s.load(p),
                        (1, true) => s.load_lanes(p, self.lanes),
                        (2, false) => s.load_even(p),
                        (2, true) => self.even_lanes(p),
                        _ => self.strided_lanes(p),
                    }
                }
            }
        }
    }

    /// # Safety
    /// The lanes must be readable, two elements apart.
    #[inline(always)]
    unsafe fn even_lanes(&self, p: *const f32) -> S::V {
        let (s, Lanes { lo, hi }) = (self.s, self.lanes);
        // The elements are `2 * lo..2 * hi - 1`, split where the second vector begins.
        let (lo, hi) = (lo.wrapping_mul(2), hi.wrapping_mul(2).wrapping_sub(1));
        let low = Lanes { lo: lo.min(S::LANES), hi: hi.min(S::LANES) };
        let high = Lanes { lo: lo.max(S::LANES) - S::LANES, hi: hi.max(S::LANES) - S::LANES };
        // SAFETY: the caller upholds the contract of this function.
        unsafe { s.even(s.load_lanes(p, low), s.load_lanes(p.wrapping_add(S::LANES), high)) }
    }

    /// # Safety
    /// The lanes must be readable, a stride apart.
    #[inline(always)]
    unsafe fn strided_lanes(&self, p: *const f32) -> S::V {
        let mut stage = [0.0f32; 16];
        for lane in self.lanes.lo..self.lanes.hi {
            // SAFETY: the caller guarantees the element. A lane is less than 16, the length of `stage`.
            unsafe {
                *stage.as_mut_ptr().wrapping_add(lane) = *p.wrapping_add(lane.wrapping_mul(self.stride));
            }
        }
        // SAFETY: `stage` has 16 elements, and `LANES <= 16`.
        unsafe { self.s.load(stage.as_ptr()) }
    }
}
