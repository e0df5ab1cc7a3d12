//! Pooling where channels are neighbours (NHWC, Nchw16c): a vector is 16 channels of a pixel, or a part of them.
//!
//! ```text
//! for each output row y:                         // window rows outside the input are skipped
//!     border pixels: join the real taps one by one
//!     interior, window KW wide, stride SX:       // a window is KW columns, and KW - SX of them were in the last one
//!         columns[0..KW-SX] = columns[SX..KW]
//!         columns[KW-SX..]  = join over rows of input[row][new column]
//!         out[x]            = scale * join(columns)
//! ```
//! So 3x3 at stride 1 loads 3 vectors per output rather than 9, at stride 2 it loads 6. A pixel's sum is formed in
//! the same order whatever the thread's share of the output.

use super::boundary::Body;
use super::reduce::Reduce;
use super::window::{Taps, WindowAxis};
use crate::describe::BLOCK;
use crate::simd::{Lanes, Simd};
use std::marker::PhantomData;
use std::ops::Range;

/// Everything one call needs: a run of output rows of one image and up to 16 channels, or of one NCHW plane.
/// Built and checked by `tile/ops_table.rs`.
pub(crate) struct PoolArgs {
    pub(super) h: WindowAxis,
    pub(super) w: WindowAxis,
    /// Whether padding counts in the divisor of an average.
    pub(super) count_include_pad: bool,
    /// The first pixel of the input image.
    pub(super) input: *const f32,
    /// From one input pixel to the next.
    pub(super) pixel: usize,
    /// Output rows, and the first of them in memory.
    pub(super) y: Range<usize>,
    pub(super) out: *mut f32,
    /// From one output pixel to the next.
    pub(super) out_pixel: usize,
    /// Channels, at most 16.
    pub(super) columns: usize,
}

impl PoolArgs {
    /// Elements that a window axis counts for the divisor.
    #[inline(always)]
    pub(super) fn counted(&self, taps: Taps) -> f32 {
        (if self.count_include_pad { taps.padded } else { taps.count }) as f32
    }
}

/// Pooling of windows `KW` wide at stride `SX` without dilation along the row; any other window if `KW` is 0.
/// `NV` vectors are 16 lanes.
pub(crate) struct PoolBlock<R, const NV: usize, const KW: usize, const SX: usize>(PhantomData<R>);

impl<R: Reduce, const NV: usize, const KW: usize, const SX: usize> Body for PoolBlock<R, NV, KW, SX> {
    type Args = PoolArgs;

    /// # Safety
    /// Every pixel of the input image must be valid for reading `columns` elements, every pixel of the output rows
    /// for writing them. If `KW` is not 0 it must be the width of the window, and `SX` its stride.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &PoolArgs) {
        // SAFETY: the caller's promise is the same; all 16 columns are there in the first case.
        unsafe {
            if args.columns == BLOCK {
                rows::<S, R, NV, KW, SX, true>(s, args);
            } else {
                rows::<S, R, NV, KW, SX, false>(s, args);
            }
        }
    }
}

/// The part of the input under one output pixel.
#[derive(Clone, Copy)]
struct Patch {
    first: *const f32,
    rows: usize,
    row_step: usize,
    columns: usize,
    column_step: usize,
}

/// # Safety
/// As [`PoolBlock`]; `WHOLE` only if there are 16 columns.
#[inline(always)]
unsafe fn rows<S: Simd, R: Reduce, const NV: usize, const KW: usize, const SX: usize, const WHOLE: bool>(
    s: S,
    args: &PoolArgs,
) {
    let (h, w) = (&args.h, &args.w);
    let (lo, hi) = w.interior();
    let mut out = args.out;
    for y in args.y.clone() {
        let tall = h.taps(y);
        let patch = |taps: Taps| Patch {
            first: args.input.wrapping_add((tall.first * w.input() + taps.first) * args.pixel),
            rows: tall.count,
            row_step: h.dilation() * w.input() * args.pixel,
            columns: taps.count,
            column_step: w.dilation() * args.pixel,
        };
        let mut x = 0;
        // SAFETY: taps are inside the input and x below the output's width; interior windows are whole.
        unsafe {
            while x < w.output() {
                if KW > 0 && x == lo && lo < hi {
                    let taps = w.taps(lo);
                    let scale = 1.0 / (args.counted(tall) * args.counted(taps));
                    slide::<S, R, NV, KW, SX, WHOLE>(s, args, patch(taps), hi - lo, out, scale);
                    out = out.wrapping_add((hi - lo) * args.out_pixel);
                    x = hi;
                } else {
                    let taps = w.taps(x);
                    let scale = 1.0 / (args.counted(tall) * args.counted(taps));
                    let sum = one::<S, R, NV, WHOLE>(s, patch(taps), args.columns);
                    store::<S, R, NV, WHOLE>(s, out, sum, scale, args.columns);
                    out = out.wrapping_add(args.out_pixel);
                    x += 1;
                }
            }
        }
    }
}

