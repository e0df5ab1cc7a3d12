//! The tile of convolutions with few output channels: dot products along the input channels.
//!
//! ```text
//! acc[T][O] = first block of K ? 0 : sums                 // vectors of partial sums
//! for kernel row inside the image:
//!     for tap inside the row, chunk of 16 input channels:  // or for chunk, tap: the longer loop is inside
//!         w[O] = weights of the chunk
//!         for t in 0..T: x = the chunk of pixel t; acc[t][..] += x * w[..]
//! last block of K ? C = finish(bias + lanes of acc, summed) : sums = acc
//! ```
//!
//! The tiles of `tile/direct.rs` hold a vector of output channels, and broadcast each input. With one output channel,
//! one lane of sixteen is useful. Here the lanes are input channels. They are added at the end, for up to sixteen sums at
//! once.
//!
//! A group of channels can begin and end inside a block of sixteen. Then its first and its last chunk are [`Piece`]s of
//! blocks, and only their lanes are read. A zero weight would not do: if a channel of another group is infinite, its
//! product with zero is NaN.
//!
//! A tile at an edge has fewer than `T` pixels, or pixels with taps beyond the border. It compares the column of each
//! pixel, and skips the pixels that are outside.
//!
//! A tile of one pixel has few sums in flight. It therefore sums [`APART`] steps apart, and joins them at the end.

use super::boundary::Body;
use super::store;
use super::target::TileTarget;
use crate::describe::BLOCK;
use crate::simd::{Lanes, Simd};

/// Maximum number of output channels of a tile.
pub(crate) const MOST_OUTPUTS: usize = 4;
/// Maximum number of pixels of a tile.
pub(crate) const MOST_PIXELS: usize = 8;
/// Maximum number of steps that a tile of one pixel sums apart.
const APART: usize = 4;
/// The column of a pixel that does not exist. It and those of its taps are outside every image.
pub(crate) const NO_COLUMN: usize = 1 << (usize::BITS - 1);

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
    /// Columns of the image, and distance between taps in columns.
    pub(crate) width: usize,
    pub(crate) dilation: usize,
    /// Pixels of a tile that exist, and the columns of their first taps. They wrap if they are left of the image. Only
    /// tiles at an edge use them.
    pub(crate) pixels: usize,
    pub(crate) columns: [usize; MOST_PIXELS],
    /// Weights of the first tap, `[kernel row][tap][chunk][O][16]`, and the distances of rows and taps.
    pub(crate) weights: *const f32,
    pub(crate) w_row: usize,
    pub(crate) w_tap: usize,
    /// Number of tiles. At an edge it is one.
    pub(crate) count: usize,
    /// Whether each tile prefetches the pixels of the next one.
    pub(crate) fetch: bool,
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
        let pixels = if EDGE { args.pixels } else { T };
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
                acc = all_taps::<S, T, O, EDGE>(s, acc, args, image);
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

/// The sums of a tile.
struct Sums<V, const T: usize, const O: usize> {
    tile: [[V; O]; T],
    /// The sums of the steps that a tile of one pixel keeps apart.
    apart: [[V; O]; APART],
}

/// The operands of a step of K.
#[derive(Clone, Copy)]
struct Place {
    /// Lane 0 of the first block of pixel 0.
    image: *const f32,
    weights: *const f32,
    /// Columns from the first tap of a pixel.
    column: usize,
}

/// Steps of K at a constant distance.
#[derive(Clone, Copy)]
struct Steps {
    count: usize,
    image: usize,
    weights: usize,
    column: usize,
}

impl Place {
    #[inline(always)]
    fn advance(&mut self, steps: Steps) {
        self.image = self.image.wrapping_add(steps.image);
        self.weights = self.weights.wrapping_add(steps.weights);
        self.column = self.column.wrapping_add(steps.column);
    }
}

/// Where some lanes of a vector come from.
#[derive(Clone, Copy)]
struct Source {
    /// The distance of lane 0 from the place.
    at: usize,
    lanes: Lanes,
}

impl Source {
    /// The lanes of a piece that are in the vector from lane `part` on.
    #[inline(always)]
    fn of<S: Simd>(piece: Piece, block_step: usize, part: usize) -> Self {
        let of = |lane: usize| lane.max(part).min(part + S::LANES) - part;
        let lanes = Lanes { lo: of(piece.lanes.lo), hi: of(piece.lanes.hi) };
        Self { at: piece.block.wrapping_mul(block_step), lanes }
    }

