//! Sums over pixels of terms of a gradient `g` and a value `x`: the first half of the gradient of a normalisation, and
//! the gradient of PReLU slopes.
//!
//! Sums are split into parts as in `tile/moments.rs`, so the rounding error grows only with the square root of the number
//! of terms.

use super::Rows;
use super::gate::Gate;
use crate::describe::BLOCK;
use crate::simd::{Lanes, Simd};
use crate::tile::boundary::Body;
use crate::tile::reduce::{Sum, fold};
use std::marker::PhantomData;

/// Number of pixels, or of vectors of a run, that are summed independently. This hides the latency of an addition.
const FLIGHT: usize = 2;

/// The terms of two sums.
pub(crate) trait Terms {
    /// Adds the terms of a gradient and a value to the two sums. A gradient of zero and a value equal to the centre must
    /// add nothing.
    fn take<S: Simd>(s: S, sums: &mut [S::V; 2], g: S::V, x: S::V, line: &Line<S::V>);
}

/// The numbers of a vector of channels.
#[derive(Clone, Copy)]
pub(crate) struct Line<V> {
    /// The number to subtract from the values.
    centre: V,
    /// Read only by [`Gated`].
    gate: Gate<V>,
}

/// `g` and `g * (x - centre)`.
pub(crate) struct Products;

impl Terms for Products {
    #[inline(always)]
    fn take<S: Simd>(s: S, sums: &mut [S::V; 2], g: S::V, x: S::V, line: &Line<S::V>) {
        sums[0] = s.add(sums[0], g);
        sums[1] = s.mul_add(g, s.sub(x, line.centre), sums[1]);
    }
}

/// The same of the gradients that the rectifier after the normalisation passes on.
pub(crate) struct Gated;

impl Terms for Gated {
    #[inline(always)]
    fn take<S: Simd>(s: S, sums: &mut [S::V; 2], g: S::V, x: S::V, line: &Line<S::V>) {
        let g = line.gate.pass(s, g, s.sub(x, line.centre));
        Products::take(s, sums, g, x, line);
    }
}

/// `g * min(x, 0)`, the terms of the gradient of a PReLU slope. The second sum is not used.
pub(crate) struct Negatives;

impl Terms for Negatives {
    #[inline(always)]
    fn take<S: Simd>(s: S, sums: &mut [S::V; 2], g: S::V, x: S::V, _line: &Line<S::V>) {
        sums[0] = s.mul_add(g, s.min(s.splat(0.0), x), sums[0]);
    }
}

/// Arguments that `tile/grad/table.rs` builds and checks.
pub(crate) struct SumsArgs {
    /// Rows are pixels. A run is one row.
    pub(super) gradient: Rows,
    pub(super) value: Rows,
    /// Number of pixels, or number of elements of the run.
    pub(super) len: usize,
    /// Number of channels, at most 16.
    pub(super) columns: usize,
    /// Number of terms of a part of a sum.
    pub(super) part: usize,
    /// The number to subtract from each channel. For a run, all 16 numbers are the same.
    pub(super) centre: [f32; BLOCK],
    /// The factor and the shift of each channel in front of the rectifier, and its limits.
    pub(super) gate: [[f32; BLOCK]; 2],
    pub(super) limits: [f32; 2],
    /// The sums of each channel. The sums of a run are in the first places.
    pub(super) out: *mut [[f32; BLOCK]; 2],
}

impl SumsArgs {
    /// The numbers of the channels from `c` on.
    ///
    /// # Safety
    /// A vector from `c` on must have at most 16 channels.
    #[inline(always)]
    unsafe fn line<S: Simd>(&self, s: S, c: usize) -> Line<S::V> {
        // SAFETY: the caller upholds the contract.
        let [centre, factor, shift] = [&self.centre, &self.gate[0], &self.gate[1]]
            .map(|numbers| unsafe { s.load(numbers.as_ptr().add(c)) });
        Line {
            centre,
            gate: Gate { factor, shift, lo: s.splat(self.limits[0]), hi: s.splat(self.limits[1]) },
        }
    }
}

/// Sums of up to 16 adjacent channels over all pixels. `NV` vectors have 16 lanes.
pub(crate) struct ColumnSums<T, const NV: usize>(PhantomData<T>);

impl<T: Terms, const NV: usize> Body for ColumnSums<T, NV> {
    type Args = SumsArgs;

    /// # Safety
    /// Every pixel must be valid for reading `columns` elements. `out` must be valid for writing.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &SumsArgs) {
        // SAFETY: the function has the same contract, which the caller upholds. In the first case there are 16 columns.
        unsafe {
            if args.columns == BLOCK {
                columns::<S, T, NV, true>(s, args);
            } else {
                columns::<S, T, NV, false>(s, args);
            }
        }
    }
}

