//! Reductions, normalisations and softmax.

use super::index::Around;
use super::operations;
use super::walk::{Walk, strides};
use crate::layer::{Lrn, Reduction, SoftKind};
use kernels::Threads;
use std::ops::Range;

/// Loops over the axes that stay and over those that are reduced.
#[derive(Debug)]
pub(super) struct Split {
    stays: Walk<1>,
    reduced: Walk<1>,
}

impl Split {
    pub(super) fn new(dims: &[usize], axes: &[bool]) -> Self {
        let strides = strides(dims);
        let part = |wanted: bool| {
            let chosen = dims.iter().zip(&strides).zip(axes).filter(|&(_, &axis)| axis == wanted);
            let (dims, strides): (Vec<usize>, Vec<usize>) =
                chosen.map(|((&dim, &stride), _)| (dim, stride)).unzip();
            Walk::new(&dims, [&strides])
        };
        Self { stays: part(false), reduced: part(true) }
    }

    /// Reduces each group of elements to one.
    pub(super) fn reduce(&self, kind: Reduction, from: &[f32], to: &mut [f32], threads: Threads<'_>) {
        let operations = operations(to, 4 * self.reduced.len());
        threads.share_rows(to, 1, operations, |first, to| {
            let mut place = 0;
            self.stays.range(first..first + to.len(), |[base]| {
                to[place] = self.one(kind, base, from);
                place += 1;
            });
        });
    }

    fn one(&self, kind: Reduction, base: usize, from: &[f32]) -> f32 {
        let fold = |start: f64, f: &dyn Fn(f64, f64) -> f64| {
            let mut sum = start;
            self.reduced.each(|[at]| sum = f(sum, f64::from(from[base + at])));
            sum
        };
        let sum = |f: fn(f64) -> f64| fold(0.0, &move |sum, x| sum + f(x));
        let max = || fold(f64::NEG_INFINITY, &|a, b| if a.is_nan() || a > b { a } else { b });
        let value = match kind {
            Reduction::Sum => sum(|x| x),
            Reduction::Mean => sum(|x| x) / self.reduced.len() as f64,
            Reduction::Max => max(),
            Reduction::Min => fold(f64::INFINITY, &|a, b| if a.is_nan() || a < b { a } else { b }),
            Reduction::Prod => fold(1.0, &|a, b| a * b),
            Reduction::L1 => sum(f64::abs),
            Reduction::L2 => sum(|x| x * x).sqrt(),
            Reduction::LogSum => sum(|x| x).ln(),
            Reduction::LogSumExp => {
                let largest = max();
                // All are -inf, or one is inf: the difference would be NaN.
                let shift = if largest.is_finite() { largest } else { 0.0 };
                fold(0.0, &|sum, x| sum + (x - shift).exp()).ln() + shift
            }
            Reduction::SumSquare => sum(|x| x * x),
        };
        value as f32
    }

    /// `(x - mean) / sqrt(variance + eps)` for each group, or without the mean.
    pub(super) fn normalize(
        &self,
        (eps, center): (f32, bool),
        from: &[f32],
        to: &mut [f32],
        threads: Threads<'_>,
    ) {
        let (len, groups) = (self.reduced.len(), self.stays.len());
        // The groups are rows of the output if the last axes are reduced. Others are computed by one thread.
        let row = if self.reduced.is_dense() { len } else { to.len() };
        let operations = operations(to, 8);
        threads.share_rows(to, row, operations, |first, to| {
            let count = if row == len { to.len() / row } else { groups };
            self.normalize_groups(first..first + count, (eps, center), from, (first * row, to));
        });
    }

    /// Normalises the groups with these numbers. `to` begins at this place of the output.
    fn normalize_groups(
        &self,
        groups: Range<usize>,
        (eps, center): (f32, bool),
        from: &[f32],
        (start, to): (usize, &mut [f32]),
    ) {
        let count = self.reduced.len() as f64;
        self.stays.range(groups, |[base]| {
            let mut sum = 0.0;
            if center {
                self.reduced.each(|[at]| sum += f64::from(from[base + at]));
            }
            let (mean, mut squares) = (sum / count, 0.0);
            self.reduced.each(|[at]| squares += (f64::from(from[base + at]) - mean).powi(2));
            let factor = 1.0 / (squares / count + f64::from(eps)).sqrt();
            let (mean, factor) = (mean as f32, factor as f32);
            self.reduced.each(|[at]| to[base + at - start] = (from[base + at] - mean) * factor);
        });
    }
}

