//! `dx = g * factor + (x - centre) * slope + shift` with one set of numbers per channel: the second half of the gradient
//! of every normalisation. A rectifier behind a batch normalisation can stop `g` first.

use super::Tiles;
use super::gate::Gate;
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
    /// The factor and the shift of each channel in front of the rectifier, and its limits. Read only if `GATED`.
    pub(super) gate: [*const f32; 2],
    pub(super) limits: [f32; 2],
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
    gate: Gate<V>,
}

/// The map of a tile, with a rectifier if `GATED`.
pub(crate) struct Affine<const GATED: bool>;

impl<const GATED: bool> Body for Affine<GATED> {
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
                    let line = line::<S, GATED>(s, args, |numbers| s.splat(*numbers.add(i)));
                    let mut c = 0;
                    while c < columns {
                        let lanes = Lanes { lo: 0, hi: (columns - c).min(S::LANES) };
                        map::<S, GATED>(s, args, line, (i, c), lanes);
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
                    let line = line::<S, GATED>(s, args, number);
                    for i in first..end {
                        map::<S, GATED>(s, args, line, (i, c), lanes);
                    }
                }
                c += S::LANES;
            }
            first = end;
        }
    }
}

/// The map of some channels, whose numbers `number` reads.
#[inline(always)]
fn line<S: Simd, const GATED: bool>(
    s: S,
    args: &AffineArgs,
    number: impl Fn(*const f32) -> S::V,
) -> Line<S::V> {
    let [factor, shift] = args.gate.map(|numbers| if GATED { number(numbers) } else { s.splat(0.0) });
    Line {
        centre: number(args.centre),
        factor: number(args.factor),
        slope: number(args.slope),
        shift: number(args.shift),
        gate: Gate { factor, shift, lo: s.splat(args.limits[0]), hi: s.splat(args.limits[1]) },
    }
}

/// Maps `lanes` of one vector at row `i`, column `c`.
///
/// # Safety
/// Same contract as [`Affine`]. The lanes must lie in the tile.
#[inline(always)]
unsafe fn map<S: Simd, const GATED: bool>(
    s: S,
    args: &AffineArgs,
    line: Line<S::V>,
    (i, c): (usize, usize),
    lanes: Lanes,
) {
    let Tiles { out, add, gradient, value } = &args.tiles;
    let to = out.base.wrapping_add(i * out.row + c);
    // SAFETY: the caller upholds the contract of this function.
    unsafe {
        let (x, g) = if lanes.hi == S::LANES {
            (s.load(value.at(i, c)), s.load(gradient.at(i, c)))
        } else {
            (s.load_lanes(value.at(i, c), lanes), s.load_lanes(gradient.at(i, c), lanes))
        };
        let deviation = s.sub(x, line.centre);
        let g = if GATED { line.gate.pass(s, g, deviation) } else { g };
        let mut dx = s.mul_add(deviation, line.slope, s.mul_add(g, line.factor, line.shift));
        if *add {
            dx = s.add(s.load_lanes(to, lanes), dx);
        }
        if lanes.hi == S::LANES { s.store(to, dx) } else { s.store_lanes(to, dx, lanes) }
    }
}
