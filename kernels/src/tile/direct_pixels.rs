//! The pixels of a run of direct convolution: how a tile finds their addresses.

use super::unroll;
use crate::describe::BLOCK;
use crate::simd::Simd;
use std::array;

/// Length of the lists of pixels. A run reads fewer, but the compiler checks all indices of an unrolled loop, also those for which
/// nothing is compiled.
pub(super) const REACH: usize = unroll::MOST;

/// Zeros that are read in place of a pixel in the padding. A pixel has at most this many channels per chunk.
static ZEROS: [f32; BLOCK] = [0.0; BLOCK];

/// The pixels of a run, from some channel on.
pub(super) trait Pixels {
    /// The address of pixel `j`, `channel` channels ahead.
    fn at(&self, j: usize, channel: usize) -> *const f32;

    /// Goes on by some channels.
    fn advance<S: Simd>(&mut self, s: S, channels: usize);
}

/// One address for each pixel, so that some can be zeros.
pub(super) struct Listed {
    at: [*const f32; REACH],
    channel: usize,
}

impl Listed {
    /// Zeros in place of all pixels.
    #[inline(always)]
    pub(super) fn new() -> Self {
        Self { at: [ZEROS.as_ptr(); REACH], channel: 0 }
    }

    /// Pixel `j` is at `p`.
    #[inline(always)]
    pub(super) fn put(&mut self, j: usize, p: *const f32) {
        self.at[j] = p;
    }
}

impl Pixels for Listed {
    #[inline(always)]
    fn at(&self, j: usize, channel: usize) -> *const f32 {
        self.at[j].wrapping_add(self.channel.wrapping_add(channel))
    }

    #[inline(always)]
    fn advance<S: Simd>(&mut self, _: S, channels: usize) {
        self.channel = self.channel.wrapping_add(channels);
    }
}

/// Pixels that are evenly spaced, as few addresses: those of every fourth pixel. An x86 instruction can add a multiple of the
/// distance itself. There are more pixels in a tile than general registers.
pub(super) struct Spaced {
    every_fourth: [*const f32; REACH.div_ceil(4)],
    step: usize,
}

impl Spaced {
    #[inline(always)]
    pub(super) fn new(start: *const f32, step: usize) -> Self {
        Self { every_fourth: array::from_fn(|i| start.wrapping_add(step.wrapping_mul(4 * i))), step }
    }
}

impl Pixels for Spaced {
    #[inline(always)]
    fn at(&self, j: usize, channel: usize) -> *const f32 {
        self.every_fourth[j / 4].wrapping_add(self.step.wrapping_mul(j % 4)).wrapping_add(channel)
    }

    #[inline(always)]
    fn advance<S: Simd>(&mut self, s: S, channels: usize) {
        // Unknown, so that the compiler does not replace these addresses by those of all pixels.
        let channels = s.opaque(channels);
        for p in &mut self.every_fourth {
            *p = p.wrapping_add(channels);
        }
    }
}
