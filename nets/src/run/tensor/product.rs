//! Matrix products and other sums of products.

use super::operations;
use super::walk::{Walk, broadcast_strides, strides};
use kernels::Threads;

/// A matrix product `[rows, inner] x [inner, columns]` with row and column strides.
#[derive(Debug, Clone, Copy)]
pub(super) struct Matrices {
    pub(super) rows: usize,
    pub(super) inner: usize,
    pub(super) columns: usize,
    pub(super) a: [usize; 2],
    pub(super) b: [usize; 2],
}

impl Matrices {
    /// Writes the product. The rows of `b` must be contiguous for speed.
    pub(super) fn multiply(&self, a: &[f32], b: &[f32], to: &mut [f32]) {
        let Self { rows, inner, columns, a: [row_a, column_a], b: [row_b, column_b] } = *self;
        if column_b != 1 || columns == 1 {
            for (number, to) in to[..rows * columns].iter_mut().enumerate() {
                let (row, column) = (number / columns, number % columns);
                let products =
                    (0..inner).map(|k| a[row * row_a + k * column_a] * b[k * row_b + column * column_b]);
                *to = products.sum();
            }
            return;
        }
        // Four rows at a time, so that a row of `b` is read once for them.
        for (block, to) in to[..rows * columns].chunks_mut(4 * columns).enumerate() {
            to.fill(0.0);
            for k in 0..inner {
                let b = &b[k * row_b..k * row_b + columns];
                for (row, to) in to.chunks_exact_mut(columns).enumerate() {
                    let factor = a[(4 * block + row) * row_a + k * column_a];
                    to.iter_mut().zip(b).for_each(|(to, &b)| *to += factor * b);
                }
            }
        }
    }
}

/// A stack of matrix products, whose outer axes are broadcast.
#[derive(Debug)]
pub(super) struct MatMul {
    /// Where the matrices of both operands begin, for each product.
    outer: Vec<[usize; 2]>,
    matrices: Matrices,
}

impl MatMul {
    pub(super) fn new(a: &[usize], b: &[usize]) -> Self {
        let left = if a.len() == 1 { [&[1], a].concat() } else { a.to_vec() };
        let right = if b.len() == 1 { [b, &[1]].concat() } else { b.to_vec() };
        let (outer_a, outer_b) = (&left[..left.len() - 2], &right[..right.len() - 2]);
        let (rows, inner, columns) = (left[left.len() - 2], left[left.len() - 1], right[right.len() - 1]);
        let rank = outer_a.len().max(outer_b.len());
        let at =
            |dims: &[usize], axis: usize| (axis + dims.len()).checked_sub(rank).map_or(1, |axis| dims[axis]);
        let outer: Vec<usize> = (0..rank).map(|axis| at(outer_a, axis).max(at(outer_b, axis))).collect();
        let scaled = |strides: Vec<usize>, by: usize| strides.into_iter().map(|s| s * by).collect::<Vec<_>>();
        let walk = Walk::new(
            &outer,
            [
                &scaled(broadcast_strides(outer_a, &outer), rows * inner),
                &scaled(broadcast_strides(outer_b, &outer), inner * columns),
            ],
        );
        let matrices = Matrices { rows, inner, columns, a: [inner, 1], b: [columns, 1] };
        let mut outer = Vec::with_capacity(walk.len());
        walk.each(|offsets| outer.push(offsets));
        Self { outer, matrices }
    }

    pub(super) fn run(&self, a: &[f32], b: &[f32], to: &mut [f32], threads: Threads<'_>) {
        let Matrices { rows, inner, columns, a: [row_a, _], .. } = self.matrices;
        let operations = operations(to, 2 * inner);
        threads.share_rows(to, columns, operations, |first, to| {
            let (mut next, end) = (first, first + to.len() / columns);
            while next < end {
                let (product, row) = (next / rows, next % rows);
                let count = (rows - row).min(end - next);
                let [at_a, at_b] = self.outer[product];
                let to = &mut to[(next - first) * columns..];
                Matrices { rows: count, ..self.matrices }.multiply(&a[at_a + row * row_a..], &b[at_b..], to);
                next += count;
            }
        });
    }
}

/// A sum of products over numbered axes.
#[derive(Debug)]
pub(super) struct Einsum {
    /// The loops over the output, with the offsets of up to three operands.
    kept: Walk<4>,
    summed: Walk<3>,
    operands: usize,
}

impl Einsum {
    /// The loops for at most three operands.
    pub(super) fn new(dims: &[Vec<usize>], inputs: &[Vec<u8>], output: &[u8], extents: &[usize]) -> Self {
        let mut all: Vec<u8> = output.to_vec();
        for axis in inputs.iter().flatten() {
            if !all.contains(axis) {
                all.push(*axis);
            }
        }
        // An axis that occurs twice in an operand is its diagonal, so its strides add up.
        let stride = |operand: usize, axis: u8| -> usize {
            let Some((dims, axes)) = dims.get(operand).zip(inputs.get(operand)) else { return 0 };
            let own = strides(dims).into_iter().zip(axes).zip(dims);
            own.filter(|((_, other), dim)| **other == axis && **dim != 1).map(|((stride, _), _)| stride).sum()
        };
        let extent =
            |axes: &[u8]| -> Vec<usize> { axes.iter().map(|&axis| extents[usize::from(axis)]).collect() };
        let steps =
            |axes: &[u8], operand| -> Vec<usize> { axes.iter().map(|&axis| stride(operand, axis)).collect() };
        let (kept, summed) = all.split_at(output.len());
        let dims_out = extent(kept);
        let (k0, k1, k2) = (steps(kept, 0), steps(kept, 1), steps(kept, 2));
        let (s0, s1, s2) = (steps(summed, 0), steps(summed, 1), steps(summed, 2));
        Self {
            kept: Walk::new(&dims_out, [&strides(&dims_out), &k0, &k1, &k2]),
            summed: Walk::new(&extent(summed), [&s0, &s1, &s2]),
            operands: inputs.len(),
        }
    }

    pub(super) fn run<'a>(&self, get: &dyn Fn(usize) -> &'a [f32], to: &mut [f32]) {
        let one: &[f32] = &[1.0];
        let operand = |index: usize| if index < self.operands { get(index) } else { one };
        let (a, b, c) = (operand(0), operand(1), operand(2));
        self.kept.each(|[at, at_a, at_b, at_c]| {
            let mut sum = 0.0f64;
            self.summed.each(|[i, j, k]| {
                sum += f64::from(a[at_a + i]) * f64::from(b[at_b + j]) * f64::from(c[at_c + k]);
            });
            to[at] = sum as f32;
        });
    }
}
