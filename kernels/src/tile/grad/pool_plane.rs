//! Gradient of pooling if pixels are adjacent (NCHW). Vectors hold outputs of a row.
//!
//! ```text
//! for each strip of outputs whose windows have all columns, for each plane, for each output row:
//!     lines[i]       = input row of window row i, columns of the strip                // maximum only
//!     takes[i][j][o] = the part of g[o] that tap (i, j) gets                          // as in `pool.rs`
//!     dx[row i][c]  += sum over j of takes[i][j][(c - j * dilation) / stride]         // where that is an integer
//! ```
//! The taken parts have zeros at both ends, so no column is a special case. At stride 2, even and odd columns are summed
//! apart and interleaved. Other windows are computed one at a time: those at the edges, and those that are too large for
//! the buffers or have another stride.

use super::pool::PoolArgs;
use crate::simd::{LINE, Lanes, Simd};
use crate::tile::boundary::Body;
use crate::tile::reduce::{Max, Reduce};
use crate::tile::window::Taps;

/// Outputs of a strip.
const STRIP: usize = 64;

/// Most taps of a window whose strips fit into the buffers, and most columns from its first to its last tap.
const MOST_TAPS: usize = 25;
const MOST_EXTENT: usize = LINE;

/// Zeros before and after the taken parts. The columns of a strip at stride 1 are up to `MOST_EXTENT - 1` more than its
/// outputs, and a vector is up to `LINE` longer.
const ZEROS: usize = 2 * LINE;

/// For each tap, the parts of the gradients of a strip that it takes.
type Takes = [[f32; TAKE_LEN]; MOST_TAPS];
const TAKE_LEN: usize = STRIP + 2 * ZEROS;

/// The columns of each input row of a strip at stride 2, and the elements that a vector at its end can read beyond.
type Lines = [[f32; LINE_LEN]; MOST_TAPS];
const LINE_LEN: usize = 2 * STRIP + MOST_EXTENT + 2 * LINE;

/// The gradient of whole planes.
pub(crate) struct PoolPlanes<const MAX: bool>;

impl<const MAX: bool> Body for PoolPlanes<MAX> {
    type Args = PoolArgs;

    /// # Safety
    /// Every plane of the output's gradient, and of the input if `MAX`, must be valid for reading. Every plane of `out`
    /// must be valid for writing, and for reading if it is added to. Pixels are packed.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &PoolArgs) {
        let (h, w) = (&args.h, &args.w);
        if !args.add {
            let pixels = h.input() * w.input();
            for c in 0..args.channels {
                // SAFETY: the caller guarantees whole planes.
                unsafe { clear(s, args.out.wrapping_add(c * args.out_row), pixels) };
            }
        }
        let fits = w.stride() <= 2
            && w.extent() <= MOST_EXTENT
            && h.kernel().saturating_mul(w.kernel()) <= MOST_TAPS;
        let (lo, hi) = if fits { w.interior() } else { (0, 0) };
        for c in 0..args.channels {
            for y in 0..h.output() {
                let mut x = 0;
                while x < w.output() {
                    if x == lo && lo < hi {
                        x = hi;
                        continue;
                    }
                    // SAFETY: the function has the same contract, which the caller upholds.
                    unsafe { window::<MAX>(args, c, y, x) };
                    x += 1;
                }
            }
        }
        let mut lines: Lines = [[0.0; LINE_LEN]; MOST_TAPS];
        let mut x = lo;
        while x < hi {
            let count = STRIP.min(hi - x);
            let mut takes: Takes = [[0.0; TAKE_LEN]; MOST_TAPS];
            for c in 0..args.channels {
                for y in 0..h.output() {
                    let strip = Strip { c, y, x, count, tall: h.taps(y) };
                    // SAFETY: as above. The windows of the strip have all their columns, and fit into the buffers.
                    unsafe {
                        strip.take::<S, MAX>(s, args, &mut lines, &mut takes);
                        strip.spread::<S, MAX>(s, args, &takes);
                    }
                }
            }
            x += count;
        }
    }
}

/// Writes `count` zeros.
///
/// # Safety
/// `to` must be valid for writing them.
#[inline(always)]
unsafe fn clear<S: Simd>(s: S, to: *mut f32, count: usize) {
    let mut i = 0;
    while i < count {
        // SAFETY: the caller upholds the contract of this function.
        unsafe { s.store_lanes(to.add(i), s.splat(0.0), Lanes { lo: 0, hi: (count - i).min(S::LANES) }) };
        i += S::LANES;
    }
}

