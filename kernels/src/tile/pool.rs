//! Pooling if channels are adjacent (NHWC, Nchw16c). Vectors hold up to 16 channels of a pixel.
//!
//! ```text
//! for each output row y:                         // window rows outside the input are skipped
//!     border pixels: join the taps inside the input one by one
//!     interior, window KW wide, stride SX:       // a window shares KW - SX columns with the last one
//!         columns[0..KW-SX] = columns[SX..KW]
//!         columns[KW-SX..]  = join over rows of input[row][new column]
//!         out[x]            = scale * join(columns)
//! ```
//! 3x3 pooling therefore loads 3 vectors per output at stride 1, and 6 at stride 2, instead of 9. The order
//! of a pixel's sum does not depend on how threads share the output.

use super::boundary::Body;
use super::reduce::Reduce;
use super::window::{Taps, WindowAxis};
use crate::describe::BLOCK;
use crate::simd::{Lanes, Simd};
use std::marker::PhantomData;
use std::ops::Range;

/// The arguments of one call: output rows of one image and up to 16 channels, or of one NCHW plane.
/// `tile/ops_table.rs` builds and checks them.
pub(crate) struct PoolArgs {
    pub(super) h: WindowAxis,
    pub(super) w: WindowAxis,
    /// Whether the divisor of an average counts padding.
    pub(super) count_include_pad: bool,
    /// Whether there is no divisor.
    pub(super) sum: bool,
    /// The first pixel of the input image.
    pub(super) input: *const f32,
    /// Distance between input pixels.
    pub(super) pixel: usize,
    /// The output rows, and the first of them in memory.
    pub(super) y: Range<usize>,
    pub(super) out: *mut f32,
    /// Distance between output pixels.
    pub(super) out_pixel: usize,
    /// Number of channels, at most 16.
    pub(super) columns: usize,
}

impl PoolArgs {
    /// Number of elements along a window axis that the divisor counts.
    #[inline(always)]
    pub(super) fn counted(&self, taps: Taps) -> f32 {
        let counted = if self.count_include_pad { taps.padded } else { taps.count };
        if self.sum { 1.0 } else { counted as f32 }
    }
}

/// Pooling with windows of width `KW` and stride `SX`, without dilation along the row. If `KW` is 0, it takes
/// any window. `NV` vectors have 16 lanes.
pub(crate) struct PoolBlock<R, const NV: usize, const KW: usize, const SX: usize>(PhantomData<R>);

impl<R: Reduce, const NV: usize, const KW: usize, const SX: usize> Body for PoolBlock<R, NV, KW, SX> {
    type Args = PoolArgs;

    /// # Safety
    /// Every pixel of the input image must be valid for reading `columns` elements, and every pixel of the
    /// output rows for writing them. If `KW` is not 0, it must be the width of the window, and `SX` must be
    /// its stride.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &PoolArgs) {
        // SAFETY: the function has the same contract, which the caller upholds. In the first case there are
        // 16 columns.
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
/// Same contract as [`PoolBlock`]. `WHOLE` requires 16 columns.
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
        // SAFETY: taps are inside the input, and `x` is less than the width of the output. Interior windows
        // have all their taps.
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

/// Computes `count` adjacent outputs whose windows have all their taps. The first output reads `patch`.
///
/// # Safety
/// Same contract as [`PoolBlock`].
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
    // SAFETY: the caller upholds the contract. `next` visits each column of the interior windows once.
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

/// Computes one output pixel, columns first, in the order of `slide`.
///
/// # Safety
/// Every pixel of the patch must be valid for reading `columns` elements.
#[inline(always)]
unsafe fn one<S: Simd, R: Reduce, const NV: usize, const WHOLE: bool>(
    s: S,
    patch: Patch,
    columns: usize,
) -> [S::V; NV] {
    // SAFETY: the caller upholds the contract of this function.
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

/// Joins one column of a window: `patch.rows` pixels from `p` on.
///
/// # Safety
/// Each pixel must be valid for reading `columns` elements.
#[inline(always)]
unsafe fn column<S: Simd, R: Reduce, const NV: usize, const WHOLE: bool>(
    s: S,
    mut p: *const f32,
    patch: Patch,
    columns: usize,
) -> [S::V; NV] {
    // SAFETY: the caller upholds the contract of this function.
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
/// `p` must be valid for reading `columns` elements, and for all of `NV` vectors if `WHOLE`.
#[inline(always)]
unsafe fn load<S: Simd, const NV: usize, const WHOLE: bool>(
    s: S,
    p: *const f32,
    columns: usize,
) -> [S::V; NV] {
    let mut x = [s.splat(0.0); NV];
    for v in 0..NV {
        let from = p.wrapping_add(v * S::LANES);
        // SAFETY: the caller upholds the contract of this function.
        x[v] = unsafe { if WHOLE { s.load(from) } else { s.load_lanes(from, lanes_below::<S>(columns, v)) } };
    }
    x
}

/// # Safety
/// `p` must be valid for writing `columns` elements, and for all of `NV` vectors if `WHOLE`.
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
        // SAFETY: the caller upholds the contract of this function.
        unsafe {
            if WHOLE { s.store(to, result) } else { s.store_lanes(to, result, lanes_below::<S>(columns, v)) }
        }
    }
}

/// The arguments of global pooling, which joins all pixels of an image into one.
pub(crate) struct GlobalArgs {
    pub(super) input: *const f32,
    pub(super) pixels: usize,
    pub(super) pixel: usize,
    /// Number of pixels that are joined before they are added to the total. It is about the square root of
    /// all pixels.
    pub(super) block: usize,
    /// The factor of an average.
    pub(super) scale: f32,
    pub(super) out: *mut f32,
    pub(super) columns: usize,
}

/// Global pooling of `NV` vectors of channels. Pixels are joined in `FLIGHT` accumulators in turn. The
/// accumulators are added to a total every `block` pixels, about the square root of all pixels. The rounding
/// error then grows only with the square root of the number of pixels.
pub(crate) struct GlobalBlock<R, const NV: usize, const FLIGHT: usize>(PhantomData<R>);

impl<R: Reduce, const NV: usize, const FLIGHT: usize> Body for GlobalBlock<R, NV, FLIGHT> {
    type Args = GlobalArgs;

    /// # Safety
    /// Every pixel must be valid for reading `columns` elements, at most `NV` vectors. The output must be
    /// valid for writing them.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &GlobalArgs) {
        // SAFETY: the function has the same contract, which the caller upholds. In the first case all vectors
        // are whole.
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
/// Same contract as [`GlobalBlock`]. `WHOLE` requires `NV` whole vectors.
#[inline(always)]
unsafe fn global<S: Simd, R: Reduce, const NV: usize, const FLIGHT: usize, const WHOLE: bool>(
    s: S,
    args: &GlobalArgs,
) {
    let at = |p: usize| args.input.wrapping_add(p * args.pixel);
    let mut total = [s.splat(R::IDENTITY); NV];
    let mut p = 0;
    // SAFETY: every pixel is less than `pixels`.
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
        store::<S, R, NV, WHOLE>(s, args.out, total, args.scale, args.columns);
    }
}
