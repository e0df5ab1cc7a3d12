//! The reference: the definition as loops, accumulated in `f64` and rounded once.
//!
//! It implements Goodfellow, Bengio and Courville 2016, equation 9.6, with stride, dilation, padding, groups
//! and epilogue. The tests compare it with examples computed by hand (`tests/reference.rs`).

use super::operands::Operands;
use super::panels::PerChannel;
use crate::describe::{ConvDesc, Weights};
use crate::memory::Buffer;
use crate::tile::output::OutputRegion;
use crate::work::parts::SplitUnits;
use crate::work::{Family, LargestPart, PlanEstimate, Term, ThreadShare, Work};
use std::ops::Range;
use std::sync::Arc;

pub(crate) struct Reference {
    desc: ConvDesc,
    pub(super) weights: Arc<PlainWeights>,
}

/// A filter in its original order. It does not depend on the values of the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PlainForm {
    taps: usize,
    channels: usize,
    per_channel: PerChannel,
}

impl PlainForm {
    pub(crate) fn new(desc: &ConvDesc) -> Self {
        let per_channel = PerChannel::of(&desc.epilogue());
        Self { taps: desc.taps(), channels: desc.output().c, per_channel }
    }

    /// Elements of the filter, the bias and the slopes.
    pub(crate) fn lens(&self) -> [usize; 3] {
        let [bias, slope] = self.per_channel.lens(self.channels);
        [self.channels * self.taps, bias, slope]
    }
}

/// A copy of a filter, its bias and its slopes.
pub(crate) struct PlainWeights {
    form: PlainForm,
    buffers: [Buffer; 3],
}

impl PlainWeights {
    /// Makes the weights. The buffers are packed already, or zeros until [`pack`](Self::pack) and
    /// [`fill`](Self::fill).
    pub(crate) fn new(form: PlainForm, buffers: [Buffer; 3]) -> Self {
        Self { form, buffers }
    }

    /// Copies bias and slopes.
    pub(crate) fn pack(&mut self, weights: &Weights<'_>) {
        let [_, bias, slope] = &mut self.buffers;
        bias.copy_from_slice(weights.bias.unwrap_or_default());
        slope.copy_from_slice(weights.slope.unwrap_or_default());
    }

    /// Copies the filters of some output channels.
    pub(crate) fn fill(&mut self, channels: Range<usize>, filters: &[f32]) {
        let taps = self.form.taps;
        self.buffers[0][channels.start * taps..channels.end * taps].copy_from_slice(filters);
    }

    /// The filter, bias and slopes.
    pub(crate) fn buffers(&self) -> [&Buffer; 3] {
        self.buffers.each_ref()
    }
}

/// Estimates the memory and the work, for the choice.
pub(crate) fn estimate(desc: &ConvDesc, share: &ThreadShare) -> PlanEstimate {
    let part = LargestPart::new(desc, &SplitUnits::new(1, 1), false, share.parts);
    let mut work = Work::new(Family::Reference);
    let outputs = part.images * part.pixels * part.groups * part.outs as f64;
    work.add(Term::Fma, outputs * desc.taps() as f64);
    work.add(Term::Tile, outputs);
    work.flops = 2.0 * desc.cost().macs as f64;
    let packed = PlainForm::new(desc).lens().into_iter().fold(0, usize::saturating_add);
    PlanEstimate { packed_bytes: packed.saturating_mul(size_of::<f32>()), workspace_len: 0, work }
}

impl Reference {
    pub(crate) fn new(desc: &ConvDesc, weights: Arc<PlainWeights>) -> Self {
        Self { desc: *desc, weights }
    }

    pub(crate) fn run(&self, operands: &Operands<'_>, region: &mut OutputRegion<'_>) {
        let width = self.desc.output().w;
        let [_, bias, slope] = self.weights.buffers();
        for n in region.images.clone() {
            for o in region.channels.clone() {
                for p in region.pixels.clone() {
                    let mut sum = self.sum(operands, n, o, p / width, p % width);
                    sum += bias.get(o).copied().map_or(0.0, f64::from);
                    if let Some(residual) = operands.residual.tensor() {
                        sum += f64::from(residual.data[residual.view.offset(n, o, p)]);
                    }
                    let slope = slope.get(o).copied().map_or(0.0, f64::from);
                    region.put(n, o, p, self.desc.epilogue().activation.eval(sum, slope) as f32);
                }
            }
        }
    }

    fn sum(&self, operands: &Operands<'_>, n: usize, o: usize, y: usize, x: usize) -> f64 {
        let desc = &self.desc;
        let (input, kernel) = (desc.input(), desc.kernel());
        let (channels, per_group) = (desc.ins(), desc.outs());
        let first_channel = o / per_group * channels;
        let mut sum = 0.0;
        for i in 0..kernel.h {
            let row = (y * desc.stride().h + i * desc.dilation().h).checked_sub(desc.pad().top);
            let Some(row) = row.filter(|&row| row < input.h) else { continue };
            for j in 0..kernel.w {
                let column = (x * desc.stride().w + j * desc.dilation().w).checked_sub(desc.pad().left);
                let Some(column) = column.filter(|&column| column < input.w) else { continue };
                for c in 0..channels {
                    let from = operands.input.view.offset(n, first_channel + c, row * input.w + column);
                    let tap = ((o * channels + c) * kernel.h + i) * kernel.w + j;
                    sum += f64::from(operands.input.data[from]) * f64::from(self.weights.buffers[0][tap]);
                }
            }
        }
        sum
    }
}