/// Softmax and its relatives along an axis.
pub(super) fn softmax(kind: SoftKind, around: Around, from: &[f32], to: &mut [f32], threads: Threads<'_>) {
    let row = around.len * around.inner;
    let operations = operations(to, 16);
    threads.share_rows(to, row, operations, |first, to| {
        let part = Around { outer: to.len() / row.max(1), ..around };
        softmax_rows(kind, part, &from[first * row..], to);
    });
}

fn softmax_rows(kind: SoftKind, Around { outer, len, inner }: Around, from: &[f32], to: &mut [f32]) {
    for group in 0..outer * inner {
        let start = group / inner * len * inner + group % inner;
        let places = || (0..len).map(|i| start + i * inner);
        let largest = places().fold(f32::NEG_INFINITY, |max, at| if from[at] > max { from[at] } else { max });
        if kind == SoftKind::Hard {
            let first = places().find(|&at| from[at] == largest);
            places().for_each(|at| to[at] = f32::from(u8::from(Some(at) == first)));
            continue;
        }
        let mut sum = 0.0f64;
        for at in places() {
            let e = (from[at] - largest).exp();
            to[at] = e;
            sum += f64::from(e);
        }
        match kind {
            SoftKind::Log => {
                let log = sum.ln() as f32;
                places().for_each(|at| to[at] = from[at] - largest - log);
            }
            _ => {
                let factor = (1.0 / sum) as f32;
                places().for_each(|at| to[at] *= factor);
            }
        }
    }
}

pub(super) fn arg_extreme((max, last): (bool, bool), around: Around, from: &[f32], to: &mut [f32]) {
    let Around { len, inner, .. } = around;
    for (group, to) in to.iter_mut().enumerate() {
        let start = group / inner * len * inner + group % inner;
        let mut best = 0;
        for i in 1..len {
            let (a, b) = (from[start + i * inner], from[start + best * inner]);
            let better = if max { a > b } else { a < b };
            if better || last && a == b {
                best = i;
            }
        }
        *to = best as f32;
    }
}

pub(super) fn cum_sum((exclusive, reverse): (bool, bool), around: Around, from: &[f32], to: &mut [f32]) {
    let Around { outer, len, inner } = around;
    for group in 0..outer * inner {
        let start = group / inner * len * inner + group % inner;
        let mut sum = 0.0f64;
        for i in 0..len {
            let at = start + if reverse { len - 1 - i } else { i } * inner;
            let before = sum;
            sum += f64::from(from[at]);
            to[at] = if exclusive { before } else { sum } as f32;
        }
    }
}

/// The largest or smallest elements in order, or their indices. Of equal elements the first one comes first.
pub(super) fn top_k(
    around: Around,
    count: usize,
    (largest, indices): (bool, bool),
    from: &[f32],
    to: &mut [f32],
) {
    let Around { outer, len, inner } = around;
    for group in 0..outer * inner {
        let (start, write) =
            (group / inner * len * inner + group % inner, group / inner * count * inner + group % inner);
        let value = |i: usize| from[start + i * inner];
        let before = |a: usize, b: usize| {
            let (x, y) = (value(a), value(b));
            if x == y {
                a < b
            } else if largest {
                x > y
            } else {
                x < y
            }
        };
        let mut last: Option<usize> = None;
        for place in 0..count {
            let left = (0..len).filter(|&i| last.is_none_or(|last| before(last, i)));
            let Some(best) = left.reduce(|a, b| if before(a, b) { a } else { b }) else { break };
            to[write + place * inner] = if indices { best as f32 } else { value(best) };
            last = Some(best);
        }
    }
}

/// Local response normalisation over axis 1 of `[outer, channels, inner]`.
pub(super) fn lrn(lrn: &Lrn, around: Around, from: &[f32], to: &mut [f32]) {
    let Around { outer, len, inner } = around;
    let (before, after) = ((lrn.size - 1) / 2, lrn.size / 2);
    for group in 0..outer * inner {
        let start = group / inner * len * inner + group % inner;
        for c in 0..len {
            let window = c.saturating_sub(before)..=(c + after).min(len - 1);
            let squares: f32 = window.map(|c| from[start + c * inner].powi(2)).sum();
            let base = lrn.k + lrn.alpha / lrn.size as f32 * squares;
            to[start + c * inner] = from[start + c * inner] / base.powf(lrn.beta);
        }
    }
}
