//! [`FewWeightsOf`]: the weights of few output channels, with the input channels in the lanes.

use crate::algo::packed::{PerChannel, flushed};
use crate::describe::{BLOCK, ConvDesc, Size2, Weights};
use crate::memory::Buffer;
use crate::tile::few_table::{FewWeights, MOST_OUTPUTS};
use std::ops::Range;

/// How a filter is packed: `[panel][kernel row][tap][chunk][output][16]`. It does not depend on the values of the
/// weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct FewForm {
    outs: usize,
    ins: usize,
    kernel: Size2,
    per_channel: PerChannel,
}

impl FewForm {
    pub(crate) fn new(desc: &ConvDesc) -> Self {
        let per_channel = PerChannel::of(&desc.epilogue());
        Self { outs: desc.output().c, ins: desc.input().c, kernel: desc.kernel(), per_channel }
    }

    /// The output channels of each panel, as evenly as possible.
    pub(super) fn panels(self) -> impl ExactSizeIterator<Item = Range<usize>> {
        let width = self.outs.div_ceil(self.count());
        (0..self.count()).map(move |index| index * width..self.outs.min((index + 1) * width))
    }

    fn count(self) -> usize {
        self.outs.div_ceil(MOST_OUTPUTS)
    }

    fn chunks(self) -> usize {
        self.ins.div_ceil(BLOCK)
    }

    /// Elements of the weights of one output channel.
    fn len_of_output(self) -> usize {
        self.kernel.h.saturating_mul(self.kernel.w).saturating_mul(self.chunks()).saturating_mul(BLOCK)
    }

    /// Elements of the packed filter, the packed bias and the packed slopes.
    pub(crate) fn lens(&self) -> [usize; 3] {
        let [bias, slope] = self.per_channel.lens(self.count() * BLOCK);
        [self.len_of_output().saturating_mul(self.outs), bias, slope]
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
        let Self { form, buffers: [_, bias, slope] } = self;
        for (to, from) in [(bias, weights.bias), (slope, weights.slope)] {
            let Some(from) = from else { continue };
            for (to, panel) in to.chunks_exact_mut(BLOCK).zip(form.panels()) {
                to[..panel.len()].copy_from_slice(&from[panel]);
            }
        }
    }

    /// Packs the filters of all output channels.
    pub(crate) fn fill(&mut self, filters: &[f32]) {
        let FewForm { ins, kernel, .. } = self.form;
        let mut packed = self.buffers[0].iter_mut();
        for panel in self.form.panels() {
            for (row, column) in (0..kernel.h).flat_map(|row| (0..kernel.w).map(move |column| (row, column)))
            {
                for first in (0..ins).step_by(BLOCK) {
                    for output in panel.clone() {
                        for channel in first..first + BLOCK {
                            let to = packed.next().expect("the form counts all of them");
                            let at = ((output * ins + channel) * kernel.h + row) * kernel.w + column;
                            *to = if channel < ins { flushed(filters[at]) } else { 0.0 };
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

    pub(super) fn panels(&self) -> impl ExactSizeIterator<Item = Range<usize>> + use<> {
        self.form.panels()
    }

    /// Panel `index` from a kernel row, a tap and an input channel on.
    pub(super) fn of_panel(
        &self,
        index: usize,
        (row, tap, channel): (usize, usize, usize),
    ) -> FewWeights<'_> {
        let panel = self.form.panels().nth(index).expect("a panel");
        let outputs = panel.len();
        let of_tap = self.form.chunks() * outputs * BLOCK;
        let of_row = self.form.kernel.w * of_tap;
        let first = panel.start * self.form.len_of_output();
        let at = first + row * of_row + tap * of_tap + channel / BLOCK * outputs * BLOCK;
        let data = &self.buffers[0];
        FewWeights { data: &data[at.min(data.len())..], row: of_row, tap: of_tap, outputs }
    }

    /// The bias and the slopes of panel `index`; empty where there are none.
    pub(super) fn per_channel(&self, index: usize) -> (&[f32], &[f32]) {
        let of = |buffer: &Buffer| if buffer.is_empty() { 0..0 } else { index * BLOCK..(index + 1) * BLOCK };
        let [_, bias, slope] = &self.buffers;
        (&bias[of(bias)], &slope[of(slope)])
    }
}
