//! Maxout: each output channel is the largest of a run of input channels, or NaN if any of them is NaN.

use super::boundary::Body;
use super::output::InPlace;
use super::reduce::{Max, Reduce};
use crate::describe::BLOCK;
use crate::simd::{Lanes, Simd};

/// Number of independent vectors per step, if channels are rows.
const FLIGHT: usize = 4;

/// Arguments that `tile/layer_table.rs` builds and checks.
pub(crate) struct MaxoutArgs {
    pub(super) out: InPlace,
    /// Channel 0 of the first pixel of the tile.
    pub(super) src: *const f32,
    /// Distance between pixels if channels are columns, or between channels if they are rows.
    pub(super) src_row: usize,
    /// Distance between runs of 16 channels, if channels are columns.
    pub(super) src_block: usize,
    /// The first input channel of the first output channel of the tile.
    pub(super) first: usize,
    pub(super) pieces: usize,
}

/// Channels are rows (NCHW), and vectors hold pixels.
pub(crate) struct MaxoutRows;

impl Body for MaxoutRows {
    type Args = MaxoutArgs;

    /// # Safety
    /// The output must be valid for writing, and all input channels of its pixels for reading. The columns of
    /// a row must be adjacent.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &MaxoutArgs) {
        for i in 0..args.out.rows {
            let mut c = 0;
            // SAFETY: every column below lies in the tile.
            unsafe {
                while c + FLIGHT * S::LANES <= args.out.columns {
                    strip::<S, FLIGHT>(s, args, i, c, Lanes { lo: 0, hi: S::LANES });
                    c += FLIGHT * S::LANES;
                }
                while c < args.out.columns {
                    strip::<S, 1>(s, args, i, c, Lanes { lo: 0, hi: (args.out.columns - c).min(S::LANES) });
                    c += S::LANES;
                }
            }
        }
    }
}

/// Computes `NV` vectors of row `i` from column `c` on, and `lanes` of each.
///
/// # Safety
/// These columns must lie in the tile.
#[inline(always)]
unsafe fn strip<S: Simd, const NV: usize>(s: S, args: &MaxoutArgs, i: usize, c: usize, lanes: Lanes) {
    let mut from = args.src.wrapping_add((args.first + i * args.pieces) * args.src_row + c);
    let to = args.out.base.wrapping_add(i * args.out.row + c);
    let mut most = [s.splat(Max::IDENTITY); NV];
    // SAFETY: every output channel has `pieces` input channels. The caller guarantees the columns.
    unsafe {
        for _ in 0..args.pieces {
            for v in 0..NV {
                most[v] = s.maximum(most[v], s.load_lanes(from.wrapping_add(v * S::LANES), lanes));
            }
            from = from.wrapping_add(args.src_row);
        }
        for v in 0..NV {
            s.store_lanes(to.wrapping_add(v * S::LANES), most[v], lanes);
        }
    }
}

/// Channels are columns (NHWC, Nchw16c). Pairs of adjacent channels are computed in vectors, and other runs
/// one by one.
pub(crate) struct MaxoutColumns;

impl Body for MaxoutColumns {
    type Args = MaxoutArgs;

    /// # Safety
    /// The output must be valid for writing, and all input channels of its pixels for reading.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &MaxoutArgs) {
        // Pairs are two loads of every second element, at offsets 0 and 1. The second load reads one element
        // past the pairs.
        let pairs = args.pieces == 2 && args.src_block == BLOCK && args.out.block == BLOCK;
        for i in 0..args.out.rows {
            let pixel = args.src.wrapping_add(i * args.src_row);
            let to = args.out.base.wrapping_add(i * args.out.row);
            let mut c = 0;
            // SAFETY: `c` is less than `columns`. Another output channel follows each vector of pairs, so the
            // extra element exists.
            unsafe {
                while pairs && c + S::LANES < args.out.columns {
                    let from = pixel.add(args.first + 2 * c);
                    s.store(to.add(c), s.maximum(s.load_even(from), s.load_even(from.add(1))));
                    c += S::LANES;
                }
                while c < args.out.columns {
                    *to.add(c / BLOCK * args.out.block + c % BLOCK) = largest(args, pixel, c);
                    c += 1;
                }
            }
        }
    }
}

/// Returns the value of output column `c` of a pixel.
///
/// # Safety
/// The input channels of that column must be valid for reading.
#[inline(always)]
unsafe fn largest(args: &MaxoutArgs, pixel: *const f32, c: usize) -> f32 {
    let first = args.first + c * args.pieces;
    let mut most = Max::IDENTITY;
    for channel in first..first + args.pieces {
        // SAFETY: the caller upholds the contract of this function.
        let x = unsafe { *pixel.add(channel / BLOCK * args.src_block + channel % BLOCK) };
        most = Max::join_scalar(most, x);
    }
    most
}
