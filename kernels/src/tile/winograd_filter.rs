//! The transform `G g G^T` of tiles of a map: the second operand of a Winograd convolution, if it is not known before the
//! run. The gradient of a filter is such a convolution (`algo/weights_gradient/winograd.rs`). Filters that are known are
//! transformed when a plan is made.
//!
//! The powers of `+p` and `-p` differ only in the signs of odd ones, so each pair of points shares an even and an odd part,
//! as in `tile/winograd.rs`.

use super::boundary::Body;
use super::winograd::{Coefficients, MOST_POINTS, OneWay};
use crate::describe::BLOCK;
use crate::simd::{Lanes, Simd};

/// The pixels of a row of tiles, for some channels, and where their transforms go.
pub(crate) struct FilterArgs {
    /// Pixel 0 of each row, and the distance between pixels. A row outside the map points to zeros with distance 0.
    pub(crate) rows: [*const f32; MOST_POINTS],
    pub(crate) steps: [usize; MOST_POINTS],
    /// Number of pixels of each row that are inside the map.
    pub(crate) columns: usize,
    pub(crate) tiles: usize,
    /// Number of channels, at most a block. Only these are read. In the output, the lanes after them are zero.
    pub(crate) channels: usize,
    pub(crate) coefficients: *const Coefficients,
    /// The output. Point `i` of tile `t` is at `i * out_point + t * 16`.
    pub(crate) out: *mut f32,
    pub(crate) out_point: usize,
}

/// Transforms tiles of `R` by `R` pixels to `N` by `N` points, of which `P` pairs, 0 and infinity along each axis.
pub(crate) struct FilterTiles<const R: usize, const N: usize, const P: usize>;

impl<const R: usize, const N: usize, const P: usize> Body for FilterTiles<R, N, P> {
    type Args = FilterArgs;

    /// # Safety
    /// The first `columns` pixels of `R` rows must be readable, for `channels` elements. The output must be writable.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &FilterArgs) {
        // SAFETY: the caller guarantees the coefficients.
        let (down, along) = unsafe {
            let coefficients = &*args.coefficients;
            (Powers::<S, P>::new(s, &coefficients.y), Powers::<S, P>::new(s, &coefficients.x))
        };
        for first in (0..BLOCK).step_by(S::LANES) {
            let lanes = Lanes { lo: 0, hi: args.channels.saturating_sub(first).min(S::LANES) };
            for tile in 0..args.tiles {
                let mut half = [[s.splat(0.0); R]; N];
                for x in 0..R {
                    let column = tile.wrapping_mul(R).wrapping_add(x);
                    let mut d = [s.splat(0.0); R];
                    if column < args.columns {
                        for i in 0..R {
                            let from = args.rows[i].wrapping_add(column.wrapping_mul(args.steps[i]));
                            // SAFETY: the column is inside, and the caller guarantees its channels.
                            d[i] = unsafe { s.load_lanes(from.wrapping_add(first), lanes) };
                        }
                    }
                    let points = down.transform::<R, N>(s, &d);
                    for i in 0..N {
                        half[i][x] = points[i];
                    }
                }
                let out = args.out.wrapping_add(tile * BLOCK + first);
                for i in 0..N {
                    let points = along.transform::<R, N>(s, &half[i]);
                    for j in 0..N {
                        // SAFETY: the caller guarantees the output.
                        unsafe {
                            s.store(out.wrapping_add((i * N + j).wrapping_mul(args.out_point)), points[j])
                        };
                    }
                }
            }
        }
    }
}

/// The coefficients of `G` along one axis, in registers.
struct Powers<S: Simd, const P: usize> {
    zero: S::V,
    p: [S::V; P],
    minus: [S::V; P],
    squares: [S::V; P],
}

impl<S: Simd, const P: usize> Powers<S, P> {
    #[inline(always)]
    fn new(s: S, coefficients: &OneWay) -> Self {
        let none = [s.splat(0.0); P];
        let mut new = Self { zero: s.splat(coefficients.zero), p: none, minus: none, squares: none };
        for i in 0..P {
            new.p[i] = s.splat(coefficients.p[i]);
            new.minus[i] = s.splat(-coefficients.p[i]);
            new.squares[i] = s.splat(coefficients.squares[i]);
        }
        new
    }

    /// Transforms one axis: point 0, then each pair, then infinity.
    #[inline(always)]
    fn transform<const R: usize, const N: usize>(&self, s: S, d: &[S::V; R]) -> [S::V; N] {
        let mut v = [s.splat(0.0); N];
        v[0] = s.mul(self.zero, d[0]);
        v[N - 1] = d[R - 1];
        for i in 0..P {
            // Horner's rule for the even powers and for the odd ones.
            let (mut even, mut odd) = (s.splat(0.0), s.splat(0.0));
            for k in (0..R).rev() {
                let part = if k % 2 == 0 { &mut even } else { &mut odd };
                *part = if k + 2 < R { s.mul_add(*part, self.squares[i], d[k]) } else { d[k] };
            }
            v[2 * i + 1] = s.mul_add(self.p[i], odd, even);
            v[2 * i + 2] = s.mul_add(self.minus[i], odd, even);
        }
        v
    }
}
