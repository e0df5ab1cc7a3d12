//! [`Pass`]: the plan of a layer in one direction.

use super::{Layouts, pitch};
use crate::direction::Direction;
use crate::problem::Problem;
use kernels::{
    BackwardData, BackwardDataIo, BackwardWeights, BackwardWeightsIo, ConvDesc, ConvError, ConvIo, ConvPlan,
    DataSpec, Layout, PlanOptions, PlanReport, Shape4, Size2, TensorMut, TensorRef, Threads, TransposedDesc,
    TransposedPlan, Weights, WeightsSpec, Workspace, WorkspaceReq,
};

/// A plan that reads one or two tensors, and computes the result of a direction.
pub(super) enum Pass {
    Forward(ConvPlan),
    Data(BackwardData),
    Weights(BackwardWeights),
    Transposed(TransposedPlan),
}

/// The extents and the layout of a tensor that a pass reads or writes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) shape: Shape4,
    pub(super) layout: Layout,
}

impl Place {
    /// Elements in memory.
    pub(super) fn len(self) -> usize {
        self.shape.len(self.layout).expect("it was planned")
    }

    fn read(self, data: &[f32]) -> TensorRef<'_> {
        TensorRef::packed(&data[..self.len()], self.shape, self.layout).expect("it fits")
    }

    fn written(self, data: &mut [f32]) -> TensorMut<'_> {
        TensorMut::packed(data, self.shape, self.layout).expect("it fits")
    }
}

impl Pass {
    /// Plans the direction of `problem`. Its filter is packed; a gradient of weights also computes that of a bias.
    pub(super) fn new(problem: &Problem, layouts: Layouts, options: &PlanOptions) -> Result<Self, ConvError> {
        let desc = layouts.describe(problem)?;
        Ok(match problem.direction {
            Direction::Forward => {
                let weights = match problem.bias.as_slice() {
                    [] => Weights::filter(&problem.filter),
                    bias => Weights::with_bias(&problem.filter, bias),
                };
                Self::Forward(ConvPlan::new(&desc, weights, options)?)
            }
            Direction::Data => {
                Self::Data(BackwardData::new(&desc, &problem.filter, DataSpec::default(), options)?)
            }
            Direction::Weights => {
                Self::Weights(BackwardWeights::new(&desc, &WeightsSpec::default().bias(), options)?)
            }
            Direction::Transposed => {
                let desc = transposed(&desc)?;
                Self::Transposed(TransposedPlan::new(&desc, Weights::filter(&problem.filter), options)?)
            }
        })
    }

    /// The tensors that are read, in the order of a slot. A filter is in the plan.
    pub(super) fn reads(&self) -> Vec<Place> {
        let input = |desc: &ConvDesc| Place { shape: desc.input(), layout: desc.layout() };
        let output = |desc: &ConvDesc| Place { shape: desc.output(), layout: desc.output_layout() };
        match self {
            Self::Forward(plan) => vec![input(plan.desc())],
            Self::Data(plan) => vec![output(plan.desc())],
            Self::Weights(plan) => vec![input(plan.desc()), output(plan.desc())],
            Self::Transposed(plan) => {
                vec![Place { shape: plan.desc().input(), layout: plan.desc().layout() }]
            }
        }
    }

    /// The tensor that is written. `None` if the result is plain, the gradient of a filter and of a bias.
    pub(super) fn writes(&self) -> Option<Place> {
        match self {
            Self::Forward(plan) => {
                Some(Place { shape: plan.desc().output(), layout: plan.desc().output_layout() })
            }
            Self::Data(plan) => Some(Place { shape: plan.desc().input(), layout: plan.desc().layout() }),
            Self::Weights(_) => None,
            Self::Transposed(plan) => {
                Some(Place { shape: plan.desc().output(), layout: plan.desc().layout() })
            }
        }
    }

    /// Computes the result from a slot of tensors.
    pub(super) fn run(
        &self,
        (slot, result): (&[f32], &mut [f32]),
        workspace: &mut Workspace,
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        let reads = self.reads();
        let first = reads[0].read(slot);
        let to = self.writes();
        match (self, to) {
            (Self::Forward(plan), Some(to)) => {
                plan.run(ConvIo::new(first, to.written(result)), workspace, threads)
            }
            (Self::Transposed(plan), Some(to)) => {
                plan.run(ConvIo::new(first, to.written(result)), workspace, threads)
            }
            (Self::Data(plan), Some(to)) => {
                let io = BackwardDataIo::new(first, to.written(result));
                plan.run(io, workspace, threads)
            }
            (Self::Weights(plan), _) => {
                let second = reads[1].read(&slot[pitch(reads[0].len())..]);
                let (filter, bias) = result.split_at_mut(plan.desc().filter_len());
                plan.run(BackwardWeightsIo::new(first, second, filter).bias(bias), workspace, threads)
            }
            (_, None) => unreachable!("only the gradient of weights writes no tensor"),
        }
    }

    /// The report of each phase, of which a forward convolution and a gradient of weights have one.
    pub(super) fn reports(&self) -> Vec<&PlanReport> {
        match self {
            Self::Forward(plan) => vec![plan.explain()],
            Self::Data(plan) => plan.phases().map(|(_, phase)| phase.explain()).collect(),
            Self::Weights(plan) => vec![plan.explain()],
            Self::Transposed(plan) => plan.phases().map(|(_, phase)| phase.explain()).collect(),
        }
    }

    pub(super) fn workspace_req(&self) -> WorkspaceReq {
        match self {
            Self::Forward(plan) => plan.workspace_req(),
            Self::Data(plan) => plan.workspace_req(),
            Self::Weights(plan) => plan.workspace_req(),
            Self::Transposed(plan) => plan.workspace_req(),
        }
    }

    /// Bytes of packed weights.
    pub(super) fn packed_bytes(&self) -> usize {
        match self {
            Self::Forward(plan) => plan.packed_bytes(),
            Self::Data(plan) => plan.packed_bytes(),
            Self::Weights(_) => 0,
            Self::Transposed(plan) => plan.packed_bytes(),
        }
    }
}

/// The transposed convolution that leads from the output of `desc` to its input, in the layout of its output.
fn transposed(desc: &ConvDesc) -> Result<TransposedDesc, ConvError> {
    let (input, kernel, stride, dilation, pad) =
        (desc.input(), desc.kernel(), desc.stride(), desc.dilation(), desc.pad());
    // Rows and columns at the end that no output reads.
    let left =
        |len: usize, taps: usize, stride: usize, dilation: usize| (len - dilation * (taps - 1) - 1) % stride;
    let rest = Size2::new(
        left(input.h + pad.top + pad.bottom, kernel.h, stride.h, dilation.h),
        left(input.w + pad.left + pad.right, kernel.w, stride.w, dilation.w),
    );
    TransposedDesc::builder(desc.output(), input.c, kernel)
        .stride(stride)
        .pad(pad)
        .output_pad(rest)
        .dilation(dilation)
        .groups(desc.groups())
        .layout(desc.output_layout())
        .build()
}
