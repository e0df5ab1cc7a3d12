//! The depth of a 3-D convolution: which slices an output slice reads.
//!
//! ```text
//! out[z] = sum over taps t of conv2d(in[z * stride - front + t * dilation], w[t])
//! ```
//!
//! Slices whose number has the same remainder by the dilation follow each other in a class. Output slices that read the same
//! class, and the same taps of it, at equal distances are a [`DepthRun`]. It is one 2-D convolution: the slices of its taps
//! are the channels of one image, and each output slice is an image. Taps in the padding belong to no run that reads them, so
//! that no zero is multiplied.

use super::volume_tensor::Slices;
use std::ops::Range;

/// Output slices at equal distances that read the input slices in the same way.
///
/// Tap `t` of output `i` reads slice `base + i * advance + t * apart`, if there is such a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sequence {
    pub(crate) outputs: Slices,
    pub(crate) base: isize,
    pub(crate) advance: usize,
    pub(crate) apart: usize,
    pub(crate) taps: usize,
}

/// Some outputs of a sequence that all read the same taps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DepthRun {
    pub(crate) outputs: Slices,
    /// The first slice that the first output reads, and the distance to that of the next output.
    pub(crate) first: usize,
    pub(crate) advance: usize,
    pub(crate) apart: usize,
    pub(crate) taps: Range<usize>,
}

impl Sequence {
    /// The taps of output `i` that meet one of `depth` slices.
    fn taps_of(&self, i: usize, depth: usize) -> Range<usize> {
        let first = self.base + (i * self.advance) as isize;
        let lo = first.min(0).unsigned_abs().div_ceil(self.apart).min(self.taps);
        let hi = (depth as isize - first).max(0).unsigned_abs().div_ceil(self.apart).min(self.taps);
        lo..hi.max(lo)
    }

    /// The runs of the outputs `class`, `class + step`, ...
    fn runs_of_class(
        &self,
        class: usize,
        step: usize,
        depth: usize,
    ) -> impl Iterator<Item = DepthRun> + use<> {
        let sequence = *self;
        let count = self.outputs.count.saturating_sub(class).div_ceil(step);
        let at = move |i: usize| sequence.taps_of(class + i * step, depth);
        let mut next = 0;
        std::iter::from_fn(move || {
            while next < count && at(next).is_empty() {
                next += 1;
            }
            let (first, taps) = (next, (next < count).then(|| at(next))?);
            while next < count && at(next) == taps {
                next += 1;
            }
            let output = class + first * step;
            let read = sequence.base + (output * sequence.advance + taps.start * sequence.apart) as isize;
            Some(DepthRun {
                outputs: Slices {
                    first: sequence.outputs.first + output * sequence.outputs.step,
                    step: step * sequence.outputs.step,
                    count: next - first,
                },
                first: read as usize,
                advance: step * sequence.advance,
                apart: sequence.apart,
                taps,
            })
        })
    }
}

/// The runs of a sequence over `depth` input slices. Those of one class are apart if `classes`: outputs that read slices of
/// the same remainder by `apart`.
pub(crate) fn runs_of(sequence: Sequence, depth: usize, classes: bool) -> impl Iterator<Item = DepthRun> {
    let step = if classes { sequence.apart / gcd(sequence.advance, sequence.apart) } else { 1 };
    (0..step).flat_map(move |class| sequence.runs_of_class(class, step, depth))
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every pair of output and input slice, with its tap, by the definition.
    fn by_definition(sequence: &Sequence, depth: usize) -> Vec<(usize, usize, usize)> {
        let mut all = Vec::new();
        for i in 0..sequence.outputs.count {
            for tap in 0..sequence.taps {
                let slice = sequence.base + (i * sequence.advance + tap * sequence.apart) as isize;
                if let Some(slice) = usize::try_from(slice).ok().filter(|&slice| slice < depth) {
                    all.push((sequence.outputs.first + i * sequence.outputs.step, tap, slice));
                }
            }
        }
        all.sort_unstable();
        all
    }

    fn by_runs(sequence: Sequence, depth: usize, classes: bool) -> Vec<(usize, usize, usize)> {
        let mut all = Vec::new();
        for run in runs_of(sequence, depth, classes) {
            assert!(run.outputs.count > 0 && !run.taps.is_empty());
            for i in 0..run.outputs.count {
                for (j, tap) in run.taps.clone().enumerate() {
                    let slice = run.first + i * run.advance + j * run.apart;
                    all.push((run.outputs.first + i * run.outputs.step, tap, slice));
                    // The slices of a run belong to one class.
                    assert!(!classes || slice % run.apart == run.first % run.apart);
                }
            }
        }
        all.sort_unstable();
        all
    }

    #[test]
    fn runs_are_the_definition() {
        let mut cases = 0;
        for (depth, taps, advance) in
            (1..9).flat_map(|depth| (1..5).flat_map(move |taps| (1..4).map(move |s| (depth, taps, s))))
        {
            for (apart, base) in (1..5).flat_map(|apart| (-7..4).map(move |base| (apart, base))) {
                for count in [1, 2, 5, 9] {
                    let outputs = Slices { first: 3, step: 2, count };
                    let sequence = Sequence { outputs, base, advance, apart, taps };
                    let expected = by_definition(&sequence, depth);
                    assert_eq!(by_runs(sequence, depth, false), expected, "{sequence:?} {depth}");
                    assert_eq!(by_runs(sequence, depth, true), expected, "{sequence:?} {depth}");
                    cases += 1;
                }
            }
        }
        assert_eq!(cases, 8 * 4 * 3 * 4 * 11 * 4);
    }

    #[test]
    fn a_padded_kernel_has_a_run_for_each_edge() {
        let outputs = Slices { first: 0, step: 1, count: 32 };
        let sequence = Sequence { outputs, base: -1, advance: 1, apart: 1, taps: 3 };
        let runs: Vec<_> = runs_of(sequence, 32, true).map(|run| (run.outputs.count, run.taps)).collect();
        assert_eq!(runs, [(1, 1..3), (30, 0..3), (1, 0..2)]);
    }
}
