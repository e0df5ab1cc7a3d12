//! Pooling if pixels are adjacent (NCHW). Vectors hold pixels of a row.
//!
//! ```text
//! for each strip of outputs, for each plane, for each output row y:
//!     buffer[..] = join over window rows of input[row][columns of the strip]   // vertical, whole vectors
//!     out[x..]   = scale * join over taps j of buffer[x * stride + j * dilation ..]   // horizontal
//! ```
//! The buffer holds identities at its ends in place of the padding, so no window of the strip is a special
//! case. At stride 2, the horizontal step loads every second element, with one shuffle of two vectors.

use super::boundary::Body;
use super::pool::PoolArgs;
use super::reduce::{Reduce, fold, load_first};
use super::window::WindowAxis;
use crate::simd::{Lanes, Simd};
use std::marker::PhantomData;

/// Number of columns of a strip, including padding.
const BUFFER: usize = 256;

/// Number of elements that a vector at the end of a strip can read beyond it: 16 lanes at stride 2.
const SLACK: usize = 32;

/// Number of output rows whose columns are joined before their windows are. The loads of a window straddle
/// the stores of its columns. If they followed at once, they would wait until the stores leave the store
/// buffer.
const ROWS: usize = 4;

/// One row of a strip.
type RowBuffer = [f32; BUFFER + SLACK];

/// Pooling with any window, plane by plane.
pub(crate) struct PoolPlanes<R>(PhantomData<R>);

/// The planes, and the part of each that [`PoolArgs`] describes.
pub(crate) struct PlanesArgs {
    /// The part of the first plane. The fields `pixel`, `out_pixel` and `columns` are not read.
    pub(super) pool: PoolArgs,
    pub(super) planes: usize,
    /// Distance between input planes.
    pub(super) plane: usize,
    /// Distance between output planes.
    pub(super) out_plane: usize,
}

impl<R: Reduce> Body for PoolPlanes<R> {
    type Args = PlanesArgs;

    /// # Safety
    /// Every input plane must be valid for reading, and the rows of every output plane for writing. Pixels
    /// are packed.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &PlanesArgs) {
        let (pool, w) = (&args.pool, &args.pool.w);
        let place =
            |c: usize| (pool.input.wrapping_add(c * args.plane), pool.out.wrapping_add(c * args.out_plane));
        if w.extent() > BUFFER {
            for c in 0..args.planes {
                // SAFETY: the function has the same contract, which the caller upholds.
                unsafe { wide::<S, R>(s, pool, place(c)) };
            }
            return;
        }
        let most = (BUFFER - w.extent()) / w.stride() + 1;
        let mut scales = [1.0; BUFFER + SLACK];
        let mut x = 0;
        while x < w.output() {
            let strip = Strip::new(w, x, most.min(w.output() - x));
            if R::AVERAGE {
                for i in 0..strip.count {
                    scales[i] = 1.0 / pool.counted(w.taps(x + i));
                }
            }
            // The columns that no input row overwrites are padding.
            let mut buffer = [[R::IDENTITY; BUFFER + SLACK]; ROWS];
            for c in 0..args.planes {
                // SAFETY: the strip lies in the rows of every plane, and its columns fit into the buffer.
                unsafe { run_strip::<S, R>(s, pool, place(c), strip, &mut buffer, &scales) };
            }
            x += strip.count;
        }
    }
}

/// The outputs `x..x + count` of every row, and the columns that they read.
#[derive(Clone, Copy)]
struct Strip {
    x: usize,
    count: usize,
    /// The columns are `before` columns of padding, then `real` columns from input column `first` on, then
    /// padding.
    before: usize,
    first: usize,
    real: usize,
}

impl Strip {
    #[inline(always)]
    fn new(w: &WindowAxis, x: usize, count: usize) -> Self {
        let start = w.start(x);
        let length = (count - 1) * w.stride() + w.extent();
        let before = (-start).max(0) as usize;
        let first = start.max(0) as usize;
        let real = w.input().saturating_sub(first).min(length - before);
        Self { x, count, before, first, real }
    }
}

