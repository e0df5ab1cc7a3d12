//! The gradient of a filter whose groups have one input channel: `KH` by `KW` taps of one vector of channels.
//!
//! ```text
//! acc[KH][KW] = 0                                     // all in registers
//! for image, row, pixel of a box:
//!     g = go[pixel]
//!     for each tap: acc[kh][kw] += g * x[pixel + kh * row + kw * tap]
//!     total += g
//! sums[kh][kw] += acc
//! bias += total
//! ```
//!
//! Every tap reads the image for every pixel of the box. The driver cuts the output into boxes for which that is so. Each
//! FMA needs one load, which most instruction sets do in the same instruction. Loads bound the loop, so the sum of the bias is
//! free in it.

use super::boundary::Body;
use crate::simd::Simd;

/// The arguments of one call. `tile/taps_table.rs` builds and checks them.
pub(crate) struct DepthwiseTapsArgs {
    /// Images, rows and pixels of the box.
    pub(super) images: usize,
    pub(super) rows: usize,
    pub(super) pixels: usize,
    /// The first vector of the gradient of the output, and the distances between images, rows and pixels.
    pub(super) go: *const f32,
    pub(super) go_steps: [usize; 3],
    /// The same for the first tap in the image.
    pub(super) x: *const f32,
    pub(super) x_steps: [usize; 3],
    /// Distances between kernel rows and between kernel columns in the image.
    pub(super) tap_steps: [usize; 2],
    /// The sums: a vector for each tap, and the distance between kernel rows.
    pub(super) sums: *mut f32,
    pub(super) sums_row: usize,
    /// The sums of the gradients, or null.
    pub(super) bias: *mut f32,
}

/// `KH` by `KW` taps.
pub(crate) struct DepthwiseTaps<const KH: usize, const KW: usize>;

impl<const KH: usize, const KW: usize> Body for DepthwiseTaps<KH, KW> {
    type Args = DepthwiseTapsArgs;

    /// # Safety
    /// One vector must be readable at every pixel of the box in `go`, and at every tap of it in `x`. The sums must be valid
    /// for reading and writing, and those of the bias too, unless they are null.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &DepthwiseTapsArgs) {
        let mut acc = [[s.splat(0.0); KW]; KH];
        let mut total = s.splat(0.0);
        let [kernel_row, kernel_column] = args.tap_steps;
        for n in 0..args.images {
            for y in 0..args.rows {
                let ahead =
                    |[image, row, _]: [usize; 3]| n.wrapping_mul(image).wrapping_add(y.wrapping_mul(row));
                let mut go = args.go.wrapping_add(ahead(args.go_steps));
                let mut x = args.x.wrapping_add(ahead(args.x_steps));
                for _ in 0..args.pixels {
                    // SAFETY: the caller guarantees this pixel of the box.
                    let g = unsafe { s.load(go) };
                    total = s.add(total, g);
                    for i in 0..KH {
                        let row = x.wrapping_add(i.wrapping_mul(kernel_row));
                        for j in 0..KW {
                            // SAFETY: the caller guarantees every tap of the pixel.
                            let pixel = unsafe { s.load(row.wrapping_add(j.wrapping_mul(kernel_column))) };
                            acc[i][j] = s.mul_add(pixel, g, acc[i][j]);
                        }
                    }
                    go = go.wrapping_add(args.go_steps[2]);
                    x = x.wrapping_add(args.x_steps[2]);
                }
            }
        }
        for i in 0..KH {
            for j in 0..KW {
                let at = args.sums.wrapping_add(i.wrapping_mul(args.sums_row)).wrapping_add(j * S::LANES);
                // SAFETY: the caller guarantees the sums.
                unsafe { s.store(at, s.add(s.load(at), acc[i][j])) };
            }
        }
        if !args.bias.is_null() {
            // SAFETY: the caller guarantees the sums of the bias.
            unsafe { s.store(args.bias, s.add(s.load(args.bias), total)) };
        }
    }
}
