//! The tile of convolutions with few output channels: dot products along the input channels.
//!
//! ```text
//! acc[T][O] = first block of K ? 0 : sums                 // vectors of partial sums
//! for kernel row inside the image, tap inside the row:
//!     for chunk of 16 input channels:
//!         w[O] = weights of the chunk
//!         for t in 0..T: x = the chunk of pixel t; acc[t][..] += x * w[..]
//! last block of K ? C = finish(bias + lanes of acc, summed) : sums = acc
//! ```
//!
//! The tiles of `tile/direct.rs` hold a vector of output channels, and broadcast each input. With one output channel,
//! one lane of sixteen is useful. Here the lanes are input channels. They are summed at the end, for up to sixteen
//! sums at once: the sums are transposed, and the vectors are added.
//!
//! A tile of one pixel has few sums in flight. It therefore sums [`APART`] chunks apart, and joins them at the end.

use super::boundary::Body;
use super::store::{self, TileTarget};
use super::transpose::transpose;
use crate::describe::BLOCK;
use crate::simd::{Lanes, Simd};

/// Maximum number of output channels of a tile.
pub(crate) const MOST_OUTPUTS: usize = 4;
/// Maximum number of chunks that a tile of one pixel sums apart.
const APART: usize = 4;

/// The arguments of one call of a tile. `tile/few_table.rs` builds and checks them.
pub(crate) struct FewArgs {
    /// The first channel of the first tap of pixel 0.
    pub(crate) image: *const f32,
    /// Distances in the image, in elements: between output pixels, taps, kernel rows and chunks of channels.
    pub(crate) pixel: usize,
    pub(crate) tap_step: usize,
    pub(crate) row_step: usize,
    pub(crate) chunk_step: usize,
    pub(crate) taps: usize,
    pub(crate) rows: usize,
    /// Whole chunks of sixteen channels, and the channels after them.
    pub(crate) chunks: usize,
    pub(crate) tail: usize,
    /// Weights of the first tap, `[kernel row][tap][chunk][O][16]`, and the distances of rows and taps.
    pub(crate) weights: *const f32,
    pub(crate) w_row: usize,
    pub(crate) w_tap: usize,
    /// Number of tiles.
    pub(crate) count: usize,
    /// Partial sums of all tiles, `[pixel][O][lane]`, between blocks of K.
    pub(crate) sums: *mut f32,
    pub(crate) target: TileTarget,
}

/// A tile of `T` pixels by `O` output channels.
pub(crate) struct Few<const T: usize, const O: usize>;

impl<const T: usize, const O: usize> Body for Few<T, O> {
    type Args = FewArgs;

    /// # Safety
    /// Every address in [`FewArgs`] must be valid: the image for all pixels, taps, rows and channels, the weights for
    /// all of K, the sums for all pixels if there is more than one block of K, and the target in the sense of `store`.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &FewArgs) {
        let (mut image, mut sums, mut target) = (args.image, args.sums, args.target);
        for _ in 0..args.count {
            // SAFETY: the caller upholds the contract of this function.
            unsafe {
                let mut acc = [[s.splat(0.0); O]; T];
                if !target.first {
                    for t in 0..T {
                        for o in 0..O {
                            acc[t][o] = s.load(sums.wrapping_add((t * O + o) * S::LANES));
                        }
                    }
                }
                all_taps::<S, T, O>(s, &mut acc, args, image);
                if target.last {
                    finish::<S, T, O>(s, &acc, &target);
                } else {
                    for t in 0..T {
                        for o in 0..O {
                            s.store(sums.wrapping_add((t * O + o) * S::LANES), acc[t][o]);
                        }
                    }
                }
            }
            image = image.wrapping_add(args.pixel.wrapping_mul(T));
            sums = sums.wrapping_add(T * O * S::LANES);
            target.advance(target.out.row.wrapping_mul(T), target.residual.row.wrapping_mul(T));
        }
    }
}

