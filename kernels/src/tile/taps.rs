//! The register tile of the gradient of a filter: `G` taps of one kernel row by `MC` input channels by `NV` vectors of
//! output channels.
//!
//! ```text
//! acc[G][MC][NV] = 0                                      // all in registers
//! for line:                                               // adjacent output pixels of one row
//!     for pixel j of the run inside the image:            // tap g of output pixel i reads pixel i + g
//!         window[G][NV] = go[j], go[j - 1], ...           // one new pixel, the others are kept
//!         for c in 0..MC:
//!             x = splat(pixel j, channel c)               // one broadcast feeds G * NV FMAs
//!             for g in 0..G: acc[g][c][..] += x * window[g][..]
//! sums[c][g][..] += acc
//! ```
//!
//! It is the dual of `tile/direct.rs`: there, the outputs stay in registers and the weights stream past. With three taps,
//! four channels and two vectors, 6 loads feed 24 FMAs.
//!
//! With one tap, what a later call will read can be prefetched meanwhile. The pixels of a stretch are many short pieces of memory, for which
//! the prefetchers of a CPU are too slow.
//!
//! Padding is virtual. Pixels of the image outside the row are never visited. The first and the last pixels of a line
//! belong to fewer than `G` output pixels. They skip the missing ones, because the product of a zero and an infinite pixel
//! would be NaN.

use super::boundary::Body;
use crate::describe::BLOCK;
use crate::simd::Simd;

/// Adjacent output pixels of one row, and the pixels of a run that they read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct TapsLine {
    /// Offset of output pixel 0 of the line.
    pub(crate) go: usize,
    /// Offset of pixel `lo` of the run.
    pub(crate) x: usize,
    /// The pixels `lo..hi` of the run are inside the image.
    pub(crate) lo: usize,
    pub(crate) hi: usize,
    /// Number of output pixels.
    pub(crate) count: usize,
    /// Distances to the line that a later call reads, in the gradients and in the image. They wrap around.
    pub(crate) go_ahead: usize,
    pub(crate) x_ahead: usize,
}

/// The arguments of one call. `tile/taps_table.rs` builds and checks them.
pub(crate) struct TapsArgs {
    pub(super) lines: *const TapsLine,
    pub(super) line_count: usize,
    /// The first vector of the gradient of the output, and the distances between pixels and between blocks of 16
    /// channels.
    pub(super) go: *const f32,
    pub(super) go_pixel: usize,
    pub(super) go_block: usize,
    pub(super) go_looks_ahead: bool,
    /// The first channel of the image, and the distances between pixels of a run and between channels.
    pub(super) x: *const f32,
    pub(super) x_pixel: usize,
    pub(super) x_channel: usize,
    pub(super) x_looks_ahead: bool,
    /// The sums, and the distances between taps and between channels.
    pub(super) sums: *mut f32,
    pub(super) sums_tap: usize,
    pub(super) sums_channel: usize,
}

/// `G` taps by `MC` channels by `NV` vectors.
pub(crate) struct Taps<const G: usize, const MC: usize, const NV: usize>;

/// Offset of vector `v` from the first one.
#[inline(always)]
fn vector<S: Simd>(v: usize, block: usize) -> usize {
    let at = v * S::LANES;
    (at / BLOCK).wrapping_mul(block).wrapping_add(at % BLOCK)
}

impl<const G: usize, const MC: usize, const NV: usize> Body for Taps<G, MC, NV> {
    type Args = TapsArgs;

    /// # Safety
    /// For every line, `NV` vectors of `count` output pixels and `MC` channels of the pixels `lo..hi` must be readable,
    /// and `hi` must be less than `count + G`. The sums must be valid for reading and writing.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &TapsArgs) {
        let mut acc = [[[s.splat(0.0); NV]; MC]; G];
        for l in 0..args.line_count {
            // SAFETY: `l` is less than the number of lines. The caller upholds the contract of this function.
            unsafe {
                let line = &*args.lines.wrapping_add(l);
                sum_line::<S, G, MC, NV>(s, &mut acc, args, line);
            }
        }
        for g in 0..G {
            for c in 0..MC {
                let row = g.wrapping_mul(args.sums_tap).wrapping_add(c.wrapping_mul(args.sums_channel));
                for v in 0..NV {
                    let at = args.sums.wrapping_add(row).wrapping_add(v * S::LANES);
                    // SAFETY: the caller guarantees the sums.
                    unsafe { s.store(at, s.add(s.load(at), acc[g][c][v])) };
                }
            }
        }
    }
}

