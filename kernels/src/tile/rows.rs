//! The register tile of direct convolution over rows that store their padding: `T` outputs by `NV` vectors of
//! output channels.
//!
//! ```text
//! for panel of output channels, for line of outputs, for T outputs of it:
//!     acc[T][NV] = first block of K ? bias : 0
//!     for tap of the kernel rows inside the image, all input channels:
//!         w[NV] = weights
//!         for t in 0..T: acc[t][..] += splat(image[pixel(t) + offset(tap)]) * w[..]
//!     C (+)= last block of K ? finish(acc) : acc          // tile/store.rs
//! ```
//!
//! The taps are a list of offsets, as in the indirect convolution of Dukhan 2019 ("The Indirect Convolution
//! Algorithm"), but of taps and not of pixels. One loop runs over all of K, whatever the kernel and the number of
//! channels. With few of them, several nested loops would cost more than the products.

use super::boundary::Body;
use super::direct::KernelRows;
use super::store;
use super::target::TileTarget;
use crate::simd::Simd;

/// The arguments of one call. `tile/rows_table.rs` builds and checks them.
pub(crate) struct RowsArgs {
    /// The first tap of the first output in row 0 of the image.
    pub(crate) image: *const f32,
    /// The kernel rows of each line of outputs.
    pub(crate) lines: *const KernelRows,
    pub(crate) line_count: usize,
    /// Distance between rows of the image, and between kernel rows.
    pub(crate) line_step: usize,
    pub(crate) row_step: usize,
    /// The offsets of the taps, `[kernel row][channel][kernel column]`, and their number per kernel row.
    pub(crate) taps: *const u32,
    pub(crate) of_row: usize,
    /// The kernel rows of this block of K.
    pub(crate) block: (usize, usize),
    /// Offsets of the outputs of a line.
    pub(crate) pixels: *const u32,
    /// Number of outputs of a line. A call computes `count` tiles of each line, from output `first` on.
    pub(crate) width: usize,
    pub(crate) first: usize,
    pub(crate) count: usize,
    /// The weights of all taps, `w_step` elements each, for each of `panels` panels, `panel_step` elements apart.
    pub(crate) weights: *const f32,
    pub(crate) w_step: usize,
    pub(crate) panels: usize,
    pub(crate) panel_step: usize,
    /// The target of the first panel. Other panels have the next columns.
    pub(crate) target: TileTarget,
}

/// A tile of `T` outputs by `NV` vectors. The offset of output `x` is `x * STEP`. If `STEP` is 0, it is listed.
pub(crate) struct Rows<const T: usize, const NV: usize, const STEP: usize>;

impl<const T: usize, const NV: usize, const STEP: usize> Body for Rows<T, NV, STEP> {
    type Args = RowsArgs;

    /// # Safety
    /// For every output of the tiles, the image must be valid for every tap of its kernel rows. The lists must have
    /// these outputs and taps, and the weights every tap. The target must be valid in the sense of `store`.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &RowsArgs) {
        for panel in 0..args.panels {
            let weights = args.weights.wrapping_add(panel.wrapping_mul(args.panel_step));
            let target = args.target.at_column(panel.wrapping_mul(NV * S::LANES));
            // SAFETY: the caller upholds the contract of this function.
            unsafe { Self::panel(s, args, weights, &target) };
        }
    }
}

impl<const T: usize, const NV: usize, const STEP: usize> Rows<T, NV, STEP> {
    /// Computes one panel.
    ///
    /// # Safety
    /// Same contract as [`run`](Self::run), for the weights and the target of this panel.
    #[inline(always)]
    unsafe fn panel<S: Simd>(s: S, args: &RowsArgs, weights: *const f32, of_panel: &TileTarget) {
        let (out, residual) = (of_panel.out.row, of_panel.residual.row);
        for l in 0..args.line_count {
            // SAFETY: `l` is less than the number of lines.
            let line = unsafe { &*args.lines.wrapping_add(l) };
            let first = args.block.0.max(line.first);
            let end = args.block.1.min(line.first.wrapping_add(line.rows)).max(first);
            let ahead = line.input_row.wrapping_mul(args.line_step);
            let image = args.image.wrapping_add(ahead).wrapping_sub(line.first.wrapping_mul(args.row_step));
            let done = l.wrapping_mul(args.width).wrapping_add(args.first);
            let mut target = of_panel.ahead(done.wrapping_mul(out), done.wrapping_mul(residual));
            let mut x = args.first;
            for _ in 0..args.count {
                // SAFETY: the caller upholds the contract of this function.
                unsafe {
                    let mut acc = store::start::<S, T, NV>(s, &target);
                    sum::<S, T, NV, STEP>(s, &mut acc, (args, weights), (image, x), (first, end));
                    store::finish(s, acc, &target);
                }
                x = x.wrapping_add(T);
                target.advance(out.wrapping_mul(T), residual.wrapping_mul(T));
            }
        }
    }
}

/// Adds the taps of the kernel rows `first..end` for outputs `x..x + T` of the panel with these weights.
///
/// # Safety
/// Same contract as [`Rows::run`].
#[inline(always)]
unsafe fn sum<S: Simd, const T: usize, const NV: usize, const STEP: usize>(
    s: S,
    acc: &mut [[S::V; NV]; T],
    (args, weights): (&RowsArgs, *const f32),
    (image, x): (*const f32, usize),
    (first, end): (usize, usize),
) {
    let (first, end) = (first.wrapping_mul(args.of_row), end.wrapping_mul(args.of_row));
    let mut w = weights.wrapping_add(first.wrapping_mul(args.w_step));
    for k in first..end {
        // SAFETY: the caller guarantees tap `k`, its weights, and its pixels.
        unsafe {
            let tap = *args.taps.wrapping_add(k) as usize;
            let mut weights = [s.splat(0.0); NV];
            for v in 0..NV {
                weights[v] = s.load(w.wrapping_add(v * S::LANES));
            }
            // Opaque: read again for every tap, next to their use. Otherwise, all pixels are addresses on the stack,
            // and vectors are, too.
            let pixels = s.opaque(args.pixels.wrapping_add(x).addr());
            let pixels = args.pixels.with_addr(pixels);
            let at = image.wrapping_add(tap).wrapping_add(x.wrapping_mul(STEP));
            for t in 0..T {
                let ahead = if STEP == 0 { *pixels.wrapping_add(t) as usize } else { t * STEP };
                let pixel = s.splat(*at.wrapping_add(ahead));
                for v in 0..NV {
                    acc[t][v] = s.mul_add(pixel, weights[v], acc[t][v]);
                }
            }
        }
        w = w.wrapping_add(args.w_step);
    }
}
