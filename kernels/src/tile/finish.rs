//! The epilogue on sums that are in memory, sixteen channels of some pixels: what a tile does on registers, for algorithms
//! whose sums are not a tile's.

use super::boundary::Body;
use super::store::{self, TileTarget};
use crate::simd::Simd;

/// Pixels at once.
const FLIGHT: usize = 4;

/// Built and checked by `tile/fft_table.rs`.
pub(crate) struct FinishArgs {
    pub(super) sums: *const f32,
    /// From one pixel to the next.
    pub(super) step: usize,
    pub(super) pixels: usize,
    /// What they are multiplied with.
    pub(super) scale: f32,
    pub(super) target: TileTarget,
}

/// Factor, bias, residual, activation and store of rows of `NV` vectors, which are sixteen channels.
pub(crate) struct Finish<const NV: usize>;

impl<const NV: usize> Body for Finish<NV> {
    type Args = FinishArgs;

    /// # Safety
    /// The sums must be valid for reading, the target as `store` says, for all pixels.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &FinishArgs) {
        let mut pixel = 0;
        // SAFETY: by the caller.
        unsafe {
            while pixel + FLIGHT <= args.pixels {
                some::<S, FLIGHT, NV>(s, args, pixel);
                pixel += FLIGHT;
            }
            while pixel < args.pixels {
                some::<S, 1, NV>(s, args, pixel);
                pixel += 1;
            }
        }
    }
}

/// `M` pixels.
///
/// # Safety
/// As [`Finish`].
#[inline(always)]
unsafe fn some<S: Simd, const M: usize, const NV: usize>(s: S, args: &FinishArgs, pixel: usize) {
    let rows = (args.target.out.row, args.target.residual.row);
    let target = args.target.ahead(pixel.wrapping_mul(rows.0), pixel.wrapping_mul(rows.1));
    let scale = s.splat(args.scale);
    // SAFETY: by the caller.
    unsafe {
        let mut acc = store::start::<S, M, NV>(s, &target);
        for i in 0..M {
            let from = args.sums.wrapping_add(pixel.wrapping_add(i).wrapping_mul(args.step));
            for j in 0..NV {
                acc[i][j] = s.mul_add(s.load(from.wrapping_add(j * S::LANES)), scale, acc[i][j]);
            }
        }
        store::finish::<S, M, NV>(s, acc, &target);
    }
}
