//! The blocks of a filter whose sums are one matrix with a row for each tap.

use super::{GradientRegion, WeightsGradient, sums};
use crate::tile::table::KernelSet;
use std::ops::Range;

/// A block of the filter: output channels of one group, and taps. With the bias, there is one more row of sums.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) group: usize,
    pub(super) channels: Range<usize>,
    pub(super) taps: Range<usize>,
    pub(super) bias: bool,
}

impl Block {
    pub(super) fn rows(&self) -> usize {
        self.taps.len() + usize::from(self.bias)
    }

    /// Writes the sums of `channels`, which are in this block: a row for each tap, and one for the bias, of `columns` sums.
    pub(super) fn write(
        &self,
        kernels: &KernelSet,
        region: &mut GradientRegion<'_>,
        (chunk, channels): (usize, Range<usize>),
        (sums, columns): (&[f32], usize),
    ) {
        let filter = &mut region.filter;
        sums::write(kernels, (sums, columns), filter, chunk, channels.clone(), self.taps.clone());
        if self.bias {
            sums::write_bias(region, chunk, channels, &sums[self.taps.len() * columns..]);
        }
    }

    /// The input channels of the group whose tap `tap` of `taps` is in this block.
    pub(super) fn channels_of_tap(&self, tap: usize, taps: usize) -> Range<usize> {
        let from = |end: usize| end.saturating_sub(tap).div_ceil(taps);
        from(self.taps.start)..from(self.taps.end)
    }
}

/// The blocks of a region, of at most `most` taps and output channels, each with its chunk.
pub(super) fn blocks<'a>(
    gradient: &'a WeightsGradient,
    region: &GradientRegion<'_>,
    (most_taps, most_channels): (usize, usize),
) -> impl Iterator<Item = (usize, Block)> + use<'a> {
    let (channels, bias) = (region.filter.channels.clone(), region.bias.is_some());
    let (first_tap, end_tap) = (region.filter.pixels.start, region.filter.pixels.end);
    region.filter.images.clone().flat_map(move |chunk| {
        gradient.in_groups(&channels).flat_map(move |(group, of_group)| {
            of_group.clone().step_by(most_channels).flat_map(move |o| {
                let channels = o..of_group.end.min(o + most_channels);
                (first_tap..end_tap).step_by(most_taps).map(move |first| {
                    let taps = first..end_tap.min(first + most_taps);
                    let bias = bias && first == first_tap;
                    (chunk, Block { group, channels: channels.clone(), taps, bias })
                })
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every tap of a block belongs to one channel of one tap of the kernel.
    #[test]
    fn the_taps_of_a_block_are_those_of_its_channels() {
        for taps in [1, 4, 9] {
            for (start, end) in [(0, 36), (3, 10), (5, 6), (7, 31), (8, 8)] {
                let block = Block { group: 0, channels: 0..1, taps: start..end, bias: false };
                let mut all: Vec<usize> = (0..taps)
                    .flat_map(|tap| block.channels_of_tap(tap, taps).map(move |c| c * taps + tap))
                    .collect();
                all.sort_unstable();
                assert_eq!(all, (start..end).collect::<Vec<_>>(), "{taps} taps");
            }
        }
    }
}
