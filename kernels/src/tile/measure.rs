//! The number of elements that a call accesses in an operand, and the check that an operand has them.
//!
//! Every table measures its operands before it calls a kernel, because kernels work with pointers. The
//! arithmetic saturates. No slice has `usize::MAX` elements, so an operand whose size does not fit into
//! `usize` is refused like any other short operand. If an operand is long enough, no part of its size has
//! overflowed.

use crate::describe::BLOCK;

/// Number of elements from the first to the last element of a box, including both. Each axis is
/// `(count, step)`: the number of positions, and the distance between them. A box with an empty axis has no
/// elements.
#[inline(always)]
pub(super) fn span<const AXES: usize>(axes: [(usize, usize); AXES]) -> usize {
    let mut last = 0usize;
    for (count, step) in axes {
        if count == 0 {
            return 0;
        }
        last = last.saturating_add((count - 1).saturating_mul(step));
    }
    last.saturating_add(1)
}

/// Like [`span`], for `rows` rows of columns in blocks of 16. Columns of a block are adjacent, and blocks are
/// `block` apart.
#[inline(always)]
pub(super) fn span_of_rows((rows, row): (usize, usize), (columns, block): (usize, usize)) -> usize {
    if columns == 0 {
        return 0;
    }
    let last = columns - 1;
    span([(rows, row), (last / BLOCK + 1, block), (last % BLOCK + 1, 1)])
}

/// The product of `factors`.
#[inline(always)]
pub(super) fn product<const FACTORS: usize>(factors: [usize; FACTORS]) -> usize {
    factors.into_iter().fold(1, usize::saturating_mul)
}

/// Checks that `operand` has as many elements as a call needs.
///
/// # Panics
/// If it has fewer. That is a bug in this library.
#[inline(always)]
#[track_caller]
pub(super) fn require(operand: &str, needed: usize, len: usize) {
    if needed > len {
        too_short(operand, needed, len);
    }
}

#[cold]
#[inline(never)]
#[track_caller]
fn too_short(operand: &str, needed: usize, len: usize) -> ! {
    panic!("{operand}: needs {needed} elements, has {len}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_ends_with_its_last_element() {
        assert_eq!(span([(3, 10), (4, 1)]), 24);
        assert_eq!(span([(1, usize::MAX), (4, 1)]), 4);
        assert_eq!(span([(3, 10), (0, 1)]), 0);
        assert_eq!(span_of_rows((2, 100), (16, 50)), 116);
        assert_eq!(span_of_rows((2, 100), (17, 50)), 151);
        assert_eq!(span_of_rows((2, 100), (0, 50)), 0);
    }

    #[test]
    fn what_does_not_fit_is_longer_than_any_slice() {
        let half = 1 << (usize::BITS - 1);
        for needed in [span([(3, half)]), span([(2, usize::MAX), (2, 1)]), product([2, half, 3])] {
            assert_eq!(needed, usize::MAX);
        }
    }
}
