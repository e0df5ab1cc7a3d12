//! `x = activation(x + y)` in place: a residual connection that no convolution could apply in its epilogue.

use super::boundary::Body;
use super::output::InPlace;
use crate::describe::Activation;
use crate::simd::math::{Known, with_known};
use crate::simd::{Lanes, Simd};

/// Number of independent vectors per step, as in `tile/elementwise.rs`.
const FLIGHT: usize = 4;

/// Arguments that `tile/layer_table.rs` builds and checks.
pub(crate) struct AddArgs {
    pub(super) tile: InPlace,
    /// The tile to add. It has the same columns.
    pub(super) addend: *const f32,
    /// Distance between rows of the addend.
    pub(super) addend_row: usize,
    pub(super) activation: Activation,
}

/// Adds a tile to another in place, and applies an activation other than PReLU.
pub(crate) struct Add;

impl Body for Add {
    type Args = AddArgs;

    /// # Safety
    /// The tile must be valid for reading and writing, and the addend for reading. The columns of a row must
    /// be adjacent (`block` is not read).
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &AddArgs) {
        // SAFETY: the callee has the same contract, which the caller upholds.
        with_known!(args.activation, known => unsafe { add(s, known, args) });
    }
}

/// # Safety
/// Same contract as [`Add`].
#[inline(always)]
unsafe fn add<S: Simd>(s: S, known: impl Known, args: &AddArgs) {
    let columns = args.tile.columns;
    let no_slope = s.splat(0.0);
    for i in 0..args.tile.rows {
        let row = args.tile.base.wrapping_add(i * args.tile.row);
        let other = args.addend.wrapping_add(i * args.addend_row);
        let mut c = 0;
        // SAFETY: every column below lies in this row of the tile, and in the same row of the addend.
        unsafe {
            while c + FLIGHT * S::LANES <= columns {
                let mut x = [no_slope; FLIGHT];
                for v in 0..FLIGHT {
                    let at = c + v * S::LANES;
                    x[v] = s.add(s.load(row.add(at)), s.load(other.add(at)));
                }
                for v in 0..FLIGHT {
                    s.store(row.add(c + v * S::LANES), known.of(s, x[v], no_slope));
                }
                c += FLIGHT * S::LANES;
            }
            while c < columns {
                let lanes = Lanes { lo: 0, hi: (columns - c).min(S::LANES) };
                let x = s.add(s.load_lanes(row.add(c), lanes), s.load_lanes(other.add(c), lanes));
                s.store_lanes(row.add(c), known.of(s, x, no_slope), lanes);
                c += S::LANES;
            }
        }
    }
}