/// Sums all taps of a tile.
///
/// # Safety
/// Same contract as [`Few::run`].
#[inline(always)]
unsafe fn all_taps<S: Simd, const T: usize, const O: usize>(
    s: S,
    acc: &mut [[S::V; O]; T],
    args: &FewArgs,
    image: *const f32,
) {
    // The sums of chunks that a tile of one pixel keeps apart; the first is `acc` itself.
    let mut apart = [[s.splat(0.0); O]; APART];
    for row in 0..args.rows {
        for tap in 0..args.taps {
            let mut p = image.wrapping_add(row.wrapping_mul(args.row_step));
            p = p.wrapping_add(tap.wrapping_mul(args.tap_step));
            let mut w = args.weights.wrapping_add(row.wrapping_mul(args.w_row));
            w = w.wrapping_add(tap.wrapping_mul(args.w_tap));
            let mut left = args.chunks;
            // SAFETY: the caller guarantees all chunks of this tap.
            unsafe {
                if const { T == 1 } {
                    // Sixteen registers hold the sums of two chunks of four outputs, next to the weights.
                    let together = const { if S::LANES == 8 && O > 2 { 2 } else { APART } };
                    while left >= together {
                        for u in 0..together {
                            chunk::<S, 1, O, true>(s, std::array::from_mut(&mut apart[u]), args, p, w);
                            p = p.wrapping_add(args.chunk_step);
                            w = w.wrapping_add(O * BLOCK);
                        }
                        left -= together;
                    }
                }
                while left > 0 {
                    chunk::<S, T, O, true>(s, acc, args, p, w);
                    p = p.wrapping_add(args.chunk_step);
                    w = w.wrapping_add(O * BLOCK);
                    left -= 1;
                }
                if args.tail > 0 {
                    chunk::<S, T, O, false>(s, acc, args, p, w);
                }
            }
        }
    }
    if const { T == 1 } {
        for o in 0..O {
            let pairs = s.add(s.add(apart[0][o], apart[1][o]), s.add(apart[2][o], apart[3][o]));
            acc[0][o] = s.add(acc[0][o], pairs);
        }
    }
}

/// Sums one chunk: sixteen channels if `WHOLE`, otherwise `args.tail`. Lanes past the last channel are not read.
///
/// # Safety
/// `p` must be valid for these channels of every pixel, and `w` for the weights of sixteen channels.
#[inline(always)]
unsafe fn chunk<S: Simd, const T: usize, const O: usize, const WHOLE: bool>(
    s: S,
    acc: &mut [[S::V; O]; T],
    args: &FewArgs,
    p: *const f32,
    w: *const f32,
) {
    for part in (0..BLOCK).step_by(S::LANES) {
        let lanes = Lanes { lo: 0, hi: args.tail.saturating_sub(part).min(S::LANES) };
        let mut weights = [s.splat(0.0); O];
        for o in 0..O {
            // SAFETY: the caller upholds the contract of this function.
            weights[o] = unsafe { s.load(w.wrapping_add(o * BLOCK + part)) };
        }
        for t in 0..T {
            let pixel = p.wrapping_add(t.wrapping_mul(args.pixel)).wrapping_add(part);
            // SAFETY: the caller upholds the contract of this function.
            let x = unsafe { if WHOLE { s.load(pixel) } else { s.load_lanes(pixel, lanes) } };
            for o in 0..O {
                acc[t][o] = s.mul_add(x, weights[o], acc[t][o]);
            }
        }
    }
}

/// Sums the lanes of all accumulators, adds the bias, and finishes the tile. Its rows are pixels, and the columns
/// of its only vector are output channels.
///
/// # Safety
/// Same contract as [`Few::run`].
#[inline(always)]
unsafe fn finish<S: Simd, const T: usize, const O: usize>(s: S, acc: &[[S::V; O]; T], target: &TileTarget) {
    let mut stage = [0.0f32; 2 * BLOCK];
    let mut first = 0;
    while first < T * O {
        let mut square = [s.splat(0.0); BLOCK];
        for i in 0..S::LANES {
            if first + i < T * O {
                square[i] = acc[(first + i) / O][(first + i) % O];
            }
        }
        transpose(s, &mut square);
        let mut half = S::LANES / 2;
        while half > 0 {
            for i in 0..half {
                square[i] = s.add(square[i], square[i + half]);
            }
            half /= 2;
        }
        // SAFETY: `first` is less than sixteen, so a vector fits.
        unsafe { s.store(stage.as_mut_ptr().wrapping_add(first), square[0]) };
        first += S::LANES;
    }
    // All sums are here, so nothing is added to the output.
    let target = TileTarget { first: true, ..*target };
    // SAFETY: the caller guarantees the target. `stage` has `O` sums for each pixel.
    unsafe {
        let mut rows = store::start::<S, T, 1>(s, &target);
        for t in 0..T {
            let sums = s.load_lanes(stage.as_ptr().wrapping_add(t * O), Lanes { lo: 0, hi: O });
            rows[t][0] = s.add(rows[t][0], sums);
        }
        store::finish::<S, T, 1>(s, rows, &target);
    }
}