/// Adds the products of one line.
///
/// # Safety
/// Same contract as [`Taps::run`], for this line.
#[inline(always)]
unsafe fn sum_line<S: Simd, const G: usize, const MC: usize, const NV: usize>(
    s: S,
    acc: &mut [[[S::V; NV]; MC]; G],
    args: &TapsArgs,
    line: &TapsLine,
) {
    let go = args.go.wrapping_add(line.go);
    let mut x = args.x.wrapping_add(line.x);
    // The pixels of the run that belong to G output pixels of the line.
    let whole_from = if line.lo > G - 1 { line.lo } else { G - 1 };
    let whole_to = if line.hi < line.count { line.hi } else { line.count };
    let mut j = line.lo;
    if const { G > 1 } {
        let end = if whole_from < line.hi { whole_from } else { line.hi };
        while j < end {
            // SAFETY: `j` is in `lo..hi`.
            unsafe { edge::<S, G, MC, NV>(s, acc, args, (go, x), (j, line.count)) };
            x = x.wrapping_add(args.x_pixel);
            j = j.wrapping_add(1);
        }
    }
    if j < whole_to {
        let mut window = [[s.splat(0.0); NV]; G];
        for g in 1..G {
            for v in 0..NV {
                let at = j.wrapping_sub(g).wrapping_mul(args.go_pixel);
                // SAFETY: output pixel `j - g` is in the line, as `j` is at least `G - 1` and less than `count`.
                window[g - 1][v] =
                    unsafe { s.load(go.wrapping_add(at).wrapping_add(vector::<S>(v, args.go_block))) };
            }
        }
        let mut at = go.wrapping_add(j.wrapping_mul(args.go_pixel));
        // A distance of 0 prefetches what is being read, which costs less than a branch.
        let go_ahead = if args.go_looks_ahead { line.go_ahead } else { 0 };
        let x_ahead = if args.x_looks_ahead { line.x_ahead } else { 0 };
        while j < whole_to {
            for g in (1..G).rev() {
                window[g] = window[g - 1];
            }
            for v in 0..NV {
                // SAFETY: output pixel `j` is in the line.
                window[0][v] = unsafe { s.load(at.wrapping_add(vector::<S>(v, args.go_block))) };
            }
            // With more taps, a pixel is read too often for its first time to matter.
            if const { G == 1 } {
                for v in (0..NV).step_by(BLOCK / S::LANES) {
                    s.prefetch(at.wrapping_add(go_ahead).wrapping_add(vector::<S>(v, args.go_block)));
                }
                s.prefetch(x.wrapping_add(x_ahead));
            }
            for c in 0..MC {
                // SAFETY: pixel `j` of the run is in `lo..hi`.
                let pixel = s.splat(unsafe { *x.wrapping_add(c.wrapping_mul(args.x_channel)) });
                for g in 0..G {
                    for v in 0..NV {
                        acc[g][c][v] = s.mul_add(pixel, window[g][v], acc[g][c][v]);
                    }
                }
            }
            at = at.wrapping_add(args.go_pixel);
            x = x.wrapping_add(args.x_pixel);
            j = j.wrapping_add(1);
        }
    }
    if const { G > 1 } {
        while j < line.hi {
            // SAFETY: `j` is in `lo..hi`.
            unsafe { edge::<S, G, MC, NV>(s, acc, args, (go, x), (j, line.count)) };
            x = x.wrapping_add(args.x_pixel);
            j = j.wrapping_add(1);
        }
    }
}

/// Adds the products of pixel `j` of the run with the output pixels that exist, of `count`.
///
/// # Safety
/// Same contract as [`Taps::run`], for this pixel.
#[inline(always)]
unsafe fn edge<S: Simd, const G: usize, const MC: usize, const NV: usize>(
    s: S,
    acc: &mut [[[S::V; NV]; MC]; G],
    args: &TapsArgs,
    (go, x): (*const f32, *const f32),
    (j, count): (usize, usize),
) {
    for g in 0..G {
        // Less than zero becomes larger than any count.
        let i = j.wrapping_sub(g);
        if i < count {
            let at = go.wrapping_add(i.wrapping_mul(args.go_pixel));
            let mut pixel = [s.splat(0.0); NV];
            for v in 0..NV {
                // SAFETY: output pixel `i` is in the line.
                pixel[v] = unsafe { s.load(at.wrapping_add(vector::<S>(v, args.go_block))) };
            }
            for c in 0..MC {
                // SAFETY: the caller guarantees this pixel of the run.
                let x = s.splat(unsafe { *x.wrapping_add(c.wrapping_mul(args.x_channel)) });
                for v in 0..NV {
                    acc[g][c][v] = s.mul_add(x, pixel[v], acc[g][c][v]);
                }
            }
        }
    }
}