/// `count` neighbouring outputs whose windows are whole; the first reads `patch`.
///
/// # Safety
/// As [`PoolBlock`].
#[inline(always)]
unsafe fn slide<S: Simd, R: Reduce, const NV: usize, const KW: usize, const SX: usize, const WHOLE: bool>(
    s: S,
    args: &PoolArgs,
    patch: Patch,
    count: usize,
    mut out: *mut f32,
    scale: f32,
) {
    let kept = KW - SX;
    let mut columns = [[s.splat(R::IDENTITY); NV]; KW];
    let mut next = patch.first;
    // SAFETY: by the caller; `next` passes over the columns of the interior, each once.
    unsafe {
        for j in 0..kept {
            columns[SX + j] = column::<S, R, NV, WHOLE>(s, next, patch, args.columns);
            next = next.wrapping_add(patch.column_step);
        }
        for _ in 0..count {
            for j in 0..kept {
                columns[j] = columns[SX + j];
            }
            for j in kept..KW {
                columns[j] = column::<S, R, NV, WHOLE>(s, next, patch, args.columns);
                next = next.wrapping_add(patch.column_step);
            }
            let mut sum = columns[0];
            for j in 1..KW {
                for v in 0..NV {
                    sum[v] = R::join(s, sum[v], columns[j][v]);
                }
            }
            store::<S, R, NV, WHOLE>(s, out, sum, scale, args.columns);
            out = out.wrapping_add(args.out_pixel);
        }
    }
}

/// One output pixel, columns first, as `slide` does.
///
/// # Safety
/// Every pixel of the patch must be valid for reading `columns` elements.
#[inline(always)]
unsafe fn one<S: Simd, R: Reduce, const NV: usize, const WHOLE: bool>(
    s: S,
    patch: Patch,
    columns: usize,
) -> [S::V; NV] {
    // SAFETY: by the caller.
    unsafe {
        let mut sum = column::<S, R, NV, WHOLE>(s, patch.first, patch, columns);
        for j in 1..patch.columns {
            let p = patch.first.wrapping_add(j * patch.column_step);
            let next = column::<S, R, NV, WHOLE>(s, p, patch, columns);
            for v in 0..NV {
                sum[v] = R::join(s, sum[v], next[v]);
            }
        }
        sum
    }
}

/// One column of a window: `patch.rows` pixels from `p` on, joined.
///
/// # Safety
/// Each must be valid for reading `columns` elements.
#[inline(always)]
unsafe fn column<S: Simd, R: Reduce, const NV: usize, const WHOLE: bool>(
    s: S,
    mut p: *const f32,
    patch: Patch,
    columns: usize,
) -> [S::V; NV] {
    // SAFETY: by the caller.
    unsafe {
        let mut sum = load::<S, NV, WHOLE>(s, p, columns);
        for _ in 1..patch.rows {
            p = p.wrapping_add(patch.row_step);
            let next = load::<S, NV, WHOLE>(s, p, columns);
            for v in 0..NV {
                sum[v] = R::join(s, sum[v], next[v]);
            }
        }
        sum
    }
}

/// The lanes of vector `v` that are below `columns`.
#[inline(always)]
fn lanes_below<S: Simd>(columns: usize, v: usize) -> Lanes {
    Lanes { lo: 0, hi: columns.saturating_sub(v * S::LANES).min(S::LANES) }
}