/// Computes one strip of one plane, `ROWS` output rows at a time.
///
/// # Safety
/// Same contract as [`PoolPlanes`]. The strip must fit into the buffer.
#[inline(always)]
unsafe fn run_strip<S: Simd, R: Reduce>(
    s: S,
    args: &PoolArgs,
    (input, out): (*const f32, *mut f32),
    strip: Strip,
    buffer: &mut [RowBuffer; ROWS],
    scales: &RowBuffer,
) {
    let (h, w) = (&args.h, &args.w);
    let columns = strip.before..strip.before + strip.real;
    let mut y = args.y.start;
    while y < args.y.end {
        let rows = ROWS.min(args.y.end - y);
        for i in 0..rows {
            let tall = h.taps(y + i);
            let from = input.wrapping_add(tall.first * w.input() + strip.first);
            let to = &mut buffer[i][columns.clone()];
            // SAFETY: every input row has `real` columns from `first` on.
            unsafe { vertical::<S, R>(s, from, tall.count, h.dilation() * w.input(), to) };
        }
        for i in 0..rows {
            let scale = if R::AVERAGE { 1.0 / args.counted(h.taps(y + i)) } else { 1.0 };
            let to = out.wrapping_add((y + i - args.y.start) * w.output() + strip.x);
            // SAFETY: every output row has `count` outputs from `x` on.
            unsafe { horizontal::<S, R>(s, args, &buffer[i], strip.count, (scale, scales), to) };
        }
        y += rows;
    }
}

/// `to[i] = join over rows of row[i]`.
///
/// # Safety
/// `rows` rows, `step` apart, must be valid for reading as many elements as `to` has.
#[inline(always)]
unsafe fn vertical<S: Simd, R: Reduce>(s: S, row: *const f32, rows: usize, step: usize, to: &mut [f32]) {
    const FLIGHT: usize = 4;
    let (count, to) = (to.len(), to.as_mut_ptr());
    let mut i = 0;
    // SAFETY: every element is less than `count`.
    unsafe {
        while i + FLIGHT * S::LANES <= count {
            vertical_vectors::<S, R, FLIGHT>(s, row.wrapping_add(i), rows, step, to.add(i));
            i += FLIGHT * S::LANES;
        }
        while i + S::LANES <= count {
            vertical_vectors::<S, R, 1>(s, row.wrapping_add(i), rows, step, to.add(i));
            i += S::LANES;
        }
        if i == count {
            return;
        }
        if count >= S::LANES {
            // Computes the last whole vector, which overlaps the vector before it.
            let i = count - S::LANES;
            return vertical_vectors::<S, R, 1>(s, row.wrapping_add(i), rows, step, to.add(i));
        }
        let lanes = Lanes { lo: 0, hi: count };
        let mut sum = s.load_lanes(row, lanes);
        for r in 1..rows {
            sum = R::join(s, sum, s.load_lanes(row.wrapping_add(r * step), lanes));
        }
        s.store_lanes(to, sum, lanes);
    }
}

/// # Safety
/// `rows` rows, `step` apart, must be valid for reading `NV` vectors, and `to` for writing them.
#[inline(always)]
unsafe fn vertical_vectors<S: Simd, R: Reduce, const NV: usize>(
    s: S,
    mut row: *const f32,
    rows: usize,
    step: usize,
    to: *mut f32,
) {
    let mut sum = [s.splat(0.0); NV];
    // SAFETY: the caller upholds the contract of this function.
    unsafe {
        for v in 0..NV {
            sum[v] = s.load(row.add(v * S::LANES));
        }
        for _ in 1..rows {
            row = row.wrapping_add(step);
            for v in 0..NV {
                sum[v] = R::join(s, sum[v], s.load(row.add(v * S::LANES)));
            }
        }
        for v in 0..NV {
            s.store(to.add(v * S::LANES), sum[v]);
        }
    }
}

/// Computes `count` outputs from a row of the strip buffer. Each is scaled by the factor of its row and by
/// its own factor.
///
/// # Safety
/// The strip must fit into the buffer without its slack. `out` must be valid for writing `count` elements.
#[inline(always)]
unsafe fn horizontal<S: Simd, R: Reduce>(
    s: S,
    args: &PoolArgs,
    buffer: &RowBuffer,
    count: usize,
    (row_scale, scales): (f32, &RowBuffer),
    out: *mut f32,
) {
    let (stride, dilation, kernel) = (args.w.stride(), args.w.dilation(), args.w.kernel());
    if stride > 2 {
        for x in 0..count {
            let mut sum = buffer[x * stride];
            for j in 1..kernel {
                sum = R::join_scalar(sum, buffer[x * stride + j * dilation]);
            }
            // SAFETY: the caller upholds the contract of this function.
            unsafe { *out.add(x) = if R::AVERAGE { sum * (row_scale * scales[x]) } else { sum } };
        }
        return;
    }
    let mut x = 0;
    while x < count {
        // SAFETY: the taps of the remaining outputs lie in the buffer. The taps of the other lanes lie in its
        // slack.
        unsafe {
            let first = buffer.as_ptr().add(x * stride);
            let tap = |p: *const f32| if stride == 1 { s.load(p) } else { s.load_even(p) };
            let mut sum = tap(first);
            for j in 1..kernel {
                sum = R::join(s, sum, tap(first.add(j * dilation)));
            }
            if R::AVERAGE {
                sum = s.mul(sum, s.mul(s.splat(row_scale), s.load(scales.as_ptr().add(x))));
            }
            if count - x >= S::LANES {
                s.store(out.add(x), sum);
            } else {
                s.store_lanes(out.add(x), sum, Lanes { lo: 0, hi: count - x });
            }
        }
        x += S::LANES;
    }
}

