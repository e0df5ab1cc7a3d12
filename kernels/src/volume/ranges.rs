//! [`Ranges`]: the gradients of the filters of all runs, and their sum.
//!
//! Runs at the edges of a volume read some of the taps only. The gradients of a range of taps are a 2-D filter
//! `[O][tap][channel][KH][KW]`, whose channels can be rounded up to whole blocks.

use crate::describe::{ConvError, checked_product};
use crate::memory::{try_push, try_vec};
use crate::run::Threads;
use crate::run::elementwise::WORTH_A_THREAD;
use crate::run::threads::Split;
use crate::work::parts::{Axis, Region, SplitUnits};
use std::ops::Range;

/// Taps of the depth that a run reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TapRange {
    pub(super) taps: Range<usize>,
    /// Channels of one tap of a group.
    pub(super) per_tap: usize,
}

/// All different ranges of a plan.
pub(super) struct Ranges {
    /// Output channels, input channels of a group, taps of the depth, and taps of a slice.
    extents: [usize; 4],
    /// Each range, and the number of runs that have it.
    ranges: Vec<(TapRange, usize)>,
}

/// Some rows of the gradient of a filter, one for each output channel.
struct Rows<'a> {
    data: &'a mut [f32],
    first: usize,
    /// Elements of a row.
    len: usize,
}

impl Region for Rows<'_> {
    fn len(&self, axis: Axis) -> usize {
        if axis == Axis::Channels { self.data.len() / self.len } else { 1 }
    }

    fn split(self, axis: Axis, count: usize) -> (Self, Self) {
        debug_assert!(axis == Axis::Channels);
        let (data, rest) = self.data.split_at_mut(count * self.len);
        (Self { data, ..self }, Self { data: rest, first: self.first + count, ..self })
    }
}

impl Ranges {
    pub(super) fn new(extents: [usize; 4]) -> Result<Self, ConvError> {
        Ok(Self { extents, ranges: try_vec("ranges of taps", 1)? })
    }

    /// Adds the range of a run.
    pub(super) fn add(&mut self, range: TapRange) -> Result<(), ConvError> {
        match self.ranges.iter_mut().find(|(other, _)| *other == range) {
            Some((_, uses)) => *uses += 1,
            None => try_push("ranges of taps", &mut self.ranges, (range, 1))?,
        }
        Ok(())
    }

    /// The number of the range of `taps`, which was added.
    pub(super) fn number(&self, taps: &Range<usize>) -> usize {
        self.ranges.iter().position(|(range, _)| range.taps == *taps).unwrap_or(0)
    }

    /// How many runs have this range.
    pub(super) fn uses(&self, number: usize) -> usize {
        self.ranges[number].1
    }

    /// Elements of the gradients of a filter, followed by those of a bias.
    fn len_of(&self, range: &TapRange) -> usize {
        let [outs, _, _, pixels] = self.extents;
        outs * (range.taps.len() * range.per_tap * pixels + 1)
    }

    /// Elements of all gradients.
    pub(super) fn len(&self) -> Result<usize, ConvError> {
        let [outs, _, _, pixels] = self.extents;
        let mut sum = 0usize;
        for (range, _) in &self.ranges {
            let factors = [outs, range.taps.len(), range.per_tap, pixels];
            let len = checked_product("gradients of runs", &factors)?.checked_add(outs);
            let next = len.and_then(|len| sum.checked_add(len));
            sum = next.ok_or(ConvError::SizeOverflow { what: "gradients of runs" })?;
        }
        Ok(sum)
    }

    /// The first element of a range.
    fn start(&self, number: usize) -> usize {
        self.ranges[..number].iter().map(|(range, _)| self.len_of(range)).sum()
    }

    /// The gradients of the filter and of the bias of a range.
    pub(super) fn of<'s>(&self, number: usize, sums: &'s mut [f32]) -> (&'s mut [f32], &'s mut [f32]) {
        let len = self.len_of(&self.ranges[number].0);
        sums[self.start(number)..][..len].split_at_mut(len - self.extents[0])
    }

    /// Adds the gradients of all ranges, in the order `[O][C / groups][KD][KH][KW]`.
    pub(super) fn add_up(&self, sums: &[f32], filter: &mut [f32], accumulate: bool, threads: Threads<'_>) {
        let [outs, ins, depth, pixels] = self.extents;
        let worth = filter.len().saturating_mul(4) as u64 / WORTH_A_THREAD;
        let worth = usize::try_from(worth).unwrap_or(usize::MAX).clamp(1, outs);
        let split =
            Split { parts: threads.count().min(worth), split_units: SplitUnits::new(1, 1), slab_len: 0 };
        let rows = Rows { data: filter, first: 0, len: ins * depth * pixels };
        split.run(threads, rows, &mut [], &|rows: Rows<'_>, _: &mut [f32]| {
            let Rows { data, first, len } = rows;
            for (o, row) in (first..).zip(data.chunks_exact_mut(len)) {
                self.add_row(sums, o, row, accumulate);
            }
        });
    }

    /// Adds the gradients of output channel `o`.
    fn add_row(&self, sums: &[f32], o: usize, row: &mut [f32], accumulate: bool) {
        let [_, ins, depth, pixels] = self.extents;
        if !accumulate {
            row.fill(0.0);
        }
        let mut start = 0;
        for (range, _) in &self.ranges {
            let TapRange { taps, per_tap } = range;
            let of_row = taps.len() * per_tap * pixels;
            let from = &sums[start + o * of_row..][..of_row];
            for (tap, of_tap) in taps.clone().zip(from.chunks_exact(per_tap * pixels)) {
                for (c, values) in of_tap.chunks_exact(pixels).take(ins).enumerate() {
                    let to = &mut row[(c * depth + tap) * pixels..][..pixels];
                    to.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
                }
            }
            start += self.len_of(range);
        }
    }

    /// Adds the gradients of the biases of all ranges, and `rest` of each channel.
    pub(super) fn add_up_bias(
        &self,
        sums: &[f32],
        bias: &mut [f32],
        accumulate: bool,
        rest: impl Fn(usize) -> Result<f64, ConvError>,
    ) -> Result<(), ConvError> {
        for (o, bias) in bias.iter_mut().enumerate() {
            let mut sum = rest(o)?;
            for number in 0..self.ranges.len() {
                let end = self.start(number) + self.len_of(&self.ranges[number].0);
                sum += f64::from(sums[end - self.extents[0] + o]);
            }
            *bias = if accumulate { (f64::from(*bias) + sum) as f32 } else { sum as f32 };
        }
        Ok(())
    }
}
