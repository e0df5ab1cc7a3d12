//! Copies between tensors, with another pitch, with padding, or with channels and pixels transposed.

use super::boundary::Body;
use super::output::InPlace;
use super::transpose::transpose;
use crate::describe::BLOCK;
use crate::simd::{Lanes, Simd};

/// Number of independent vectors per step of a plain copy.
const FLIGHT: usize = 4;

/// Maximum number of vectors of a short line.
const SHORT_LINE: usize = 4;

/// Arguments that `tile/copy_table.rs` builds and checks.
pub(crate) struct CopyArgs {
    pub(super) out: InPlace,
    pub(super) src: *const f32,
    /// Distance between rows of the source. For a transposition, the rows of the source are the columns of
    /// the output.
    pub(super) src_row: usize,
    /// A transposition also writes zeros to the columns from the last one of the output up to this one.
    pub(super) zeros: usize,
}

/// Copies rows whose columns are adjacent in both tensors.
pub(crate) struct CopyRows;

impl Body for CopyRows {
    type Args = CopyArgs;

    /// # Safety
    /// The output must be valid for writing and the source for reading. The columns of a row must be adjacent
    /// (`block` is not read).
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &CopyArgs) {
        let columns = args.out.columns;
        for i in 0..args.out.rows {
            let from = args.src.wrapping_add(i * args.src_row);
            let to = args.out.base.wrapping_add(i * args.out.row);
            let mut c = 0;
            // SAFETY: every column below lies in this row.
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

/// Arguments of [`PadRows`], which `tile/copy_table.rs` builds and checks.
pub(crate) struct PadArgs {
    pub(super) src: *const f32,
    /// The numbers of rows and of planes, and the distances between them in the source.
    pub(super) rows: (usize, usize),
    pub(super) planes: (usize, usize),
    /// The zeros before the elements of a row, and the number of these elements.
    pub(super) before: usize,
    pub(super) width: usize,
    pub(super) to: *mut f32,
    /// Length of a line of the target.
    pub(super) line: usize,
}

/// Copies rows of planes with zeros on both sides. The lines follow each other: `[row][plane][element]`.
pub(crate) struct PadRows;

impl Body for PadRows {
    type Args = PadArgs;

    /// # Safety
    /// The source must be valid for reading every row of every plane. The target must be valid for writing every
    /// line, and one vector more.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &PadArgs) {
        let vectors = args.line.div_ceil(S::LANES);
        if vectors <= SHORT_LINE {
            // All lines column by column: the lanes of a column are the same. From right to left: a vector that reaches
            // past its line is overwritten by the first of the next line.
            for v in (0..vectors).rev() {
                let x = v.wrapping_mul(S::LANES);
                // SAFETY: the caller upholds the contract of this function.
                unsafe { pad_column(s, args, (args.src, args.to), (args.rows.0, args.planes.0), x) };
            }
            return;
        }
        let mut to = args.to;
        for row in 0..args.rows.0 {
            for plane in 0..args.planes.0 {
                let ahead = row.wrapping_mul(args.rows.1).wrapping_add(plane.wrapping_mul(args.planes.1));
                for v in 0..vectors {
                    let (from, x) = (args.src.wrapping_add(ahead), v.wrapping_mul(S::LANES));
                    // SAFETY: the caller upholds the contract of this function.
                    unsafe { pad_column(s, args, (from, to), (1, 1), x) };
                }
                to = to.wrapping_add(args.line);
            }
        }
    }
}

/// Copies one vector of each line, from element `x` on.
///
/// # Safety
/// Same contract as [`PadRows::run`], for these rows and planes from `from` and `to` on.
#[inline(always)]
unsafe fn pad_column<S: Simd>(
    s: S,
    args: &PadArgs,
    (from, mut to): (*const f32, *mut f32),
    (rows, planes): (usize, usize),
    x: usize,
) {
    let end = args.before.wrapping_add(args.width);
    let lanes =
        Lanes { lo: args.before.saturating_sub(x).min(S::LANES), hi: end.saturating_sub(x).min(S::LANES) };
    let whole = lanes.lo == 0 && lanes.hi == S::LANES;
    let from = from.wrapping_sub(args.before).wrapping_add(x);
    to = to.wrapping_add(x);
    for row in 0..rows {
        let mut from = from.wrapping_add(row.wrapping_mul(args.rows.1));
        for _ in 0..planes {
            // SAFETY: the lanes are elements of the row. A vector that reaches past its line is in the next line or in
            // the vector after the last.
            unsafe {
                let v = if whole { s.load(from) } else { s.load_lanes(from, lanes) };
                s.store(to, v);
            }
            from = from.wrapping_add(args.planes.1);
            to = to.wrapping_add(args.line);
        }
    }
}

/// Transposes in squares of 16 by 16, so that whole cache lines are read and written.
pub(crate) struct Transpose;

impl Body for Transpose {
    type Args = CopyArgs;

    /// # Safety
    /// The output must be valid for writing and the source for reading. The columns of a row must be adjacent
    /// (`block` is not read).
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &CopyArgs) {
        let mut i = 0;
        while i < args.out.rows {
            let rows = (args.out.rows - i).min(BLOCK);
            let mut c = 0;
            while c < args.out.columns.max(args.zeros) {
                let columns = args.out.columns.saturating_sub(c).min(BLOCK);
                let zeros = args.zeros.saturating_sub(c).min(BLOCK);
                let from = args.src.wrapping_add(c * args.src_row + i);
                let to = args.out.base.wrapping_add(i * args.out.row + c);
                // SAFETY: the square lies in the tile.
                unsafe {
                    if rows == BLOCK && columns == BLOCK {
                        square::<S>(s, args, from, to);
                    } else {
                        corner::<S>(s, args, (from, rows), (to, columns, zeros));
                    }
                }
                c += BLOCK;
            }
            i += BLOCK;
        }
    }
}

