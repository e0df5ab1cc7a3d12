//! Transforms of a plane of real numbers in sixteen channels. The forward transform does the rows, two at a
//! time, and then the columns. The inverse does the reverse.
//!
//! Two rows of real numbers form one row of complex numbers, `z = a + i b`. Their spectra are the even and
//! the odd part of its spectrum:
//!
//! ```text
//! 2 A[k] = Z[k] + conj Z[n - k]        2 B[k] = -i (Z[k] - conj Z[n - k])        0 <= k <= n / 2
//! ```
//!
//! (Cooley, Lewis and Welch, *The fast Fourier transform algorithm: programming considerations in the
//! calculation of sine, cosine and Laplace transforms*, J. Sound Vib. 12, 1970). The factor 2 stays in the
//! spectra. The final scale of the sums removes it.

use super::boundary::Body;
use super::fft::{COMPLEX, Length, Line, transform};
use crate::describe::BLOCK;
use crate::simd::Simd;

/// Two rows and their spectra. `tile/fft_table.rs` builds and checks the arguments.
pub(crate) struct RowsArgs {
    pub(super) length: *const Length,
    /// `n` complex numbers. One row is the real parts, and the next row is the imaginary parts.
    pub(super) rows: *mut f32,
    /// Two half spectra, one after the other.
    pub(super) spectra: *mut f32,
    pub(super) scratch: *mut f32,
}

/// Columns of a plane. `tile/fft_table.rs` builds and checks the arguments.
pub(crate) struct ColumnsArgs {
    pub(super) length: *const Length,
    pub(super) columns: usize,
    pub(super) from: *mut f32,
    /// Distance between the numbers of a column, and distance between columns.
    pub(super) from_step: usize,
    pub(super) from_column: usize,
    pub(super) to: *mut f32,
    pub(super) to_step: usize,
    pub(super) to_column: usize,
    pub(super) inverse: bool,
    pub(super) scratch: *mut f32,
}

/// Transforms two rows into twice their spectra. The rows are overwritten.
pub(crate) struct ForwardRows;

impl Body for ForwardRows {
    type Args = RowsArgs;

    /// # Safety
    /// `length`, `rows`, `spectra` and `scratch` must be valid as [`RowsArgs`] says and must not overlap.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &RowsArgs) {
        // SAFETY: the caller upholds the contract of this function.
        let length = unsafe { &*args.length };
        let mut lane = 0;
        while lane < BLOCK {
            let rows = args.rows.wrapping_add(lane);
            let line = Line { base: rows, step: COMPLEX, swapped: false };
            let spectra = args.spectra.wrapping_add(lane);
            // SAFETY: `line` is all of the rows. Numbers 0, `k` and `n - k` are less than `n`. Both half
            // spectra hold numbers 0 and `k`.
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

/// Splits the spectrum of a pair of rows. `low` is number `k` of that spectrum, and `high` is number `n - k`.
/// Writes twice number `k` of each of the two spectra.
///
/// # Safety
/// `low` and `high` must be valid for reading a number. `to` must be valid for writing one number, and
/// another one `half` numbers further on.
#[inline(always)]
unsafe fn split<S: Simd>(s: S, low: *const f32, high: *const f32, to: *mut f32, half: usize) {
    let second = to.wrapping_add(half.wrapping_mul(COMPLEX));
    // SAFETY: the caller upholds the contract of this function.
    unsafe {
        let (re, im) = (s.load(low), s.load(low.wrapping_add(BLOCK)));
        let (other_re, other_im) = (s.load(high), s.load(high.wrapping_add(BLOCK)));
        s.store(to, s.add(re, other_re));
        s.store(to.wrapping_add(BLOCK), s.sub(im, other_im));
        s.store(second, s.add(im, other_im));
        s.store(second.wrapping_add(BLOCK), s.sub(other_re, re));
    }
}

/// Transforms two spectra into `n` times their rows. The former contents of the rows are
/// not read.
pub(crate) struct InverseRows;

impl Body for InverseRows {
    type Args = RowsArgs;

    /// # Safety
    /// Same contract as [`ForwardRows`].
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &RowsArgs) {
        // SAFETY: the caller upholds the contract of this function.
        let length = unsafe { &*args.length };
        let (n, half) = (length.n(), length.half());
        let mut lane = 0;
        while lane < BLOCK {
            let rows = args.rows.wrapping_add(lane);
            let line = Line { base: rows, step: COMPLEX, swapped: true };
            // SAFETY: `k` and `n - k` are numbers of the rows. Number `k` of both half spectra is read.
            unsafe {
                for k in 0..half {
                    let low = k.wrapping_mul(COMPLEX);
                    let first = args.spectra.wrapping_add(lane).wrapping_add(low);
                    let second = first.wrapping_add(half.wrapping_mul(COMPLEX));
                    let (re, second_re) = (s.load(first), s.load(second));
                    let to = rows.wrapping_add(low);
                    if k == 0 || k.wrapping_mul(2) == n {
                        // These two numbers are real, except for rounding errors.
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

/// Transforms the columns of a plane. The inverse transform gives `n` times the numbers.
pub(crate) struct Columns;

impl Body for Columns {
    type Args = ColumnsArgs;

    /// # Safety
    /// Every number of every column must be valid in both planes, and the scratch memory as [`transform`]
    /// says.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &ColumnsArgs) {
        // SAFETY: the caller upholds the contract of this function.
        let length = unsafe { &*args.length };
        for column in 0..args.columns {
            let from = args.from.wrapping_add(column.wrapping_mul(args.from_column));
            let to = args.to.wrapping_add(column.wrapping_mul(args.to_column));
            let mut lane = 0;
            while lane < BLOCK {
                let swapped = args.inverse;
                let source = Line { base: from.wrapping_add(lane), step: args.from_step, swapped };
                let target = Line { base: to.wrapping_add(lane), step: args.to_step, swapped };
                // SAFETY: the caller upholds the contract of this function.
                unsafe { transform(s, length, source, target, args.scratch.wrapping_add(lane)) };
                lane = lane.wrapping_add(S::LANES);
            }
        }
    }
}
