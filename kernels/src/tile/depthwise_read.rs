//! What a depthwise tile is given, and how it reads the vector of one position: as it lies, permuted, or strided.

use super::store::TileTarget;
use crate::simd::{Lanes, Simd};

/// How the vector of a position is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// A vector of output channels whose input channels are the same ones.
    Channels,
    /// A vector of output channels whose input channels are in one vector, in any order and number.
    Permuted,
    /// The same, where there are fewer input channels than lanes.
    Partial,
    /// A vector of pixels of a row.
    Pixels,
}

// As parameters of kernels.
pub(super) const CHANNELS: u8 = Reading::Channels as u8;
pub(super) const PERMUTED: u8 = Reading::Permuted as u8;
pub(super) const PARTIAL: u8 = Reading::Partial as u8;
pub(super) const PIXELS: u8 = Reading::Pixels as u8;

/// The input channels of a vector of output channels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LaneSource {
    block: usize,
    lane: usize,
    lanes: usize,
    index: [u8; 16],
}

impl LaneSource {
    /// The `lanes` channels from `lane` of `block` on; blocks are a plane apart.
    pub(crate) fn new(block: usize, lane: usize, lanes: usize) -> Self {
        Self { block, lane, lanes, index: [0; 16] }
    }

    /// Output lane `to` takes channel `from` of the source.
    ///
    /// # Panics
    /// If the source has no such channel: a defect of this library.
    pub(crate) fn take(&mut self, to: usize, from: usize) {
        assert!(from < self.lanes);
        self.index[to] = from as u8;
    }

    /// Channels that are read.
    pub(crate) fn lanes(&self) -> usize {
        self.lanes
    }

    /// One past the last channel of the source, from the input's first channel on: `usize::MAX` if that overflows.
    pub(super) fn end(&self, plane: usize) -> usize {
        self.block.saturating_mul(plane).saturating_add(self.lane).saturating_add(self.lanes)
    }

    /// From the input's first channel to that of the source.
    #[inline(always)]
    pub(super) fn offset(&self, plane: usize) -> usize {
        self.block.wrapping_mul(plane).wrapping_add(self.lane)
    }
}

/// One axis of the sliding window, and the outputs along it that are wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Axis {
    /// Positions of the input, and elements from one to the next.
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
    /// The position of the first tap of output `o`; negative in the padding.
    #[inline(always)]
    pub(super) fn first(&self, o: usize) -> isize {
        // Wrapping: the descriptor has checked every sum that matters.
        o.wrapping_mul(self.stride).wrapping_sub(self.before) as isize
    }

    /// If the first tap of the first of `outputs` outputs is at a position from 0 to before this one, every tap of
    /// all of them is inside, and `more` positions after the last.
    #[inline(always)]
    pub(super) fn inside_before(&self, outputs: usize, more: usize) -> usize {
        let reach = (outputs - 1).saturating_mul(self.stride);
        let reach = reach.saturating_add((self.taps - 1).saturating_mul(self.dilation)).saturating_add(more);
        self.input.saturating_sub(reach)
    }

    /// The part of `count` neighbouring positions from `first` on that is inside, counted from there.
    #[inline(always)]
    pub(super) fn positions_inside(&self, first: isize, count: usize) -> (usize, usize) {
        let up_to = |distance: isize| if distance <= 0 { 0 } else { count.min(distance as usize) };
        let end = up_to((self.input as isize).wrapping_sub(first));
        (up_to(first.wrapping_neg()).min(end), end)
    }

    /// Which of `lanes` outputs have a tap inside that is at `position` for the first of them.
    #[inline(always)]
    pub(super) fn lanes_inside(&self, position: isize, lanes: usize) -> Lanes {
        // A stride is never zero; `max` lets the compiler know.
        let stride = self.stride.max(1);
        let up_to = |distance: isize| {
            if distance <= 0 { 0 } else { ((distance as usize - 1) / stride).wrapping_add(1).min(lanes) }
        };
        let hi = up_to((self.input as isize).wrapping_sub(position));
        Lanes { lo: up_to(position.wrapping_neg()).min(hi), hi }
    }
}

