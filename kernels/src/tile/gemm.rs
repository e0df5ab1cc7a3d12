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
use super::store::{self, Target};
use crate::simd::Simd;

/// Elements of one row of A that lie together: one block of Nchw16c.
pub(crate) const CHUNK: usize = 16;

/// Elements of a cache line.
const LINE: usize = 16;

/// Everything one call of a tile needs; built and checked by `tile/table.rs`.
pub(crate) struct GemmArgs {
    /// Whole chunks of K, and what is left of it (`< CHUNK`).
    pub(crate) chunks: usize,
    pub(crate) k_tail: usize,
    pub(crate) a: *const f32,
    pub(crate) a_row: usize,
    pub(crate) a_chunk: usize,
    /// `NV` whole vectors at every `b + k * b_step`.
    pub(crate) b: *const f32,
    pub(crate) b_step: usize,
    /// Memory that a later call will read, hinted into the second cache level: `hint_lines` lines from
    /// `hint + q * hint_chunk` on during chunk `q`.
    pub(crate) hint: *const f32,
    pub(crate) hint_chunk: usize,
    pub(crate) hint_lines: usize,
    pub(crate) target: Target,
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
        let b_step = args.b_step;
        // SAFETY: the target is valid by the caller.
        let mut acc = unsafe { store::start::<S, MR, NV>(s, &args.target) };
        let (mut a, mut b, mut hint) = (args.a, args.b, args.hint);
        for _ in 0..args.chunks {
            for line in 0..args.hint_lines {
                s.prefetch(hint.wrapping_add(line * LINE));
            }
            hint = hint.wrapping_add(args.hint_chunk);
            for k in 0..CHUNK {
                // SAFETY: a step of a whole chunk is inside A and B by the caller.
                unsafe { step::<S, MR, NV>(s, &mut acc, a.wrapping_add(k), a_row, b) };
                b = b.wrapping_add(b_step);
            }
            a = a.wrapping_add(args.a_chunk);
        }
        for k in 0..args.k_tail {
            // SAFETY: a step of the tail is inside A and B by the caller.
            unsafe { step::<S, MR, NV>(s, &mut acc, a.wrapping_add(k), a_row, b) };
            b = b.wrapping_add(b_step);
        }
        // SAFETY: the target is valid by the caller.
        unsafe { store::finish(s, acc, &args.target) };
    }
}

/// One step of K: an outer product. Addresses wrap: they were measured before the call, and a check of each (in builds
/// that check arithmetic) would be most of the code.
///
/// # Safety
/// `MR` elements of A, `a_row` apart, and `NV` vectors of B must be readable.
#[inline(always)]
pub(super) unsafe fn step<S: Simd, const MR: usize, const NV: usize>(
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
