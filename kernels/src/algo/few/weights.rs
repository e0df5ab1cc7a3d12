//! [`FewWeightsOf`]: the weights of few output channels, with the input channels in the lanes.

use super::chunks::Chunks;
use crate::algo::packed::flushed;
use crate::algo::panels::PerChannel;
use crate::describe::{BLOCK, ConvDesc, Size2, Weights};
use crate::memory::Buffer;
use crate::tile::few_table::{FewWeights, MOST_OUTPUTS};
use crate::tile::shape::even_piece;
use std::ops::Range;

/// The output channels `channels` in panels, as evenly as possible. No panel crosses a multiple of sixteen channels,
/// where a block of the output or the part of a thread can end.
pub(super) fn panels(channels: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let blocks = channels.start / BLOCK..channels.end.div_ceil(BLOCK);
    blocks.flat_map(move |block| {
        let (start, end) = (channels.start.max(block * BLOCK), channels.end.min((block + 1) * BLOCK));
        let width = even_piece(end - start, MOST_OUTPUTS);
        (start..end).step_by(width).map(move |first| first..end.min(first + width))
    })
}

/// How a filter is packed: `[panel][kernel row][tap][chunk][output][16]`. It does not depend on the values of the
/// weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct FewForm {
    groups: usize,
    /// Output channels and input channels of a group.
    outs: usize,
    ins: usize,
    kernel: Size2,
    per_channel: PerChannel,
}

impl FewForm {
    pub(crate) fn new(desc: &ConvDesc) -> Self {
        let per_channel = PerChannel::of(&desc.epilogue());
        Self { groups: desc.groups(), outs: desc.outs(), ins: desc.ins(), kernel: desc.kernel(), per_channel }
    }

    /// Elements of the weights of one output channel.
    fn len_of_output(self) -> usize {
        let chunks = Chunks::count(self.ins);
        self.kernel.h.saturating_mul(self.kernel.w).saturating_mul(chunks).saturating_mul(BLOCK)
    }

    /// Elements of the packed filter, the packed bias and the packed slopes. A tile reads a vector of biases from its
    /// first channel on.
    pub(crate) fn lens(&self) -> [usize; 3] {
        let outputs = self.groups * self.outs;
        let [bias, slope] = self.per_channel.lens(outputs.saturating_add(BLOCK));
        [self.len_of_output().saturating_mul(outputs), bias, slope]
    }
}

/// A packed filter.
pub(crate) struct FewWeightsOf {
    form: FewForm,
    buffers: [Buffer; 3],
}

impl FewWeightsOf {
    /// Makes the weights. The buffers are packed already, or zeros until [`pack`](Self::pack) and
    /// [`fill`](Self::fill).
    pub(crate) fn new(form: FewForm, buffers: [Buffer; 3]) -> Self {
        Self { form, buffers }
    }

    /// Packs the bias and the slopes of `weights`.
    pub(crate) fn pack(&mut self, weights: &Weights<'_>) {
        let [_, bias, slope] = &mut self.buffers;
        for (to, from) in [(bias, weights.bias), (slope, weights.slope)] {
            let Some(from) = from else { continue };
            to[..from.len()].copy_from_slice(from);
        }
    }

    /// Packs the filters of all output channels.
    pub(crate) fn fill(&mut self, filters: &[f32]) {
        let FewForm { groups, outs, ins, kernel, .. } = self.form;
        let mut packed = self.buffers[0].chunks_exact_mut(BLOCK);
        for group in 0..groups {
            let chunks = Chunks::of(group, ins);
            for panel in panels(group * outs..(group + 1) * outs) {
                for tap in 0..kernel.h * kernel.w {
                    for chunk in 0..Chunks::count(ins) {
                        for output in panel.clone() {
                            let packed = packed.next().expect("the form counts all of them");
                            for (lane, to) in packed.iter_mut().enumerate() {
                                let Some(channel) = chunks.channel(chunk, lane) else { continue };
                                let at = (output * ins + channel) * kernel.h * kernel.w + tap;
                                *to = flushed(filters[at]);
                            }
                        }
                    }
                }
            }
        }
    }

    /// The packed filter, bias and slopes.
    pub(crate) fn buffers(&self) -> [&Buffer; 3] {
        self.buffers.each_ref()
    }

    /// The weights of a panel from a kernel row and a chunk on.
    pub(super) fn of_panel(&self, panel: &Range<usize>, (row, chunk): (usize, usize)) -> FewWeights<'_> {
        let outputs = panel.len();
        let of_tap = Chunks::count(self.form.ins) * outputs * BLOCK;
        let of_row = self.form.kernel.w * of_tap;
        let at = panel.start * self.form.len_of_output() + row * of_row + chunk * outputs * BLOCK;
        let data = &self.buffers[0];
        FewWeights { data: &data[at.min(data.len())..], row: of_row, tap: of_tap, outputs }
    }

    /// The bias and the slopes from the first channel of a panel on; empty where there are none.
    pub(super) fn per_channel(&self, panel: &Range<usize>) -> (&[f32], &[f32]) {
        let of = |buffer: &Buffer| if buffer.is_empty() { 0..0 } else { panel.start..panel.start + BLOCK };
        let [_, bias, slope] = &self.buffers;
        (&bias[of(bias)], &slope[of(slope)])
    }
}
