//! Softmax with cross-entropy: the gradient of the logits of a pixel, and the two numbers that its loss consists of.
//!
//! ```text
//! m = max(x);  e = exp(x - m), s = sum(e)
//! loss = ln(s) + (m - x[label])                      // no logarithm of a small number; `table.rs` takes it
//! dx   = e * (weight / s), and weight less at the label
//! ```
//! (Goodfellow, Bengio and Courville 2016, sections 4.1 and 6.2.2.3.)

use super::{Rows, Tiles};
use crate::describe::BLOCK;
use crate::simd::math::exp_nonpositive;
use crate::simd::{Lanes, Simd};
use crate::tile::boundary::Body;
use crate::tile::reduce::{Max, Reduce, Sum, fold, load_first};

/// Number of terms that are summed before the partial sum is added to the total, as in `tile/elementwise.rs`.
const SUM_BLOCK: usize = 16;

/// Arguments that `tile/grad/table.rs` builds and checks.
pub(crate) struct LossArgs {
    /// The gradient to write, and the logits as its value. Nothing else is read.
    pub(super) tiles: Tiles,
    /// Distance between runs of 16 columns of the logits.
    pub(super) block: usize,
    /// For each pixel, the channel that it should have. It is less than the number of channels.
    pub(super) labels: *const u32,
    /// The factor of the gradient.
    pub(super) weight: f32,
    /// For each pixel, the sum of its exponentials, and how far the logit of its label is below the largest one.
    pub(super) sums: *mut f32,
    pub(super) gaps: *mut f32,
}

/// Rows are pixels, and columns are channels.
pub(crate) struct LossColumns;

impl Body for LossColumns {
    type Args = LossArgs;

    /// # Safety
    /// The tile must be valid for writing, and for reading if it is added to, with its blocks. The logits must be valid
    /// for reading. Each row must have a label, which must be a column, and a place for its two numbers.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &LossArgs) {
        for i in 0..args.tiles.out.rows {
            // SAFETY: the function has the same contract, which the caller upholds.
            unsafe { pixel(s, args, i) };
        }
    }
}

/// # Safety
/// Same contract as [`LossColumns`].
#[inline(always)]
unsafe fn pixel<S: Simd>(s: S, args: &LossArgs, i: usize) {
    let LossArgs { tiles: Tiles { out, add, value, .. }, block, weight, .. } = args;
    let columns = out.columns;
    let whole = columns / S::LANES * S::LANES;
    let rest = Lanes { lo: 0, hi: columns - whole };
    let from = |c: usize| value.at(i, c / BLOCK * block + c % BLOCK);
    let to = |c: usize| out.base.wrapping_add(i * out.row + c / BLOCK * out.block + c % BLOCK);
    // SAFETY: `LANES` divides 16, so every vector lies in one run. Every access is below `columns`, as is the label.
    unsafe {
        // Lanes past the last channel hold -inf, which changes neither the maximum nor the sum.
        let tail = load_first::<S, Max>(s, from(whole), rest.hi);
        let mut most = tail;
        let mut c = 0;
        while c < whole {
            most = s.maximum(most, s.load(from(c)));
            c += S::LANES;
        }
        let largest = fold::<S, Max>(s, most);
        let most = s.splat(largest);
        let (mut total, mut c) = (s.splat(0.0), 0);
        while c < whole {
            let (mut part, end) = (s.splat(0.0), whole.min(c + SUM_BLOCK * S::LANES));
            while c < end {
                let e = exp_nonpositive(s, s.sub(s.load(from(c)), most));
                if !*add {
                    s.store(to(c), e);
                }
                part = s.add(part, e);
                c += S::LANES;
            }
            total = s.add(total, part);
        }
        let tail = exp_nonpositive(s, s.sub(tail, most));
        let sum = fold::<S, Sum>(s, s.add(total, tail));
        let label = *args.labels.add(i) as usize;
        *args.sums.add(i) = sum;
        *args.gaps.add(i) = largest - *from(label);
        let scale = s.splat(weight / sum);
        let mut c = 0;
        while c < columns {
            let lanes = if c < whole { Lanes { lo: 0, hi: S::LANES } } else { rest };
            let before = s.load_lanes(to(c), lanes);
            let e = if c == whole {
                tail
            } else if *add {
                exp_nonpositive(s, s.sub(s.load(from(c)), most))
            } else {
                before
            };
            let dx = s.mul(e, scale);
            s.store_lanes(to(c), if *add { s.add(before, dx) } else { dx }, lanes);
            c += S::LANES;
        }
        *to(label) -= weight;
    }
}

/// Rows are channels, and columns are pixels. Lanes are pixels, so no sum crosses lanes.
pub(crate) struct LossRows;

impl Body for LossRows {
    type Args = LossArgs;

    /// # Safety
    /// As [`LossColumns`], with rows and columns exchanged. The columns of a row must be adjacent.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &LossArgs) {
        let mut c = 0;
        while c < args.tiles.out.columns {
            let lanes = Lanes { lo: 0, hi: (args.tiles.out.columns - c).min(S::LANES) };
            // SAFETY: the function has the same contract, which the caller upholds.
            unsafe { strip(s, args, c, lanes) };
            c += S::LANES;
        }
    }
}

/// Computes `lanes` of a vector of columns from `c` on.
///
/// # Safety
/// Same contract as [`LossRows`]. These columns must lie in the tile.
#[inline(always)]
unsafe fn strip<S: Simd>(s: S, args: &LossArgs, c: usize, lanes: Lanes) {
    let LossArgs { tiles: Tiles { out, add, value, .. }, weight, .. } = args;
    let to = |i: usize| out.base.wrapping_add(i * out.row + c);
    let from = |value: &Rows, i: usize| value.at(i, c);
    // SAFETY: the caller upholds the contract of this function. The arrays have 16 elements, and `LANES <= 16`.
    unsafe {
        let logit = |i: usize| s.load_lanes(from(value, i), lanes);
        let mut most = s.splat(Max::IDENTITY);
        for i in 0..out.rows {
            most = s.maximum(most, logit(i));
        }
        let (mut total, mut i) = (s.splat(0.0), 0);
        while i < out.rows {
            let (mut part, end) = (s.splat(0.0), out.rows.min(i + SUM_BLOCK));
            while i < end {
                let e = exp_nonpositive(s, s.sub(logit(i), most));
                if !*add {
                    s.store_lanes(to(i), e, lanes);
                }
                part = s.add(part, e);
                i += 1;
            }
            total = s.add(total, part);
        }
        let mut largest = [0.0; BLOCK];
        s.store(largest.as_mut_ptr(), most);
        s.store_lanes(args.sums.wrapping_add(c), total, lanes);
        let scale = s.div(s.splat(*weight), total);
        for i in 0..out.rows {
            let before = s.load_lanes(to(i), lanes);
            let dx = if *add {
                s.mul_add(exp_nonpositive(s, s.sub(logit(i), most)), scale, before)
            } else {
                s.mul(before, scale)
            };
            s.store_lanes(to(i), dx, lanes);
        }
        for lane in 0..lanes.hi {
            let label = *args.labels.add(c + lane) as usize;
            *args.gaps.add(c + lane) = largest[lane] - *from(value, label).add(lane);
            *to(label).add(lane) -= weight;
        }
    }
}
