//! The depthwise tile: neighbouring outputs of one vector, a whole row of the kernel at a time.
//!
//! ```text
//! for line of outputs (or two of them), for T neighbours on it:
//!     acc[ROWS][T] = bias
//!     for channel of the group:                          // one, if the convolution is depthwise
//!         for line of the input that a tap is on:        // tile/depthwise_sum.rs
//!             w[K] = the weights of its taps             // for each of the rows that it is under
//!             for i in 0..(T - 1) * STRIDE + K:          // positions inside the input
//!                 x = read(i)                            // tile/depthwise_read.rs; once, for all taps
//!                 for t in 0..T: acc[..][t] += x * w[..][i - t * STRIDE]
//!     finish(acc) -> C                                   // tile/store.rs
//! ```
//!
//! Where channels are neighbours in memory (NHWC, Nchw16c) a vector is output channels, the inner axis is the
//! columns of the image and the outer its rows. Where pixels are (NCHW) a vector is pixels of a row, weights are
//! broadcast, and the axes change places: so the loads that a vector of pixels shares are those of its rows.
//! Positions in the padding are skipped, never read and never copied.

use super::boundary::Body;
use super::depthwise_read::{CHANNELS, DepthwiseArgs, PERMUTED, PIXELS};
use super::depthwise_sum::Tiles;
use super::store;
use crate::simd::Simd;

/// The kernel of one kind of window. `MODE` is how vectors are read. With `K` 0, any window; otherwise `K` inner taps,
/// no dilation, and a stride of `STRIDE`, at most the number of taps, on both axes. `T` outputs at once on each of `ROWS` lines. Positions of the
/// input and of the output are `STEP` elements apart, or any number if it is 0. What depends on these alone is decided in
/// `const` blocks: LLVM is given only the loops that a kernel has, rather than all of them for each of some sixty kernels.
pub(crate) struct Depthwise<
    const MODE: u8,
    const K: usize,
    const STRIDE: usize,
    const T: usize,
    const ROWS: usize,
    const STEP: usize,
>;

impl<
    const MODE: u8,
    const K: usize,
    const STRIDE: usize,
    const T: usize,
    const ROWS: usize,
    const STEP: usize,
> Body for Depthwise<MODE, K, STRIDE, T, ROWS, STEP>
{
    type Args = DepthwiseArgs;

    /// # Safety
    /// Every position of the input must be valid for reading as `MODE` does (`Reader::read`), the weights for every
    /// tap, and the target for every output, as `store` says.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &DepthwiseArgs) {
        let (inner, outer) = (&args.inner, &args.outer);
        let tiles = Tiles::<S, MODE, K, STRIDE, T, ROWS, STEP> {
            s,
            args,
            inner_inside: inner.inside_before(T, 0),
            // A strided vector of pixels is read with the pixels between them.
            outer_inside: outer.inside_before(S::LANES, outer.stride - 1),
        };
        // Image rows are the slower loop, whichever axis they are: their lines stay near for the next.
        if const { MODE == PIXELS } {
            let mut i = inner.start;
            while i < inner.end {
                // SAFETY: by the caller.
                unsafe { tiles.pixels_of_lines(i) };
                i = i.wrapping_add(T);
            }
        } else if const { STEP == 0 } {
            let mut i = inner.start;
            while i < inner.end {
                let mut o = outer.start;
                while o < outer.end {
                    // SAFETY: by the caller.
                    unsafe { tiles.channels(o, i) };
                    o = o.wrapping_add(ROWS);
                }
                i = i.wrapping_add(T);
            }
        } else {
            let mut o = outer.start;
            while o < outer.end {
                let mut i = inner.start;
                while i < inner.end {
                    // SAFETY: by the caller.
                    unsafe { tiles.channels(o, i) };
                    i = i.wrapping_add(T);
                }
                o = o.wrapping_add(ROWS);
            }
        }
    }
}

impl<
    S: Simd,
    const MODE: u8,
    const K: usize,
    const STRIDE: usize,
    const T: usize,
    const ROWS: usize,
    const STEP: usize,
> Tiles<'_, S, MODE, K, STRIDE, T, ROWS, STEP>
{
    /// NCHW: lines `i..i + T`, a vector of pixels at a time.
    ///
    /// # Safety
    /// As [`Depthwise::run`].
    #[inline(always)]
    unsafe fn pixels_of_lines(&self, i: usize) {
        let (inner, outer) = (&self.args.inner, &self.args.outer);
        let first = inner.first(i);
        let rows_inside = (first as usize) < self.inner_inside;
        let line = i.wrapping_sub(inner.start).wrapping_mul(self.args.target.out.row);
        let mut o = outer.start;
        while o < outer.end {
            let ahead = line.wrapping_add(o.wrapping_sub(outer.start));
            let mut target = self.args.target.ahead(ahead, ahead);
            target.hi = outer.end.wrapping_sub(o).min(S::LANES);
            let at = (outer.first(o), first);
            let inside = rows_inside && (at.0 as usize) < self.outer_inside;
            // SAFETY: without an edge every position is inside; the rest by the caller.
            unsafe {
                let mut acc = [store::start::<S, T, 1>(self.s, &target); ROWS];
                if inside {
                    self.any::<false>(&mut acc, at);
                } else {
                    self.any::<true>(&mut acc, at);
                }
                store::finish_first::<S, T, 1>(self.s, acc[0], &target, inner.end.wrapping_sub(i));
            }
            o = o.wrapping_add(S::LANES);
        }
    }

    /// NHWC and Nchw16c: outputs `i..i + T` (or as many as there are) of lines `o..o + ROWS`, vectors of channels.
    ///
    /// # Safety
    /// As [`Depthwise::run`].
    #[inline(always)]
    unsafe fn channels(&self, o: usize, i: usize) {
        let (inner, outer) = (&self.args.inner, &self.args.outer);
        let rows = outer.end.wrapping_sub(o).min(ROWS);
        let line = inner.end.wrapping_sub(inner.start);
        let (out, residual) = (self.args.target.out.row, self.args.target.residual.row);
        let out = if STEP == 0 { out } else { STEP };
        let done = o.wrapping_sub(outer.start).wrapping_mul(line).wrapping_add(i.wrapping_sub(inner.start));
        let mut target = self.args.target.ahead(done.wrapping_mul(out), done.wrapping_mul(residual));
        target.out.row = out;
        let at = (outer.first(o), inner.first(i));
        // SAFETY: without an edge every inner position is inside; the rest by the caller.
        unsafe {
            let mut acc = [store::start::<S, T, 1>(self.s, &target); ROWS];
            let inside = (at.1 as usize) < self.inner_inside;
            if const { K > 0 && (MODE == CHANNELS || MODE == PERMUTED) } {
                if inside {
                    self.lines::<false>(&mut acc, at, rows);
                } else {
                    self.lines::<true>(&mut acc, at, rows);
                }
            } else if inside {
                self.any::<false>(&mut acc, at);
            } else {
                self.any::<true>(&mut acc, at);
            }
            let count = inner.end.wrapping_sub(i);
            store::finish_first::<S, T, 1>(self.s, acc[0], &target, count);
            if const { ROWS > 1 } && rows > 1 {
                target = target.ahead(line.wrapping_mul(out), line.wrapping_mul(residual));
                store::finish_first::<S, T, 1>(self.s, acc[ROWS - 1], &target, count);
            }
        }
    }
}
