//! The oracle: the definition, loop by loop, accumulated in `f64` and rounded once.
//!
//! Goodfellow, Bengio and Courville 2016, equation 9.6, with stride, dilation, padding, groups and epilogue.
//! It is itself tested against examples worked by hand (`tests/reference.rs`).

use super::operands::Operands;
use crate::describe::{ConvDesc, ConvError, Weights};
use crate::memory::try_copy;
use crate::tile::output::OutputRegion;
use crate::work::parts::SplitUnits;
use crate::work::{Family, LargestPart, PlanEstimate, Term, ThreadShare, Work};

pub(crate) struct Reference {
    desc: ConvDesc,
    filter: Vec<f32>,
    bias: Vec<f32>,
    slope: Vec<f32>,
}

/// Everything that the choice wants to know.
pub(crate) fn estimate(desc: &ConvDesc, share: &ThreadShare) -> PlanEstimate {
    let part = LargestPart::new(desc, &SplitUnits::new(1, 1), false, share.parts);
    let mut work = Work::new(Family::Reference);
    let outputs = part.images * part.pixels * part.groups * part.outs as f64;
    work.add(Term::Fma, outputs * desc.taps() as f64);
    work.add(Term::Tile, outputs);
    work.flops = 2.0 * desc.cost().macs as f64;
    let packed = desc.filter_len() + desc.epilogue().per_channel() * desc.output().c;
    PlanEstimate { packed_bytes: packed * size_of::<f32>(), workspace_len: 0, work }
}

impl Reference {
    pub(crate) fn new(desc: &ConvDesc, weights: &Weights<'_>) -> Result<Self, ConvError> {
        let copy = |values: Option<&[f32]>| try_copy("bias and slopes", values.unwrap_or_default());
        Ok(Self {
            desc: *desc,
            filter: try_copy("filter", weights.filter)?,
            bias: copy(weights.bias)?,
            slope: copy(weights.slope)?,
        })
    }

    pub(crate) fn packed_bytes(&self) -> usize {
        (self.filter.len() + self.bias.len() + self.slope.len()) * size_of::<f32>()
    }

    pub(crate) fn run(&self, operands: &Operands<'_>, region: &mut OutputRegion<'_>) {
        let width = self.desc.output().w;
        for n in region.images.clone() {
            for o in region.channels.clone() {
                for p in region.pixels.clone() {
                    let mut sum = self.sum(operands, n, o, p / width, p % width);
                    sum += self.bias.get(o).copied().map_or(0.0, f64::from);
                    if let Some(residual) = &operands.residual {
                        sum += f64::from(residual.data[residual.view.offset(n, o, p)]);
                    }
                    let slope = self.slope.get(o).copied().map_or(0.0, f64::from);
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
                    sum += f64::from(operands.input.data[from]) * f64::from(self.filter[tap]);
                }
            }
        }
        sum
    }
}
