//! [`Axis`]: where the taps that are inside the image change, along one axis.

use super::windows::Windows;
use crate::describe::Size2;
use std::ops::Range;

/// Outputs along one axis that read the image with the same taps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Inside {
    pub(super) outputs: Range<usize>,
    pub(super) taps: Range<usize>,
}

/// One axis of the windows.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    input: usize,
    taps: usize,
    stride: usize,
    dilation: usize,
    before: usize,
    /// The outputs that have every tap.
    whole: Range<usize>,
}

impl Axis {
    pub(super) fn of(windows: &Windows) -> [Self; 2] {
        let Windows { input, kernel, stride, dilation, before, .. } = *windows;
        let along = |extent: fn(Size2) -> usize| {
            let of = [stride, dilation, before].map(extent);
            Self::new(extent(input), extent(kernel), of)
        };
        [along(|size| size.h), along(|size| size.w)]
    }

    fn new(input: usize, taps: usize, [stride, dilation, before]: [usize; 3]) -> Self {
        let start = before.div_ceil(stride);
        let end = (before + input).saturating_sub(dilation * (taps - 1)).div_ceil(stride);
        Self { input, taps, stride, dilation, before, whole: start..end.max(start) }
    }

    /// The taps of output `at` that are inside the image.
    fn taps_of(&self, at: usize) -> Range<usize> {
        let at = at * self.stride;
        let first = self.before.saturating_sub(at).div_ceil(self.dilation).min(self.taps);
        let end = (self.before + self.input).saturating_sub(at).div_ceil(self.dilation);
        first..end.clamp(first, self.taps)
    }

    /// Cuts `outputs` where the taps inside the image change. All outputs that have every tap are together.
    pub(super) fn cut(&self, outputs: Range<usize>) -> impl Iterator<Item = Inside> {
        let [before, whole, after] = self.thirds(&outputs);
        self.edge(before).chain(self.with_all_taps(whole)).chain(self.edge(after))
    }

    /// The same, but those that have every tap come first. They then read memory in order, and the edges, which take a pixel
    /// here and there, find it in the caches.
    pub(super) fn cut_whole_first(&self, outputs: Range<usize>) -> impl Iterator<Item = Inside> {
        let [before, whole, after] = self.thirds(&outputs);
        self.with_all_taps(whole).chain(self.edge(before)).chain(self.edge(after))
    }

    /// The outputs before those that have every tap, these, and those after them.
    fn thirds(&self, outputs: &Range<usize>) -> [Range<usize>; 3] {
        let start = self.whole.start.clamp(outputs.start, outputs.end);
        let end = self.whole.end.clamp(start, outputs.end);
        [outputs.start..start, start..end, end..outputs.end]
    }

    fn edge(&self, outputs: Range<usize>) -> impl Iterator<Item = Inside> {
        outputs.map(|at| Inside { outputs: at..at + 1, taps: self.taps_of(at) })
    }

    fn with_all_taps(&self, outputs: Range<usize>) -> impl Iterator<Item = Inside> {
        (!outputs.is_empty()).then_some(Inside { outputs, taps: 0..self.taps }).into_iter()
    }

    /// The position in the image that output `at` reads with tap `tap`, which is inside.
    pub(super) fn position(&self, at: usize, tap: usize) -> usize {
        at * self.stride + tap * self.dilation - self.before
    }

    /// The part of the image that `outputs` read.
    pub(super) fn inputs(&self, outputs: &Range<usize>) -> Range<usize> {
        let start = (outputs.start * self.stride).saturating_sub(self.before).min(self.input);
        let reach = (outputs.end - 1) * self.stride + (self.taps - 1) * self.dilation + 1;
        start..reach.saturating_sub(self.before).clamp(start, self.input)
    }

    /// Most positions of the image that `outputs` outputs read.
    pub(super) fn most_inputs(&self, outputs: usize) -> usize {
        ((outputs - 1) * self.stride + (self.taps - 1) * self.dilation + 1).min(self.input)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every output is in one part, and its taps are those inside the image.
    #[test]
    fn outputs_are_cut_where_their_taps_change() {
        for input in 1..9 {
            for (taps, stride, dilation, before) in [
                (3, 1, 1, 1),
                (3, 2, 1, 1),
                (3, 1, 2, 3),
                (5, 1, 1, 2),
                (7, 2, 1, 3),
                (2, 3, 1, 4),
                (1, 1, 1, 0),
            ] {
                let axis = Axis::new(input, taps, [stride, dilation, before]);
                let whole_first: Vec<_> = axis.cut_whole_first(1..9).collect();
                assert!(axis.cut(1..9).all(|part| whole_first.contains(&part)), "{axis:?}");
                assert_eq!(whole_first.len(), axis.cut(1..9).count(), "{axis:?}");
                let mut next = 1;
                for Inside { outputs, taps: inside } in axis.cut(1..9) {
                    assert_eq!(outputs.start, next);
                    next = outputs.end;
                    for at in outputs.clone() {
                        let reads = |tap: &usize| {
                            let position = (at * stride + tap * dilation).checked_sub(before);
                            position.is_some_and(|position| position < input)
                        };
                        let expected: Vec<usize> = (0..taps).filter(reads).collect();
                        assert_eq!(inside.clone().collect::<Vec<_>>(), expected, "{axis:?}, output {at}");
                        let read = axis.inputs(&outputs);
                        let inside = |&tap: &usize| read.contains(&axis.position(at, tap));
                        assert!(expected.iter().all(inside) && read.len() <= axis.most_inputs(outputs.len()));
                    }
                }
                assert_eq!(next, 9);
            }
        }
    }
}
