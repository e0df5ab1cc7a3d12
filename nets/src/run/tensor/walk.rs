//! Loops over the elements of tensors with strides.

use std::ops::Range;

/// Maximum number of axes: those of three operands of a sum of products.
const RANK: usize = 3 * crate::shape::TensorShape::MAX_RANK;

/// Row-major strides.
pub(super) fn strides(dims: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; dims.len()];
    for axis in (1..dims.len()).rev() {
        strides[axis - 1] = strides[axis] * dims[axis];
    }
    strides
}

/// The strides with which a tensor is read when it is broadcast to `to`: 0 along repeated axes.
pub(super) fn broadcast_strides(dims: &[usize], to: &[usize]) -> Vec<usize> {
    let mut result = vec![0; to.len()];
    let skipped = to.len() - dims.len();
    for (axis, (stride, &dim)) in strides(dims).into_iter().zip(dims).enumerate() {
        result[skipped + axis] = if dim == 1 { 0 } else { stride };
    }
    result
}

/// Axes to loop over, with the strides of `K` tensors along each.
#[derive(Debug, Clone)]
pub(super) struct Walk<const K: usize> {
    dims: Vec<usize>,
    strides: Vec<[usize; K]>,
}

impl<const K: usize> Walk<K> {
    /// The loops over `dims`, in which neighbouring axes are joined if all tensors allow it.
    pub(super) fn new(dims: &[usize], strides: [&[usize]; K]) -> Self {
        let mut walk = Self { dims: Vec::new(), strides: Vec::new() };
        for (axis, &dim) in dims.iter().enumerate().filter(|&(_, &dim)| dim != 1) {
            let steps: [usize; K] = std::array::from_fn(|tensor| strides[tensor][axis]);
            match (walk.dims.last_mut(), walk.strides.last_mut()) {
                (Some(last), Some(outer)) if (0..K).all(|tensor| outer[tensor] == steps[tensor] * dim) => {
                    *last *= dim;
                    *outer = steps;
                }
                _ => {
                    walk.dims.push(dim);
                    walk.strides.push(steps);
                }
            }
        }
        walk
    }

    /// Splits off the innermost axis: its extent and strides. A scalar has an axis of one element.
    pub(super) fn split_inner(mut self) -> (Self, usize, [usize; K]) {
        match (self.dims.pop(), self.strides.pop()) {
            (Some(dim), Some(strides)) => (self, dim, strides),
            _ => (self, 1, [0; K]),
        }
    }

    /// Whether the first tensor has no gaps.
    pub(super) fn is_dense(&self) -> bool {
        self.strides.is_empty() || self.strides.len() == 1 && self.strides[0][0] == 1
    }

    /// Number of elements.
    pub(super) fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// Calls `visit` with the offset of each tensor for every index, in row-major order.
    #[inline]
    pub(super) fn each(&self, visit: impl FnMut([usize; K])) {
        self.range(0..self.len(), visit);
    }

    /// As [`each`](Self::each), for the indices with these numbers.
    #[inline]
    pub(super) fn range(&self, numbers: Range<usize>, mut visit: impl FnMut([usize; K])) {
        let (mut index, mut offsets) = ([0usize; RANK], [0usize; K]);
        let mut rest = numbers.start;
        for (axis, (&dim, steps)) in self.dims.iter().zip(&self.strides).enumerate().rev() {
            index[axis] = rest % dim.max(1);
            rest /= dim.max(1);
            (0..K).for_each(|tensor| offsets[tensor] += steps[tensor] * index[axis]);
        }
        for _ in numbers {
            visit(offsets);
            let mut axis = self.dims.len();
            while axis > 0 {
                axis -= 1;
                index[axis] += 1;
                let steps = &self.strides[axis];
                if index[axis] < self.dims[axis] {
                    (0..K).for_each(|tensor| offsets[tensor] += steps[tensor]);
                    break;
                }
                (0..K).for_each(|tensor| offsets[tensor] -= steps[tensor] * (self.dims[axis] - 1));
                index[axis] = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_axes_are_joined_and_every_element_is_visited_in_order() {
        let (dims, row) = ([2, 3, 4], strides(&[2, 3, 4]));
        let column = broadcast_strides(&[3, 1], &dims);
        assert_eq!((row.as_slice(), column.as_slice()), (&[12, 4, 1][..], &[0, 1, 0][..]));
        let walk = Walk::new(&dims, [&row, &column]);
        let mut seen = Vec::new();
        walk.each(|offsets| seen.push(offsets));
        let expected: Vec<[usize; 2]> = (0..24).map(|i| [i, i / 4 % 3]).collect();
        assert_eq!(seen, expected);
        let mut part = Vec::new();
        walk.range(5..17, |offsets| part.push(offsets));
        assert_eq!(part, expected[5..17]);
        assert_eq!(Walk::new(&dims, [&row, &row]).dims, [24]);
        let (outer, len, step) = Walk::new(&[], [&[]]).split_inner();
        assert_eq!((outer.len(), len, step), (1, 1, [0]));
    }
}
