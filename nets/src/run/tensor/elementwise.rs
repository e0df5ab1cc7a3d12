//! Functions of one or more tensors, element by element, with broadcasting.

use super::operations;
use super::walk::{Walk, broadcast_strides, strides};
use crate::layer::Binary;
use kernels::Threads;

/// Loops over an output and operands that are broadcast to it.
#[derive(Debug)]
pub(super) struct Zip {
    /// For each operand, the loops over the output (first) and the operand, without the innermost axis.
    operands: Vec<(Walk<2>, usize, [usize; 2])>,
    /// The loops over the output and the first two operands, if there are two or three.
    pair: Option<(Walk<3>, usize, [usize; 3])>,
}

impl Zip {
    pub(super) fn new(operands: &[Vec<usize>], output: &[usize]) -> Self {
        let row = strides(output);
        let one =
            |dims: &Vec<usize>| Walk::new(output, [&row, &broadcast_strides(dims, output)]).split_inner();
        let pair = match operands {
            [a, b] | [a, b, _] => {
                let (a, b) = (broadcast_strides(a, output), broadcast_strides(b, output));
                Some(Walk::new(output, [&row, &a, &b]).split_inner())
            }
            _ => None,
        };
        Self { operands: operands.iter().map(one).collect(), pair }
    }

    /// Writes the operand of this index, broadcast.
    pub(super) fn expand(&self, operand: usize, from: &[f32], to: &mut [f32]) {
        self.combine(operand, from, to, |_, b| b);
    }

    /// Adds `factor` times the only operand.
    pub(super) fn add(&self, from: &[f32], factor: f32, to: &mut [f32]) {
        self.combine(0, from, to, |a, b| a + factor * b);
    }

    /// Combines the output with the operand of this index.
    fn combine(&self, operand: usize, from: &[f32], to: &mut [f32], f: impl Fn(f32, f32) -> f32 + Copy) {
        let (outer, len, [_, step]) = &self.operands[operand];
        outer.each(|[start, at]| {
            let to = &mut to[start..start + len];
            match step {
                0 => to.iter_mut().for_each(|to| *to = f(*to, from[at])),
                1 => to.iter_mut().zip(&from[at..at + len]).for_each(|(to, &from)| *to = f(*to, from)),
                step => to.iter_mut().enumerate().for_each(|(i, to)| *to = f(*to, from[at + i * step])),
            }
        });
    }

    /// Folds all operands from the left.
    pub(super) fn fold<'a>(
        &self,
        op: Binary,
        get: &dyn Fn(usize) -> &'a [f32],
        to: &mut [f32],
        threads: Threads<'_>,
    ) {
        // One loop per frequent function, so that the compiler can use vectors.
        match op {
            Binary::Add => self.fold_with(get, to, threads, |a, b| a + b),
            Binary::Sub => self.fold_with(get, to, threads, |a, b| a - b),
            Binary::Mul => self.fold_with(get, to, threads, |a, b| a * b),
            Binary::Div => self.fold_with(get, to, threads, |a, b| a / b),
            _ => self.fold_with(get, to, threads, |a, b| op.at(a, b)),
        }
    }

    fn fold_with<'a>(
        &self,
        get: &dyn Fn(usize) -> &'a [f32],
        to: &mut [f32],
        threads: Threads<'_>,
        f: impl Fn(f32, f32) -> f32 + Copy + Sync,
    ) {
        let Some((outer, len, [_, step_a, step_b])) = self.pair.as_ref().filter(|_| self.operands.len() == 2)
        else {
            self.expand(0, get(0), to);
            return (1..self.operands.len()).for_each(|operand| self.combine(operand, get(operand), to, f));
        };
        let (a, b, len, steps) = (get(0), get(1), *len, [*step_a, *step_b]);
        let operations = operations(to, 2);
        if outer.len() == 1 {
            threads.share_rows(to, 1, operations, |first, to| {
                line([&a[first * steps[0]..], &b[first * steps[1]..]], steps, to, f);
            });
            return;
        }
        threads.share_rows(to, len, operations, |first, to| {
            outer.range(first..first + to.len() / len, |[start, at_a, at_b]| {
                let start = start - first * len;
                line([&a[at_a..], &b[at_b..]], steps, &mut to[start..start + len], f);
            });
        });
    }

    /// The second operand where the first one is not 0, else the third.
    pub(super) fn select<'a>(&self, get: &dyn Fn(usize) -> &'a [f32], to: &mut [f32]) {
        self.expand(2, get(2), to);
        let Some((outer, len, [_, step_a, step_b])) = &self.pair else { return };
        let (condition, yes) = (get(0), get(1));
        outer.each(|[start, at_a, at_b]| {
            for i in 0..*len {
                if condition[at_a + i * step_a] != 0.0 {
                    to[start + i] = yes[at_b + i * step_b];
                }
            }
        });
    }
}

/// Combines two rows with steps between their elements.
fn line([a, b]: [&[f32]; 2], steps: [usize; 2], to: &mut [f32], f: impl Fn(f32, f32) -> f32) {
    match steps {
        [1, 1] => to.iter_mut().zip(a.iter().zip(b)).for_each(|(to, (&a, &b))| *to = f(a, b)),
        [1, 0] => {
            let b = b[0];
            to.iter_mut().zip(a).for_each(|(to, &a)| *to = f(a, b));
        }
        [0, 1] => {
            let a = a[0];
            to.iter_mut().zip(b).for_each(|(to, &b)| *to = f(a, b));
        }
        [step_a, step_b] => {
            for (i, to) in to.iter_mut().enumerate() {
                *to = f(a[i * step_a], b[i * step_b]);
            }
        }
    }
}
