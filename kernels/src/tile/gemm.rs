//! The GEMM register tile: `C[i][j] = act(bias + sum over k of A[i][k] * B[k][j] + residual[i][j])`.
//!
//! ```text
//! acc[MR][NV] = first block of K ? bias : 0          // MR * NV vectors, all in registers
//! for chunk of 16 k:                                 // A holds 16 consecutive k of a row in one cache line
//!     for k in chunk:
//!         b[NV] = B[k]                               // NV vector loads
//!         for i in 0..MR:
//!             x = splat(A[i][k])                     // one broadcast feeds NV FMAs
//!             acc[i][..] += x * b[..]
//! C (+)= last block of K ? finish(acc) : acc         // tile/store.rs
//! ```
//!
//! A is read where it lies: row `i`, step `k` of chunk `q` at `a + q * a_chunk + i * a_row + k`. With rows 16
//! elements apart (one pixel of Nchw16c, or a packed panel) the distance is a constant and costs no register.
//! Which operand is broadcast follows the layout of C: pixels where channels are neighbours (NHWC, Nchw16c),
//! output channels where pixels are (NCHW). Tiles after Goto and van de Geijn 2008, section 6; loads per FMA in
//! docs/algorithms/gemm.md.

use super::boundary::Body;
use super::store::{self, TileTarget};
use crate::describe::BLOCK;
use crate::simd::{LINE, Simd};
use std::sync::atomic::{Ordering, compiler_fence};

/// Where a product reads its two operands.
#[derive(Clone, Copy)]
pub(crate) struct ProductOperands {
    /// Whole chunks of 16 steps of K, and what is left of it.
    pub(crate) chunks: usize,
    pub(crate) k_tail: usize,
    pub(crate) a: *const f32,
    pub(crate) a_chunk: usize,
    /// `NV` whole vectors for each step of K.
    pub(crate) b: *const f32,
}

/// Everything one call of a tile needs; built and checked by `tile/gemm_table.rs`.
pub(crate) struct GemmArgs {
    pub(crate) operands: ProductOperands,
    pub(crate) a_row: usize,
    pub(crate) b_step: usize,
    pub(crate) hint: LinesOfChunk,
    pub(crate) target: TileTarget,
}

/// A tile of `MR` rows by `NV` vectors; rows of A are `ROW` elements apart, or `a_row` if `ROW` is 0.
pub(crate) struct Gemm<const MR: usize, const NV: usize, const ROW: usize>;

impl<const MR: usize, const NV: usize, const ROW: usize> Body for Gemm<MR, NV, ROW> {
    type Args = GemmArgs;

    /// # Safety
    /// Every address named in [`GemmArgs`] must be valid: A for `MR` rows and all of K, B for all of K, the target
    /// as `store` says. The hint may point anywhere.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &GemmArgs) {
        let a_row = if ROW == 0 { args.a_row } else { ROW };
        // SAFETY: operands and target are valid by the caller.
        unsafe {
            let mut acc = store::start::<S, MR, NV>(s, &args.target);
            let steps = Steps { a_row, b_step: args.b_step, apart: false };
            multiply(s, &mut acc, &args.operands, steps, &args.hint);
            store::finish(s, acc, &args.target);
        }
    }
}

/// A product whose result is a matrix of its own, all of whose columns are valid; built and checked by
/// `tile/winograd_table.rs`.
pub(crate) struct ProductArgs {
    /// Rows of A 16 elements apart, steps of B `NV` vectors.
    pub(crate) operands: ProductOperands,
    /// `[row][NV vectors]`.
    pub(crate) c: *mut f32,
    /// Whether this is the first block of K: the sums are stored; else they are added to what is there.
    pub(crate) first: bool,
    /// `hint.at` is null if there is nothing to hint.
    pub(crate) hint: LineOfStep,
}

/// `C (+)= A B` for `MR` rows: the loop of [`Gemm`] without what surrounds it. It begins with zeros and ends with plain
/// stores, because Winograd convolution calls it with few steps of K, once for each of up to 64 points.
pub(crate) struct Product<const MR: usize, const NV: usize>;

impl<const MR: usize, const NV: usize> Body for Product<MR, NV> {
    type Args = ProductArgs;

    /// # Safety
    /// The operands and `c` must be valid as [`ProductArgs`] says. The hint may point anywhere.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &ProductArgs) {
        // Steps of one vector are short: the compiler unrolls them, and moved loads so far ahead that 16 registers were
        // too few.
        let steps = Steps { a_row: BLOCK, b_step: NV * S::LANES, apart: NV == 1 };
        let mut acc = [[s.splat(0.0); NV]; MR];
        // SAFETY: by the caller.
        unsafe {
            if args.hint.at.is_null() {
                multiply(s, &mut acc, &args.operands, steps, &NoHint);
            } else {
                multiply(s, &mut acc, &args.operands, steps, &args.hint);
            }
        }
        for i in 0..MR {
            for j in 0..NV {
                let at = args.c.wrapping_add((i * NV + j) * S::LANES);
                // SAFETY: by the caller.
                unsafe {
                    let sum = if args.first { acc[i][j] } else { s.add(s.load(at), acc[i][j]) };
                    s.store(at, sum);
                }
            }
        }
    }
}