/// Adds the gradient of one output.
///
/// # Safety
/// Same contract as [`PoolPlanes`].
#[inline(always)]
unsafe fn window<const MAX: bool>(args: &PoolArgs, c: usize, y: usize, x: usize) {
    let (h, w) = (&args.h, &args.w);
    let (tall, wide) = (h.taps(y), w.taps(x));
    let pixel =
        |i: usize, j: usize| (tall.first + i * h.dilation()) * w.input() + wide.first + j * w.dilation();
    let out = args.out.wrapping_add(c * args.out_row);
    // SAFETY: the taps are inside the input, and the output is inside its plane.
    unsafe {
        let g = *args.gradient.at(c, y * w.output() + x);
        if MAX {
            let mut largest = pixel(0, 0);
            let mut most = *args.value.at(c, largest);
            for i in 0..tall.count {
                for j in 0..wide.count {
                    let x = *args.value.at(c, pixel(i, j));
                    if x > most || (x.is_nan() && !most.is_nan()) {
                        (most, largest) = (x, pixel(i, j));
                    }
                }
            }
            *out.add(largest) += g;
            return;
        }
        let part = g * args.scale(tall, wide);
        for i in 0..tall.count {
            for j in 0..wide.count {
                *out.add(pixel(i, j)) += part;
            }
        }
    }
}

/// Outputs `x..x + count` of row `y` of plane `c`.
#[derive(Clone, Copy)]
struct Strip {
    c: usize,
    y: usize,
    x: usize,
    count: usize,
    /// The rows of the windows.
    tall: Taps,
}

impl Strip {
    /// The pixel of the first column of row `i` of the first window.
    #[inline(always)]
    fn row(&self, args: &PoolArgs, i: usize) -> usize {
        let column = args.w.taps(self.x).first;
        (self.tall.first + i * args.h.dilation()) * args.w.input() + column
    }

    /// Number of columns from the first to the last tap of the strip.
    #[inline(always)]
    fn columns(&self, args: &PoolArgs) -> usize {
        (self.count - 1) * args.w.stride() + args.w.extent()
    }

    /// Divides the gradient of each output among its taps. For an average all taps get the same, and only the first
    /// array is written. The elements that are not written are zero, as before.
    ///
    /// # Safety
    /// Same contract as [`PoolPlanes`]. The windows must have all their columns, and fit into the buffers.
    #[inline(always)]
    unsafe fn take<S: Simd, const MAX: bool>(
        &self,
        s: S,
        args: &PoolArgs,
        lines: &mut Lines,
        takes: &mut Takes,
    ) {
        let w = &args.w;
        let (rows, kernel, dilation, stride) = (self.tall.count, w.kernel(), w.dilation(), w.stride());
        // SAFETY: rows and columns are inside the plane. No vector of a strip reads past the end of a line, and none is
        // written past the zeros of a take.
        unsafe {
            if MAX {
                for i in 0..rows {
                    let to = lines.as_mut_ptr().add(i).cast::<f32>();
                    copy(s, args.value.at(self.c, self.row(args, i)), to, self.columns(args));
                }
            }
            let scale = s.splat(if MAX { 1.0 } else { args.scale(self.tall, w.taps(self.x)) });
            let mut o = 0;
            while o < self.count {
                let lanes = Lanes { lo: 0, hi: (self.count - o).min(S::LANES) };
                let g = s.load_lanes(args.gradient.at(self.c, self.y * w.output() + self.x + o), lanes);
                if !MAX {
                    s.store(takes[0].as_mut_ptr().add(ZEROS + o), s.mul(g, scale));
                    o += S::LANES;
                    continue;
                }
                let tap = |i: usize, j: usize| {
                    let from = lines.as_ptr().add(i).cast::<f32>().add(o * stride + j * dilation);
                    if stride == 1 { s.load(from) } else { s.load_even(from) }
                };
                let mut most = s.splat(Max::IDENTITY);
                for i in 0..rows {
                    for j in 0..kernel {
                        most = s.maximum(most, tap(i, j));
                    }
                }
                let (mut left, zero) = (g, s.splat(0.0));
                for i in 0..rows {
                    for j in 0..kernel {
                        let x = tap(i, j);
                        let to = takes.as_mut_ptr().add(i * kernel + j).cast::<f32>();
                        s.store(to.add(ZEROS + o), s.where_equal(x, most, left, zero));
                        left = s.where_equal(x, most, zero, left);
                    }
                }
                o += S::LANES;
            }
        }
    }

