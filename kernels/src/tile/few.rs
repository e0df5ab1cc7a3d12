//! The tile of convolutions with few output channels: dot products along the input channels.
//!
//! ```text
//! acc[T][O] = first block of K ? 0 : sums                 // vectors of partial sums
//! for kernel row inside the image, tap inside the row:
//!     for chunk of 16 input channels:
//!         w[O] = weights of the chunk
//!         for t in 0..T: x = the chunk of pixel t; acc[t][..] += x * w[..]
//! last block of K ? C = finish(bias + lanes of acc, summed) : sums = acc
//! ```
//!
//! The tiles of `tile/direct.rs` hold a vector of output channels, and broadcast each input. With one output channel,
//! one lane of sixteen is useful. Here the lanes are input channels. They are summed at the end, for up to sixteen
//! sums at once: the sums are transposed, and the vectors are added.
//!
//! A group of channels can begin and end inside a block of sixteen. Then its first and its last chunk are [`Piece`]s of
//! blocks, and only their lanes are read. A zero weight would not do: if a channel of another group is infinite, its
//! product with zero is NaN.
//!
//! A tile at an edge has fewer than `T` pixels, or pixels with taps beyond the border. For each tap it has one bit per
//! pixel, and skips the pixels without it.
//!
//! A tile of one pixel has few sums in flight. It therefore sums [`APART`] chunks apart, and joins them at the end.

use super::boundary::Body;
use super::store::{self, TileTarget};
use super::transpose::transpose;
use crate::describe::BLOCK;
use crate::simd::{Lanes, Simd};

/// Maximum number of output channels of a tile.
pub(crate) const MOST_OUTPUTS: usize = 4;
/// Maximum number of chunks that a tile of one pixel sums apart.
const APART: usize = 4;

/// Adjacent lanes of a block of sixteen channels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece {
    /// The block, counted from the first block of the group.
    pub(crate) block: usize,
    pub(crate) lanes: Lanes,
}

/// The chunks of a block of K. First come whole blocks of channels. The other chunks have lanes of one or two blocks.
/// The lanes of the two do not overlap. If there is only one, the lanes of the second are empty.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FewChunks {
    /// The first whole block, and the number of whole blocks.
    pub(crate) first: usize,
    pub(crate) whole: usize,
    pub(crate) partial: [[Piece; 2]; 2],
    /// Number of partial chunks.
    pub(crate) partials: usize,
}

/// Where the taps of a tile are inside a row of the image.
#[derive(Clone, Copy)]
pub(crate) struct Columns {
    /// The column of tap 0 of pixel 0. It wraps if it is left of the image.
    pub(crate) first: usize,
    /// Distances between output pixels and between taps.
    pub(crate) stride: usize,
    pub(crate) dilation: usize,
    /// Number of columns of the image.
    pub(crate) count: usize,
    /// Pixels of the tile that exist.
    pub(crate) pixels: usize,
}

/// The arguments of one call of a tile. `tile/few_table.rs` builds and checks them.
pub(crate) struct FewArgs {
    /// Lane 0 of the first block of tap 0 of pixel 0. It can be left of the image at an edge.
    pub(crate) image: *const f32,
    /// Distances in the image, in elements: between output pixels, taps, kernel rows and blocks of channels.
    pub(crate) pixel: usize,
    pub(crate) tap_step: usize,
    pub(crate) row_step: usize,
    pub(crate) block_step: usize,
    pub(crate) taps: usize,
    pub(crate) rows: usize,
    pub(crate) chunks: FewChunks,
    /// Tiles that are not at an edge do not use it.
    pub(crate) columns: Columns,
    /// Weights of the first tap, `[kernel row][tap][chunk][O][16]`, and the distances of rows and taps.
    pub(crate) weights: *const f32,
    pub(crate) w_row: usize,
    pub(crate) w_tap: usize,
    /// Number of tiles. At an edge it is one.
    pub(crate) count: usize,
    /// Partial sums of all tiles, `[pixel][O][lane]`, between blocks of K.
    pub(crate) sums: *mut f32,
    pub(crate) target: TileTarget,
}

/// A tile of `T` pixels by `O` output channels. Only at an `EDGE` can pixels or their taps be missing.
pub(crate) struct Few<const T: usize, const O: usize, const EDGE: bool>;

impl<const T: usize, const O: usize, const EDGE: bool> Body for Few<T, O, EDGE> {
    type Args = FewArgs;

