//! Products of `f32` operands that are split into bf16 parts (Henry, Tang and Heinecke 2019), with AVX-512
//! and its dot products of bf16 numbers. `tile/amx.rs` has the products on matrix tiles, `tile/parts_plain.rs`
//! the loops for every other machine.
//!
//! Two bf16 numbers form a *word*, which takes the place of one `f32` in buffers. A *row* is 32 consecutive
//! values of K of one pixel: 16 words, a cache line. A *step* of K multiplies one row of each pixel of a tile
//! with 32 values of K of 32 output channels.

use super::boundary::Body;
use super::store;
use super::target::TileTarget;
use crate::simd::Simd;

/// Values of K in a row.
pub(crate) const ROW: usize = 32;
/// Words of a row.
pub(crate) const ROW_WORDS: usize = ROW / 2;
/// Output channels of a panel.
pub(crate) const COLUMNS: usize = 32;
/// Words of one part of the weights of a step: two halves of 16 output channels, `[half][pair of K][channel]`.
pub(crate) const PART_WORDS: usize = COLUMNS * ROW_WORDS;
/// Words of one half.
#[cfg(target_arch = "x86_64")]
const HALF_WORDS: usize = PART_WORDS / 2;

/// The arguments of the kernels that split rows.
pub(crate) struct SplitArgs {
    /// The first 16 values of the first row, and the last 16.
    pub(super) halves: [*const f32; 2],
    /// Number of values of each half that are read. The others are zero.
    pub(super) lens: [usize; 2],
    /// Distance between the rows of the source.
    pub(super) step: usize,
    pub(super) rows: usize,
    /// Number of blocks of `rows` rows, and the distance between them in the source and in the result.
    pub(super) blocks: usize,
    pub(super) block: usize,
    pub(super) to_block: usize,
    pub(super) to: *mut f32,
    /// Words from one row of the result to the next, and from one part to the next.
    pub(super) to_row: usize,
    pub(super) to_part: usize,
}

/// The arguments of the kernels that multiply tiles.
#[derive(Clone, Copy)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))] // plain loops prefetch nothing
pub(crate) struct ProductArgs {
    /// The pixels, from the first part of the first row on.
    pub(super) a: *const f32,
    /// Words from one pixel of a tile to the next, and from one part to the next.
    pub(super) a_row: usize,
    pub(super) a_part: usize,
    /// The words before each of `count` tiles of `rows` pixels.
    pub(super) tiles: *const usize,
    pub(super) count: usize,
    pub(super) rows: usize,
    /// The words before the rows of each step of K.
    pub(super) steps: *const usize,
    pub(super) step_count: usize,
    /// The weights, `[step][part]`.
    pub(super) b: *const f32,
    /// The sums, `[tile][row][32]`.
    pub(super) sums: *mut f32,
    /// Whether the sums start from zero. Otherwise they continue.
    pub(super) first: bool,
    /// Weights that are needed later. Each step of each tile, or of each pair of tiles, prefetches `hint_lines`
    /// cache lines.
    pub(super) hint: *const f32,
    pub(super) hint_lines: usize,
}

/// The parts of A and B of each product, in the order in which they are summed. The small ones come first, as
/// far as this takes no additional loads.
pub(super) const fn products(parts: usize) -> &'static [(usize, usize)] {
    match parts {
        1 => &[(0, 0)],
        2 => &[(1, 0), (0, 0), (0, 1)],
        _ => &[(2, 0), (1, 0), (1, 1), (0, 1), (0, 2), (0, 0)],
    }
}

/// Splits rows into `PARTS` parts. A word holds two neighbours of a half, or if `PAIRS` the same value of both halves:
/// these are then two rows of B.
#[cfg(target_arch = "x86_64")]
pub(crate) struct Split<const PARTS: usize, const PAIRS: bool>;

#[cfg(target_arch = "x86_64")]
impl<const PARTS: usize, const PAIRS: bool> Body for Split<PARTS, PAIRS> {
    type Args = SplitArgs;

