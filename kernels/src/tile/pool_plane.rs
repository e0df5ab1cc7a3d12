//! Pooling where pixels are neighbours (NCHW): a vector is 16 pixels of a row, or fewer.
//!
//! ```text
//! for each strip of outputs, for each output row y:
//!     buffer[..] = join over window rows of input[row][columns of the strip]   // vertical, whole vectors
//!     out[x..]   = scale * join over taps j of buffer[x * stride + j * dilation ..]   // horizontal
//! ```
//! The buffer has the padding as identities at its ends, so no window of the strip is a special case. At stride 2
//! the horizontal step loads every second element, which is one shuffle of two vectors.

use super::boundary::Body;
use super::pool::PoolArgs;
use super::reduce::{Reduce, fold, load_first};
use super::window::WindowAxis;
use crate::simd::{Lanes, Simd};
use std::marker::PhantomData;

/// Elements of the strip buffer: 4 KB, an eighth of the first cache level.
const BUFFER: usize = 1024;

/// What a vector at the end of a strip may read beyond it: 16 lanes at stride 2.
const SLACK: usize = 32;

/// Any window on one plane.
pub(crate) struct PoolPlane<R>(PhantomData<R>);

impl<R: Reduce> Body for PoolPlane<R> {
    type Args = PoolArgs;

    /// # Safety
    /// The input plane must be valid for reading, the output rows for writing; both packed (`pixel`, `out_pixel` and
    /// `columns` are not read).
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &PoolArgs) {
        let w = &args.w;
        if w.extent() > BUFFER {
            // SAFETY: the caller's promise is the same.
            return unsafe { wide::<S, R>(s, args) };
        }
        let most = (BUFFER - w.extent()) / w.stride() + 1;
        let mut buffer = [R::IDENTITY; BUFFER + SLACK];
        let mut scales = [1.0; BUFFER + SLACK];
        let mut x = 0;
        while x < w.output() {
            let count = most.min(w.output() - x);
            if R::AVERAGE {
                for i in 0..count {
                    scales[i] = 1.0 / args.counted(w.taps(x + i));
                }
            }
            // SAFETY: the strip is inside the output row and its columns fit the buffer.
            unsafe { strip::<S, R>(s, args, x, count, &mut buffer, &scales) };
            x += count;
        }
    }
}

