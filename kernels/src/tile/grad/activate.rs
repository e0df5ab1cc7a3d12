//! `dx = g * act'(x)`, from the input `x` or the output of an activation.

use super::Tiles;
use crate::describe::Activation;
use crate::simd::math::with_known;
use crate::simd::slope::Slope;
use crate::simd::{Lanes, Simd};
use crate::tile::boundary::Body;

/// Number of independent vectors per step, as in `tile/elementwise.rs`.
const FLIGHT: usize = 4;

pub(crate) struct ActivateArgs {
    pub(super) tiles: Tiles,
    pub(super) activation: Activation,
    /// PReLU slopes, one per column or per row. Other activations do not read them.
    pub(super) slope: *const f32,
    pub(super) per_row: bool,
}

/// The gradient of an activation. The values are outputs of the activation if `BY_OUTPUT`, and inputs otherwise.
pub(crate) struct Activate<const BY_OUTPUT: bool>;

impl<const BY_OUTPUT: bool> Body for Activate<BY_OUTPUT> {
    type Args = ActivateArgs;

    /// # Safety
    /// The tile must be valid for writing, and for reading if it is added to. The other tiles must be valid for
    /// reading. If the activation is PReLU, `slope` must have an element per column or row.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &ActivateArgs) {
        // SAFETY: the callee has the same contract, which the caller upholds.
        with_known!(args.activation, known => unsafe { map::<S, BY_OUTPUT>(s, known, args) });
    }
}

/// # Safety
/// Same contract as [`Activate`].
#[inline(always)]
unsafe fn map<S: Simd, const BY_OUTPUT: bool>(s: S, known: impl Slope, args: &ActivateArgs) {
    let columns = args.tiles.out.columns;
    for i in 0..args.tiles.out.rows {
        let mut c = 0;
        // SAFETY: every column below lies in this row, and has a slope if the activation is PReLU.
        unsafe {
            while c + FLIGHT * S::LANES <= columns {
                vectors::<S, FLIGHT, BY_OUTPUT>(s, known, args, (i, c), Lanes { lo: 0, hi: S::LANES });
                c += FLIGHT * S::LANES;
            }
            while c < columns {
                let lanes = Lanes { lo: 0, hi: (columns - c).min(S::LANES) };
                vectors::<S, 1, BY_OUTPUT>(s, known, args, (i, c), lanes);
                c += S::LANES;
            }
        }
    }
}

/// Computes `NV` vectors from row `i`, column `c` on, and `lanes` of each.
///
/// # Safety
/// Same contract as [`Activate`]. These columns must lie in the tile.
#[inline(always)]
unsafe fn vectors<S: Simd, const NV: usize, const BY_OUTPUT: bool>(
    s: S,
    known: impl Slope,
    args: &ActivateArgs,
    (i, c): (usize, usize),
    lanes: Lanes,
) {
    let Tiles { out, add, gradient, value } = &args.tiles;
    let mut dx = [s.splat(0.0); NV];
    // SAFETY: the caller upholds the contract of this function.
    unsafe {
        for v in 0..NV {
            let at = c + v * S::LANES;
            let (x, g) = (s.load_lanes(value.at(i, at), lanes), s.load_lanes(gradient.at(i, at), lanes));
            dx[v] = if BY_OUTPUT {
                known.by_output(s, x, g)
            } else {
                let slope = if args.activation != Activation::PRelu {
                    s.splat(0.0)
                } else if args.per_row {
                    s.splat(*args.slope.add(i))
                } else {
                    s.load_lanes(args.slope.wrapping_add(at), lanes)
                };
                known.by_input(s, x, g, slope)
            };
        }
        for v in 0..NV {
            let to = out.base.wrapping_add(i * out.row + c + v * S::LANES);
            let before = if *add { s.load_lanes(to, lanes) } else { s.splat(0.0) };
            s.store_lanes(to, if *add { s.add(before, dx[v]) } else { dx[v] }, lanes);
        }
    }
}
