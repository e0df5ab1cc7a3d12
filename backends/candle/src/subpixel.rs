//! [`SubPixel`]: a transposed convolution as an ordinary one at the low resolution.
//!
//! A transposed convolution with stride `s` adds input `i`, times tap `k`, to the output at `i * s + k * d - p`.
//! Outputs with the same remainder of `(y + p) / s`, the *phase*, read the same taps. One ordinary convolution
//! computes all phases as output channels, and an interleaving puts them in place (Shi et al. 2016, "Is the
//! deconvolution layer the same as a convolutional layer?").
//!
//! ```text
//! y + p = q * s + r                     position q of phase r
//! out[y] = sum over t of in[q - t] * w[k]   where k * d = s * t + r
//! ```

use crate::plans::Operands;
use crate::spec::Problem;
use kernels::{ConvDesc, ConvDescBuilder, Pad2, Shape4, Size2};
use std::borrow::Cow;

/// One spatial axis.
#[derive(Debug, Clone)]
pub(crate) struct Axis {
    pub(crate) stride: usize,
    pub(crate) padding: usize,
    /// Number of outputs.
    pub(crate) outputs: usize,
    /// The remainders that have taps. Outputs of the others are the epilogue of zero.
    pub(crate) phases: Vec<usize>,
    /// The first position that is computed, and the number of positions.
    pub(crate) first: usize,
    pub(crate) positions: usize,
    /// Taps of each phase, and inputs between neighbouring taps.
    taps: usize,
    dilation: usize,
    /// Zeros before and after the input.
    pad: (usize, usize),
    /// Dilation of the whole kernel, and its taps.
    whole: (usize, usize),
}

/// The parameters of an axis as the caller gave them.
struct Given {
    inputs: usize,
    outputs: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    dilation: usize,
}

impl Axis {
    fn new(given: Given) -> Self {
        let Given { inputs, outputs, kernel, stride, padding, dilation } = given;
        // With stride 1 the dilation stays a dilation. Otherwise it becomes zeros between the taps.
        let (taps, step) = match stride {
            1 => (kernel, dilation),
            _ => (((kernel - 1) * dilation + 1).div_ceil(stride), 1),
        };
        let reach = (taps - 1) * step;
        // The outputs need these positions. Padding must not be negative, so more may be computed.
        let first = (padding / stride).min(reach);
        let last = ((padding + outputs - 1) / stride).max(inputs - 1);
        let phases = match stride {
            1 => vec![0],
            _ => (0..stride).filter(|r| (0..kernel).any(|k| k * dilation % stride == *r)).collect(),
        };
        Self {
            stride,
            padding,
            outputs,
            phases,
            first,
            positions: last - first + 1,
            taps,
            dilation: step,
            pad: (reach - first, last - (inputs - 1)),
            whole: (dilation, kernel),
        }
    }

    /// The tap of the whole kernel that a phase reads as its tap `t`, counted from the newest input on.
    fn tap(&self, phase: usize, t: usize) -> Option<usize> {
        if self.stride == 1 {
            return Some(t);
        }
        let (dilation, kernel) = self.whole;
        let place = t * self.stride + phase;
        (place.is_multiple_of(dilation) && place / dilation < kernel).then(|| place / dilation)
    }

    /// Whether the positions are the outputs, in order.
    fn is_output(&self) -> bool {
        self.stride == 1 && self.first == self.padding && self.positions == self.outputs
    }
}

/// A transposed convolution, ready to be described as an ordinary one.
#[derive(Debug)]
pub(crate) struct SubPixel {
    pub(crate) problem: Problem,
    pub(crate) rows: Axis,
    pub(crate) columns: Axis,
}

impl SubPixel {
    pub(crate) fn new(problem: &Problem) -> Self {
        let Problem { spec, input, kernel, output } = *problem;
        let (stride, dilation) = (spec.size(spec.stride, 1), spec.size(spec.dilation, 1));
        let padding = spec.size(spec.padding, 0);
        let rows = Axis::new(Given {
            inputs: input.h,
            outputs: output.h,
            kernel: kernel.h,
            stride: stride.h,
            padding: padding.h,
            dilation: dilation.h,
        });
        let columns = Axis::new(Given {
            inputs: input.w,
            outputs: output.w,
            kernel: kernel.w,
            stride: stride.w,
            padding: padding.w,
            dilation: dilation.w,
        });
        Self { problem: *problem, rows, columns }
    }

    /// Phases of all outputs: the channels of the ordinary convolution per output channel.
    pub(crate) fn phases(&self) -> usize {
        self.rows.phases.len() * self.columns.phases.len()
    }

    /// Whether the ordinary convolution's output is the output, without an interleaving.
    pub(crate) fn is_output(&self) -> bool {
        self.rows.is_output() && self.columns.is_output()
    }

    /// The ordinary convolution.
    pub(crate) fn desc(&self) -> ConvDescBuilder {
        let Self { problem, rows, columns } = self;
        let taps = Size2::new(rows.taps, columns.taps);
        ConvDesc::builder(problem.input, problem.output.c * self.phases(), taps)
            .pad(Pad2 { top: rows.pad.0, bottom: rows.pad.1, left: columns.pad.0, right: columns.pad.1 })
            .dilation(Size2::new(rows.dilation, columns.dilation))
            .groups(problem.spec.groups)
    }

    /// The weights of the ordinary convolution: `weight[C][O / groups][KH][KW]` split into phases, with input
    /// and output channels exchanged and the taps reversed.
    pub(crate) fn operands<'a>(&self, weight: &[f32], bias: Option<&[f32]>) -> Operands<'a> {
        let Self { problem, rows, columns } = self;
        let Shape4 { c: channels, .. } = problem.input;
        let Shape4 { c: out_channels, .. } = problem.output;
        let (group_ins, group_outs) = (channels / problem.spec.groups, out_channels / problem.spec.groups);
        let kernel = problem.kernel.h * problem.kernel.w;
        let mut filter =
            Vec::with_capacity(out_channels * self.phases() * group_ins * rows.taps * columns.taps);
        let places: Vec<Vec<Option<usize>>> = self.places();
        for o in 0..out_channels {
            let (group, o) = (o / group_outs, o % group_outs);
            for places in &places {
                for c in group * group_ins..(group + 1) * group_ins {
                    let taps = &weight[(c * group_outs + o) * kernel..][..kernel];
                    filter.extend(places.iter().map(|place| place.map_or(0.0, |place| taps[place])));
                }
            }
        }
        let bias =
            bias.map(|bias| bias.iter().flat_map(|&b| std::iter::repeat_n(b, self.phases())).collect());
        Operands { filter: Cow::Owned(filter), bias: bias.map(Cow::Owned) }
    }

    /// For each phase, the places of its taps in the whole kernel, in the order of the ordinary convolution.
    fn places(&self) -> Vec<Vec<Option<usize>>> {
        let Self { problem, rows, columns } = self;
        let of_phase = |row_phase: usize, column_phase: usize| {
            (0..rows.taps)
                .rev()
                .flat_map(|y| (0..columns.taps).rev().map(move |x| (y, x)))
                .map(|(y, x)| {
                    let (y, x) = (rows.tap(row_phase, y)?, columns.tap(column_phase, x)?);
                    Some(y * problem.kernel.w + x)
                })
                .collect()
        };
        rows.phases
            .iter()
            .flat_map(|&r| columns.phases.iter().map(move |&c| (r, c)))
            .map(|(r, c)| of_phase(r, c))
            .collect()
    }
}
