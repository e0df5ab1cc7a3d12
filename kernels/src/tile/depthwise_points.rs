//! Depthwise outputs of small maps, one pixel at a time for all vectors of channels.
//!
//! ```text
//! for pixel of the output:
//!     taps = those inside the input
//!     for four vectors of channels:
//!         acc[4] = bias
//!         for tap: acc[..] += x[..] * w[..]
//!         finish(acc) -> C                              // tile/store.rs
//! ```
//!
//! A tile of [`depthwise`](super::depthwise) takes about a hundred cycles to begin and to end, for a map of a few pixels as for
//! a row of a large one. Here, what begins a pixel serves all vectors.

use super::boundary::Body;
use super::depthwise_read::{CHANNELS, DepthwiseArgs};
use super::store;
use crate::describe::BLOCK;
use crate::simd::Simd;

/// Number of vectors whose sums are in registers at the same time.
const TOGETHER: usize = 4;

/// The kernel for any window over vectors of channels ([`CHANNELS`](super::depthwise_read::CHANNELS)).
pub(crate) struct DepthwisePoints;

impl Body for DepthwisePoints {
    type Args = DepthwiseArgs;

    /// # Safety
    /// Same contract as [`Depthwise`](super::depthwise::Depthwise), for vectors of channels.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &DepthwiseArgs) {
        let (inner, outer) = (&args.inner, &args.outer);
        for o in outer.start..outer.end {
            let rows = outer.taps_inside(o);
            for i in inner.start..inner.end {
                let pixel = o.wrapping_sub(outer.start).wrapping_mul(args.line);
                let pixel = pixel.wrapping_add(i.wrapping_sub(inner.start));
                // SAFETY: the taps are those inside the input. The caller guarantees the rest.
                unsafe { point(s, args, pixel, (o, rows), (i, inner.taps_inside(i))) };
            }
        }
    }
}

/// Computes output `pixel` of all vectors. It is output `o` of the outer axis and `i` of the inner one, each with the range
/// of its taps that is inside the input.
///
/// # Safety
/// Same contract as [`DepthwisePoints::run`].
#[inline(always)]
unsafe fn point<S: Simd>(
    s: S,
    args: &DepthwiseArgs,
    pixel: usize,
    (o, rows): (usize, (usize, usize)),
    (i, columns): (usize, (usize, usize)),
) {
    let (inner, outer) = (&args.inner, &args.outer);
    let (row_step, step) = (outer.step.wrapping_mul(outer.dilation), inner.step.wrapping_mul(inner.dilation));
    let first = outer.first(o).wrapping_mul(outer.step as isize);
    let first = first.wrapping_add(inner.first(i).wrapping_mul(inner.step as isize));
    let first = first.wrapping_add_unsigned(rows.0.wrapping_mul(row_step));
    let first = first.wrapping_add_unsigned(columns.0.wrapping_mul(step));
    let weights = rows.0.wrapping_mul(inner.taps).wrapping_add(columns.0).wrapping_mul(S::LANES);
    let at = Point {
        pixel,
        first,
        weights,
        taps: (rows.1.wrapping_sub(rows.0), columns.1.wrapping_sub(columns.0)),
        steps: (row_step, step),
    };
    let mut vector = 0usize;
    // SAFETY: the caller upholds the contract of this function.
    unsafe {
        while vector.wrapping_add(TOGETHER) <= args.vectors {
            at.vectors::<S, TOGETHER>(s, args, vector);
            vector = vector.wrapping_add(TOGETHER);
        }
        while vector < args.vectors {
            at.vectors::<S, 1>(s, args, vector);
            vector = vector.wrapping_add(1);
        }
    }
}

/// One output of all vectors.
struct Point {
    pixel: usize,
    /// Offsets of the first tap inside the input, and of its weight.
    first: isize,
    weights: usize,
    /// Number of rows and columns of taps inside the input, and the distances between them.
    taps: (usize, usize),
    steps: (usize, usize),
}

impl Point {
    /// Computes `NV` vectors from `vector` on.
    ///
    /// # Safety
    /// Same contract as [`DepthwisePoints::run`]. The taps must be inside the input.
    #[inline(always)]
    unsafe fn vectors<S: Simd, const NV: usize>(&self, s: S, args: &DepthwiseArgs, vector: usize) {
        let DepthwiseArgs { input, weights, mut target, .. } = args.at_vectors::<S, CHANNELS, NV>(vector);
        target.advance(self.pixel.wrapping_mul(target.out.row), self.pixel.wrapping_mul(target.residual.row));
        let of_vector = args.inner.taps.wrapping_mul(args.outer.taps).wrapping_mul(S::LANES);
        let next_block = args.plane.wrapping_sub(BLOCK - S::LANES);
        let mut row = input.wrapping_offset(self.first);
        let mut w_row = weights.wrapping_add(self.weights);
        // SAFETY: the taps are inside the input, and the weights have them. The caller guarantees the rest.
        unsafe {
            let mut acc = store::start::<S, 1, NV>(s, &target);
            for _ in 0..self.taps.0 {
                let (mut x, mut w) = (row, w_row);
                for _ in 0..self.taps.1 {
                    // Opaque: otherwise each of these vectors has addresses of its own, which do not fit the registers.
                    let mut at = x.with_addr(s.opaque(x.addr()));
                    let mut weight = w.with_addr(s.opaque(w.addr()));
                    for j in 0..NV {
                        acc[0][j] = s.mul_add(s.load(at), s.load(weight), acc[0][j]);
                        let ends_block = (j + 1) * S::LANES % BLOCK == 0;
                        at = at.wrapping_add(if ends_block { next_block } else { S::LANES });
                        weight = weight.wrapping_add(of_vector);
                    }
                    (x, w) = (x.wrapping_add(self.steps.1), w.wrapping_add(S::LANES));
                }
                row = row.wrapping_add(self.steps.0);
                w_row = w_row.wrapping_add(args.inner.taps.wrapping_mul(S::LANES));
            }
            store::finish::<S, 1, NV>(s, acc, &target);
        }
    }
}
