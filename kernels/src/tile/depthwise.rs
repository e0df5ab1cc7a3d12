//! The depthwise tile: adjacent outputs of one vector. It sums one row of the kernel at a time.
//!
//! ```text
//! for line of outputs (or two lines), for T adjacent outputs on it:
//!     acc[ROWS][T] = bias
//!     for channel of the group:                          // one channel, if the convolution is depthwise
//!         for line of the input under a tap:             // tile/depthwise_sum.rs
//!             w[K] = the weights of its taps             // for each row of outputs under it
//!             for i in 0..(T - 1) * STRIDE + K:          // positions inside the input
//!                 x = read(i)                            // tile/depthwise_read.rs; once, for all taps
//!                 for t in 0..T: acc[..][t] += x * w[..][i - t * STRIDE]
//!     finish(acc) -> C                                   // tile/store.rs
//! ```
//!
//! If channels are adjacent in memory (NHWC, Nchw16c), a vector holds output channels. The inner axis is then
//! the columns of the image, and the outer axis its rows. If pixels are adjacent (NCHW), a vector holds
//! pixels of a row, the weights are broadcast, and the axes are swapped. The loads that the vectors share are
//! then loads of other rows. Positions in the padding are skipped. They are never read or copied.

use super::boundary::Body;
use super::depthwise_read::{CHANNELS, DepthwiseArgs, PERMUTED, PIXELS};
use super::depthwise_sum::Tiles;
use super::store;
use crate::simd::Simd;

/// The kernel of one kind of window.
///
/// `MODE` is how vectors are read. `T` is the number of outputs computed at once on each of `ROWS` lines.
/// `STEP` is the distance between positions of the input and of the output in elements. If `STEP` is 0, any
/// distance is allowed.
///
/// If `K` is 0, the kernel takes any window, up to four inner taps at a time. Otherwise it takes `K` inner taps without dilation and a stride
/// of `STRIDE` on both axes. The stride is then at most the number of taps.
///
/// Branches on these parameters are `const` blocks. LLVM then compiles only the loops that a kernel uses, and
/// not all loops for each of about sixty kernels.
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
    /// Every position of the input must be valid for reading in the way of `MODE` (`Reader::read`), for every vector.
    /// The weights must be valid for every tap. The target must be valid for every output, in the sense of `store`.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &DepthwiseArgs) {
        for vector in 0..args.vectors {
            let args = args.at_vectors::<S, MODE, 1>(vector);
            // SAFETY: the caller upholds the contract of this function.
            unsafe { Self::vector(s, &args) };
        }
    }
}

impl<
    const MODE: u8,
    const K: usize,
    const STRIDE: usize,
    const T: usize,
    const ROWS: usize,
    const STEP: usize,
> Depthwise<MODE, K, STRIDE, T, ROWS, STEP>
{
    /// Computes one vector of channels, or one channel.
    ///
    /// # Safety
    /// Same contract as [`run`](Self::run), for this vector.
    #[inline(always)]
    unsafe fn vector<S: Simd>(s: S, args: &DepthwiseArgs) {
        let (inner, outer) = (&args.inner, &args.outer);
        let tiles = Tiles::<S, MODE, K, STRIDE, T, ROWS, STEP> {
            s,
            args,
            inner_inside: inner.inside_before(T, 0),
            // A strided vector of pixels is read together with the pixels between them.
            outer_inside: outer.inside_before(S::LANES, outer.stride - 1),
        };
        // Image rows are the outer loop, whichever axis they are. The input lines then stay in cache for the
        // next row of outputs.
        if const { MODE == PIXELS } {
            let mut i = inner.start;
            while i < inner.end {
                // SAFETY: the caller upholds the contract of this function.
                unsafe { tiles.pixels_of_lines(i) };
                i = i.wrapping_add(T);
            }
        } else if const { STEP == 0 } {
            let mut i = inner.start;
            while i < inner.end {
                let mut o = outer.start;
                while o < outer.end {
                    // SAFETY: the caller upholds the contract of this function.
                    unsafe { tiles.channels(o, inner.tile_at::<T>(i)) };
                    o = o.wrapping_add(ROWS);
                }
                i = i.wrapping_add(T);
            }
        } else {
            let mut o = outer.start;
            while o < outer.end {
                let mut i = inner.start;
                while i < inner.end {
                    // SAFETY: the caller upholds the contract of this function.
                    unsafe { tiles.channels(o, inner.tile_at::<T>(i)) };
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
    /// NCHW: computes lines `i..i + T`, one vector of pixels at a time.
    ///
    /// # Safety
    /// Same contract as [`Depthwise::run`].
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
            // SAFETY: without `EDGE`, every position is inside the input. The caller guarantees the rest.
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

    /// NHWC and Nchw16c: computes outputs `i..i + T`, or as many as there are, of lines `o..o + ROWS`.
    /// Vectors hold channels.
    ///
    /// # Safety
    /// Same contract as [`Depthwise::run`].
    #[inline(always)]
    unsafe fn channels(&self, o: usize, i: usize) {
        let (inner, outer) = (&self.args.inner, &self.args.outer);
        let rows = outer.end.wrapping_sub(o).min(ROWS);
        let line = self.args.line;
        let (out, residual) = (self.args.target.out.row, self.args.target.residual.row);
        let out = if STEP == 0 { out } else { STEP };
        let done = o.wrapping_sub(outer.start).wrapping_mul(line).wrapping_add(i.wrapping_sub(inner.start));
        let mut target = self.args.target.ahead(done.wrapping_mul(out), done.wrapping_mul(residual));
        target.out.row = out;
        let at = (outer.first(o), inner.first(i));
        if const { STEP == 0 && K > 0 && MODE == CHANNELS } && self.args.fetch {
            self.fetch_next(at, target.out.base.wrapping_add(line.wrapping_mul(ROWS).wrapping_mul(out)), out);
        }
        // SAFETY: without `EDGE`, every inner position is inside the input. The caller guarantees the rest.
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

    /// Prefetches what the tile on the next lines reads for the first time, and the outputs of its first line, unless they are
    /// written past the caches. The tile is at position `at`.
    #[inline(always)]
    fn fetch_next(&self, at: (isize, isize), output: *const f32, step: usize) {
        let (inner, outer) = (&self.args.inner, &self.args.outer);
        let below = at.0.wrapping_add_unsigned(outer.taps.wrapping_add((ROWS - 1) * STRIDE));
        let first = below.wrapping_mul(outer.step as isize);
        let first =
            first.wrapping_add(at.1.wrapping_add_unsigned(inner.before).wrapping_mul(inner.step as isize));
        let mut line = self.args.input.wrapping_offset(first);
        for _ in 0..ROWS * STRIDE {
            let mut p = line;
            for _ in 0..T * STRIDE {
                self.s.prefetch(p);
                p = p.wrapping_add(inner.step);
            }
            line = line.wrapping_add(outer.step);
        }
        if self.args.target.stream {
            return;
        }
        let mut line = output;
        for _ in 0..ROWS {
            let mut p = line;
            for _ in 0..T {
                self.s.prefetch_write(p);
                p = p.wrapping_add(step);
            }
            line = line.wrapping_add(self.args.line.wrapping_mul(step));
        }
    }
}
