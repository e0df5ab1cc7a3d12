//! `x = activation(x + y)` in place: the residual connection where no convolution could take it along.

use super::boundary::Body;
use super::output::InPlace;
use crate::describe::Activation;
use crate::simd::math::{Known, with_known};
use crate::simd::{Lanes, Simd};

/// Vectors in flight, as in `tile/elementwise.rs`.
const FLIGHT: usize = 4;

/// Built and checked by `tile/layer_table.rs`.
pub(crate) struct AddArgs {
    pub(super) tile: InPlace,
    /// The tile to be added, with the same columns.
    pub(super) addend: *const f32,
    /// From one of its rows to the next.
    pub(super) addend_row: usize,
    pub(super) activation: Activation,
}

/// The sum of two tiles, in place, through an activation other than PReLU.
pub(crate) struct Add;

impl Body for Add {
    type Args = AddArgs;

    /// # Safety
    /// The tile must be valid for reading and writing, its columns neighbours (`block` is not read); the addend for
    /// reading.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &AddArgs) {
        // SAFETY: the caller's promise is the same.
        with_known!(args.activation, known => unsafe { add(s, known, args) });
    }
}

/// # Safety
/// As [`Add`].
#[inline(always)]
unsafe fn add<S: Simd>(s: S, known: impl Known, args: &AddArgs) {
    let columns = args.tile.columns;
    let no_slope = s.splat(0.0);
    for i in 0..args.tile.rows {
        let row = args.tile.base.wrapping_add(i * args.tile.row);
        let other = args.addend.wrapping_add(i * args.addend_row);
        let mut c = 0;
        // SAFETY: all columns below are of this row, and so are those of the addend.
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
