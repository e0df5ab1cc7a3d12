//! The transforms of input and output of a Winograd convolution (Winograd 1980; Lavin and Gray 2016, section 4); the
//! products between them are in `tile/gemm.rs`. Vectors are neighbouring channels throughout, so nothing is permuted.
//!
//! For `P` pairs of points `+-p`, and the points 0 and infinity, there are `N = 2 P + 2` of them, and the tile of the input has
//! `N` pixels that way. Rows of the transforms of `+p` and `-p` differ in the signs of odd powers only, so each pair shares an
//! even and an odd part: 12 operations for six points, one way. `algo/winograd/matrices.rs` computes the coefficients.

use super::boundary::Body;
use super::store::{self, TileTarget};
use crate::describe::BLOCK;
use crate::simd::{Lanes, Simd};

/// Points at most, one way; pairs of them; output pixels of a tile.
pub(crate) const MOST_POINTS: usize = 8;
pub(crate) const MOST_PAIRS: usize = (MOST_POINTS - 2) / 2;
pub(crate) const MOST_OUTPUTS: usize = 6;

/// What the transforms multiply with, down the columns and along the rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Coefficients {
    pub(crate) y: OneWay,
    pub(crate) x: OneWay,
}

/// What a transform multiplies with, one way; pair `i` is `+-p[i]`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct OneWay {
    pub(crate) p: [f32; MOST_PAIRS],
    /// Product of all `x^2 - p[j]^2` but that of pair `i`: the coefficient of `x^(2 k)`; the highest is 1 and not stored.
    pub(crate) others: [[f32; MOST_PAIRS - 1]; MOST_PAIRS],
    /// The same of all pairs.
    pub(crate) all: [f32; MOST_PAIRS],
    /// What pair `i` is multiplied with in output `r`.
    pub(crate) output: [[f32; MOST_OUTPUTS]; MOST_PAIRS],
}

/// Where the pixels lie that a row of tiles reads, for some channels: all that [`Input`] needs.
pub(crate) struct InputArgs {
    /// Column 0 of each of the `NY` rows, and from one column to the next. A row of padding points to zeros, distance 0.
    pub(crate) rows: [*const f32; MOST_POINTS],
    pub(crate) steps: [usize; MOST_POINTS],
    /// Columns that are inside the image.
    pub(crate) lo: usize,
    pub(crate) hi: usize,
    pub(crate) tiles: usize,
    /// Columns from one tile to the next.
    pub(crate) outputs: usize,
    /// Channels, at most a block. Fewer are all that is read; the lanes after them come out as zeros.
    pub(crate) channels: usize,
    pub(crate) coefficients: *const Coefficients,
    /// `[NY][columns][16]`, written and read back.
    pub(crate) scratch: *mut f32,
    /// Point `i` of tile `t` goes to `i * out_point + t * 16`.
    pub(crate) out: *mut f32,
    pub(crate) out_point: usize,
}

/// `V = B^T d B` for a row of tiles and a block of channels: columns first, which neighbouring tiles share.
pub(crate) struct Input<const NY: usize, const PY: usize, const NX: usize, const PX: usize>;

impl<const NY: usize, const PY: usize, const NX: usize, const PX: usize> Body for Input<NY, PY, NX, PX> {
    type Args = InputArgs;

    /// # Safety
    /// The rows must be readable at columns `lo..hi`, for `channels` elements; scratch and output writable.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &InputArgs) {
        let columns = args.outputs * (args.tiles - 1) + NX;
        for lane in 0..BLOCK / S::LANES {
            let first = lane * S::LANES;
            let lanes = Lanes { lo: 0, hi: args.channels.saturating_sub(first).min(S::LANES) };
            // SAFETY: valid by the caller; scratch is filled before it is read.
            unsafe {
                let coefficients = InputCoefficients::<S, PY>::new(s, &(*args.coefficients).y);
                for x in 0..columns {
                    let to = args.scratch.wrapping_add(x * BLOCK + first);
                    let mut d = [s.splat(0.0); NY];
                    if x >= args.lo && x < args.hi {
                        for i in 0..NY {
                            let from =
                                args.rows[i].wrapping_add(x.wrapping_mul(args.steps[i])).wrapping_add(first);
                            d[i] =
                                if lanes.hi == S::LANES { s.load(from) } else { s.load_lanes(from, lanes) };
                        }
                    }
                    let v = coefficients.transform::<NY>(s, &d);
                    for i in 0..NY {
                        s.store(to.wrapping_add(i * columns * BLOCK), v[i]);
                    }
                }
                let coefficients = InputCoefficients::<S, PX>::new(s, &(*args.coefficients).x);
                for i in 0..NY {
                    let row = args.scratch.wrapping_add(i * columns * BLOCK + first);
                    let out = args.out.wrapping_add(i * NX * args.out_point + first);
                    for tile in 0..args.tiles {
                        let mut d = [s.splat(0.0); NX];
                        for j in 0..NX {
                            d[j] = s.load(row.wrapping_add((tile * args.outputs + j) * BLOCK));
                        }
                        let v = coefficients.transform::<NX>(s, &d);
                        for j in 0..NX {
                            s.store(out.wrapping_add(j * args.out_point + tile * BLOCK), v[j]);
                        }
                    }
                }
            }
        }
    }
}

