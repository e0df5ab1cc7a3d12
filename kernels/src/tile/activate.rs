//! The activations that a register tile does not apply in its registers, and the numbers of its channels.

use super::boundary::Body;
use crate::describe::Activation;
use crate::simd::Simd;
use crate::simd::math::{Known, with_known};

/// The vector of per-channel numbers for accumulator `(i, j)`. Channels are rows if `per_row`, and columns
/// otherwise.
///
/// # Safety
/// `p` must be valid for `NV` vectors, or for one element per row if `per_row`.
#[inline(always)]
pub(super) unsafe fn per_channel<S: Simd>(s: S, p: *const f32, per_row: bool, i: usize, j: usize) -> S::V {
    if per_row {
        // SAFETY: the caller guarantees one element per row.
        s.splat(unsafe { *p.wrapping_add(i) })
    } else {
        // SAFETY: the caller guarantees whole vectors.
        unsafe { s.load(p.wrapping_add(j * S::LANES)) }
    }
}

/// Applies every activation other than none, ReLU and clipping to a tile on the stack. There is one function per
/// instruction set, and it is called through a pointer. If it were inlined, an exponential would be most of
/// the code of every tile.
pub(crate) struct ActivateSums;

/// The arguments of [`ActivateSums`]. Slopes are null, or as [`per_channel`] reads them.
pub(crate) struct SumsArgs {
    pub(super) sums: *mut f32,
    pub(super) rows: usize,
    pub(super) vectors: usize,
    pub(super) activation: Activation,
    pub(super) slope: *const f32,
    pub(super) per_row: bool,
}

impl Body for ActivateSums {
    type Args = SumsArgs;

    /// # Safety
    /// `sums` must be valid for `rows * vectors` vectors. Slopes must satisfy the contract of [`per_channel`].
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &SumsArgs) {
        // SAFETY: the callee has the same contract, which the caller upholds.
        with_known!(args.activation, known => unsafe { activate_sums(s, known, args) });
    }
}

/// # Safety
/// Same contract as [`ActivateSums`].
#[inline(always)]
unsafe fn activate_sums<S: Simd>(s: S, known: impl Known, args: &SumsArgs) {
    for i in 0..args.rows {
        for j in 0..args.vectors {
            let at = args.sums.wrapping_add((i * args.vectors + j) * S::LANES);
            // SAFETY: the caller upholds the contract of this function.
            unsafe {
                let slope = if args.slope.is_null() {
                    s.splat(0.0)
                } else {
                    per_channel(s, args.slope, args.per_row, i, j)
                };
                s.store(at, known.of(s, s.load(at), slope));
            }
        }
    }
}
