//! Activation and softmax, in place, on tiles of a tensor.
//!
//! A tile has `rows` rows of `columns` adjacent elements. A row holds channels of a pixel if channels are
//! adjacent (NHWC, Nchw16c), and pixels of a channel if pixels are adjacent (NCHW).

use super::boundary::Body;
use super::output::InPlace;
use super::reduce::{Max, Reduce, Sum, fold, load_first};
use crate::describe::{Activation, BLOCK};
use crate::simd::math::{Known, exp_nonpositive, with_known};
use crate::simd::{Lanes, Simd};

/// Number of independent vectors per step. Each is a long dependency chain: an exponential has about 20
/// steps.
const FLIGHT: usize = 4;

pub(crate) struct ActivateArgs {
    pub(super) tile: InPlace,
    pub(super) activation: Activation,
    /// PReLU slopes, one per column or per row. Other activations do not read them.
    pub(super) slope: *const f32,
    pub(super) per_row: bool,
}

/// `x = activation(x)` for every element of the tile.
pub(crate) struct Activate;

impl Body for Activate {
    type Args = ActivateArgs;

    /// # Safety
    /// The tile must be valid for reading and writing. The columns of a row must be adjacent (`block` is not
    /// read). If the activation is PReLU, `slope` must have an element per column or row.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &ActivateArgs) {
        // SAFETY: the callee has the same contract, which the caller upholds.
        with_known!(args.activation, known => unsafe { map(s, known, args) });
    }
}

/// # Safety
/// Same contract as [`Activate`].
#[inline(always)]
unsafe fn map<S: Simd>(s: S, known: impl Known, args: &ActivateArgs) {
    let columns = args.tile.columns;
    for i in 0..args.tile.rows {
        let row = args.tile.base.wrapping_add(i * args.tile.row);
        let mut c = 0;
        // SAFETY: every column below lies in this row, and has a slope if the activation is PReLU.
        unsafe {
            while c + FLIGHT * S::LANES <= columns {
                let mut x = [s.splat(0.0); FLIGHT];
                for v in 0..FLIGHT {
                    x[v] = s.load(row.add(c + v * S::LANES));
                }
                for v in 0..FLIGHT {
                    x[v] = known.of(s, x[v], slopes(s, args, i, c + v * S::LANES));
                }
                for v in 0..FLIGHT {
                    s.store(row.add(c + v * S::LANES), x[v]);
                }
                c += FLIGHT * S::LANES;
            }
            while c < columns {
                let lanes = Lanes { lo: 0, hi: (columns - c).min(S::LANES) };
                let x = s.load_lanes(row.add(c), lanes);
                s.store_lanes(row.add(c), known.of(s, x, slopes(s, args, i, c)), lanes);
                c += S::LANES;
            }
        }
    }
}

/// The slopes of row `i`, columns `c..`. They are zero unless the activation is PReLU.
///
/// # Safety
/// Same contract as [`Activate`].
#[inline(always)]
unsafe fn slopes<S: Simd>(s: S, args: &ActivateArgs, i: usize, c: usize) -> S::V {
    if args.activation != Activation::PRelu {
        return s.splat(0.0);
    }
    let lanes = Lanes { lo: 0, hi: (args.tile.columns - c).min(S::LANES) };
    // SAFETY: the caller guarantees one slope per row or column.
    unsafe { if args.per_row { s.splat(*args.slope.add(i)) } else { s.load_lanes(args.slope.add(c), lanes) } }
}

/// Number of terms that are summed before the partial sum is added to the total. The error then grows with
/// the number of blocks plus this number, and not with the number of terms.
const SUM_BLOCK: usize = 16;

/// Softmax of each row of the tile. Channels are columns.
///
/// ```text
/// m = max(x);  x = exp(x - m), s = sum(x);  x *= 1 / s      // three passes over a row in L1
/// ```
/// No exponential overflows, and the sum is at least 1 (Goodfellow, Bengio and Courville 2016, section 4.1).
pub(crate) struct SoftmaxColumns;

impl Body for SoftmaxColumns {
    type Args = InPlace;

    /// # Safety
    /// The tile must be valid for reading and writing.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &InPlace) {
        for i in 0..args.rows {
            // SAFETY: the row lies in the tile.
            unsafe { softmax_row(s, args.base.wrapping_add(i * args.row), args.columns, args.block) };
        }
    }
}