/// Transposes a square of 16 rows by 16 columns.
///
/// # Safety
/// The square must be valid for reading from `from` and for writing to `to`.
#[inline(always)]
unsafe fn square<S: Simd>(s: S, args: &CopyArgs, from: *const f32, to: *mut f32) {
    for i in (0..BLOCK).step_by(S::LANES) {
        for c in (0..BLOCK).step_by(S::LANES) {
            let (from, to) = (from.wrapping_add(c * args.src_row + i), to.wrapping_add(i * args.out.row + c));
            let mut part = [s.splat(0.0); BLOCK];
            // SAFETY: the caller guarantees the square. `LANES` divides 16, so every vector lies in it.
            unsafe {
                for v in 0..S::LANES {
                    part[v] = s.load(from.wrapping_add(v * args.src_row));
                }
                transpose(s, &mut part);
                for v in 0..S::LANES {
                    s.store(to.wrapping_add(v * args.out.row), part[v]);
                }
            }
        }
    }
}

/// Transposes a square of fewer than 16 rows or columns, and writes zeros to the columns up to `zeros`.
///
/// # Safety
/// Same contract as [`square`], for `rows` rows and `columns` columns, and for the zeros.
#[inline(always)]
unsafe fn corner<S: Simd>(
    s: S,
    args: &CopyArgs,
    (from, rows): (*const f32, usize),
    (to, columns, zeros): (*mut f32, usize, usize),
) {
    let part_of = |count: usize, first: usize| count.saturating_sub(first).min(S::LANES);
    for i in (0..rows).step_by(S::LANES) {
        for c in (0..columns.max(zeros)).step_by(S::LANES) {
            let (from, to) = (from.wrapping_add(c * args.src_row + i), to.wrapping_add(i * args.out.row + c));
            let (read, written) = (part_of(columns, c), part_of(columns.max(zeros), c));
            let rows = part_of(rows, i);
            let mut part = [s.splat(0.0); BLOCK];
            // SAFETY: the caller guarantees the square and the zeros. `LANES` divides 16, so every vector lies in
            // them.
            unsafe {
                for v in 0..S::LANES {
                    if v < read {
                        part[v] =
                            s.load_lanes(from.wrapping_add(v * args.src_row), Lanes { lo: 0, hi: rows });
                    }
                }
                transpose(s, &mut part);
                for v in 0..S::LANES {
                    if v < rows {
                        s.store_lanes(
                            to.wrapping_add(v * args.out.row),
                            part[v],
                            Lanes { lo: 0, hi: written },
                        );
                    }
                }
            }
        }
    }
}