/// Computes windows that are wider than the buffer, one at a time.
///
/// # Safety
/// Same contract as [`PoolPlanes`].
#[inline(always)]
unsafe fn wide<S: Simd, R: Reduce>(s: S, args: &PoolArgs, (input, mut out): (*const f32, *mut f32)) {
    let (h, w) = (&args.h, &args.w);
    for y in args.y.clone() {
        let tall = h.taps(y);
        for x in 0..w.output() {
            let taps = w.taps(x);
            let mut sum = R::IDENTITY;
            for i in 0..tall.count {
                let row = (tall.first + i * h.dilation()) * w.input() + taps.first;
                // SAFETY: the taps are inside the input.
                let part = unsafe { run::<S, R>(s, input.wrapping_add(row), taps.count, w.dilation()) };
                sum = R::join_scalar(sum, part);
            }
            let scale = if R::AVERAGE { 1.0 / (args.counted(tall) * args.counted(taps)) } else { 1.0 };
            // SAFETY: `out` is inside the output.
            unsafe { *out = sum * scale };
            out = out.wrapping_add(1);
        }
    }
}

/// Global pooling, plane by plane.
pub(crate) struct GlobalPlanes<R>(PhantomData<R>);

impl<R: Reduce> Body for GlobalPlanes<R> {
    type Args = PlanesArgs;

    /// # Safety
    /// Every input plane must be valid for reading, and the one element of every output plane for writing.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &PlanesArgs) {
        let pixels = args.pool.h.input() * args.pool.w.input();
        let scale = if R::AVERAGE && !args.pool.sum { 1.0 / pixels as f32 } else { 1.0 };
        for c in 0..args.planes {
            // SAFETY: the caller upholds the contract of this function.
            unsafe {
                let sum = run::<S, R>(s, args.pool.input.wrapping_add(c * args.plane), pixels, 1);
                *args.pool.out.wrapping_add(c * args.out_plane) = sum * scale;
            }
        }
    }
}

/// Joins `count` elements from `p` on, `step` apart. It uses four vectors and adds them to a total every 64
/// steps. The rounding error of a long sum then stays small.
///
/// # Safety
/// The elements must be valid for reading.
#[inline(always)]
unsafe fn run<S: Simd, R: Reduce>(s: S, p: *const f32, count: usize, step: usize) -> f32 {
    const FLIGHT: usize = 4;
    const STEPS: usize = 64;
    let mut total = s.splat(R::IDENTITY);
    let mut i = 0;
    // SAFETY: every element is less than `count`.
    unsafe {
        while i < count {
            let mut part = [s.splat(R::IDENTITY); FLIGHT];
            let end = count.min(i + STEPS * FLIGHT * S::LANES);
            while step == 1 && i + FLIGHT * S::LANES <= end {
                for f in 0..FLIGHT {
                    part[f] = R::join(s, part[f], s.load(p.add(i + f * S::LANES)));
                }
                i += FLIGHT * S::LANES;
            }
            while step == 1 && i + S::LANES <= end {
                part[0] = R::join(s, part[0], s.load(p.add(i)));
                i += S::LANES;
            }
            while i < end {
                let lanes = (end - i).min(S::LANES);
                let x = if step != 1 {
                    gather::<S, R>(s, p.wrapping_add(i * step), lanes, step)
                } else if !R::AVERAGE && end >= S::LANES {
                    s.load(p.add(end - S::LANES))
                } else {
                    load_first::<S, R>(s, p.add(i), lanes)
                };
                part[1] = R::join(s, part[1], x);
                i += lanes;
            }
            for f in 0..FLIGHT {
                total = R::join(s, total, part[f]);
            }
        }
    }
    fold::<S, R>(s, total)
}

/// Loads `count` elements from `p` on, `step` apart. The other lanes hold the identity.
///
/// # Safety
/// The elements must be valid for reading, and `count <= LANES`.
#[inline(always)]
unsafe fn gather<S: Simd, R: Reduce>(s: S, p: *const f32, count: usize, step: usize) -> S::V {
    let mut stage = [R::IDENTITY; 16];
    for i in 0..count {
        // SAFETY: the caller guarantees the element. `stage` has 16 elements, and `LANES <= 16`.
        unsafe { stage[i] = *p.add(i * step) };
    }
    // SAFETY: `stage` has 16 elements, and `LANES <= 16`.
    unsafe { s.load(stage.as_ptr()) }
}