    #[inline(always)]
    fn is_empty(self) -> bool {
        self.lanes.is_empty()
    }
}

/// Sums all taps of a tile.
///
/// # Safety
/// Same contract as [`Few::run`].
#[inline(always)]
unsafe fn all_taps<S: Simd, const T: usize, const O: usize, const EDGE: bool>(
    s: S,
    acc: [[S::V; O]; T],
    args: &FewArgs,
    image: *const f32,
) -> [[S::V; O]; T] {
    let mut sums = Sums { tile: acc, apart: [[s.splat(0.0); O]; APART] };
    let chunks = &args.chunks;
    let by_tap = Steps { count: args.taps, image: args.tap_step, weights: args.w_tap, column: args.dilation };
    let by_chunk = Steps { count: chunks.whole, image: args.block_step, weights: O * BLOCK, column: 0 };
    let mut line = Place { image, weights: args.weights, column: 0 };
    for _ in 0..args.rows {
        let mut place = line;
        place.image = place.image.wrapping_add(chunks.first.wrapping_mul(args.block_step));
        // The longer loop is inside. With a loop for each order, the distance of the weights of chunks is a constant.
        let (outer, chunks_outside) =
            if by_chunk.count < by_tap.count { (by_chunk, true) } else { (by_tap, false) };
        for _ in 0..outer.count {
            // SAFETY: the caller guarantees whole blocks of every tap.
            unsafe {
                if chunks_outside {
                    steps::<S, T, O, EDGE, 0>(s, &mut sums, args, place, by_tap, &[]);
                } else {
                    steps::<S, T, O, EDGE, 0>(s, &mut sums, args, place, by_chunk, &[]);
                }
            }
            place.advance(outer);
        }
        let mut place = line;
        place.weights = place.weights.wrapping_add(chunks.whole.wrapping_mul(O * BLOCK));
        for i in 0..chunks.partials {
            // SAFETY: the caller guarantees the pieces of every tap.
            unsafe { partial_chunk::<S, T, O, EDGE>(s, &mut sums, args, (place, by_tap), i) };
            place.weights = place.weights.wrapping_add(O * BLOCK);
        }
        line.image = line.image.wrapping_add(args.row_step);
        line.weights = line.weights.wrapping_add(args.w_row);
    }
    if const { T == 1 } {
        for o in 0..O {
            let apart = &sums.apart;
            let pairs = [s.add(apart[0][o], apart[1][o]), s.add(apart[2][o], apart[3][o])];
            sums.tile[0][o] = s.add(sums.tile[0][o], s.add(pairs[0], pairs[1]));
        }
    }
    sums.tile
}

/// Sums partial chunk `i` of every tap of a row.
///
/// # Safety
/// The place must be valid for the pieces of this chunk, for every tap and every pixel that has it, and for the weights
/// of sixteen channels.
#[inline(always)]
unsafe fn partial_chunk<S: Simd, const T: usize, const O: usize, const EDGE: bool>(
    s: S,
    sums: &mut Sums<S::V, T, O>,
    args: &FewArgs,
    (mut place, by_tap): (Place, Steps),
    i: usize,
) {
    let [first, second] = args.chunks.partial[i & 1];
    for part in (0..BLOCK).step_by(S::LANES) {
        let first = Source::of::<S>(first, args.block_step, part);
        let second = Source::of::<S>(second, args.block_step, part);
        // SAFETY: the caller upholds the contract of this function.
        unsafe {
            match (first.is_empty(), second.is_empty()) {
                (true, true) => {}
                (false, true) => steps::<S, T, O, EDGE, 1>(s, sums, args, place, by_tap, &[first]),
                (true, false) => steps::<S, T, O, EDGE, 1>(s, sums, args, place, by_tap, &[second]),
                (false, false) => steps::<S, T, O, EDGE, 2>(s, sums, args, place, by_tap, &[first, second]),
            }
        }
        place.image = place.image.wrapping_add(S::LANES);
        place.weights = place.weights.wrapping_add(S::LANES);
    }
}

