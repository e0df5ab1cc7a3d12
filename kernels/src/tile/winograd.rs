//! The input and output transforms of a Winograd convolution (Winograd 1980; Lavin and Gray 2016, section 4).
//! The products between them are in `tile/gemm.rs`. Vectors hold adjacent channels throughout, so no lanes
//! are permuted.
//!
//! Along each axis, the points are `P` pairs `+-p`, 0 and infinity. These are `N = 2 P + 2` points, and a
//! tile of the input has `N` pixels along that axis. The transform rows of `+p` and `-p` differ only in the
//! signs of odd powers. Each pair therefore shares an even and an odd part, and one axis of a tile with six
//! points takes 12 operations. `algo/winograd/matrices.rs` computes the coefficients.
//!
//! An axis with one point is not transformed: the kernel has one tap along it.

use super::boundary::Body;
use super::store::{self, TileTarget};
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

/// The arguments of [`Output`]: the products of a row of tiles, and the target of their outputs.
pub(crate) struct OutputArgs {
    /// The products. Point `i` of tile `t` is at `i * m_point + t * NV` vectors.
    pub(crate) m: *const f32,
    pub(crate) m_point: usize,
    pub(crate) tiles: usize,
    /// Number of existing rows of outputs, and of existing outputs in each row of a tile and of the last tile.
    pub(crate) rows: usize,
    pub(crate) outputs: usize,
    pub(crate) last: usize,
    pub(crate) coefficients: *const Coefficients,
    /// The first output. Outputs of one row of a tile are rows of this target.
    pub(crate) target: TileTarget,
    /// Distance between tiles, and between rows of outputs.
    pub(crate) tile: Apart,
    pub(crate) line: Apart,
}

/// A distance in elements, in the output and in the residual.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Apart {
    pub(crate) out: usize,
    pub(crate) residual: usize,
}

impl Apart {
    /// The distance of `count` rows of a target. With a single row or tile, `count` can be any number, so the product can wrap.
    pub(crate) fn rows(target: &TileTarget, count: usize) -> Self {
        Self { out: count.wrapping_mul(target.out.row), residual: count.wrapping_mul(target.residual.row) }
    }
}

/// `Y = act(bias + A^T M A + residual)` for a row of tiles and a panel of channels. A tile has `RY` by `RX`
/// outputs.
pub(crate) struct Output<
    const NY: usize,
    const PY: usize,
    const RY: usize,
    const NX: usize,
    const PX: usize,
    const RX: usize,
    const NV: usize,
>;

impl<
    const NY: usize,
    const PY: usize,
    const RY: usize,
    const NX: usize,
    const PX: usize,
    const RX: usize,
    const NV: usize,
> Body for Output<NY, PY, RY, NX, PX, RX, NV>
{
    type Args = OutputArgs;

    /// # Safety
    /// `m` must be valid for all points of all tiles. For every existing output, the target must be valid in
    /// the sense of `store`.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &OutputArgs) {
        // SAFETY: the caller upholds the contract of this function.
        let (down, along) = unsafe {
            (
                OutputCoefficients::<S, PY, RY>::new(s, &(*args.coefficients).y),
                OutputCoefficients::<S, PX, RX>::new(s, &(*args.coefficients).x),
            )
        };
        for tile in 0..args.tiles {
            // Lines that are written past the caches must not be in them.
            if !args.target.stream {
                expect::<S, RY, RX, NV>(s, args, tile + LOOK_AHEAD);
            }
            let Apart { out, residual } = args.tile;
            let target = args.target.ahead(tile.wrapping_mul(out), tile.wrapping_mul(residual));
            // One vector of channels at a time, because the points of two do not fit the registers.
            for j in 0..NV {
                let m = args.m.wrapping_add((tile * NV + j) * S::LANES);
                let outputs = if tile + 1 == args.tiles { args.last } else { args.outputs };
                // SAFETY: the caller guarantees all points, and the outputs of the tile.
                unsafe {
                    let half = columns::<S, NY, PY, RY, NX>(s, &down, m, args.m_point);
                    let target = target.of_vector(j, S::LANES);
                    rows::<S, RY, NX, PX, RX>(s, &along, &half, (args.rows, outputs, args.line), target);
                }
            }
        }
    }
}

