//! Tensors that are kept in the shared workspace, each from a cache line on.

use crate::memory::split_memory;
use crate::simd::LINE;

/// Elements of rooms of `lens` elements, each of which begins at a cache line. A sum that overflows becomes `usize::MAX`.
pub(crate) fn rooms_len(lens: &[usize]) -> usize {
    lens.iter().fold(0, |sum: usize, &len| sum.saturating_add(len.saturating_add(LINE - 1) / LINE * LINE))
}

/// Splits `scratch` into rooms of `lens` elements and the rest.
pub(crate) fn rooms<const COUNT: usize>(
    scratch: &mut [f32],
    lens: [usize; COUNT],
) -> ([&mut [f32]; COUNT], &mut [f32]) {
    split_memory(scratch, lens, LINE)
}
