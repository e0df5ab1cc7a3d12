//! The output transform of a Winograd convolution. See [`winograd`](super::winograd).

use super::boundary::Body;
use super::store;
use super::target::{TileAddress, TileTarget};
use super::winograd::{Coefficients, OneWay};
use crate::describe::BLOCK;
use crate::simd::Simd;

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
    let TileAddress { base, row, block } = args.target.out;
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
