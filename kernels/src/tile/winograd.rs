//! The input transform of a Winograd convolution (Winograd 1980; Lavin and Gray 2016, section 4), and the coefficients of all its
//! transforms. The output transform is in `tile/winograd_output.rs`, and the products between them are in `tile/gemm.rs`. Vectors hold adjacent channels throughout, so no lanes
//! are permuted.
//!
//! Along each axis, the points are `P` pairs `+-p`, 0 and infinity. These are `N = 2 P + 2` points, and a
//! tile of the input has `N` pixels along that axis. The transform rows of `+p` and `-p` differ only in the
//! signs of odd powers. Each pair therefore shares an even and an odd part, and one axis of a tile with six
//! points takes 12 operations. `algo/winograd/matrices.rs` computes the coefficients.
//!
//! An axis with one point is not transformed: the kernel has one tap along it.

use super::boundary::Body;
use crate::describe::BLOCK;
use crate::simd::{Lanes, Simd};

/// Maximum numbers along one axis: points, pairs of points, and output pixels of a tile.
pub(crate) const MOST_POINTS: usize = 8;
pub(crate) const MOST_PAIRS: usize = (MOST_POINTS - 2) / 2;
pub(crate) const MOST_OUTPUTS: usize = 6;

/// The coefficients of the transforms, down the columns and along the rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Coefficients {
    pub(crate) y: OneWay,
    pub(crate) x: OneWay,
}

/// The coefficients along one axis. Pair `i` is `+-p[i]`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct OneWay {
    pub(crate) p: [f32; MOST_PAIRS],
    pub(crate) squares: [f32; MOST_PAIRS],
    /// The factor of the first weight in point 0.
    pub(crate) zero: f32,
    /// Coefficients of `x^(2 k)` in the product of `x^2 - p[j]^2` over all pairs except `i`. The highest is 1
    /// and not stored.
    pub(crate) others: [[f32; MOST_PAIRS - 1]; MOST_PAIRS],
    /// The same coefficients for the product over all pairs.
    pub(crate) all: [f32; MOST_PAIRS],
    /// The factor of pair `i` in output `r`.
    pub(crate) output: [[f32; MOST_OUTPUTS]; MOST_PAIRS],
}

/// The arguments of [`Input`]: the pixels that a row of tiles reads, for some channels.
pub(crate) struct InputArgs {
    /// Column 0 of each of the `NY` rows, and the distance between columns. A row of padding points to zeros
    /// with distance 0.
    pub(crate) rows: [*const f32; MOST_POINTS],
    pub(crate) steps: [usize; MOST_POINTS],
    /// The columns `lo..hi` are inside the image.
    pub(crate) lo: usize,
    pub(crate) hi: usize,
    pub(crate) tiles: usize,
    /// Distance between tiles in columns.
    pub(crate) outputs: usize,
    /// Number of channels, at most a block. Only these are read. In the output, the lanes after them are
    /// zero.
    pub(crate) channels: usize,
    pub(crate) coefficients: *const Coefficients,
    /// Scratch memory, `[NY][columns][16]`.
    pub(crate) scratch: *mut f32,
    /// The output. Point `i` of tile `t` is at `i * out_point + t * 16`.
    pub(crate) out: *mut f32,
    pub(crate) out_point: usize,
}

/// `V = B^T d B` for a row of tiles and a block of channels. Columns are transformed first, because adjacent
/// tiles share them. If one axis has one point, the other is transformed without a step between.
pub(crate) struct Input<const NY: usize, const PY: usize, const NX: usize, const PX: usize>;

impl<const NY: usize, const PY: usize, const NX: usize, const PX: usize> Body for Input<NY, PY, NX, PX> {
    type Args = InputArgs;