    /// Adds what the taps have taken to the gradient of the input.
    ///
    /// # Safety
    /// As [`take`](Self::take), which must have written `takes`.
    #[inline(always)]
    unsafe fn spread<S: Simd, const MAX: bool>(&self, s: S, args: &PoolArgs, takes: &Takes) {
        let w = &args.w;
        let (kernel, dilation, columns) = (w.kernel(), w.dilation(), self.columns(args));
        // SAFETY: columns are inside the plane. A tap is less than `MOST_EXTENT` columns from the first one, so every
        // vector of taken parts begins and ends in the array.
        unsafe {
            for i in 0..self.tall.count {
                let first = if MAX { i * kernel } else { 0 };
                // The sum for columns `c, c + stride, ...` of the taps whose distance is `phase` more than a multiple of
                // the stride.
                let sum = |q: usize, phase: usize| {
                    let mut sum = s.splat(0.0);
                    for j in 0..kernel {
                        let away = j * dilation;
                        if w.stride() == 1 || away % 2 == phase {
                            let take = takes.as_ptr().add(if MAX { first + j } else { 0 }).cast::<f32>();
                            sum = s.add(sum, s.load(take.add(ZEROS + q - away / w.stride())));
                        }
                    }
                    sum
                };
                let to = args.out.wrapping_add(self.c * args.out_row + self.row(args, i));
                let mut c = 0;
                while c < columns {
                    if w.stride() == 1 {
                        add(s, to.add(c), sum(c, 0), columns - c);
                    } else {
                        let [low, high] = interleave(s, sum(c / 2, 0), sum(c / 2, 1));
                        add(s, to.add(c), low, columns - c);
                        if columns - c > S::LANES {
                            add(s, to.add(c + S::LANES), high, columns - c - S::LANES);
                        }
                    }
                    c += S::LANES * w.stride();
                }
            }
        }
    }
}

/// Copies `count` elements.
///
/// # Safety
/// `from` must be valid for reading them and `to` for writing them.
#[inline(always)]
unsafe fn copy<S: Simd>(s: S, from: *const f32, to: *mut f32, count: usize) {
    let mut i = 0;
    while i < count {
        let lanes = Lanes { lo: 0, hi: (count - i).min(S::LANES) };
        // SAFETY: the caller upholds the contract of this function.
        unsafe { s.store_lanes(to.add(i), s.load_lanes(from.add(i), lanes), lanes) };
        i += S::LANES;
    }
}

/// Adds the first `count` lanes of `x` to what is at `to`; all lanes if there are fewer.
///
/// # Safety
/// `to` must be valid for reading and writing them.
#[inline(always)]
unsafe fn add<S: Simd>(s: S, to: *mut f32, x: S::V, count: usize) {
    // SAFETY: the caller upholds the contract of this function.
    unsafe {
        if count >= S::LANES {
            s.store(to, s.add(s.load(to), x));
        } else {
            let lanes = Lanes { lo: 0, hi: count };
            s.store_lanes(to, s.add(s.load_lanes(to, lanes), x), lanes);
        }
    }
}

/// For each lane, -1 if it is even and 1 if it is odd.
static PARITY: [f32; LINE] = {
    let mut signs = [1.0; LINE];
    let mut i = 0;
    while i < LINE {
        signs[i] = -1.0;
        i += 2;
    }
    signs
};

/// Each lane of the first half of a vector of 16, 8 or 4 lanes twice, and then each lane of the second half twice.
static TWICE: [[u8; LINE + LINE]; 3] = [twice(16), twice(8), twice(4)];

const fn twice(lanes: usize) -> [u8; LINE + LINE] {
    let mut index = [0; LINE + LINE];
    let mut i = 0;
    while i < lanes {
        index[i] = (i / 2) as u8;
        index[LINE + i] = ((lanes + i) / 2) as u8;
        i += 1;
    }
    index
}

/// The lanes of `even` and `odd` in turn.
#[inline(always)]
fn interleave<S: Simd>(s: S, even: S::V, odd: S::V) -> [S::V; 2] {
    let twice = TWICE[LINE / S::LANES / 2].as_ptr();
    // SAFETY: both halves of the array have 16 elements, and the first `LANES` are less than `LANES`.
    let (low, high, parity) = unsafe { (s.index(twice), s.index(twice.add(LINE)), s.load(PARITY.as_ptr())) };
    let pairs = |index| s.where_negative(parity, s.permute(even, index), s.permute(odd, index));
    [pairs(low), pairs(high)]
}
