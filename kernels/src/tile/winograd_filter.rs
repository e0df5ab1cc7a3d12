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
    /// Where the sums of all pixels are added, a block of channels; null if they are not wanted.
    pub(crate) sums: *mut f32,
}

/// Transforms tiles of `RY` by `RX` pixels to `NY` by `NX` points. `PY` and `PX` of them are pairs, and the others are 0 and
/// infinity. An axis with one point is not transformed.
pub(crate) struct FilterTiles<
    const NY: usize,
    const PY: usize,
    const RY: usize,
    const NX: usize,
    const PX: usize,
    const RX: usize,
>;

impl<const NY: usize, const PY: usize, const RY: usize, const NX: usize, const PX: usize, const RX: usize>
    Body for FilterTiles<NY, PY, RY, NX, PX, RX>
{
    type Args = FilterArgs;

    /// # Safety
    /// The first `columns` pixels of `RY` rows must be readable, for `channels` elements. The output must be writable, and
    /// `sums` too if it is not null.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &FilterArgs) {
        // SAFETY: the caller guarantees the coefficients.
        let (down, along) = unsafe {
            let coefficients = &*args.coefficients;
            (Powers::<S, PY>::new(s, &coefficients.y), Powers::<S, PX>::new(s, &coefficients.x))
        };
        let ahead = args.tiles * RX;
        for first in (0..BLOCK).step_by(S::LANES) {
            let lanes = Lanes { lo: 0, hi: args.channels.saturating_sub(first).min(S::LANES) };
            let mut sum = s.splat(0.0);
            for tile in 0..args.tiles {
                let mut half = [[s.splat(0.0); RX]; NY];
                let mut of_tile = s.splat(0.0);
                for x in 0..RX {
                    let column = tile.wrapping_mul(RX).wrapping_add(x);
                    let mut d = [s.splat(0.0); RY];
                    if column < args.columns {
                        for i in 0..RY {
                            let from = args.rows[i].wrapping_add(column.wrapping_mul(args.steps[i]));
                            s.prefetch(
                                from.wrapping_add(first).wrapping_add(ahead.wrapping_mul(args.steps[i])),
                            );
                            // SAFETY: the column is inside, and the caller guarantees its channels.
                            d[i] = unsafe { s.load_lanes(from.wrapping_add(first), lanes) };
                        }
                    }
                    for i in 0..RY {
                        of_tile = s.add(of_tile, d[i]);
                    }
                    let points = down.transform::<RY, NY>(s, &d);
                    for i in 0..NY {
                        half[i][x] = points[i];
                    }
                }
                sum = s.add(sum, of_tile);
                let out = args.out.wrapping_add(tile * BLOCK + first);
                for i in 0..NY {
                    let points = along.transform::<RX, NX>(s, &half[i]);
                    for j in 0..NX {
                        // SAFETY: the caller guarantees the output.
                        unsafe {
                            s.store(out.wrapping_add((i * NX + j).wrapping_mul(args.out_point)), points[j])
                        };
                    }
                }
            }
            if !args.sums.is_null() {
                let to = args.sums.wrapping_add(first);
                // SAFETY: the caller guarantees the sums of a block.
                unsafe { s.store(to, s.add(s.load(to), sum)) };
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
        if N == 1 {
            return [d[0]; N];
        }
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
