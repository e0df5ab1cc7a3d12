//! Products of spectra: every input channel with every output channel, or lane by lane.
//!
//! A complex product is four FMAs on two accumulators. Karatsuba's method needs only three multiplications,
//! if the sums `wr + wi` and `wi - wr` are stored with the weights. The weights are then 1.5 times as
//! large, and the speed of a product of few tiles is limited by reading them.

use super::boundary::Body;
use super::fft::{COMPLEX, product};
use crate::describe::BLOCK;
use crate::simd::Simd;

/// The operands of a product. `tile/fft_table.rs` builds and checks them.
pub(crate) struct ProductArgs {
    pub(super) bins: usize,
    /// Number of input channels.
    pub(super) channels: usize,
    /// The spectra of the image, `[block of channels][bin][tile]`, as complex numbers.
    pub(super) image: *const f32,
    /// Distance between blocks of channels.
    pub(super) image_block: usize,
    /// The spectra of the weights, `[bin][channel]`, as complex numbers of sixteen output channels, or of the
    /// sixteen lanes themselves.
    pub(super) weights: *const f32,
    /// The sums, `[bin][tile]`, as complex numbers.
    pub(super) out: *mut f32,
    /// Whether to add to the contents of `out`. Only lane-by-lane products read it.
    pub(super) add: bool,
}

/// `out[bin][tile] = sum over channels of image[bin][tile] * weights[bin]` for `T` tiles. Each input channel
/// is multiplied with sixteen output channels.
pub(crate) struct Product<const T: usize>;

impl<const T: usize> Body for Product<T> {
    type Args = ProductArgs;

    /// # Safety
    /// The operands must be valid for `bins`, `channels` and `T` tiles. There must be at least one channel.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &ProductArgs) {
        for bin in 0..args.bins {
            let image = args.image.wrapping_add(bin.wrapping_mul(T * COMPLEX));
            let weights = args.weights.wrapping_add(bin.wrapping_mul(args.channels).wrapping_mul(COMPLEX));
            let out = args.out.wrapping_add(bin.wrapping_mul(T * COMPLEX));
            let mut lane = 0;
            while lane < BLOCK {
                // SAFETY: the caller upholds the contract of this function.
                unsafe {
                    let sums = sum::<S, T>(s, args, image, weights.wrapping_add(lane));
                    for t in 0..T {
                        let to = out.wrapping_add(t * COMPLEX).wrapping_add(lane);
                        s.store(to, sums[t][0]);
                        s.store(to.wrapping_add(BLOCK), sums[t][1]);
                    }
                }
                lane = lane.wrapping_add(S::LANES);
            }
        }
    }
}

/// Sums over the channels of one bin, for one vector of output channels.
///
/// # Safety
/// Same contract as [`Product`], from this bin and vector on.
#[inline(always)]
unsafe fn sum<S: Simd, const T: usize>(
    s: S,
    args: &ProductArgs,
    mut image: *const f32,
    mut weights: *const f32,
) -> [[S::V; 2]; T] {
    let mut sums = [[s.splat(0.0); 2]; T];
    let mut left = args.channels;
    // There is at least one channel. If the loop could be empty, the compiler would emit a call that fills
    // memory with zeros.
    loop {
        let channels = left.min(BLOCK);
        for c in 0..channels {
            // SAFETY: the caller upholds the contract of this function.
            unsafe {
                let (re, im) = (s.load(weights), s.load(weights.wrapping_add(BLOCK)));
                let from = image.wrapping_add(c);
                for t in 0..T {
                    let x = s.splat(*from.wrapping_add(t * COMPLEX));
                    let y = s.splat(*from.wrapping_add(t * COMPLEX + BLOCK));
                    sums[t][0] = s.neg_mul_add(y, im, s.mul_add(x, re, sums[t][0]));
                    sums[t][1] = s.mul_add(y, re, s.mul_add(x, im, sums[t][1]));
                }
            }
            weights = weights.wrapping_add(COMPLEX);
        }
        image = image.wrapping_add(args.image_block);
        left = left.wrapping_sub(channels);
        if left == 0 {
            return sums;
        }
    }
}

/// `out[bin] = image[bin] * weights[bin][0]`, or adds that product to `out`. It is computed lane by lane, for
/// one tile.
pub(crate) struct LaneProduct;

impl Body for LaneProduct {
    type Args = ProductArgs;

    /// # Safety
    /// The operands must be valid for `bins`. The weights of consecutive bins are `channels` numbers apart.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &ProductArgs) {
        for bin in 0..args.bins {
            let mut lane = 0;
            while lane < BLOCK {
                let at = bin.wrapping_mul(COMPLEX).wrapping_add(lane);
                let weights = bin.wrapping_mul(args.channels).wrapping_mul(COMPLEX).wrapping_add(lane);
                let (image, out) = (args.image.wrapping_add(at), args.out.wrapping_add(at));
                let weights = args.weights.wrapping_add(weights);
                // SAFETY: the caller upholds the contract of this function.
                unsafe {
                    let image = [s.load(image), s.load(image.wrapping_add(BLOCK))];
                    let mut y = product(s, image, [s.load(weights), s.load(weights.wrapping_add(BLOCK))]);
                    if args.add {
                        y = [s.add(y[0], s.load(out)), s.add(y[1], s.load(out.wrapping_add(BLOCK)))];
                    }
                    s.store(out, y[0]);
                    s.store(out.wrapping_add(BLOCK), y[1]);
                }
                lane = lane.wrapping_add(S::LANES);
            }
        }
    }
}
