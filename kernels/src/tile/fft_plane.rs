//! Transforms of a plane of real numbers, in sixteen channels: rows, two at a time, then columns; and back.
//!
//! Two rows of real numbers are one row of complex ones, `z = a + i b`. Their spectra are its even and odd part,
//!
//! ```text
//! 2 A[k] = Z[k] + conj Z[n - k]        2 B[k] = -i (Z[k] - conj Z[n - k])        0 <= k <= n / 2
//! ```
//!
//! (Cooley, Lewis and Welch, *The fast Fourier transform algorithm: programming considerations in the calculation of
//! sine, cosine and Laplace transforms*, J. Sound Vib. 12, 1970). The factor 2 stays in, to be taken
//! out of the sums at the end.

use super::boundary::Body;
use super::fft::{COMPLEX, Length, Line, transform};
use crate::describe::BLOCK;
use crate::simd::Simd;

/// Two rows, and their spectra; built and checked by `tile/fft_table.rs`.
pub(crate) struct RowsArgs {
    pub(super) length: *const Length,
    /// `n` complex numbers: one row is the real parts, the next the imaginary ones.
    pub(super) rows: *mut f32,
    /// Two half spectra, one after the other.
    pub(super) spectra: *mut f32,
    pub(super) scratch: *mut f32,
}

/// Columns of a plane; built and checked by `tile/fft_table.rs`.
pub(crate) struct ColumnsArgs {
    pub(super) length: *const Length,
    pub(super) columns: usize,
    pub(super) from: *mut f32,
    /// From one number of a column to the next, and from one column to the next.
    pub(super) from_step: usize,
    pub(super) from_column: usize,
    pub(super) to: *mut f32,
    pub(super) to_step: usize,
    pub(super) to_column: usize,
    pub(super) inverse: bool,
    pub(super) scratch: *mut f32,
}

/// Two rows to twice their spectra. The rows are overwritten.
pub(crate) struct ForwardRows;

impl Body for ForwardRows {
    type Args = RowsArgs;

    /// # Safety
    /// `length`, `rows`, `spectra` and `scratch` must be valid as [`RowsArgs`] says and share nothing.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &RowsArgs) {
        // SAFETY: by the caller.
        let length = unsafe { &*args.length };
        let mut lane = 0;
        while lane < BLOCK {
            let rows = args.rows.wrapping_add(lane);
            let line = Line { base: rows, step: COMPLEX, swapped: false };
            let spectra = args.spectra.wrapping_add(lane);
            // SAFETY: `line` is all of the rows; numbers `k` and `n - k` are two of them, or one.
            unsafe {
                transform(s, length, line, line, args.scratch.wrapping_add(lane));
                split(s, rows, rows, spectra, length.half());
                for k in 1..length.half() {
                    let (low, high) =
                        (k.wrapping_mul(COMPLEX), length.n().wrapping_sub(k).wrapping_mul(COMPLEX));
                    let to = spectra.wrapping_add(low);
                    split(s, rows.wrapping_add(low), rows.wrapping_add(high), to, length.half());
                }
            }
            lane = lane.wrapping_add(S::LANES);
        }
    }
}

/// Number `low` of the sum of two spectra, and the one that is as far from the end, to twice that number of each.
///
/// # Safety
/// The pointers must be valid for a number, `to` for another one `half` numbers on.
#[inline(always)]
unsafe fn split<S: Simd>(s: S, low: *const f32, high: *const f32, to: *mut f32, half: usize) {
    let second = to.wrapping_add(half.wrapping_mul(COMPLEX));
    // SAFETY: by the caller.
    unsafe {
        let (re, im) = (s.load(low), s.load(low.wrapping_add(BLOCK)));
        let (other_re, other_im) = (s.load(high), s.load(high.wrapping_add(BLOCK)));
        s.store(to, s.add(re, other_re));
        s.store(to.wrapping_add(BLOCK), s.sub(im, other_im));
        s.store(second, s.add(im, other_im));
        s.store(second.wrapping_add(BLOCK), s.sub(other_re, re));
    }
}

/// Two spectra to `n` times their rows. The rows need not be written before.
pub(crate) struct InverseRows;

impl Body for InverseRows {
    type Args = RowsArgs;

    /// # Safety
    /// As [`ForwardRows`].
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &RowsArgs) {
        // SAFETY: by the caller.
        let length = unsafe { &*args.length };
        let (n, half) = (length.n(), length.half());
        let mut lane = 0;
        while lane < BLOCK {
            let rows = args.rows.wrapping_add(lane);
            let line = Line { base: rows, step: COMPLEX, swapped: true };
            // SAFETY: numbers `k` and `n - k` are two of the rows', numbers `k` of both spectra are read.
            unsafe {
                for k in 0..half {
                    let low = k.wrapping_mul(COMPLEX);
                    let first = args.spectra.wrapping_add(lane).wrapping_add(low);
                    let second = first.wrapping_add(half.wrapping_mul(COMPLEX));
                    let (re, second_re) = (s.load(first), s.load(second));
                    let to = rows.wrapping_add(low);
                    if k == 0 || k.wrapping_mul(2) == n {
                        // Real, but for rounding.
                        s.store(to, re);
                        s.store(to.wrapping_add(BLOCK), second_re);
                    } else {
                        let im = s.load(first.wrapping_add(BLOCK));
                        let second_im = s.load(second.wrapping_add(BLOCK));
                        let high = rows.wrapping_add(n.wrapping_sub(k).wrapping_mul(COMPLEX));
                        s.store(to, s.sub(re, second_im));
                        s.store(to.wrapping_add(BLOCK), s.add(im, second_re));
                        s.store(high, s.add(re, second_im));
                        s.store(high.wrapping_add(BLOCK), s.sub(second_re, im));
                    }
                }
                transform(s, length, line, line, args.scratch.wrapping_add(lane));
            }
            lane = lane.wrapping_add(S::LANES);
        }
    }
}

/// The columns of a plane, forward or inverse (then `n` times).
pub(crate) struct Columns;

impl Body for Columns {
    type Args = ColumnsArgs;

    /// # Safety
    /// Every number of every column of both sides must be valid, the scratch memory as [`transform`] says.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &ColumnsArgs) {
        // SAFETY: by the caller.
        let length = unsafe { &*args.length };
        for column in 0..args.columns {
            let from = args.from.wrapping_add(column.wrapping_mul(args.from_column));
            let to = args.to.wrapping_add(column.wrapping_mul(args.to_column));
            let mut lane = 0;
            while lane < BLOCK {
                let swapped = args.inverse;
                let source = Line { base: from.wrapping_add(lane), step: args.from_step, swapped };
                let target = Line { base: to.wrapping_add(lane), step: args.to_step, swapped };
                // SAFETY: by the caller.
                unsafe { transform(s, length, source, target, args.scratch.wrapping_add(lane)) };
                lane = lane.wrapping_add(S::LANES);
            }
        }
    }
}