/// # Safety
/// `columns` elements must be valid for reading and writing. They lie in runs of 16, and the runs are `block`
/// elements apart.
#[inline(always)]
unsafe fn softmax_row<S: Simd>(s: S, row: *mut f32, columns: usize, block: usize) {
    let whole = columns / S::LANES * S::LANES;
    let rest = Lanes { lo: 0, hi: columns - whole };
    let at = |c: usize| row.wrapping_add(c / BLOCK * block + c % BLOCK);
    // SAFETY: `LANES` divides 16, so every vector lies in one run. Every access is below `columns`.
    unsafe {
        // Lanes past the last column hold -inf, which changes neither the maximum nor the sum.
        let tail = load_first::<S, Max>(s, at(whole), rest.hi);
        let mut max = tail;
        let mut c = 0;
        while c < whole {
            max = s.maximum(max, s.load(at(c)));
            c += S::LANES;
        }
        let max = s.splat(fold::<S, Max>(s, max));

        let (mut total, mut c) = (s.splat(0.0), 0);
        while c < whole {
            let (mut part, end) = (s.splat(0.0), whole.min(c + SUM_BLOCK * S::LANES));
            while c < end {
                let e = exp_nonpositive(s, s.sub(s.load(at(c)), max));
                s.store(at(c), e);
                part = s.add(part, e);
                c += S::LANES;
            }
            total = s.add(total, part);
        }
        let tail = exp_nonpositive(s, s.sub(tail, max));
        total = s.add(total, tail);

        let scale = s.splat(1.0 / fold::<S, Sum>(s, total));
        let mut c = 0;
        while c < whole {
            s.store(at(c), s.mul(s.load(at(c)), scale));
            c += S::LANES;
        }
        s.store_lanes(at(whole), s.mul(tail, scale), rest);
    }
}

/// Softmax of each column of the tile. Channels are rows. Lanes are pixels, so no sum crosses lanes.
pub(crate) struct SoftmaxRows;

impl Body for SoftmaxRows {
    type Args = InPlace;

    /// # Safety
    /// The tile must be valid for reading and writing. The columns of a row must be adjacent (`block` is not
    /// read).
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &InPlace) {
        let mut c = 0;
        // SAFETY: every column below lies in the tile.
        unsafe {
            while c + FLIGHT * S::LANES <= args.columns {
                softmax_strip::<S, FLIGHT>(s, args, c, Lanes { lo: 0, hi: S::LANES });
                c += FLIGHT * S::LANES;
            }
            while c < args.columns {
                let lanes = Lanes { lo: 0, hi: (args.columns - c).min(S::LANES) };
                softmax_strip::<S, 1>(s, args, c, lanes);
                c += S::LANES;
            }
        }
    }
}

/// Computes `NV` vectors of columns from `c` on, and `lanes` of each.
///
/// # Safety
/// These columns must lie in the tile.
#[inline(always)]
unsafe fn softmax_strip<S: Simd, const NV: usize>(s: S, args: &InPlace, c: usize, lanes: Lanes) {
    let at = |i: usize, v: usize| args.base.wrapping_add(i * args.row + c + v * S::LANES);
    let mut max = [s.splat(Max::IDENTITY); NV];
    let mut total = [s.splat(0.0); NV];
    // SAFETY: the caller upholds the contract of this function.
    unsafe {
        for i in 0..args.rows {
            for v in 0..NV {
                max[v] = s.maximum(max[v], s.load_lanes(at(i, v), lanes));
            }
        }
        let mut i = 0;
        while i < args.rows {
            let (mut part, end) = ([s.splat(0.0); NV], args.rows.min(i + SUM_BLOCK));
            while i < end {
                for v in 0..NV {
                    let e = exp_nonpositive(s, s.sub(s.load_lanes(at(i, v), lanes), max[v]));
                    s.store_lanes(at(i, v), e, lanes);
                    part[v] = s.add(part[v], e);
                }
                i += 1;
            }
            for v in 0..NV {
                total[v] = s.add(total[v], part[v]);
            }
        }
        for v in 0..NV {
            total[v] = s.div(s.splat(1.0), total[v]);
        }
        for i in 0..args.rows {
            for v in 0..NV {
                s.store_lanes(at(i, v), s.mul(s.load_lanes(at(i, v), lanes), total[v]), lanes);
            }
        }
    }
}