/// # Safety
/// Same contract as [`ColumnSums`]. `WHOLE` requires 16 columns.
#[inline(always)]
unsafe fn columns<S: Simd, T: Terms, const NV: usize, const WHOLE: bool>(s: S, args: &SumsArgs) {
    let zero = [s.splat(0.0); 2];
    let mut total = [zero; NV];
    let mut p = 0;
    // SAFETY: every pixel is less than `len`. `NV` vectors have 16 lanes, as many as each array of `args`.
    unsafe {
        let lines: [Line<S::V>; NV] = std::array::from_fn(|v| args.line(s, v * S::LANES));
        while p < args.len {
            let end = args.len.min(p + args.part);
            let mut part = [[zero; NV]; FLIGHT];
            while p + FLIGHT <= end {
                for f in 0..FLIGHT {
                    take::<S, T, NV, WHOLE>(s, args, &mut part[f], p + f, &lines);
                }
                p += FLIGHT;
            }
            while p < end {
                take::<S, T, NV, WHOLE>(s, args, &mut part[0], p, &lines);
                p += 1;
            }
            for f in 0..FLIGHT {
                for v in 0..NV {
                    join(s, &mut total[v], part[f][v]);
                }
            }
        }
        let out = args.out.cast::<f32>();
        for v in 0..NV {
            for sum in 0..2 {
                s.store(out.add(sum * BLOCK + v * S::LANES), total[v][sum]);
            }
        }
    }
}

/// Adds the terms of pixel `p`.
///
/// # Safety
/// Same contract as [`ColumnSums`]. `WHOLE` requires 16 columns.
#[inline(always)]
unsafe fn take<S: Simd, T: Terms, const NV: usize, const WHOLE: bool>(
    s: S,
    args: &SumsArgs,
    sums: &mut [[S::V; 2]; NV],
    p: usize,
    lines: &[Line<S::V>; NV],
) {
    for v in 0..NV {
        let (g, x) = (args.gradient.at(p, v * S::LANES), args.value.at(p, v * S::LANES));
        let lanes = Lanes { lo: 0, hi: args.columns.saturating_sub(v * S::LANES).min(S::LANES) };
        // SAFETY: the caller upholds the contract of this function.
        let (g, x) = unsafe {
            if WHOLE { (s.load(g), s.load(x)) } else { (s.load_lanes(g, lanes), s.load_lanes(x, lanes)) }
        };
        T::take(s, &mut sums[v], g, x, &lines[v]);
    }
}

#[inline(always)]
fn join<S: Simd>(s: S, total: &mut [S::V; 2], part: [S::V; 2]) {
    for sum in 0..2 {
        total[sum] = s.add(total[sum], part[sum]);
    }
}

/// Sums of a run of adjacent elements: a plane in NCHW.
pub(crate) struct RunSums<T>(PhantomData<T>);

impl<T: Terms> Body for RunSums<T> {
    type Args = SumsArgs;

    /// # Safety
    /// `len` elements must be valid for reading. `out` must be valid for writing.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &SumsArgs) {
        let zero = [s.splat(0.0); 2];
        let (mut total, step) = (zero, FLIGHT * S::LANES);
        let whole = args.len / S::LANES * S::LANES;
        let mut i = 0;
        // SAFETY: no vector reaches past `len`, and the last loads are masked. The arrays of `args` have 16 elements, and
        // `LANES <= 16`.
        unsafe {
            let line = args.line(s, 0);
            let at = |i: usize| (s.load(args.gradient.at(0, i)), s.load(args.value.at(0, i)));
            while i < whole {
                let end = whole.min(i + args.part * S::LANES);
                let mut part = [zero; FLIGHT];
                while i + step <= end {
                    for f in 0..FLIGHT {
                        let (g, x) = at(i + f * S::LANES);
                        T::take(s, &mut part[f], g, x, &line);
                    }
                    i += step;
                }
                while i < end {
                    let (g, x) = at(i);
                    T::take(s, &mut part[0], g, x, &line);
                    i += S::LANES;
                }
                for f in 0..FLIGHT {
                    join(s, &mut total, part[f]);
                }
            }
            // In the lanes past the end, the gradient, the value and the centre are zero, and add nothing.
            let rest = Lanes { lo: 0, hi: args.len - whole };
            let g = s.load_lanes(args.gradient.at(0, whole), rest);
            let x = s.load_lanes(args.value.at(0, whole), rest);
            let line = Line { centre: s.load_lanes(args.centre.as_ptr(), rest), ..line };
            T::take(s, &mut total, g, x, &line);
            for sum in 0..2 {
                (*args.out)[sum][0] = fold::<S, Sum>(s, total[sum]);
            }
        }
    }
}