/// Sums some steps of K from `place` on: whole blocks of sixteen channels, or one vector of `PIECES` pieces.
///
/// # Safety
/// Every step must be valid for these channels of every pixel that has its tap, and for their weights.
#[inline(always)]
unsafe fn steps<S: Simd, const T: usize, const O: usize, const EDGE: bool, const PIECES: usize>(
    s: S,
    sums: &mut Sums<S::V, T, O>,
    args: &FewArgs,
    mut place: Place,
    by: Steps,
    sources: &[Source; PIECES],
) {
    let mut left = by.count;
    // SAFETY: the caller upholds the contract of this function.
    unsafe {
        if const { T == 1 } {
            // The sums of two chunks of four outputs fit the registers of AVX2 and NEON, next to the weights.
            let together = const { if S::LANES < 16 && O > 2 { 2 } else { APART } };
            while left >= together {
                for u in 0..together {
                    let one = std::array::from_mut(&mut sums.apart[u]);
                    step::<S, 1, O, EDGE, PIECES>(s, one, args, place, sources);
                    place.advance(by);
                }
                left -= together;
            }
        }
        while left > 0 {
            step::<S, T, O, EDGE, PIECES>(s, &mut sums.tile, args, place, sources);
            place.advance(by);
            left -= 1;
        }
    }
}

/// Sums one step of K.
///
/// # Safety
/// Same contract as [`steps`].
#[inline(always)]
unsafe fn step<S: Simd, const T: usize, const O: usize, const EDGE: bool, const PIECES: usize>(
    s: S,
    acc: &mut [[S::V; O]; T],
    args: &FewArgs,
    place: Place,
    sources: &[Source; PIECES],
) {
    let lanes = if PIECES == 0 { BLOCK } else { S::LANES };
    for part in (0..lanes).step_by(S::LANES) {
        let mut weights = [s.splat(0.0); O];
        for o in 0..O {
            // SAFETY: the caller upholds the contract of this function.
            weights[o] = unsafe { s.load(place.weights.wrapping_add(o * BLOCK + part)) };
        }
        for t in 0..T {
            if !EDGE || args.columns[t].wrapping_add(place.column) < args.width {
                let p = place.image.wrapping_add(t.wrapping_mul(args.pixel)).wrapping_add(part);
                // Once for the sixteen channels of a pixel. With vectors of four, there are no registers left for it.
                if const { !EDGE && PIECES == 0 && S::LANES > 4 } && part == 0 && args.fetch {
                    s.prefetch(p.wrapping_add(args.pixel.wrapping_mul(T)));
                }
                // SAFETY: the pixel has this tap. The caller upholds the contract of this function.
                let x = unsafe { vector::<S, PIECES>(s, p, sources) };
                for o in 0..O {
                    acc[t][o] = s.mul_add(x, weights[o], acc[t][o]);
                }
            }
        }
    }
}

/// Loads the vector at `p`, or the lanes of its pieces.
///
/// # Safety
/// `p` must be valid for the vector, or for the lanes of the pieces.
#[inline(always)]
unsafe fn vector<S: Simd, const PIECES: usize>(s: S, p: *const f32, sources: &[Source; PIECES]) -> S::V {
    if PIECES == 0 {
        // SAFETY: the caller upholds the contract of this function.
        return unsafe { s.load(p) };
    }
    let mut x = s.splat(0.0);
    for i in 0..PIECES {
        // SAFETY: as above.
        let piece = unsafe { s.load_lanes(p.wrapping_add(sources[i].at), sources[i].lanes) };
        x = if i == 0 { piece } else { s.add(x, piece) };
    }
    x
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
        let mut left = if T * O - first < S::LANES { T * O - first } else { S::LANES };
        let mut sums = [s.splat(0.0); BLOCK];
        for i in 0..left {
            sums[i] = acc[(first + i) / O][(first + i) % O];
        }
        // Each pass adds neighbouring lanes of two vectors, so that half as many vectors are left.
        let mut lanes = S::LANES;
        while lanes > 1 {
            for i in 0..left.div_ceil(2) {
                // The last vector can be alone. The lanes for its partner are not used.
                let (a, b) = (sums[2 * i], sums[if 2 * i + 1 < left { 2 * i + 1 } else { 2 * i }]);
                sums[i] = s.add(s.even(a, b), s.odd(a, b));
            }
            left = left.div_ceil(2);
            lanes /= 2;
        }
        // SAFETY: `first` is less than sixteen, so a vector fits.
        unsafe { s.store(stage.as_mut_ptr().wrapping_add(first), sums[0]) };
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