    /// # Safety
    /// Every address in [`FewArgs`] must be valid: the image for the rows, the channels, and the taps of all pixels, at
    /// an edge for those inside the row; the weights for all of K, the sums for all pixels if there is more than one
    /// block of K, and the target in the sense of `store`.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &FewArgs) {
        let (mut image, mut sums, mut target) = (args.image, args.sums, args.target);
        let pixels = if EDGE { args.columns.pixels } else { T };
        for _ in 0..args.count {
            // SAFETY: the caller upholds the contract of this function.
            unsafe {
                let mut acc = [[s.splat(0.0); O]; T];
                if !target.first {
                    for t in 0..T {
                        for o in 0..O {
                            if t < pixels {
                                acc[t][o] = s.load(sums.wrapping_add((t * O + o) * S::LANES));
                            }
                        }
                    }
                }
                all_taps::<S, T, O, EDGE>(s, &mut acc, args, image);
                if target.last {
                    finish::<S, T, O>(s, &acc, &target, pixels);
                } else {
                    for t in 0..T {
                        for o in 0..O {
                            if t < pixels {
                                s.store(sums.wrapping_add((t * O + o) * S::LANES), acc[t][o]);
                            }
                        }
                    }
                }
            }
            image = image.wrapping_add(args.pixel.wrapping_mul(T));
            sums = sums.wrapping_add(T * O * S::LANES);
            target.advance(target.out.row.wrapping_mul(T), target.residual.row.wrapping_mul(T));
        }
    }
}

/// A tap of a tile.
#[derive(Clone, Copy)]
struct Tap {
    /// Lane 0 of the first block of pixel 0.
    image: *const f32,
    /// The weights of the next chunk.
    weights: *const f32,
    /// At an edge, bit `t` says whether pixel `t` has this tap.
    bits: usize,
}

/// The pixels that have tap `tap`.
#[inline(always)]
fn pixels_inside<const T: usize>(columns: &Columns, tap: usize) -> usize {
    let first = columns.first.wrapping_add(tap.wrapping_mul(columns.dilation));
    let mut bits = 0;
    for t in 0..T {
        let is_inside = first.wrapping_add(t.wrapping_mul(columns.stride)) < columns.count;
        bits |= usize::from(is_inside && t < columns.pixels) << t;
    }
    bits
}

/// Sums all taps of a tile.
///
/// # Safety
/// Same contract as [`Few::run`].
#[inline(always)]
unsafe fn all_taps<S: Simd, const T: usize, const O: usize, const EDGE: bool>(
    s: S,
    acc: &mut [[S::V; O]; T],
    args: &FewArgs,
    image: *const f32,
) {
    // The sums of chunks that a tile of one pixel keeps apart; the first is `acc` itself.
    let mut apart = [[s.splat(0.0); O]; APART];
    for row in 0..args.rows {
        for number in 0..args.taps {
            let at = row.wrapping_mul(args.row_step).wrapping_add(number.wrapping_mul(args.tap_step));
            let w_at = row.wrapping_mul(args.w_row).wrapping_add(number.wrapping_mul(args.w_tap));
            let bits = if EDGE { pixels_inside::<T>(&args.columns, number) } else { usize::MAX };
            if EDGE && bits == 0 {
                continue;
            }
            let image = image.wrapping_add(at);
            let weights = args.weights.wrapping_add(w_at);
            let first = image.wrapping_add(args.chunks.first.wrapping_mul(args.block_step));
            let mut tap = Tap { image: first, weights, bits: s.opaque(bits) };
            let mut left = args.chunks.whole;
            // SAFETY: the caller guarantees all chunks of this tap.
            unsafe {
                if const { T == 1 } {
                    // Sixteen registers hold the sums of two chunks of four outputs, next to the weights.
                    let together = const { if S::LANES == 8 && O > 2 { 2 } else { APART } };
                    while left >= together {
                        for u in 0..together {
                            let one = std::array::from_mut(&mut apart[u]);
                            whole_chunk::<S, 1, O, EDGE>(s, one, args, &mut tap);
                        }
                        left -= together;
                    }
                }
                while left > 0 {
                    whole_chunk::<S, T, O, EDGE>(s, acc, args, &mut tap);
                    left -= 1;
                }
                tap.image = image;
                for i in 0..args.chunks.partials {
                    partial_chunk::<S, T, O, EDGE>(s, acc, args, &mut tap, i);
                }
            }
        }
    }
    if const { T == 1 } {
        for o in 0..O {
            let pairs = s.add(s.add(apart[0][o], apart[1][o]), s.add(apart[2][o], apart[3][o]));
            acc[0][o] = s.add(acc[0][o], pairs);
        }
    }
}

/// Sums the block of sixteen channels at `tap`, and advances it to the next block.
///
/// # Safety
/// `tap` must be valid for the block of every pixel that has this tap, and for the weights of sixteen channels.
#[inline(always)]
unsafe fn whole_chunk<S: Simd, const T: usize, const O: usize, const EDGE: bool>(
    s: S,
    acc: &mut [[S::V; O]; T],
    args: &FewArgs,
    tap: &mut Tap,
) {
    for part in (0..BLOCK).step_by(S::LANES) {
        let all = Lanes { lo: 0, hi: S::LANES };
        let source = Source { at: part, lanes: all };
        // SAFETY: the caller upholds the contract of this function.
        unsafe { products::<S, T, O, EDGE, true>(s, acc, (args.pixel, tap, part), [source; 2]) };
    }
    tap.image = tap.image.wrapping_add(args.block_step);
    tap.weights = tap.weights.wrapping_add(O * BLOCK);
}

