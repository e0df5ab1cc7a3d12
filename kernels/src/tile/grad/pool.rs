//! Gradient of pooling if channels are adjacent (NHWC, Nchw16c). Vectors hold channels of a pixel.
//!
//! ```text
//! rows of dx, as the windows reach them: dx = 0           // unless the gradient is added
//! for each output pixel, row by row:
//!     average: for each tap inside the input: dx[tap] += g * scale
//!     maximum: m = max over taps of x[tap]
//!              for each tap: dx[tap] += g where x[tap] = m, and g = 0 there
//! ```
//! The last line leaves nothing of `g` after the first tap that equals the maximum, so later ones get zero. A NaN counts
//! as the largest number.

use super::Rows;
use crate::describe::BLOCK;
use crate::simd::{Lanes, Simd};
use crate::tile::boundary::Body;
use crate::tile::reduce::{Max, Reduce};
use crate::tile::window::{Taps, WindowAxis};

/// The arguments of one call: an image and some of its channels, or NCHW planes. `tile/grad/table.rs` builds and checks
/// them.
pub(crate) struct PoolArgs {
    pub(super) h: WindowAxis,
    pub(super) w: WindowAxis,
    /// Whether the divisor of an average counts padding.
    pub(super) count_include_pad: bool,
    /// Whether there is no divisor.
    pub(super) sum: bool,
    /// The input of the layer. Only the maximum reads it.
    pub(super) value: Rows,
    /// The gradients of the output and of the input. Rows are pixels, or planes in NCHW.
    pub(super) gradient: Rows,
    pub(super) out: *mut f32,
    pub(super) out_row: usize,
    /// Number of adjacent channels of a pixel, or of planes.
    pub(super) channels: usize,
    /// Whether to add to what `out` has.
    pub(super) add: bool,
}

impl PoolArgs {
    /// The factor of the gradient of an average.
    #[inline(always)]
    pub(super) fn scale(&self, tall: Taps, wide: Taps) -> f32 {
        let counted = |taps: Taps| (if self.count_include_pad { taps.padded } else { taps.count }) as f32;
        if self.sum { 1.0 } else { 1.0 / (counted(tall) * counted(wide)) }
    }
}

/// The gradient of the channels of an image, in blocks of 16, which are `NV` vectors. A window of `K` by `K` taps next to
/// each other stays in registers, where all of it is inside the input.
pub(crate) struct PoolBlock<const MAX: bool, const NV: usize, const K: usize>;

impl<const MAX: bool, const NV: usize, const K: usize> Body for PoolBlock<MAX, NV, K> {
    type Args = PoolArgs;

    /// # Safety
    /// Every pixel of the output's gradient, and of the input if `MAX`, must be valid for reading `channels` elements.
    /// Every pixel of `out` must be valid for writing them, and for reading if they are added to. If `K` is not 0, windows
    /// must have no dilation.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &PoolArgs) {
        let (h, w) = (&args.h, &args.w);
        let mut cleared = if args.add { h.input() } else { 0 };
        for y in 0..h.output() {
            let tall = h.taps(y);
            let reached = tall.first + (tall.count - 1) * h.dilation() + 1;
            while cleared < reached {
                // SAFETY: the row is one of the input.
                unsafe { clear(s, args, cleared) };
                cleared += 1;
            }
            for x in 0..w.output() {
                // SAFETY: the output is one of the image.
                unsafe { pixel::<S, MAX, NV, K>(s, args, Window::new(args, tall, (y, x))) };
            }
        }
        while cleared < h.input() {
            // SAFETY: as above.
            unsafe { clear(s, args, cleared) };
            cleared += 1;
        }
    }
}

/// An output pixel and its taps inside the input.
#[derive(Clone, Copy)]
struct Window {
    /// The output pixel, and the pixel of the first tap.
    output: usize,
    first: usize,
    rows: usize,
    row_step: usize,
    columns: usize,
    column_step: usize,
    scale: f32,
}

impl Window {
    #[inline(always)]
    fn new(args: &PoolArgs, tall: Taps, (y, x): (usize, usize)) -> Self {
        let (h, w) = (&args.h, &args.w);
        let wide = w.taps(x);
        Self {
            output: y * w.output() + x,
            first: tall.first * w.input() + wide.first,
            rows: tall.count,
            row_step: h.dilation() * w.input(),
            columns: wide.count,
            column_step: w.dilation(),
            scale: args.scale(tall, wide),
        }
    }

    #[inline(always)]
    fn tap(&self, i: usize, j: usize) -> usize {
        self.first + i * self.row_step + j * self.column_step
    }
}

