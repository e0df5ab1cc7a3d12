//! The kernels of Fourier transforms whose lanes are sixteen tiles of the image, in one channel each.
//!
//! A lane reads a row of its tile from an NCHW image, where the pixels of a row are adjacent. So the rows of
//! sixteen tiles are transposed: before the forward transform to vectors of one pixel of every tile, and after
//! the inverse transform back to rows. In between, a weight is the same number in all lanes.

use super::boundary::Body;
use super::fft::COMPLEX;
use super::transpose::transpose;
use crate::describe::BLOCK;
use crate::simd::{Lanes, Simd};

/// The row of the tile of one lane: numbers `at..at + data.len()`. All other numbers are zero.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LaneRow<'a> {
    pub(crate) at: usize,
    pub(crate) data: &'a [f32],
}

/// The rows of sixteen tiles. `tile/fft_table.rs` builds and checks the arguments.
pub(crate) struct GatherArgs {
    pub(super) rows: *const LaneRow<'static>,
    pub(super) n: usize,
    /// Distance from a row to a row that is read soon.
    pub(super) ahead: usize,
    /// The real or the imaginary parts of `n` complex numbers.
    pub(super) out: *mut f32,
}

/// Writes number `x` of every row to the lanes of number `x` of `out`.
pub(crate) struct GatherRows;

impl Body for GatherRows {
    type Args = GatherArgs;

    /// # Safety
    /// There must be sixteen rows, none of which ends after number `n`. `out` must be valid for writing `n`
    /// numbers.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &GatherArgs) {
        let mut lane = 0;
        while lane < BLOCK {
            let rows = args.rows.wrapping_add(lane);
            let mut x = 0;
            while x < args.n {
                let mut square = [s.splat(0.0); BLOCK];
                for i in 0..S::LANES {
                    // SAFETY: the caller guarantees sixteen rows.
                    let LaneRow { at, data } = unsafe { *rows.wrapping_add(i) };
                    let end = at.wrapping_add(data.len());
                    // A masked load or a prefetch of an unmapped page takes a hundred cycles, so nothing is touched
                    // where there is no number.
                    if x.wrapping_add(S::LANES) <= at || x >= end || data.is_empty() {
                        continue;
                    }
                    let from = data.as_ptr().wrapping_add(x).wrapping_sub(at);
                    s.prefetch(from.wrapping_add(args.ahead));
                    square[i] = if x >= at && x.wrapping_add(S::LANES) <= end {
                        // SAFETY: the row has these numbers.
                        unsafe { s.load(from) }
                    } else {
                        let up_to = |number: usize| number.max(x).wrapping_sub(x).min(S::LANES);
                        // SAFETY: only numbers of the row are read.
                        unsafe { s.load_lanes(from, Lanes { lo: up_to(at), hi: up_to(end) }) }
                    };
                }
                transpose(s, &mut square);
                for i in 0..S::LANES.min(args.n.wrapping_sub(x)) {
                    let to =
                        args.out.wrapping_add(x.wrapping_add(i).wrapping_mul(COMPLEX)).wrapping_add(lane);
                    // SAFETY: the number is one of `n`, and `i` is less than `LANES`, the number of vectors.
                    unsafe { s.store(to, *square.as_ptr().wrapping_add(i)) };
                }
                x = x.wrapping_add(S::LANES);
            }
            lane = lane.wrapping_add(S::LANES);
        }
    }
}

/// Sums of sixteen tiles. `tile/fft_table.rs` builds and checks the arguments.
pub(crate) struct ScatterArgs {
    /// The real or the imaginary parts of complex numbers.
    pub(super) sums: *const f32,
    pub(super) count: usize,
    /// One row for each lane.
    pub(super) out: *mut f32,
    pub(super) row: usize,
}

/// Writes lane by lane: number `x` of lane `i` to element `x` of row `i`.
pub(crate) struct ScatterRows;

impl Body for ScatterRows {
    type Args = ScatterArgs;

    /// # Safety
    /// `sums` must be valid for reading `count` numbers. `out` must be valid for writing sixteen rows of
    /// `count` elements, rounded up to a multiple of 16.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &ScatterArgs) {
        let mut x = 0;
        while x < args.count {
            let mut lane = 0;
            while lane < BLOCK {
                let mut square = [s.splat(0.0); BLOCK];
                let from = args.sums.wrapping_add(x.wrapping_mul(COMPLEX)).wrapping_add(lane);
                for i in 0..S::LANES {
                    if i < args.count.wrapping_sub(x) {
                        // SAFETY: the number is one of `count`.
                        square[i] = unsafe { s.load(from.wrapping_add(i * COMPLEX)) };
                    }
                }
                transpose(s, &mut square);
                for i in 0..S::LANES {
                    let to = args.out.wrapping_add(lane.wrapping_add(i).wrapping_mul(args.row));
                    // SAFETY: the rows are so long that every vector ends inside its row.
                    unsafe { s.store(to.wrapping_add(x), square[i]) };
                }
                lane = lane.wrapping_add(S::LANES);
            }
            x = x.wrapping_add(S::LANES);
        }
    }
}

/// Spectra of columns. `tile/fft_table.rs` builds and checks the arguments.
pub(crate) struct ColumnArgs {
    /// Numbers of a column.
    pub(super) n: usize,
    /// Input channels.
    pub(super) channels: usize,
    /// `[channel][number]`, sixteen tiles each.
    pub(super) image: *const f32,
    /// `[channel][number]`, pairs of real and imaginary part.
    pub(super) weights: *const f32,
    /// `[number]`, sixteen tiles each.
    pub(super) out: *mut f32,
}

/// `out[number] = sum over channels of image[channel][number] * weights[channel][number]`.
pub(crate) struct ColumnProduct;

impl Body for ColumnProduct {
    type Args = ColumnArgs;

    /// # Safety
    /// The operands must be valid for `n` numbers of `channels` channels.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &ColumnArgs) {
        for number in 0..args.n {
            let at = number.wrapping_mul(COMPLEX);
            let mut lane = 0;
            while lane < BLOCK {
                let mut image = args.image.wrapping_add(at).wrapping_add(lane);
                let mut weight = args.weights.wrapping_add(2 * number);
                let mut sum = [s.splat(0.0); 2];
                for _ in 0..args.channels {
                    // SAFETY: the caller guarantees the number of this channel.
                    unsafe {
                        let (x, y) = (s.load(image), s.load(image.wrapping_add(BLOCK)));
                        let (re, im) = (s.splat(*weight), s.splat(*weight.wrapping_add(1)));
                        sum[0] = s.neg_mul_add(y, im, s.mul_add(x, re, sum[0]));
                        sum[1] = s.mul_add(y, re, s.mul_add(x, im, sum[1]));
                    }
                    image = image.wrapping_add(args.n.wrapping_mul(COMPLEX));
                    weight = weight.wrapping_add(args.n.wrapping_mul(2));
                }
                let out = args.out.wrapping_add(at).wrapping_add(lane);
                // SAFETY: the caller guarantees the number of the output.
                unsafe {
                    s.store(out, sum[0]);
                    s.store(out.wrapping_add(BLOCK), sum[1]);
                }
                lane = lane.wrapping_add(S::LANES);
            }
        }
    }
}
