//! The register tile of the matrix product:
//! `C[i][j] = act(bias + sum over k of A[i][k] * B[k][j] + residual[i][j])`.
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
//! A is read in place: row `i`, step `k` of chunk `q` is at `a + q * a_chunk + i * a_row + k`. If rows are 16
//! elements apart (pixels of Nchw16c, or a packed panel), the distance is a constant and needs no register.
//!
//! The layout of C decides which operand is broadcast: pixels if channels are adjacent (NHWC, Nchw16c), and
//! output channels if pixels are adjacent (NCHW). The tiles follow Goto and van de Geijn 2008, section 6.
//! docs/algorithms/gemm.md counts their loads per FMA.

use super::boundary::Body;
use super::store;
use super::target::TileTarget;
use crate::describe::BLOCK;
use crate::simd::{LINE, Simd};
use std::sync::atomic::{Ordering, compiler_fence};

/// The two operands of a product.
#[derive(Clone, Copy)]
pub(crate) struct ProductOperands {
    /// Number of whole chunks of 16 steps of K, and number of remaining steps.
    pub(crate) chunks: usize,
    pub(crate) k_tail: usize,
    pub(crate) a: *const f32,
    pub(crate) a_chunk: usize,
    /// `NV` whole vectors for each step of K.
    pub(crate) b: *const f32,
}

/// The arguments of one call of a tile. `tile/gemm_table.rs` builds and checks them.
pub(crate) struct GemmArgs {
    pub(crate) operands: ProductOperands,
    pub(crate) a_row: usize,
    pub(crate) b_step: usize,
    pub(crate) hint: LinesOfChunk,
    pub(crate) target: TileTarget,
}

/// A tile of `MR` rows by `NV` vectors. Rows of A are `ROW` elements apart, or `a_row` elements if `ROW` is
/// 0.
pub(crate) struct Gemm<const MR: usize, const NV: usize, const ROW: usize>;

impl<const MR: usize, const NV: usize, const ROW: usize> Body for Gemm<MR, NV, ROW> {
    type Args = GemmArgs;

    /// # Safety
    /// Every address in [`GemmArgs`] must be valid: A for `MR` rows and all of K, B for all of K, and the
    /// target in the sense of `store`. The hint can point anywhere.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &GemmArgs) {
        let a_row = if ROW == 0 { args.a_row } else { ROW };
        // SAFETY: the caller guarantees the operands and the target.
        unsafe {
            let mut acc = store::start::<S, MR, NV>(s, &args.target);
            let steps = Steps { a_row, b_step: args.b_step, apart: false };
            multiply(s, &mut acc, &args.operands, steps, &args.hint);
            store::finish(s, acc, &args.target);
        }
    }
}

/// A product that is stored in a separate matrix. All its columns are valid. `tile/winograd_table.rs` builds
/// and checks the arguments.
pub(crate) struct ProductArgs {
    /// Rows of A are 16 elements apart. Steps of B are `NV` vectors apart.
    pub(crate) operands: ProductOperands,
    /// The result, `[row][NV vectors]`.
    pub(crate) c: *mut f32,
    /// Whether this is the first block of K. The sums of the first block are stored, and later sums are added
    /// to them.
    pub(crate) first: bool,
    /// The prefetches. `hint.at` is null if there are none.
    pub(crate) hint: LineOfStep,
}

/// `C (+)= A B` for `MR` rows: the loop of [`Gemm`] without bias and epilogue. It starts from zeros and ends
/// with plain stores. Winograd convolution calls it with few steps of K, once for each of up to 64 points.
pub(crate) struct Product<const MR: usize, const NV: usize>;

impl<const MR: usize, const NV: usize> Body for Product<MR, NV> {
    type Args = ProductArgs;

    /// # Safety
    /// The operands and `c` must be valid as [`ProductArgs`] says. The hint can point anywhere.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &ProductArgs) {
        // Steps of one vector are short, so the compiler unrolls them. It moved loads so far ahead that 16
        // registers were not enough.
        let steps = Steps { a_row: BLOCK, b_step: NV * S::LANES, apart: NV == 1 };
        let mut acc = [[s.splat(0.0); NV]; MR];
        // SAFETY: the caller upholds the contract of this function.
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
                // SAFETY: the caller upholds the contract of this function.
                unsafe {
                    let sum = if args.first { acc[i][j] } else { s.add(s.load(at), acc[i][j]) };
                    s.store(at, sum);
                }
            }
        }
    }
}

/// Memory that a later call will read. It is prefetched into the second-level cache during this call.
trait LookAhead {
    /// The first address to prefetch.
    fn begin(&self) -> *const f32;

    /// Runs before a chunk of K, and returns the next address.
    #[inline(always)]
    fn chunk<S: Simd>(&self, s: S, at: *const f32) -> *const f32 {
        let _ = s;
        at
    }

    /// Runs before a step of a whole chunk, and returns the next address.
    #[inline(always)]
    fn step<S: Simd>(&self, s: S, at: *const f32) -> *const f32 {
        let _ = s;
        at
    }
}

/// No prefetches.
struct NoHint;

impl LookAhead for NoHint {
    #[inline(always)]
    fn begin(&self) -> *const f32 {
        std::ptr::null()
    }
}

/// Before chunk `q`, prefetches `lines` cache lines from `at + q * chunk` on.
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

/// Prefetches one cache line per step. Lines are `step` elements apart. More lines at a time would fill the
/// line buffers that the product itself needs.
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

/// How a product advances from one step of K to the next.
struct Steps {
    /// Distance between rows of A, and distance between steps of B.
    a_row: usize,
    b_step: usize,
    /// Whether to keep the compiler from moving loads between steps.
    apart: bool,
}

/// `acc += A B` over all of K.
///
/// # Safety
/// A must be valid for `MR` rows and all of K, and B for all of K.
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
            // SAFETY: the caller guarantees that a step of a whole chunk is inside A and B.
            unsafe { step::<S, MR, NV>(s, acc, a.wrapping_add(k), a_row, b) };
            b = b.wrapping_add(b_step);
            if apart {
                compiler_fence(Ordering::SeqCst);
            }
        }
        a = a.wrapping_add(operands.a_chunk);
    }
    for k in 0..operands.k_tail {
        // SAFETY: the caller guarantees that a step of the tail is inside A and B.
        unsafe { step::<S, MR, NV>(s, acc, a.wrapping_add(k), a_row, b) };
        b = b.wrapping_add(b_step);
    }
}

/// One step of K, which is an outer product. Address arithmetic wraps, because the addresses were measured
/// before the call. In builds that check arithmetic, checks of each address would be most of the code.
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
        // SAFETY: the caller upholds the contract of this function.
        w[j] = unsafe { s.load(b.wrapping_add(j * S::LANES)) };
    }
    for i in 0..MR {
        // SAFETY: the caller upholds the contract of this function.
        let x = s.splat(unsafe { *a.wrapping_add(i.wrapping_mul(a_row)) });
        for j in 0..NV {
            acc[i][j] = s.mul_add(x, w[j], acc[i][j]);
        }
    }
}