/// Writes zeros to row `y` of the gradient of the input.
///
/// # Safety
/// Same contract as [`PoolBlock`].
#[inline(always)]
unsafe fn clear<S: Simd>(s: S, args: &PoolArgs, y: usize) {
    let width = args.w.input();
    for p in y * width..(y + 1) * width {
        let mut c = 0;
        while c < args.channels {
            let lanes = Lanes { lo: 0, hi: (args.channels - c).min(S::LANES) };
            // SAFETY: the caller upholds the contract of this function.
            unsafe { s.store_lanes(args.out.wrapping_add(p * args.out_row + c), s.splat(0.0), lanes) };
            c += S::LANES;
        }
    }
}

/// Adds the gradient of all channels of one output pixel.
///
/// # Safety
/// Same contract as [`PoolBlock`].
#[inline(always)]
unsafe fn pixel<S: Simd, const MAX: bool, const NV: usize, const K: usize>(
    s: S,
    args: &PoolArgs,
    of: Window,
) {
    let whole = K > 0 && of.rows == K && of.columns == K;
    let mut c = 0;
    // SAFETY: the functions have the same contract, which the caller upholds, and these channels exist.
    unsafe {
        while c + BLOCK <= args.channels {
            if MAX && whole {
                for v in 0..NV {
                    known_window::<S, K>(s, args, of, c + v * S::LANES);
                }
            } else {
                for v in 0..NV {
                    window::<S, MAX, true>(s, args, of, c + v * S::LANES);
                }
            }
            c += BLOCK;
        }
        while c < args.channels {
            window::<S, MAX, false>(s, args, of, c);
            c += S::LANES;
        }
    }
}

/// Adds the gradient of a vector of channels from `c` on to all taps, or to the first of the largest ones.
///
/// # Safety
/// Same contract as [`PoolBlock`]. `WHOLE` requires a whole vector.
#[inline(always)]
unsafe fn window<S: Simd, const MAX: bool, const WHOLE: bool>(s: S, args: &PoolArgs, of: Window, c: usize) {
    let lanes = Lanes { lo: 0, hi: if WHOLE { S::LANES } else { (args.channels - c).min(S::LANES) } };
    let zero = s.splat(0.0);
    // SAFETY: taps are inside the input, and the output is inside its image.
    unsafe {
        let mut left = load::<S, WHOLE>(s, args.gradient.at(of.output, c), lanes);
        let mut most = s.splat(Max::IDENTITY);
        if MAX {
            for i in 0..of.rows {
                for j in 0..of.columns {
                    most = s.maximum(most, load::<S, WHOLE>(s, args.value.at(of.tap(i, j), c), lanes));
                }
            }
        } else {
            left = s.mul(left, s.splat(of.scale));
        }
        for i in 0..of.rows {
            for j in 0..of.columns {
                let mut taken = left;
                if MAX {
                    let x = load::<S, WHOLE>(s, args.value.at(of.tap(i, j), c), lanes);
                    taken = s.where_equal(x, most, left, zero);
                    left = s.where_equal(x, most, zero, left);
                }
                let to = args.out.wrapping_add(of.tap(i, j) * args.out_row + c);
                let sum = s.add(load::<S, WHOLE>(s, to, lanes), taken);
                if WHOLE { s.store(to, sum) } else { s.store_lanes(to, sum, lanes) }
            }
        }
    }
}

/// As [`window`] for a maximum of `K` by `K` taps, which are loaded once.
///
/// # Safety
/// Same contract as [`PoolBlock`]. The window must have all of its taps and a whole vector.
#[inline(always)]
unsafe fn known_window<S: Simd, const K: usize>(s: S, args: &PoolArgs, of: Window, c: usize) {
    let zero = s.splat(0.0);
    let mut values = [[zero; K]; K];
    let mut most = s.splat(Max::IDENTITY);
    // SAFETY: taps are inside the input, and the output is inside its image.
    unsafe {
        for i in 0..K {
            for j in 0..K {
                values[i][j] = s.load(args.value.at(of.first + i * of.row_step + j, c));
                most = s.maximum(most, values[i][j]);
            }
        }
        let mut left = s.load(args.gradient.at(of.output, c));
        for i in 0..K {
            for j in 0..K {
                let taken = s.where_equal(values[i][j], most, left, zero);
                left = s.where_equal(values[i][j], most, zero, left);
                let to = args.out.wrapping_add((of.first + i * of.row_step + j) * args.out_row + c);
                s.store(to, s.add(s.load(to), taken));
            }
        }
    }
}

/// # Safety
/// `from` must be valid for reading `lanes`, and a whole vector if `WHOLE`.
#[inline(always)]
unsafe fn load<S: Simd, const WHOLE: bool>(s: S, from: *const f32, lanes: Lanes) -> S::V {
    // SAFETY: the caller upholds the contract of this function.
    unsafe { if WHOLE { s.load(from) } else { s.load_lanes(from, lanes) } }
}