    /// # Safety
    /// `lens` values of each half of every row must be readable, and `PARTS` rows per row writable. `rows` must not
    /// be 0. The CPU
    /// must have AVX512-BF16 and AVX512-BW.
    #[inline(always)]
    #[allow(clippy::disallowed_methods)] // transmutes between types of one register
    unsafe fn run<S: Simd>(_: S, args: &SplitArgs) {
        use std::arch::x86_64::*;
        let masks = args.lens.map(|len| if len >= 16 { u16::MAX } else { (1 << len) - 1 });
        let pairs: [u16; 32] = std::array::from_fn(|i| (i % 2 * 16 + i / 2) as u16);
        // The upper half of the bits of each number, in the order of the words.
        let upper: [u16; 32] = std::array::from_fn(|i| 2 * if PAIRS { pairs[i] } else { i as u16 } + 1);
        // SAFETY: the caller guarantees the features and the operands. A masked load reads only its lanes.
        unsafe {
            let [pairs, upper] = [pairs, upper].map(|order| _mm512_loadu_si512(order.as_ptr().cast()));
            let high = _mm512_set1_epi32(0xffff_0000_u32 as i32);
            for block in 0..args.blocks {
                let mut from = args.halves.map(|half| half.wrapping_add(block * args.block));
                let mut to = args.to.wrapping_add(block * args.to_block);
                for _ in 0..args.rows {
                    let mut x =
                        [_mm512_maskz_loadu_ps(masks[0], from[0]), _mm512_maskz_loadu_ps(masks[1], from[1])];
                    for part in 0..PARTS {
                        let words: __m512i = if PARTS == 3 {
                            // Truncation: the upper half of the bits. It never overflows.
                            _mm512_permutex2var_epi16(
                                _mm512_castps_si512(x[0]),
                                upper,
                                _mm512_castps_si512(x[1]),
                            )
                        } else {
                            std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(x[1], x[0]))
                        };
                        let ordered =
                            if PAIRS && PARTS < 3 { _mm512_permutexvar_epi16(pairs, words) } else { words };
                        _mm512_storeu_si512(to.wrapping_add(part * args.to_part).cast(), ordered);
                        if part + 1 == PARTS {
                            break;
                        }
                        let taken = if PARTS == 3 {
                            x.map(|x| _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(x), high)))
                        } else {
                            let halves =
                                [_mm512_castsi512_si256(words), _mm512_extracti64x4_epi64::<1>(words)];
                            halves.map(|half| {
                                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(half)))
                            })
                        };
                        x = [_mm512_sub_ps(x[0], taken[0]), _mm512_sub_ps(x[1], taken[1])];
                    }
                    from = from.map(|half| half.wrapping_add(args.step));
                    to = to.wrapping_add(args.to_row);
                }
            }
        }
    }
}

/// Multiplies tiles of `MR` pixels with dot products of pairs of bf16 numbers, in one part. `APART` is the distance
/// between pixels in words; 0 stands for any distance.
///
/// More parts would take three or six times as long, which is no faster than `f32`. They would also add every
/// small product to the whole sum, and lose the accuracy that they are for.
#[cfg(target_arch = "x86_64")]
pub(crate) struct Dots<const MR: usize, const APART: usize>;

#[cfg(target_arch = "x86_64")]
impl<const MR: usize, const APART: usize> Body for Dots<MR, APART> {
    type Args = ProductArgs;