/// Outputs `x0..x0 + count` of every row.
///
/// # Safety
/// As [`PoolPlane`]; `(count - 1) * stride + extent <= BUFFER`.
#[inline(always)]
unsafe fn strip<S: Simd, R: Reduce>(
    s: S,
    args: &PoolArgs,
    x0: usize,
    count: usize,
    buffer: &mut [f32; BUFFER + SLACK],
    scales: &[f32; BUFFER + SLACK],
) {
    let (h, w) = (&args.h, &args.w);
    // Element i of the buffer is input column `start + i`, where there is one.
    let start = w.start(x0);
    let length = (count - 1) * w.stride() + w.extent();
    let before = (-start).max(0) as usize;
    let first = start.max(0) as usize;
    let real = w.input().saturating_sub(first).min(length - before);
    for i in 0..before {
        buffer[i] = R::IDENTITY;
    }
    for i in before + real..length {
        buffer[i] = R::IDENTITY;
    }
    for y in args.y.clone() {
        let tall = h.taps(y);
        let row = args.input.wrapping_add(tall.first * w.input() + first);
        let out = args.out.wrapping_add((y - args.y.start) * w.output() + x0);
        // SAFETY: `real` columns from `first` on are in every input row, `count` outputs from `x0` on in the output.
        unsafe {
            vertical::<S, R>(
                s,
                row,
                tall.count,
                h.dilation() * w.input(),
                &mut buffer[before..before + real],
            );
            horizontal::<S, R>(s, w, buffer, &scales[..count], 1.0 / args.counted(tall), out);
        }
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
    // SAFETY: every element is below `count`.
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
            // The last whole vector, part of it a second time.
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
    // SAFETY: by the caller.
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

/// One output per scale from the strip buffer.
///
/// # Safety
/// The strip must fit the buffer but for its slack; `out` must be valid for writing one element per scale.
#[inline(always)]
unsafe fn horizontal<S: Simd, R: Reduce>(
    s: S,
    w: &WindowAxis,
    buffer: &[f32; BUFFER + SLACK],
    scales: &[f32],
    row_scale: f32,
    out: *mut f32,
) {
    let (stride, from) = (w.stride(), buffer.as_ptr());
    let mut x = 0;
    while x < scales.len() {
        let count = (scales.len() - x).min(S::LANES);
        let lanes = Lanes { lo: 0, hi: count };
        // SAFETY: `count` outputs are left; their taps are in the buffer, the other lanes' in its slack.
        unsafe {
            let mut sum = every::<S>(s, from.add(x * stride), stride, count);
            for j in 1..w.kernel() {
                let next = every::<S>(s, from.add(x * stride + j * w.dilation()), stride, count);
                sum = R::join(s, sum, next);
            }
            if R::AVERAGE {
                let scale = s.mul(s.splat(row_scale), s.load_lanes(scales.as_ptr().add(x), lanes));
                sum = s.mul(sum, scale);
            }
            if count == S::LANES {
                s.store(out.add(x), sum);
            } else {
                s.store_lanes(out.add(x), sum, lanes);
            }
        }
        x += S::LANES;
    }
}

/// `count` elements from `p` on, `stride` apart; the other lanes are anything.
///
/// # Safety
/// `p` must be valid for reading those, and 16 or 32 elements if the stride is 1 or 2.
#[inline(always)]
unsafe fn every<S: Simd>(s: S, p: *const f32, stride: usize, count: usize) -> S::V {
    // SAFETY: by the caller; LANES <= 16.
    unsafe {
        match stride {
            1 => s.load(p),
            2 => s.load_even(p),
            _ => {
                let mut stage = [0.0; 16];
                for i in 0..count {
                    stage[i] = *p.add(i * stride);
                }
                s.load(stage.as_ptr())
            }
        }
    }
}

/// Windows wider than the buffer, one at a time.
///
/// # Safety
/// As [`PoolPlane`].
#[inline(always)]
unsafe fn wide<S: Simd, R: Reduce>(s: S, args: &PoolArgs) {
    let (h, w) = (&args.h, &args.w);
    let mut out = args.out;
    for y in args.y.clone() {
        let tall = h.taps(y);
        for x in 0..w.output() {
            let taps = w.taps(x);
            let mut sum = R::IDENTITY;
            for i in 0..tall.count {
                let row = (tall.first + i * h.dilation()) * w.input() + taps.first;
                // SAFETY: the taps are inside the input.
                let part = unsafe { run::<S, R>(s, args.input.wrapping_add(row), taps.count, w.dilation()) };
                sum = R::join_scalar(sum, part);
            }
            let scale = if R::AVERAGE { 1.0 / (args.counted(tall) * args.counted(taps)) } else { 1.0 };
            // SAFETY: inside the output.
            unsafe { *out = sum * scale };
            out = out.wrapping_add(1);
        }
    }
}

/// Whole planes, one after another, joined into one element each.
pub(crate) struct PlanesArgs {
    pub(super) input: *const f32,
    /// Elements of a plane, and the distance to the next one.
    pub(super) pixels: usize,
    pub(super) plane: usize,
    pub(super) out: *mut f32,
    pub(super) out_plane: usize,
    pub(super) planes: usize,
}

/// Global pooling of NCHW planes.
pub(crate) struct GlobalPlanes<R>(PhantomData<R>);

impl<R: Reduce> Body for GlobalPlanes<R> {
    type Args = PlanesArgs;

    /// # Safety
    /// Every plane must be valid for reading, every output for writing.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &PlanesArgs) {
        let scale = if R::AVERAGE { 1.0 / args.pixels as f32 } else { 1.0 };
        for c in 0..args.planes {
            // SAFETY: by the caller.
            unsafe {
                let sum = run::<S, R>(s, args.input.wrapping_add(c * args.plane), args.pixels, 1);
                *args.out.wrapping_add(c * args.out_plane) = sum * scale;
            }
        }
    }
}

/// `count` elements from `p` on, `step` apart, joined: in four vectors, emptied into a total every 64 steps, so
/// that the rounding error of a long sum stays that of a short one.
///
/// # Safety
/// They must be valid for reading.
#[inline(always)]
unsafe fn run<S: Simd, R: Reduce>(s: S, p: *const f32, count: usize, step: usize) -> f32 {
    const FLIGHT: usize = 4;
    const STEPS: usize = 64;
    let mut total = s.splat(R::IDENTITY);
    let mut i = 0;
    // SAFETY: every element is below `count`.
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
                let x = if step == 1 {
                    load_first::<S, R>(s, p.add(i), lanes)
                } else {
                    gather::<S, R>(s, p.wrapping_add(i * step), lanes, step)
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

/// `count` elements from `p` on, `step` apart, the identity in the other lanes.
///
/// # Safety
/// They must be valid for reading; `count <= LANES`.
#[inline(always)]
unsafe fn gather<S: Simd, R: Reduce>(s: S, p: *const f32, count: usize, step: usize) -> S::V {
    let mut stage = [R::IDENTITY; 16];
    for i in 0..count {
        // SAFETY: by the caller; LANES <= 16.
        unsafe { stage[i] = *p.add(i * step) };
    }
    // SAFETY: LANES <= 16.
    unsafe { s.load(stage.as_ptr()) }
}