/// Sums partial chunk `i`, and advances `tap` to the weights of the next chunk.
///
/// # Safety
/// `tap` must be valid for the pieces of this chunk, for every pixel that has this tap, and for the weights of sixteen
/// channels.
#[inline(always)]
unsafe fn partial_chunk<S: Simd, const T: usize, const O: usize, const EDGE: bool>(
    s: S,
    acc: &mut [[S::V; O]; T],
    args: &FewArgs,
    tap: &mut Tap,
    i: usize,
) {
    let [first, second] = args.chunks.partial[i & 1];
    for part in (0..BLOCK).step_by(S::LANES) {
        let sources =
            [Source::of::<S>(first, args.block_step, part), Source::of::<S>(second, args.block_step, part)];
        if sources[0].is_empty() && sources[1].is_empty() {
            continue;
        }
        // SAFETY: the caller upholds the contract of this function.
        unsafe { products::<S, T, O, EDGE, false>(s, acc, (args.pixel, tap, part), sources) };
    }
    tap.weights = tap.weights.wrapping_add(O * BLOCK);
}

/// Where some lanes of a vector come from.
#[derive(Clone, Copy)]
struct Source {
    /// The distance of lane 0 from the first block.
    at: usize,
    lanes: Lanes,
}

impl Source {
    /// The lanes of a piece that are in the vector from lane `part` on.
    #[inline(always)]
    fn of<S: Simd>(piece: Piece, block_step: usize, part: usize) -> Self {
        let of = |lane: usize| lane.max(part).min(part + S::LANES) - part;
        let lanes = Lanes { lo: of(piece.lanes.lo), hi: of(piece.lanes.hi) };
        Self { at: piece.block.wrapping_mul(block_step).wrapping_add(part), lanes }
    }

    #[inline(always)]
    fn is_empty(self) -> bool {
        self.lanes.lo >= self.lanes.hi
    }
}

/// Sums one vector of each pixel. It is whole, or has the lanes of two sources.
///
/// # Safety
/// The tap must be valid for the lanes of the sources, for every pixel that has it, and for the weights of the part.
#[inline(always)]
unsafe fn products<S: Simd, const T: usize, const O: usize, const EDGE: bool, const WHOLE: bool>(
    s: S,
    acc: &mut [[S::V; O]; T],
    (pixel, tap, part): (usize, &Tap, usize),
    [first, second]: [Source; 2],
) {
    let mut weights = [s.splat(0.0); O];
    for o in 0..O {
        // SAFETY: the caller upholds the contract of this function.
        weights[o] = unsafe { s.load(tap.weights.wrapping_add(o * BLOCK + part)) };
    }
    for t in 0..T {
        // A tile of one pixel visits only taps that the pixel has.
        if const { EDGE && T > 1 } && tap.bits >> t & 1 == 0 {
            continue;
        }
        let p = tap.image.wrapping_add(t.wrapping_mul(pixel));
        // SAFETY: the caller upholds the contract of this function.
        let x = unsafe {
            if WHOLE {
                s.load(p.wrapping_add(first.at))
            } else {
                let x = s.load_lanes(p.wrapping_add(first.at), first.lanes);
                if second.is_empty() {
                    x
                } else {
                    s.add(x, s.load_lanes(p.wrapping_add(second.at), second.lanes))
                }
            }
        };
        for o in 0..O {
            acc[t][o] = s.mul_add(x, weights[o], acc[t][o]);
        }
    }
}

/// Sums the lanes of all accumulators, adds the bias, and finishes the first `pixels` pixels of the tile. Its rows are
/// pixels, and the columns of its only vector are output channels.
///
/// # Safety
/// Same contract as [`Few::run`].
#[inline(always)]
unsafe fn finish<S: Simd, const T: usize, const O: usize>(
    s: S,
    acc: &[[S::V; O]; T],
    target: &TileTarget,
    pixels: usize,
) {
    let mut stage = [0.0f32; 2 * BLOCK];
    let mut first = 0;
    while first < T * O {
        let mut square = [s.splat(0.0); BLOCK];
        for i in 0..S::LANES {
            if first + i < T * O {
                square[i] = acc[(first + i) / O][(first + i) % O];
            }
        }
        transpose(s, &mut square);
        let mut half = S::LANES / 2;
        while half > 0 {
            for i in 0..half {
                square[i] = s.add(square[i], square[i + half]);
            }
            half /= 2;
        }
        // SAFETY: `first` is less than sixteen, so a vector fits.
        unsafe { s.store(stage.as_mut_ptr().wrapping_add(first), square[0]) };
        first += S::LANES;
    }
    // All sums are here, so nothing is added to the output.
    let target = TileTarget { first: true, ..*target };
    // SAFETY: the caller guarantees the target. `stage` has `O` sums for each pixel.
    unsafe {
        let mut rows = store::start::<S, T, 1>(s, &target);
        for t in 0..T {
            let sums = s.load_lanes(stage.as_ptr().wrapping_add(t * O), Lanes { lo: 0, hi: O });
            rows[t][0] = s.add(rows[t][0], sums);
        }
        store::finish_first::<S, T, 1>(s, rows, &target, pixels);
    }
}