/// The coefficients of the input's transform in registers.
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

    /// One way: point 0, each pair, infinity.
    #[inline(always)]
    fn transform<const N: usize>(&self, s: S, d: &[S::V; N]) -> [S::V; N] {
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

/// The products of a row of tiles and where their outputs go: all that [`Output`] needs.
pub(crate) struct OutputArgs {
    /// Point `i` of tile `t` is at `i * m_point + t * NV` vectors.
    pub(crate) m: *const f32,
    pub(crate) m_point: usize,
    pub(crate) tiles: usize,
    /// Rows of outputs, and outputs of the last tile in a row, that there are.
    pub(crate) rows: usize,
    pub(crate) last: usize,
    pub(crate) coefficients: *const Coefficients,
    /// The first output; outputs of a row are rows of this.
    pub(crate) target: TileTarget,
    /// From one row of outputs to the next, in the output and in the residual.
    pub(crate) line: usize,
    pub(crate) residual_line: usize,
}

/// `Y = act(bias + A^T M A + residual)` for a row of tiles and a panel of channels, `RY` by `RX` outputs each.
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
    /// `m` must be valid for all points of all tiles, the target as `store` says for every output that there is.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &OutputArgs) {
        // SAFETY: by the caller.
        let (down, along) = unsafe {
            (
                OutputCoefficients::<S, PY, RY>::new(s, &(*args.coefficients).y),
                OutputCoefficients::<S, PX, RX>::new(s, &(*args.coefficients).x),
            )
        };
        for tile in 0..args.tiles {
            let m = args.m.wrapping_add(tile * NV * S::LANES);
            // SAFETY: all points are there by the caller.
            let half = unsafe { columns::<S, NY, PY, RY, NX, NV>(s, &down, m, args.m_point) };
            let outputs = if tile + 1 == args.tiles { args.last } else { RX };
            expect::<S, RY, RX, NV>(s, args, (tile + LOOK_AHEAD) * RX);
            let done = tile * RX;
            let (out, residual) = (args.target.out.row, args.target.residual.row);
            let mut target = args.target.ahead(done.wrapping_mul(out), done.wrapping_mul(residual));
            for r in 0..args.rows {
                // SAFETY: the outputs of this row are there by the caller.
                unsafe {
                    let mut acc = store::start::<S, RX, NV>(s, &target);
                    for j in 0..NV {
                        let mut d = [s.splat(0.0); NX];
                        for i in 0..NX {
                            d[i] = half[r][i][j];
                        }
                        let y = along.transform::<NX>(s, &d);
                        for i in 0..RX {
                            acc[i][j] = s.add(acc[i][j], y[i]);
                        }
                    }
                    store::finish_first::<S, RX, NV>(s, acc, &target, outputs);
                }
                target.advance(args.line, args.residual_line);
            }
        }
    }
}

/// Tiles from one to that whose outputs are brought near to be written: its lines are on their way while two are computed.
const LOOK_AHEAD: usize = 2;

/// Hints that the outputs of the tile from `x` on will be written. They may be of no tile.
#[inline(always)]
fn expect<S: Simd, const RY: usize, const RX: usize, const NV: usize>(s: S, args: &OutputArgs, x: usize) {
    let store::TileAddress { base, row, block } = args.target.out;
    for r in 0..RY {
        let line = base.wrapping_add(r.wrapping_mul(args.line));
        for i in 0..RX {
            let pixel = line.wrapping_add((x + i).wrapping_mul(row));
            for j in 0..(NV * S::LANES).div_ceil(BLOCK) {
                s.prefetch_write(pixel.wrapping_add(j.wrapping_mul(block)));
            }
        }
    }
}

/// The columns of a tile's products, transformed: `RY` rows of `NX` points.
///
/// # Safety
/// `m` must be valid for `NY * NX` points of `NV` vectors, `point` apart.
#[inline(always)]
unsafe fn columns<
    S: Simd,
    const NY: usize,
    const PY: usize,
    const RY: usize,
    const NX: usize,
    const NV: usize,
>(
    s: S,
    coefficients: &OutputCoefficients<S, PY, RY>,
    m: *const f32,
    point: usize,
) -> [[[S::V; NV]; NX]; RY] {
    let mut half = [[[s.splat(0.0); NV]; NX]; RY];
    for x in 0..NX {
        for j in 0..NV {
            let mut d = [s.splat(0.0); NY];
            for y in 0..NY {
                // SAFETY: by the caller.
                d[y] = unsafe { s.load(m.wrapping_add((y * NX + x).wrapping_mul(point) + j * S::LANES)) };
            }
            let column = coefficients.transform::<NY>(s, &d);
            for r in 0..RY {
                half[r][x][j] = column[r];
            }
        }
    }
    half
}

/// The coefficients of the output's transform in registers.
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

    /// One way: output `r` sums the even parts of the pairs if it is even, else the odd ones.
    #[inline(always)]
    fn transform<const N: usize>(&self, s: S, m: &[S::V; N]) -> [S::V; R] {
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