/// # Safety
/// `p` must be valid for reading `columns` elements, all of `NV` vectors if `WHOLE`.
#[inline(always)]
unsafe fn load<S: Simd, const NV: usize, const WHOLE: bool>(
    s: S,
    p: *const f32,
    columns: usize,
) -> [S::V; NV] {
    let mut x = [s.splat(0.0); NV];
    for v in 0..NV {
        let from = p.wrapping_add(v * S::LANES);
        // SAFETY: by the caller.
        x[v] = unsafe { if WHOLE { s.load(from) } else { s.load_lanes(from, lanes_below::<S>(columns, v)) } };
    }
    x
}

/// # Safety
/// `p` must be valid for writing `columns` elements, all of `NV` vectors if `WHOLE`.
#[inline(always)]
unsafe fn store<S: Simd, R: Reduce, const NV: usize, const WHOLE: bool>(
    s: S,
    p: *mut f32,
    sum: [S::V; NV],
    scale: f32,
    columns: usize,
) {
    for v in 0..NV {
        let result = if R::AVERAGE { s.mul(sum[v], s.splat(scale)) } else { sum[v] };
        let to = p.wrapping_add(v * S::LANES);
        // SAFETY: by the caller.
        unsafe {
            if WHOLE { s.store(to, result) } else { s.store_lanes(to, result, lanes_below::<S>(columns, v)) }
        }
    }
}

/// All pixels of an image joined into one.
pub(crate) struct GlobalArgs {
    pub(super) input: *const f32,
    pub(super) pixels: usize,
    pub(super) pixel: usize,
    /// Pixels to be joined before they are added to the total, about the square root of all.
    pub(super) block: usize,
    pub(super) out: *mut f32,
    pub(super) columns: usize,
}

/// Global pooling of `NV` vectors of channels; pixels go to `FLIGHT` accumulators in turn, whose joins are
/// emptied into a total after about the square root of the number of pixels: so the rounding error of a sum
/// grows with the square root of its length only.
pub(crate) struct GlobalBlock<R, const NV: usize, const FLIGHT: usize>(PhantomData<R>);

impl<R: Reduce, const NV: usize, const FLIGHT: usize> Body for GlobalBlock<R, NV, FLIGHT> {
    type Args = GlobalArgs;

    /// # Safety
    /// Every pixel must be valid for reading `columns` elements, at most `NV` vectors; the output for writing them.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &GlobalArgs) {
        // SAFETY: the caller's promise is the same; all vectors are whole in the first case.
        unsafe {
            if args.columns == NV * S::LANES {
                global::<S, R, NV, FLIGHT, true>(s, args);
            } else {
                global::<S, R, NV, FLIGHT, false>(s, args);
            }
        }
    }
}

/// # Safety
/// As [`GlobalBlock`]; `WHOLE` only if all of the vectors are.
#[inline(always)]
unsafe fn global<S: Simd, R: Reduce, const NV: usize, const FLIGHT: usize, const WHOLE: bool>(
    s: S,
    args: &GlobalArgs,
) {
    let at = |p: usize| args.input.wrapping_add(p * args.pixel);
    let mut total = [s.splat(R::IDENTITY); NV];
    let mut p = 0;
    // SAFETY: every pixel is below `pixels`.
    unsafe {
        while p < args.pixels {
            let end = args.pixels.min(p + args.block);
            let mut part = [[s.splat(R::IDENTITY); NV]; FLIGHT];
            while p + FLIGHT <= end {
                for f in 0..FLIGHT {
                    let x = load::<S, NV, WHOLE>(s, at(p + f), args.columns);
                    for v in 0..NV {
                        part[f][v] = R::join(s, part[f][v], x[v]);
                    }
                }
                p += FLIGHT;
            }
            while p < end {
                let x = load::<S, NV, WHOLE>(s, at(p), args.columns);
                for v in 0..NV {
                    part[0][v] = R::join(s, part[0][v], x[v]);
                }
                p += 1;
            }
            for f in 0..FLIGHT {
                for v in 0..NV {
                    total[v] = R::join(s, total[v], part[f][v]);
                }
            }
        }
        store::<S, R, NV, WHOLE>(s, args.out, total, 1.0 / args.pixels as f32, args.columns);
    }
}
