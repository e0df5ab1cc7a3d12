//! The kernels of `tile/parts.rs` as plain loops, for machines without bf16 instructions. They are used only if
//! bf16 products are forced, for example to study their errors.

use super::boundary::Body;
use super::parts::{COLUMNS, PART_WORDS, ProductArgs, ROW_WORDS, SplitArgs, products};
use crate::simd::Simd;

/// The upper half of the bits of `x`.
fn truncated(x: f32) -> u16 {
    (x.to_bits() >> 16) as u16
}

/// `x` rounded to the nearest bf16 number, with ties to even. Subnormal numbers become zero, as in hardware.
fn rounded(x: f32) -> u16 {
    let bits = x.to_bits();
    if x.is_nan() {
        return truncated(x) | 0x40;
    }
    if !x.is_normal() && x.is_finite() {
        return truncated(x) & 0x8000;
    }
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

/// The number that a bf16 number stands for.
fn widened(x: u16) -> f32 {
    f32::from_bits(u32::from(x) << 16)
}

/// Splits a number into its parts, the largest first.
fn parts<const PARTS: usize>(mut x: f32) -> [u16; PARTS] {
    std::array::from_fn(|_| {
        let part = if PARTS == 3 { truncated(x) } else { rounded(x) };
        x -= widened(part);
        part
    })
}

/// Splits rows into `PARTS` parts. A word holds two neighbours of a half, or if `PAIRS` the same value of both halves.
pub(crate) struct Split<const PARTS: usize, const PAIRS: bool>;

impl<const PARTS: usize, const PAIRS: bool> Body for Split<PARTS, PAIRS> {
    type Args = SplitArgs;

    /// # Safety
    /// `lens` values of each half of every row must be readable, and `PARTS` rows per row writable.
    #[inline(always)]
    unsafe fn run<S: Simd>(_: S, args: &SplitArgs) {
        let rows = (0..args.blocks).flat_map(|block| (0..args.rows).map(move |row| (block, row)));
        for (block, row) in rows {
            let value = |(half, lane): (usize, usize)| {
                if lane >= args.lens[half] {
                    return 0.0;
                }
                // SAFETY: the caller guarantees the values of each half.
                unsafe { *args.halves[half].wrapping_add(block * args.block + row * args.step + lane) }
            };
            for word in 0..ROW_WORDS {
                let at = |k: usize| if PAIRS { (k % 2, k / 2) } else { (k / 16, k % 16) };
                let pair = [2 * word, 2 * word + 1].map(|k| parts::<PARTS>(value(at(k))));
                for part in 0..PARTS {
                    let bits = u32::from(pair[0][part]) | u32::from(pair[1][part]) << 16;
                    let first = block * args.to_block + row * args.to_row;
                    let to = args.to.wrapping_add(first + part * args.to_part + word);
                    // SAFETY: the caller guarantees the rows of every part.
                    unsafe { to.cast::<u32>().write_unaligned(bits) };
                }
            }
        }
    }
}

/// Multiplies tiles of any number of pixels.
pub(crate) struct Product<const PARTS: usize>;

/// Both numbers of a word.
///
/// # Safety
/// `word` must be readable.
#[inline(always)]
unsafe fn pair(word: *const f32) -> [f32; 2] {
    // SAFETY: the caller guarantees the word.
    let bits = unsafe { word.cast::<u32>().read_unaligned() };
    [f32::from_bits(bits << 16), f32::from_bits(bits & 0xffff_0000)]
}

impl<const PARTS: usize> Body for Product<PARTS> {
    type Args = ProductArgs;

    /// # Safety
    /// All operands must be valid for `count` tiles of `rows` rows and `step_count` steps.
    #[inline(always)]
    unsafe fn run<S: Simd>(_: S, args: &ProductArgs) {
        for tile in 0..args.count {
            for row in 0..args.rows {
                let sums = args.sums.wrapping_add((tile * args.rows + row) * COLUMNS);
                // SAFETY: the caller guarantees the operands.
                unsafe {
                    let a = args.a.wrapping_add(*args.tiles.wrapping_add(tile) + row * args.a_row);
                    let mut all = [0.0; COLUMNS];
                    if !args.first {
                        all.copy_from_slice(std::slice::from_raw_parts(sums, COLUMNS));
                    }
                    for step in 0..args.step_count {
                        let a = a.wrapping_add(*args.steps.wrapping_add(step));
                        let b = args.b.wrapping_add(step * PARTS * PART_WORDS);
                        for &(pa, pb) in products(PARTS) {
                            row_of_products(
                                &mut all,
                                a.wrapping_add(pa * args.a_part),
                                b.wrapping_add(pb * PART_WORDS),
                            );
                        }
                    }
                    std::slice::from_raw_parts_mut(sums, COLUMNS).copy_from_slice(&all);
                }
            }
        }
    }
}

/// Adds the products of one row of A and one part of a step of B, which are summed by themselves first.
///
/// # Safety
/// A must have a row, and B a part of a step.
#[inline(always)]
unsafe fn row_of_products(all: &mut [f32; COLUMNS], a: *const f32, b: *const f32) {
    let mut sums = [0.0; COLUMNS];
    for word in 0..ROW_WORDS {
        // SAFETY: the caller guarantees a row.
        let x = unsafe { pair(a.wrapping_add(word)) };
        for (column, sum) in sums.iter_mut().enumerate() {
            let at = column / 16 * (PART_WORDS / 2) + word * 16 + column % 16;
            // SAFETY: the caller guarantees a part of a step.
            let w = unsafe { pair(b.wrapping_add(at)) };
            *sum += x[0] * w[0] + x[1] * w[1];
        }
    }
    all.iter_mut().zip(sums).for_each(|(all, sum)| *all += sum);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_parts_are_the_number_and_two_are_close() {
        for x in [1.0f32, -3.751_592_7, 1e-20, 123_456.79, f32::MAX] {
            let three = parts::<3>(x).map(widened);
            assert_eq!(three[0] + three[1] + three[2], x);
            let two = parts::<2>(x / 2.0).map(|part| f64::from(widened(part)));
            assert!(
                (two[0] + two[1] - f64::from(x / 2.0)).abs() <= f64::from(x.abs()) / f64::from(1 << 17),
                "{x}"
            );
        }
    }

    #[test]
    fn rounding_is_to_the_nearest_and_keeps_what_is_special() {
        assert_eq!(widened(rounded(1.0 + 1.0 / 256.0)), 1.0);
        assert_eq!(widened(rounded(1.0 + 3.0 / 256.0)), 1.0 + 4.0 / 256.0);
        assert_eq!(widened(rounded(f32::INFINITY)), f32::INFINITY);
        assert_eq!(widened(rounded(f32::MAX)), f32::INFINITY);
        assert!(widened(rounded(f32::NAN)).is_nan());
        assert_eq!(rounded(-1e-40), 0x8000);
    }
}