/// Memory that a later call will read, hinted into the second cache level while this one computes.
trait LookAhead {
    /// Where the hints begin.
    fn begin(&self) -> *const f32;

    /// Before a chunk of K; where the next hint is.
    #[inline(always)]
    fn chunk<S: Simd>(&self, s: S, at: *const f32) -> *const f32 {
        let _ = s;
        at
    }

    /// Before a step of a whole chunk; where the next hint is.
    #[inline(always)]
    fn step<S: Simd>(&self, s: S, at: *const f32) -> *const f32 {
        let _ = s;
        at
    }
}

/// Nothing is hinted.
struct NoHint;

impl LookAhead for NoHint {
    #[inline(always)]
    fn begin(&self) -> *const f32 {
        std::ptr::null()
    }
}

/// `lines` cache lines from `at + q * chunk` on, before chunk `q`.
#[derive(Clone, Copy)]
pub(crate) struct LinesOfChunk {
    pub(crate) at: *const f32,
    pub(crate) chunk: usize,
    pub(crate) lines: usize,
}

impl LookAhead for LinesOfChunk {
    #[inline(always)]
    fn begin(&self) -> *const f32 {
        self.at
    }

    #[inline(always)]
    fn chunk<S: Simd>(&self, s: S, at: *const f32) -> *const f32 {
        for line in 0..self.lines {
            s.prefetch(at.wrapping_add(line * LINE));
        }
        at.wrapping_add(self.chunk)
    }
}

/// A cache line for each step, `step` elements from one to the next: never more at a time, which would fill the line
/// buffers that the product itself needs.
#[derive(Clone, Copy)]
pub(crate) struct LineOfStep {
    pub(crate) at: *const f32,
    pub(crate) step: usize,
}

impl LookAhead for LineOfStep {
    #[inline(always)]
    fn begin(&self) -> *const f32 {
        self.at
    }

    #[inline(always)]
    fn step<S: Simd>(&self, s: S, at: *const f32) -> *const f32 {
        s.prefetch(at);
        at.wrapping_add(self.step)
    }
}

/// How a product goes on from one step of K to the next.
struct Steps {
    /// From one row of A to the next, and from one step of B.
    a_row: usize,
    b_step: usize,
    /// Whether the compiler must not move loads from one step to another.
    apart: bool,
}

/// `acc += A B` over all of K.
///
/// # Safety
/// A must be valid for `MR` rows and all of K, B for all of K.
#[inline(always)]
unsafe fn multiply<S: Simd, const MR: usize, const NV: usize>(
    s: S,
    acc: &mut [[S::V; NV]; MR],
    operands: &ProductOperands,
    Steps { a_row, b_step, apart }: Steps,
    ahead: &impl LookAhead,
) {
    let (mut a, mut b, mut hint) = (operands.a, operands.b, ahead.begin());
    for _ in 0..operands.chunks {
        hint = ahead.chunk(s, hint);
        for k in 0..BLOCK {
            hint = ahead.step(s, hint);
            // SAFETY: a step of a whole chunk is inside A and B by the caller.
            unsafe { step::<S, MR, NV>(s, acc, a.wrapping_add(k), a_row, b) };
            b = b.wrapping_add(b_step);
            if apart {
                compiler_fence(Ordering::SeqCst);
            }
        }
        a = a.wrapping_add(operands.a_chunk);
    }
    for k in 0..operands.k_tail {
        // SAFETY: a step of the tail is inside A and B by the caller.
        unsafe { step::<S, MR, NV>(s, acc, a.wrapping_add(k), a_row, b) };
        b = b.wrapping_add(b_step);
    }
}

/// One step of K: an outer product. Addresses wrap: they were measured before the call, and a check of each (in builds
/// that check arithmetic) would be most of the code.
///
/// # Safety
/// `MR` elements of A, `a_row` apart, and `NV` vectors of B must be readable.
#[inline(always)]
unsafe fn step<S: Simd, const MR: usize, const NV: usize>(
    s: S,
    acc: &mut [[S::V; NV]; MR],
    a: *const f32,
    a_row: usize,
    b: *const f32,
) {
    let mut w = [s.splat(0.0); NV];
    for j in 0..NV {
        // SAFETY: by the caller.
        w[j] = unsafe { s.load(b.wrapping_add(j * S::LANES)) };
    }
    for i in 0..MR {
        // SAFETY: by the caller.
        let x = s.splat(unsafe { *a.wrapping_add(i.wrapping_mul(a_row)) });
        for j in 0..NV {
            acc[i][j] = s.mul_add(x, w[j], acc[i][j]);
        }
    }
}
