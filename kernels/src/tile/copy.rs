//! Copies between tensors: with another pitch, or with channels and pixels exchanged.

use super::boundary::Body;
use super::output::InPlace;
use crate::describe::BLOCK;
use crate::simd::{Lanes, Simd};

/// Vectors in flight of a plain copy.
const FLIGHT: usize = 4;

/// Built and checked by `tile/layer_table.rs`.
pub(crate) struct CopyArgs {
    pub(super) out: InPlace,
    pub(super) src: *const f32,
    /// From one row of the source to the next. The rows of a source that is transposed are the columns of the output.
    pub(super) src_row: usize,
}

/// Rows of neighbours to rows of neighbours.
pub(crate) struct CopyRows;

impl Body for CopyRows {
    type Args = CopyArgs;

    /// # Safety
    /// The output must be valid for writing, its columns neighbours (`block` is not read); the source for reading.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &CopyArgs) {
        let columns = args.out.columns;
        for i in 0..args.out.rows {
            let from = args.src.wrapping_add(i * args.src_row);
            let to = args.out.base.wrapping_add(i * args.out.row);
            let mut c = 0;
            // SAFETY: all columns below are of this row.
            unsafe {
                while c + FLIGHT * S::LANES <= columns {
                    let mut x = [s.splat(0.0); FLIGHT];
                    for v in 0..FLIGHT {
                        x[v] = s.load(from.add(c + v * S::LANES));
                    }
                    for v in 0..FLIGHT {
                        s.store(to.add(c + v * S::LANES), x[v]);
                    }
                    c += FLIGHT * S::LANES;
                }
                while c < columns {
                    let lanes = Lanes { lo: 0, hi: (columns - c).min(S::LANES) };
                    s.store_lanes(to.add(c), s.load_lanes(from.add(c), lanes), lanes);
                    c += S::LANES;
                }
            }
        }
    }
}

/// Columns of the source to rows of the output, in squares of 16 by 16, so that whole cache lines are read and written.
pub(crate) struct Transpose;

impl Body for Transpose {
    type Args = CopyArgs;

    /// # Safety
    /// The output must be valid for writing, its columns neighbours (`block` is not read); the source for reading.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &CopyArgs) {
        let mut i = 0;
        while i < args.out.rows {
            let rows = (args.out.rows - i).min(BLOCK);
            let mut c = 0;
            while c < args.out.columns {
                let columns = (args.out.columns - c).min(BLOCK);
                let from = args.src.wrapping_add(c * args.src_row + i);
                let to = args.out.base.wrapping_add(i * args.out.row + c);
                // SAFETY: the square is in the tile.
                unsafe {
                    if rows == BLOCK && columns == BLOCK {
                        square::<S>(s, args, from, to);
                    } else {
                        corner(args, from, to, rows, columns);
                    }
                }
                c += BLOCK;
            }
            i += BLOCK;
        }
    }
}

/// 16 rows by 16 columns.
///
/// # Safety
/// They must be valid for reading from `from` and writing to `to`.
#[inline(always)]
unsafe fn square<S: Simd>(s: S, args: &CopyArgs, from: *const f32, to: *mut f32) {
    let mut columns = [[0.0f32; BLOCK]; BLOCK];
    // SAFETY: by the caller; LANES divides 16.
    unsafe {
        for c in 0..BLOCK {
            for v in 0..BLOCK / S::LANES {
                let x = s.load(from.wrapping_add(c * args.src_row + v * S::LANES));
                s.store(columns[c].as_mut_ptr().add(v * S::LANES), x);
            }
        }
        for i in 0..BLOCK {
            let mut row = [0.0f32; BLOCK];
            for c in 0..BLOCK {
                row[c] = columns[c][i];
            }
            for v in 0..BLOCK / S::LANES {
                let x = s.load(row.as_ptr().add(v * S::LANES));
                s.store(to.wrapping_add(i * args.out.row + v * S::LANES), x);
            }
        }
    }
}

/// Fewer than that.
///
/// # Safety
/// As [`square`], of `rows` rows and `columns` columns.
#[inline(always)]
unsafe fn corner(args: &CopyArgs, from: *const f32, to: *mut f32, rows: usize, columns: usize) {
    for i in 0..rows {
        for c in 0..columns {
            // SAFETY: by the caller.
            unsafe { *to.wrapping_add(i * args.out.row + c) = *from.wrapping_add(c * args.src_row + i) };
        }
    }
}
