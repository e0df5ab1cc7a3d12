//! Sums of deviations from a centre, and sums of their squares: the first half of a normalisation.
//!
//! A sum is split into parts, each of about the square root of all terms, and the parts are added up. The
//! rounding error then grows only with the square root of the number of terms.

use super::boundary::Body;
use super::reduce::{Sum, fold};
use crate::describe::BLOCK;
use crate::simd::{Lanes, Simd};

/// Number of pixels, or of vectors of a run, that are summed independently. This hides the latency of an
/// addition.
const FLIGHT: usize = 2;

/// One sum per channel. The sum of a run is in the first place.
pub(crate) struct Sums {
    /// Sums of `x - centre`.
    pub(crate) plain: [f32; BLOCK],
    /// Sums of `(x - centre)^2`. They are zero unless squares are summed.
    pub(crate) squares: [f32; BLOCK],
}

/// Arguments that `tile/layer_table.rs` builds and checks.
pub(crate) struct MomentsArgs {
    pub(super) src: *const f32,
    /// Number of pixels, or number of elements of the run.
    pub(super) len: usize,
    /// Distance between pixels.
    pub(super) pixel: usize,
    /// Number of channels, at most 16.
    pub(super) columns: usize,
    /// Number of terms of a part of a sum.
    pub(super) part: usize,
    /// The number to subtract from each channel. For a run, all 16 numbers are the same.
    pub(super) centre: [f32; BLOCK],
    pub(super) out: *mut Sums,
}

/// Sums of up to 16 adjacent channels over all pixels. `NV` vectors have 16 lanes.
pub(crate) struct ColumnMoments<const NV: usize, const SQUARES: bool>;

impl<const NV: usize, const SQUARES: bool> Body for ColumnMoments<NV, SQUARES> {
    type Args = MomentsArgs;

    /// # Safety
    /// Every pixel must be valid for reading `columns` elements. `out` must be valid for writing.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &MomentsArgs) {
        // SAFETY: the function has the same contract, which the caller upholds. In the first case there are
        // 16 columns.
        unsafe {
            if args.columns == BLOCK {
                columns::<S, NV, SQUARES, true>(s, args);
            } else {
                columns::<S, NV, SQUARES, false>(s, args);
            }
        }
    }
}

/// The two accumulators of a vector.
#[derive(Clone, Copy)]
struct Pair<V> {
    plain: V,
    squares: V,
}

#[inline(always)]
fn take<S: Simd, const SQUARES: bool>(s: S, pair: &mut Pair<S::V>, x: S::V, centre: S::V) {
    let d = if SQUARES { s.sub(x, centre) } else { x };
    pair.plain = s.add(pair.plain, d);
    if SQUARES {
        pair.squares = s.mul_add(d, d, pair.squares);
    }
}

#[inline(always)]
fn join<S: Simd>(s: S, a: &mut Pair<S::V>, b: Pair<S::V>) {
    a.plain = s.add(a.plain, b.plain);
    a.squares = s.add(a.squares, b.squares);
}

/// # Safety
/// Same contract as [`ColumnMoments`]. `WHOLE` requires 16 columns.
#[inline(always)]
unsafe fn columns<S: Simd, const NV: usize, const SQUARES: bool, const WHOLE: bool>(
    s: S,
    args: &MomentsArgs,
) {
    let zero = Pair { plain: s.splat(0.0), squares: s.splat(0.0) };
    let mut centre = [zero.plain; NV];
    let mut total = [zero; NV];
    let mut p = 0;
    // SAFETY: every pixel is less than `len`. `NV` vectors have 16 lanes, as many as `centre` and each array
    // of `out`.
    unsafe {
        for v in 0..NV {
            centre[v] = s.load(args.centre.as_ptr().add(v * S::LANES));
        }
        let load = |p: usize, v: usize| {
            let from = args.src.wrapping_add(p * args.pixel + v * S::LANES);
            let hi = args.columns.saturating_sub(v * S::LANES).min(S::LANES);
            if WHOLE { s.load(from) } else { s.load_lanes(from, Lanes { lo: 0, hi }) }
        };
        while p < args.len {
            let end = args.len.min(p + args.part);
            let mut part = [[zero; NV]; FLIGHT];
            while p + FLIGHT <= end {
                for f in 0..FLIGHT {
                    for v in 0..NV {
                        take::<S, SQUARES>(s, &mut part[f][v], load(p + f, v), centre[v]);
                    }
                }
                p += FLIGHT;
            }
            while p < end {
                for v in 0..NV {
                    take::<S, SQUARES>(s, &mut part[0][v], load(p, v), centre[v]);
                }
                p += 1;
            }
            for f in 0..FLIGHT {
                for v in 0..NV {
                    join(s, &mut total[v], part[f][v]);
                }
            }
        }
        for v in 0..NV {
            s.store((&raw mut (*args.out).plain).cast::<f32>().add(v * S::LANES), total[v].plain);
            s.store((&raw mut (*args.out).squares).cast::<f32>().add(v * S::LANES), total[v].squares);
        }
    }
}

/// Sums of a run of adjacent elements, which is a whole group in NCHW.
pub(crate) struct RunMoments<const SQUARES: bool>;

impl<const SQUARES: bool> Body for RunMoments<SQUARES> {
    type Args = MomentsArgs;

    /// # Safety
    /// `len` elements must be valid for reading. `out` must be valid for writing.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &MomentsArgs) {
        let zero = Pair { plain: s.splat(0.0), squares: s.splat(0.0) };
        let (mut total, step) = (zero, FLIGHT * S::LANES);
        let whole = args.len / S::LANES * S::LANES;
        let mut i = 0;
        // SAFETY: no vector reaches past `len`, and the last load is masked. `centre` has 16 elements, and
        // `LANES <= 16`.
        unsafe {
            let centre = s.load(args.centre.as_ptr());
            while i < whole {
                let end = whole.min(i + args.part * S::LANES);
                let mut part = [zero; FLIGHT];
                while i + step <= end {
                    for f in 0..FLIGHT {
                        take::<S, SQUARES>(s, &mut part[f], s.load(args.src.add(i + f * S::LANES)), centre);
                    }
                    i += step;
                }
                while i < end {
                    take::<S, SQUARES>(s, &mut part[0], s.load(args.src.add(i)), centre);
                    i += S::LANES;
                }
                for f in 0..FLIGHT {
                    join(s, &mut total, part[f]);
                }
            }
            // In the lanes past the end, both the element and the centre are zero, so their deviation is
            // zero.
            let rest = Lanes { lo: 0, hi: args.len - whole };
            let x = s.load_lanes(args.src.add(whole), rest);
            take::<S, SQUARES>(s, &mut total, x, s.load_lanes(args.centre.as_ptr(), rest));
            (*args.out).plain[0] = fold::<S, Sum>(s, total.plain);
            (*args.out).squares[0] = fold::<S, Sum>(s, total.squares);
        }
    }
}
