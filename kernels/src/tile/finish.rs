//! The epilogue on sums in memory, for pixels of sixteen channels. Tiles apply the epilogue in registers.
//! This kernel serves algorithms whose sums do not end in a tile.

use super::boundary::Body;
use super::store;
use super::target::TileTarget;
use crate::simd::Simd;

/// Number of pixels per step.
const FLIGHT: usize = 4;

/// Arguments that `tile/fft_table.rs` builds and checks.
pub(crate) struct FinishArgs {
    pub(super) sums: *const f32,
    /// Distance between pixels.
    pub(super) step: usize,
    pub(super) pixels: usize,
    /// The factor of the sums.
    pub(super) scale: f32,
    pub(super) target: TileTarget,
}

/// Applies factor, bias, residual and activation to rows of `NV` vectors, which hold sixteen channels, and
/// stores them.
pub(crate) struct Finish<const NV: usize>;

impl<const NV: usize> Body for Finish<NV> {
    type Args = FinishArgs;

    /// # Safety
    /// For all pixels, the sums must be valid for reading, and the target must be valid in the sense of
    /// `store`.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &FinishArgs) {
        let mut pixel = 0;
        // SAFETY: the caller upholds the contract of this function.
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

/// Finishes `M` pixels.
///
/// # Safety
/// Same contract as [`Finish`].
#[inline(always)]
unsafe fn some<S: Simd, const M: usize, const NV: usize>(s: S, args: &FinishArgs, pixel: usize) {
    let rows = (args.target.out.row, args.target.residual.row);
    let target = args.target.ahead(pixel.wrapping_mul(rows.0), pixel.wrapping_mul(rows.1));
    let scale = s.splat(args.scale);
    // SAFETY: the caller upholds the contract of this function.
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