    /// # Safety
    /// The rows must be readable at columns `lo..hi`, for `channels` elements. Scratch memory and output must
    /// be writable.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &InputArgs) {
        let columns = args.outputs * (args.tiles - 1) + NX;
        for lane in 0..BLOCK / S::LANES {
            let first = lane * S::LANES;
            let lanes = Lanes { lo: 0, hi: args.channels.saturating_sub(first).min(S::LANES) };
            // SAFETY: the caller guarantees rows, scratch memory and output. Scratch memory is written before
            // it is read.
            unsafe {
                let down = InputCoefficients::<S, PY>::new(s, &(*args.coefficients).y);
                let along = InputCoefficients::<S, PX>::new(s, &(*args.coefficients).x);
                let out = args.out.wrapping_add(first);
                if NY == 1 {
                    for tile in 0..args.tiles {
                        let mut d = [s.splat(0.0); NX];
                        for j in 0..NX {
                            d[j] = column::<S, 1>(s, args, tile * args.outputs + j, lanes, first)[0];
                        }
                        for j in 0..args.outputs {
                            expect_pixels::<S, 1>(s, args, (tile + args.tiles) * args.outputs + j, first);
                        }
                        put(s, &along.transform::<NX>(s, &d), out.wrapping_add(tile * BLOCK), args.out_point);
                    }
                } else if NX == 1 {
                    for tile in 0..args.tiles {
                        expect_pixels::<S, NY>(s, args, tile + args.tiles, first);
                        let v = down.transform::<NY>(s, &column(s, args, tile, lanes, first));
                        put(s, &v, out.wrapping_add(tile * BLOCK), args.out_point);
                    }
                } else {
                    for x in 0..columns {
                        let v = down.transform::<NY>(s, &column(s, args, x, lanes, first));
                        put(s, &v, args.scratch.wrapping_add(x * BLOCK + first), columns * BLOCK);
                    }
                    for i in 0..NY {
                        let row = args.scratch.wrapping_add(i * columns * BLOCK + first);
                        let out = out.wrapping_add(i * NX * args.out_point);
                        for tile in 0..args.tiles {
                            let mut d = [s.splat(0.0); NX];
                            for j in 0..NX {
                                d[j] = s.load(row.wrapping_add((tile * args.outputs + j) * BLOCK));
                            }
                            let v = along.transform::<NX>(s, &d);
                            put(s, &v, out.wrapping_add(tile * BLOCK), args.out_point);
                        }
                    }
                }
            }
        }
    }
}

/// Prefetches column `x` of the rows. It need not exist.
#[inline(always)]
fn expect_pixels<S: Simd, const N: usize>(s: S, args: &InputArgs, x: usize, first: usize) {
    for i in 0..N {
        s.prefetch(args.rows[i].wrapping_add(x.wrapping_mul(args.steps[i])).wrapping_add(first));
    }
}

/// Loads column `x` of the rows, or zeros if it is outside the image.
///
/// # Safety
/// The rows must be readable as in [`Input`].
#[inline(always)]
unsafe fn column<S: Simd, const N: usize>(
    s: S,
    args: &InputArgs,
    x: usize,
    lanes: Lanes,
    first: usize,
) -> [S::V; N] {
    let mut d = [s.splat(0.0); N];
    if x >= args.lo && x < args.hi {
        for i in 0..N {
            let from = args.rows[i].wrapping_add(x.wrapping_mul(args.steps[i])).wrapping_add(first);
            // SAFETY: the caller guarantees the rows.
            d[i] = unsafe { if lanes.hi == S::LANES { s.load(from) } else { s.load_lanes(from, lanes) } };
        }
    }
    d
}

/// Stores points, `point` elements apart.
///
/// # Safety
/// `to` must be writable for all of them.
#[inline(always)]
unsafe fn put<S: Simd, const N: usize>(s: S, points: &[S::V; N], to: *mut f32, point: usize) {
    for i in 0..N {
        // SAFETY: the caller guarantees the place.
        unsafe { s.store(to.wrapping_add(i * point), points[i]) };
    }
}

/// The coefficients of the input transform, in registers.
struct InputCoefficients<S: Simd, const P: usize> {
    p: [S::V; P],
    minus: [S::V; P],
    others: [[S::V; MOST_PAIRS - 1]; P],
    all: [S::V; P],
}

impl<S: Simd, const P: usize> InputCoefficients<S, P> {
    #[inline(always)]
    fn new(s: S, coefficients: &OneWay) -> Self {
        let zero = s.splat(0.0);
        let mut new =
            Self { p: [zero; P], minus: [zero; P], others: [[zero; MOST_PAIRS - 1]; P], all: [zero; P] };
        for i in 0..P {
            new.p[i] = s.splat(coefficients.p[i]);
            new.minus[i] = s.splat(-coefficients.p[i]);
            new.all[i] = s.splat(coefficients.all[i]);
            for k in 0..P - 1 {
                new.others[i][k] = s.splat(coefficients.others[i][k]);
            }
        }
        new
    }

    /// Transforms one axis: point 0, then each pair, then infinity.
    #[inline(always)]
    fn transform<const N: usize>(&self, s: S, d: &[S::V; N]) -> [S::V; N] {
        if N == 1 {
            return *d;
        }
        let mut v = [s.splat(0.0); N];
        let (mut zero, mut infinity) = (d[2 * P], d[2 * P + 1]);
        for k in 0..P {
            zero = s.mul_add(self.all[k], d[2 * k], zero);
            infinity = s.mul_add(self.all[k], d[2 * k + 1], infinity);
        }
        v[0] = zero;
        v[N - 1] = infinity;
        for i in 0..P {
            let (mut even, mut odd) = (d[2 * P], d[2 * P - 1]);
            for k in 0..P - 1 {
                even = s.mul_add(self.others[i][k], d[2 * k + 2], even);
                odd = s.mul_add(self.others[i][k], d[2 * k + 1], odd);
            }
            v[2 * i + 1] = s.mul_add(self.p[i], odd, even);
            v[2 * i + 2] = s.mul_add(self.minus[i], odd, even);
        }
        v
    }
}