    /// # Safety
    /// All operands must be valid for `count` tiles of `MR` rows and `step_count` steps. If `APART` is not 0,
    /// it must be `a_row`. The CPU must have AVX512-BF16.
    #[inline(always)]
    #[allow(clippy::disallowed_methods)] // transmutes between types of one register
    unsafe fn run<S: Simd>(s: S, args: &ProductArgs) {
        use std::arch::x86_64::*;
        let row = if APART == 0 { args.a_row } else { APART };
        let mut hint = args.hint;
        for tile in 0..args.count {
            let sums = args.sums.wrapping_add(tile * MR * COLUMNS);
            // SAFETY: the caller guarantees the features and the operands.
            unsafe {
                let a = args.a.wrapping_add(*args.tiles.wrapping_add(tile));
                let mut acc = [[_mm512_setzero_ps(); 2]; MR];
                if !args.first {
                    for i in 0..MR {
                        for j in 0..2 {
                            acc[i][j] = _mm512_loadu_ps(sums.wrapping_add(i * COLUMNS + j * 16));
                        }
                    }
                }
                for step in 0..args.step_count {
                    let a = a.wrapping_add(*args.steps.wrapping_add(step));
                    let b = args.b.wrapping_add(step * PART_WORDS);
                    for line in 0..args.hint_lines {
                        s.prefetch(hint.wrapping_add(line * ROW_WORDS));
                    }
                    hint = hint.wrapping_add(args.hint_lines * ROW_WORDS);
                    for pair in 0..ROW_WORDS {
                        let b = [b.wrapping_add(pair * 16), b.wrapping_add(pair * 16 + HALF_WORDS)];
                        let w = b.map(|b| std::mem::transmute::<__m512, __m512bh>(_mm512_loadu_ps(b)));
                        for i in 0..MR {
                            let x = _mm512_set1_epi32(*a.wrapping_add(i * row + pair).cast::<i32>());
                            let x = std::mem::transmute::<__m512i, __m512bh>(x);
                            for j in 0..2 {
                                acc[i][j] = _mm512_dpbf16_ps(acc[i][j], x, w[j]);
                            }
                        }
                    }
                }
                for i in 0..MR {
                    for j in 0..2 {
                        _mm512_storeu_ps(sums.wrapping_add(i * COLUMNS + j * 16), acc[i][j]);
                    }
                }
            }
        }
    }
}

/// The arguments of [`Finish`].
pub(crate) struct FinishArgs {
    /// `rows` rows of 32 sums.
    pub(super) sums: *const f32,
    pub(super) rows: usize,
    pub(super) target: TileTarget,
}

/// Applies the epilogue to rows of sums, and stores them. `NV` vectors are 32 columns.
pub(crate) struct Finish<const NV: usize>;

/// Rows that are finished together.
const TOGETHER: usize = 4;

impl<const NV: usize> Finish<NV> {
    /// # Safety
    /// As [`Body::run`], for `MR` rows.
    #[inline(always)]
    unsafe fn rows<S: Simd, const MR: usize>(s: S, sums: *const f32, target: &TileTarget) {
        // SAFETY: the caller upholds the contracts.
        unsafe {
            let mut acc = store::start::<S, MR, NV>(s, target);
            for i in 0..MR {
                for j in 0..NV {
                    let sum = s.load(sums.wrapping_add(i * COLUMNS + j * S::LANES));
                    acc[i][j] = s.add(acc[i][j], sum);
                }
            }
            store::finish::<S, MR, NV>(s, acc, target);
        }
    }
}

impl<const NV: usize> Body for Finish<NV> {
    type Args = FinishArgs;

    /// # Safety
    /// The sums must be readable. `target` must satisfy the contracts of [`store::start`] and
    /// [`store::finish`] for all rows.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &FinishArgs) {
        let (mut target, mut sums, mut left) = (args.target, args.sums, args.rows);
        let (out, residual) = (target.out.row, target.residual.row);
        while left > 0 {
            let rows = if left >= TOGETHER { TOGETHER } else { 1 };
            // SAFETY: at least `rows` rows are left. The caller guarantees the rest.
            unsafe {
                if rows == TOGETHER {
                    Self::rows::<S, TOGETHER>(s, sums, &target);
                } else {
                    Self::rows::<S, 1>(s, sums, &target);
                }
            }
            target.advance(rows * out, rows * residual);
            sums = sums.wrapping_add(rows * COLUMNS);
            left -= rows;
        }
    }
}

/// The arguments of [`Accumulate`].
pub(crate) struct AccumulateArgs {
    pub(super) sums: *mut f32,
    pub(super) more: *const f32,
    pub(super) len: usize,
}

/// Adds the sums of a block of K to those of the blocks before it.
pub(crate) struct Accumulate;

impl Body for Accumulate {
    type Args = AccumulateArgs;