/// Everything one call needs; built and checked by `tile/depthwise_table.rs`.
pub(crate) struct DepthwiseArgs {
    /// The first position of both axes.
    pub(super) input: *const f32,
    pub(super) inner: Axis,
    pub(super) outer: Axis,
    /// Input channels of a group.
    pub(super) channels: usize,
    /// From one channel (NCHW) or block of them (Nchw16c) to the next.
    pub(super) plane: usize,
    /// One for each channel of the group, where lanes are permuted.
    pub(super) source: *const LaneSource,
    /// `[channel][outer tap][inner tap]` of vectors, or of numbers where weights are broadcast.
    pub(super) weights: *const f32,
    /// The target of all outputs: `base` is the first, `row` from one output along the inner axis to the next.
    pub(super) target: TileTarget,
}

/// What is the same for all positions of a channel of the group.
#[derive(Clone, Copy)]
pub(super) struct Reader<S: Simd> {
    s: S,
    index: S::Index,
    /// From one pixel of a vector of them to the next.
    stride: usize,
    /// The channels that are read, or the pixels that are inside the input.
    pub(super) lanes: Lanes,
}

impl<S: Simd> Reader<S> {
    /// The reader of channel `channel` of the group, and what it reads relative to.
    ///
    /// # Safety
    /// Where lanes are permuted, the source of the channel must be readable.
    #[inline(always)]
    pub(super) unsafe fn new<const MODE: u8>(
        s: S,
        args: &DepthwiseArgs,
        channel: usize,
    ) -> (*const f32, Self) {
        let mut base = args.input;
        let (mut index, mut lanes) = (&[0; 16], S::LANES);
        if MODE == PERMUTED || MODE == PARTIAL {
            // SAFETY: by the caller.
            let source = unsafe { &*args.source.wrapping_add(channel) };
            base = base.wrapping_add(source.offset(args.plane));
            (index, lanes) = (&source.index, source.lanes);
        } else if MODE == PIXELS {
            base = base.wrapping_add(channel.wrapping_mul(args.plane));
        }
        let reader = Self {
            s,
            // SAFETY: sixteen elements, each of them a lane.
            index: unsafe { s.index(index.as_ptr()) },
            stride: args.outer.stride,
            lanes: Lanes { lo: 0, hi: lanes },
        };
        (base, reader)
    }

    /// The vector of the position at `p`. `STRIDE` is that of pixels, or 0 for any.
    ///
    /// # Safety
    /// `p` must be valid for a vector; with [`PARTIAL`], for the lanes; with [`PIXELS`], for the lanes, as far apart as
    /// the stride, or (without `EDGE`) for all elements up to where the next strided vector begins.
    #[inline(always)]
    pub(super) unsafe fn read<const MODE: u8, const STRIDE: usize, const EDGE: bool>(
        &self,
        p: *const f32,
    ) -> S::V {
        let s = self.s;
        match MODE {
            // SAFETY: by the caller.
            CHANNELS => unsafe { s.load(p) },
            // SAFETY: by the caller.
            PERMUTED => s.permute(unsafe { s.load(p) }, self.index),
            // SAFETY: by the caller.
            PARTIAL => s.permute(unsafe { s.load_lanes(p, self.lanes) }, self.index),
            _ => {
                let stride = if STRIDE == 0 { self.stride } else { STRIDE };
                // SAFETY: by the caller.
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
        // Elements `2 * lo..2 * hi - 1`, cut where the second vector begins.
        let (lo, hi) = (lo.wrapping_mul(2), hi.wrapping_mul(2).wrapping_sub(1));
        let low = Lanes { lo: lo.min(S::LANES), hi: hi.min(S::LANES) };
        let high = Lanes { lo: lo.max(S::LANES) - S::LANES, hi: hi.max(S::LANES) - S::LANES };
        // SAFETY: by the caller.
        unsafe { s.even(s.load_lanes(p, low), s.load_lanes(p.wrapping_add(S::LANES), high)) }
    }

    /// # Safety
    /// The lanes must be readable, a stride apart.
    #[inline(always)]
    unsafe fn strided_lanes(&self, p: *const f32) -> S::V {
        let mut stage = [0.0f32; 16];
        for lane in self.lanes.lo..self.lanes.hi {
            // SAFETY: by the caller; a lane is less than 16.
            unsafe {
                *stage.as_mut_ptr().wrapping_add(lane) = *p.wrapping_add(lane.wrapping_mul(self.stride));
            }
        }
        // SAFETY: LANES <= 16.
        unsafe { self.s.load(stage.as_ptr()) }
    }
}