/// Transforms the rows of a tile's points into outputs, and stores those that exist: `outputs` in each of `rows` rows.
///
/// # Safety
/// The target must be valid for these outputs in the sense of `store`.
#[inline(always)]
unsafe fn rows<S: Simd, const RY: usize, const NX: usize, const PX: usize, const RX: usize>(
    s: S,
    along: &OutputCoefficients<S, PX, RX>,
    half: &[[S::V; NX]; RY],
    (rows, outputs, line): (usize, usize, Apart),
    mut target: TileTarget,
) {
    // The minimum tells the compiler that `half` has these rows.
    for points in &half[..rows.min(RY)] {
        // SAFETY: the caller guarantees the outputs of this row.
        unsafe {
            let mut acc = store::start::<S, RX, 1>(s, &target);
            let y = along.transform::<NX>(s, points);
            for i in 0..RX {
                acc[i][0] = s.add(acc[i][0], y[i]);
            }
            store::finish_first::<S, RX, 1>(s, acc, &target, outputs);
        }
        target.advance(line.out, line.residual);
    }
}

/// Distance in tiles between the current tile and the tile whose outputs are prefetched for writing. Two
/// tiles hide the latency.
const LOOK_AHEAD: usize = 2;

/// Prefetches the outputs of a tile for writing. That tile need not exist.
#[inline(always)]
fn expect<S: Simd, const RY: usize, const RX: usize, const NV: usize>(s: S, args: &OutputArgs, tile: usize) {
    let store::TileAddress { base, row, block } = args.target.out;
    let base = base.wrapping_add(tile.wrapping_mul(args.tile.out));
    for r in 0..RY {
        let line = base.wrapping_add(r.wrapping_mul(args.line.out));
        for i in 0..RX {
            let pixel = line.wrapping_add(i.wrapping_mul(row));
            for j in 0..(NV * S::LANES).div_ceil(BLOCK) {
                s.prefetch_write(pixel.wrapping_add(j.wrapping_mul(block)));
            }
        }
    }
}

/// Transforms the columns of a tile's products into `RY` rows of `NX` points.
///
/// # Safety
/// `m` must be valid for a vector at each of `NY * NX` points, `point` apart.
#[inline(always)]
unsafe fn columns<S: Simd, const NY: usize, const PY: usize, const RY: usize, const NX: usize>(
    s: S,
    coefficients: &OutputCoefficients<S, PY, RY>,
    m: *const f32,
    point: usize,
) -> [[S::V; NX]; RY] {
    let mut half = [[s.splat(0.0); NX]; RY];
    for x in 0..NX {
        let mut d = [s.splat(0.0); NY];
        for y in 0..NY {
            // SAFETY: the caller upholds the contract of this function.
            d[y] = unsafe { s.load(m.wrapping_add((y * NX + x).wrapping_mul(point))) };
        }
        let column = coefficients.transform::<NY>(s, &d);
        for r in 0..RY {
            half[r][x] = column[r];
        }
    }
    half
}

/// The coefficients of the output transform, in registers.
struct OutputCoefficients<S: Simd, const P: usize, const R: usize> {
    output: [[S::V; R]; P],
}

impl<S: Simd, const P: usize, const R: usize> OutputCoefficients<S, P, R> {
    #[inline(always)]
    fn new(s: S, coefficients: &OneWay) -> Self {
        let mut output = [[s.splat(0.0); R]; P];
        for i in 0..P {
            for r in 0..R {
                output[i][r] = s.splat(coefficients.output[i][r]);
            }
        }
        Self { output }
    }

    /// Transforms one axis. Output `r` sums the even parts of the pairs if `r` is even, and their odd parts
    /// otherwise.
    #[inline(always)]
    fn transform<const N: usize>(&self, s: S, m: &[S::V; N]) -> [S::V; R] {
        if N == 1 {
            return [m[0]; R];
        }
        let mut sums = [[s.splat(0.0); 2]; P];
        for i in 0..P {
            sums[i] = [s.add(m[2 * i + 1], m[2 * i + 2]), s.sub(m[2 * i + 1], m[2 * i + 2])];
        }
        let mut y = [s.splat(0.0); R];
        for r in 0..R {
            let mut sum = s.mul(self.output[0][r], sums[0][r % 2]);
            if r == 0 {
                sum = s.mul_add(self.output[0][r], sums[0][0], m[0]);
            } else if r == R - 1 {
                sum = s.mul_add(self.output[0][r], sums[0][r % 2], m[N - 1]);
            }
            for i in 1..P {
                sum = s.mul_add(self.output[i][r], sums[i][r % 2], sum);
            }
            y[r] = sum;
        }
        y
    }
}
