//! `x = activation(x + y)` and `x = activation(x * y)` in place: residual connections and gates that no convolution
//! could apply in its epilogue.

use super::boundary::Body;
use super::output::InPlace;
use crate::describe::Activation;
use crate::simd::math::{self, Known, with_known};
use crate::simd::{Lanes, Simd};

/// Number of independent vectors per step, as in `tile/elementwise.rs`.
const FLIGHT: usize = 4;

/// Arguments that `tile/layer_table.rs` builds and checks.
pub(crate) struct CombineArgs {
    pub(super) tile: InPlace,
    /// The other tile. It has the same columns.
    pub(super) other: *const f32,
    /// Distance between rows of the other tile.
    pub(super) other_row: usize,
    pub(super) activation: Activation,
}

/// Adds a tile to another in place, or multiplies it by another, and applies an activation other than PReLU.
pub(crate) struct Combine<const PRODUCT: bool>;

impl<const PRODUCT: bool> Body for Combine<PRODUCT> {
    type Args = CombineArgs;

    /// # Safety
    /// The tile must be valid for reading and writing, and the other one for reading. The columns of a row must
    /// be adjacent (`block` is not read).
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &CombineArgs) {
        if PRODUCT {
            // Products have no activation.
            // SAFETY: the callee has the same contract, which the caller upholds.
            unsafe { combine::<S, PRODUCT>(s, math::None {}, args) };
        } else {
            // SAFETY: as above.
            with_known!(args.activation, known => unsafe { combine::<S, PRODUCT>(s, known, args) });
        }
    }
}

/// # Safety
/// Same contract as [`Combine`].
#[inline(always)]
unsafe fn combine<S: Simd, const PRODUCT: bool>(s: S, known: impl Known, args: &CombineArgs) {
    let join = |x, y| if PRODUCT { s.mul(x, y) } else { s.add(x, y) };
    let columns = args.tile.columns;
    let no_slope = s.splat(0.0);
    for i in 0..args.tile.rows {
        let row = args.tile.base.wrapping_add(i * args.tile.row);
        let other = args.other.wrapping_add(i * args.other_row);
        let mut c = 0;
        // SAFETY: every column below lies in this row of the tile, and in the same row of the other tile.
        unsafe {
            while c + FLIGHT * S::LANES <= columns {
                let mut x = [no_slope; FLIGHT];
                for v in 0..FLIGHT {
                    let at = c + v * S::LANES;
                    x[v] = join(s.load(row.add(at)), s.load(other.add(at)));
                }
                for v in 0..FLIGHT {
                    s.store(row.add(c + v * S::LANES), known.of(s, x[v], no_slope));
                }
                c += FLIGHT * S::LANES;
            }
            while c < columns {
                let lanes = Lanes { lo: 0, hi: (columns - c).min(S::LANES) };
                let x = join(s.load_lanes(row.add(c), lanes), s.load_lanes(other.add(c), lanes));
                s.store_lanes(row.add(c), known.of(s, x, no_slope), lanes);
                c += S::LANES;
            }
        }
    }
}