    /// # Safety
    /// Both operands must have `len` elements, a multiple of 32. `sums` must be writable.
    #[inline(always)]
    unsafe fn run<S: Simd>(s: S, args: &AccumulateArgs) {
        let mut at = 0;
        while at < args.len {
            let to = args.sums.wrapping_add(at);
            // SAFETY: the caller guarantees the operands.
            unsafe { s.store(to, s.add(s.load(to), s.load(args.more.wrapping_add(at)))) };
            at += S::LANES;
        }
    }
}

/// The arguments of [`Widen`].
pub(crate) struct WidenArgs {
    pub(super) from: *const f32,
    pub(super) to: *mut f32,
    /// Number of rows of 32 numbers. They are adjacent.
    pub(super) rows: usize,
}

/// Converts rows of bf16 numbers to `f32`.
pub(crate) struct Widen;

impl Body for Widen {
    type Args = WidenArgs;

    /// # Safety
    /// `from` must have 16 words for each row, and `to` 32 elements.
    #[inline(always)]
    unsafe fn run<S: Simd>(_: S, args: &WidenArgs) {
        let from = args.from.cast::<u16>();
        for i in 0..args.rows * ROW {
            // SAFETY: the caller guarantees the rows. A word is aligned to both of its halves.
            unsafe { *args.to.add(i) = f32::from_bits(u32::from(*from.add(i)) << 16) };
        }
    }
}

/// The arguments of [`FinishWords`].
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))] // the kernel exists on x86-64 only
pub(crate) struct FinishWordsArgs {
    /// `rows` rows of 32 sums.
    pub(super) sums: *const f32,
    pub(super) rows: usize,
    /// 32 numbers, or null.
    pub(super) bias: *const f32,
    /// Rows of 32 bf16 numbers to add, or null. They are `residual_row` words apart.
    pub(super) residual: *const f32,
    pub(super) residual_row: usize,
    /// Whether the smallest result is zero.
    pub(super) relu: bool,
    pub(super) out: *mut f32,
    pub(super) out_row: usize,
}

/// Applies the most common epilogues to rows of sums, and rounds them to bf16: [`Finish`] and [`Split`] without a
/// store between them.
#[cfg(target_arch = "x86_64")]
pub(crate) struct FinishWords;

#[cfg(target_arch = "x86_64")]
impl Body for FinishWords {
    type Args = FinishWordsArgs;

    /// # Safety
    /// Sums, bias and residual must be readable, and `rows` rows of 16 words writable. The CPU must have
    /// AVX512-BF16.
    #[inline(always)]
    #[allow(clippy::disallowed_methods)] // transmutes between types of one register
    unsafe fn run<S: Simd>(_: S, args: &FinishWordsArgs) {
        use std::arch::x86_64::*;
        // SAFETY: the caller guarantees the features and the operands.
        unsafe {
            let zero = _mm512_setzero_ps();
            let bias = [0, 16].map(|at| match args.bias.is_null() {
                true => zero,
                false => _mm512_loadu_ps(args.bias.wrapping_add(at)),
            });
            for i in 0..args.rows {
                let sums = args.sums.wrapping_add(i * COLUMNS);
                let mut x = [
                    _mm512_add_ps(bias[0], _mm512_loadu_ps(sums)),
                    _mm512_add_ps(bias[1], _mm512_loadu_ps(sums.wrapping_add(16))),
                ];
                if !args.residual.is_null() {
                    let words = _mm512_loadu_si512(args.residual.wrapping_add(i * args.residual_row).cast());
                    let halves = [_mm512_castsi512_si256(words), _mm512_extracti64x4_epi64::<1>(words)];
                    for j in 0..2 {
                        let wide = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves[j]));
                        x[j] = _mm512_add_ps(x[j], _mm512_castsi512_ps(wide));
                    }
                }
                if args.relu {
                    // The second operand is returned if it is NaN.
                    x = x.map(|x| _mm512_max_ps(zero, x));
                }
                let words = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(x[1], x[0]));
                _mm512_storeu_si512(args.out.wrapping_add(i * args.out_row).cast(), words);
            }
        }
    }
}
