//! The transposition of a square of vectors in registers.

use crate::describe::BLOCK;
use crate::simd::Simd;

/// Transposes the square of the first `LANES` vectors.
///
/// A step moves every element to the position whose number, written in binary, is rotated by one digit. After
/// `log2(LANES)` steps, the digits of the vector and those of the lane have changed places.
#[inline(always)]
pub(super) fn transpose<S: Simd>(s: S, square: &mut [S::V; BLOCK]) {
    let half = S::LANES / 2;
    let mut size = 1;
    while size < S::LANES {
        let from = *square;
        for i in 0..half {
            square[i] = s.even(from[2 * i], from[2 * i + 1]);
            square[half + i] = s.odd(from[2 * i], from[2 * i + 1]);
        }
        size *= 2;
    }
}
