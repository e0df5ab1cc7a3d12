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
//! Every tap reads the image for every pixel of the box. The driver cuts the output into boxes for which that is so.
//!
//! Taken one by one, each FMA needs one load, and loads would bound the loop. If kernel columns are as far apart as pixels, or
//! half as far, neighbouring pixels therefore share what they read of the image:
//!
//! ```text
//! g[P] = go[pixel..pixel + P]
//! for each kernel row, for q in 0..(P - 1) * STRIDE + KW:
//!     v = x[q]                                        // once, for up to KW taps
//!     for p in 0..P: acc[kh][q - p * STRIDE] += g[p] * v
//! ```
//!
//! The order of each sum is the same as one by one.

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
    /// The distance from a pixel to the one in its place in the next box, which is prefetched. 0 if none is.
    pub(super) go_ahead: usize,
    /// The same for the first tap in the image.
    pub(super) x: *const f32,
    pub(super) x_steps: [usize; 3],
    pub(super) x_ahead: usize,
    /// Distances between kernel rows and between kernel columns in the image.
    pub(super) tap_steps: [usize; 2],
    /// The sums: a vector for each tap, and the distances between kernel rows and columns.
    pub(super) sums: *mut f32,
    pub(super) sums_steps: [usize; 2],
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
        let mut sums = Sums { acc: [[s.splat(0.0); KW]; KH], total: s.splat(0.0) };
        // SAFETY: the caller guarantees every pixel of the box, and every tap of it.
        unsafe {
            match args.go_ahead | args.x_ahead {
                0 => lines::<S, KH, KW, false>(s, &mut sums, args),
                _ => lines::<S, KH, KW, true>(s, &mut sums, args),
            }
        }
        for i in 0..KH {
            for j in 0..KW {
                let [row, column] = args.sums_steps;
                let at = args.sums.wrapping_add(i.wrapping_mul(row)).wrapping_add(j.wrapping_mul(column));
                // SAFETY: the caller guarantees the sums.
                unsafe { s.store(at, s.add(s.load(at), sums.acc[i][j])) };
            }
        }
        if !args.bias.is_null() {
            // SAFETY: the caller guarantees the sums of the bias.
            unsafe { s.store(args.bias, s.add(s.load(args.bias), sums.total)) };
        }
    }
}

/// The sums of the taps, and the sum of the gradients.
struct Sums<V, const KH: usize, const KW: usize> {
    acc: [[V; KW]; KH],
    total: V,
}

/// Adds all rows of all images. Prefetches the next box if `AHEAD`.
///
/// # Safety
/// Same contract as [`DepthwiseTaps::run`].
#[inline(always)]
unsafe fn lines<S: Simd, const KH: usize, const KW: usize, const AHEAD: bool>(
    s: S,
    sums: &mut Sums<S::V, KH, KW>,
    args: &DepthwiseTapsArgs,
) {
    let (pixel, kernel_column) = (args.x_steps[2], args.tap_steps[1]);
    // One column has nothing to share.
    let apart = match pixel {
        _ if KW == 1 => 0,
        step if step == kernel_column => 1,
        step if step == kernel_column.wrapping_mul(2) => 2,
        _ => 0,
    };
    for n in 0..args.images {
        for y in 0..args.rows {
            let from = |[image, row, _]: [usize; 3]| n.wrapping_mul(image).wrapping_add(y.wrapping_mul(row));
            let (go, x) = (from(args.go_steps), from(args.x_steps));
            let mut line =
                Line { go: args.go.wrapping_add(go), x: args.x.wrapping_add(x), left: args.pixels, args };
            // SAFETY: the caller guarantees every pixel of the box, and every tap of it.
            unsafe {
                match (apart, S::LANES) {
                    // Sixteen registers hold the gradients of two pixels beside the sums, unless there are twelve.
                    (1, 8) if KH * KW == 12 => {}
                    (1, 8) => line.strips::<S, KH, KW, 2, 1, AHEAD>(s, sums),
                    (2, 8) => line.strips::<S, KH, KW, 2, 2, AHEAD>(s, sums),
                    (1, _) => line.strips::<S, KH, KW, 4, 1, AHEAD>(s, sums),
                    (2, _) => line.strips::<S, KH, KW, 4, 2, AHEAD>(s, sums),
                    _ => {}
                }
                line.strips::<S, KH, KW, 1, 1, AHEAD>(s, sums);
            }
        }
    }
}

/// The pixels of a row that are left.
struct Line<'a> {
    go: *const f32,
    x: *const f32,
    left: usize,
    args: &'a DepthwiseTapsArgs,
}

impl Line<'_> {
    /// Adds `P` pixels at a time, as long as there are so many left. Kernel columns are `STRIDE` times closer than pixels, unless
    /// `P` is 1.
    ///
    /// # Safety
    /// Same contract as [`DepthwiseTaps::run`], for the pixels that are left.
    #[inline(always)]
    unsafe fn strips<
        S: Simd,
        const KH: usize,
        const KW: usize,
        const P: usize,
        const STRIDE: usize,
        const AHEAD: bool,
    >(
        &mut self,
        s: S,
        sums: &mut Sums<S::V, KH, KW>,
    ) {
        let Self { mut go, mut x, mut left, args } = *self;
        let [kernel_row, kernel_column] = args.tap_steps;
        let (next_go, next_x) = (args.go_steps[2], args.x_steps[2]);
        while left >= P {
            if AHEAD {
                for p in 0..P {
                    s.prefetch(go.wrapping_add(args.go_ahead).wrapping_add(p.wrapping_mul(next_go)));
                }
                for q in 0..P * STRIDE {
                    s.prefetch(x.wrapping_add(args.x_ahead).wrapping_add(q.wrapping_mul(kernel_column)));
                }
            }
            let mut gradients = [s.splat(0.0); P];
            for p in 0..P {
                // SAFETY: the caller guarantees this pixel.
                gradients[p] = unsafe { s.load(go.wrapping_add(p.wrapping_mul(next_go))) };
                sums.total = s.add(sums.total, gradients[p]);
            }
            for i in 0..KH {
                let row = x.wrapping_add(i.wrapping_mul(kernel_row));
                for q in 0..(P - 1) * STRIDE + KW {
                    // SAFETY: this is a tap of one of the pixels, each of which the caller guarantees.
                    let pixel = unsafe { s.load(row.wrapping_add(q.wrapping_mul(kernel_column))) };
                    for p in 0..P {
                        if p * STRIDE <= q && q - p * STRIDE < KW {
                            let j = q - p * STRIDE;
                            sums.acc[i][j] = s.mul_add(pixel, gradients[p], sums.acc[i][j]);
                        }
                    }
                }
            }
            go = go.wrapping_add(P.wrapping_mul(next_go));
            x = x.wrapping_add(P.wrapping_mul(next_x));
            left -= P;
        }
        *self = Self { go, x, left, args };
    }
}
