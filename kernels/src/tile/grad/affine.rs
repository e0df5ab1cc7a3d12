//! `dx = g * factor + (x - centre) * slope + shift` with one set of numbers per channel: the second half of the gradient
//! of every normalisation.

use super::Tiles;
use crate::simd::{Lanes, Simd};
use crate::tile::boundary::Body;

/// Rows that share one load of the numbers, as in `tile/affine.rs`.
const ROWS: usize = 16;

/// Arguments that `tile/grad/table.rs` builds and checks. There is one number of each kind per channel.
pub(crate) struct AffineArgs {
    pub(super) tiles: Tiles,
    pub(super) centre: *const f32,
    pub(super) factor: *const f32,
    pub(super) slope: *const f32,
    pub(super) shift: *const f32,
    /// Whether channels are rows (NCHW). Otherwise they are columns.
    pub(super) per_row: bool,
}

/// The map of one channel, or of a vector of channels.
#[derive(Clone, Copy)]
struct Line<V> {
    centre: V,
    factor: V,
    slope: V,
    shift: V,
}

/// The map of a tile.
pub(crate) struct Affine;

impl Body for Affine {
    type Args = AffineArgs;

    /// # Safety
    /// The tile must be valid for writing, and for reading if it is added to. The other tiles must be valid for
    /// reading. Each channel must have its numbers.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &AffineArgs) {
        let (rows, columns) = (args.tiles.out.rows, args.tiles.out.columns);
        if args.per_row {
            for i in 0..rows {
                // SAFETY: each row has its numbers, and every column lies in the tile.
                unsafe {
                    let line = Line {
                        centre: s.splat(*args.centre.add(i)),
                        factor: s.splat(*args.factor.add(i)),
                        slope: s.splat(*args.slope.add(i)),
                        shift: s.splat(*args.shift.add(i)),
                    };
                    let mut c = 0;
                    while c < columns {
                        let lanes = Lanes { lo: 0, hi: (columns - c).min(S::LANES) };
                        map(s, args, line, (i, c), lanes);
                        c += S::LANES;
                    }
                }
            }
            return;
        }
        let mut first = 0;
        while first < rows {
            let end = rows.min(first + ROWS);
            let mut c = 0;
            while c < columns {
                let lanes = Lanes { lo: 0, hi: (columns - c).min(S::LANES) };
                // SAFETY: the selected columns lie in the tile, and each has its numbers.
                unsafe {
                    let number = |numbers: *const f32| s.load_lanes(numbers.wrapping_add(c), lanes);
                    let line = Line {
                        centre: number(args.centre),
                        factor: number(args.factor),
                        slope: number(args.slope),
                        shift: number(args.shift),
                    };
                    for i in first..end {
                        map(s, args, line, (i, c), lanes);
                    }
                }
                c += S::LANES;
            }
            first = end;
        }
    }
}

/// Maps `lanes` of one vector at row `i`, column `c`.
///
/// # Safety
/// Same contract as [`Affine`]. The lanes must lie in the tile.
#[inline(always)]
unsafe fn map<S: Simd>(s: S, args: &AffineArgs, line: Line<S::V>, (i, c): (usize, usize), lanes: Lanes) {
    let Tiles { out, add, gradient, value } = &args.tiles;
    let to = out.base.wrapping_add(i * out.row + c);
    // SAFETY: the caller upholds the contract of this function.
    unsafe {
        let (x, g) = if lanes.hi == S::LANES {
            (s.load(value.at(i, c)), s.load(gradient.at(i, c)))
        } else {
            (s.load_lanes(value.at(i, c), lanes), s.load_lanes(gradient.at(i, c), lanes))
        };
        let mut dx = s.mul_add(s.sub(x, line.centre), line.slope, s.mul_add(g, line.factor, line.shift));
        if *add {
            dx = s.add(s.load_lanes(to, lanes), dx);
        }
        if lanes.hi == S::LANES { s.store(to, dx) } else { s.store_lanes(to, dx, lanes) }
    }
}
