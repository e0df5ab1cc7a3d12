//! [`VolumeLayer`]: a planned 3-D layer that can run repeatedly on the same memory.

use super::VolumeProblem;
use crate::direction::Direction;
use crate::problem::Errors;
use kernels::{
    BackwardData3d, BackwardData3dIo, BackwardWeights3d, BackwardWeights3dIo, Buffer, Conv3dIo, Conv3dPlan,
    ConvError, DataSpec, PlanOptions, Shape5, Threads, VolumeLayout, VolumeMut, VolumeRef, VolumeReport,
    Weights, WeightsSpec, Workspace, WorkspaceReq,
};
use std::collections::HashSet;

/// A plan with its tensors. All results are NaN until they are computed.
pub struct VolumeLayer<'a> {
    problem: &'a VolumeProblem,
    plan: Plan,
    /// The tensors that are read.
    reads: [Buffer; 2],
    result: Buffer,
    bias: Vec<f32>,
    workspace: Workspace,
}

enum Plan {
    Forward(Conv3dPlan),
    Data(BackwardData3d),
    Weights(BackwardWeights3d),
}

/// The layout of the input of a layer in a network that uses `layout`: the first layer reads an ordinary image.
fn input_layout(problem: &VolumeProblem, layout: VolumeLayout) -> VolumeLayout {
    let is_blocked = matches!(layout, VolumeLayout::Ncdhw16c | VolumeLayout::Ndchw16c);
    let is_first = problem.spec.c < 16 && problem.spec.groups == 1;
    if is_blocked && is_first { VolumeLayout::Ncdhw } else { layout }
}

impl<'a> VolumeLayer<'a> {
    /// Plans `problem`, whose output has `layout`.
    ///
    /// # Errors
    /// Those of the plan of its direction, for example if an algorithm cannot do the problem.
    pub fn new(
        problem: &'a VolumeProblem,
        layout: VolumeLayout,
        options: &PlanOptions,
    ) -> Result<Self, ConvError> {
        let from = input_layout(problem, layout);
        let desc = problem.spec.builder().layout(from).output_layout(layout).build()?;
        let plan = match problem.direction {
            Direction::Forward => {
                Plan::Forward(Conv3dPlan::new(&desc, Weights::filter(&problem.filter), options)?)
            }
            Direction::Data | Direction::Transposed => {
                Plan::Data(BackwardData3d::new(&desc, &problem.filter, DataSpec::default(), options)?)
            }
            Direction::Weights => {
                Plan::Weights(BackwardWeights3d::new(&desc, &WeightsSpec::default().bias(), options)?)
            }
        };
        let input = || placed(&problem.input, desc.input(), from);
        let output = || placed(&problem.output, desc.output(), layout);
        let none = || Buffer::zeroed(0);
        let (reads, result) = match problem.direction {
            Direction::Forward => ([input()?, none()?], desc.output().len(layout)?),
            Direction::Data | Direction::Transposed => ([output()?, none()?], desc.input().len(from)?),
            Direction::Weights => ([input()?, output()?], desc.filter_len()),
        };
        let mut result = Buffer::zeroed(result)?;
        result.fill(f32::NAN);
        let workspace = Workspace::for_req(plan.workspace_req())?;
        Ok(Self { problem, plan, reads, result, bias: vec![f32::NAN; problem.spec.o], workspace })
    }

    /// Runs the layer once.
    ///
    /// # Panics
    /// Never: the tensors have the shapes of the plan.
    pub fn run(&mut self, threads: Threads<'_>) {
        let Self { plan, reads: [first, second], result, bias, workspace, .. } = self;
        let ran = match plan {
            Plan::Forward(plan) => {
                let desc = plan.desc();
                let input = VolumeRef::packed(first, desc.input(), desc.layout());
                let output = VolumeMut::packed(result, desc.output(), desc.output_layout());
                let both = input.and_then(|input| Ok((input, output?)));
                both.and_then(|(input, output)| plan.run(Conv3dIo::new(input, output), workspace, threads))
            }
            Plan::Data(plan) => {
                let desc = plan.desc();
                let output = VolumeRef::packed(first, desc.output(), desc.output_layout());
                let input = VolumeMut::packed(result, desc.input(), desc.layout());
                let both = output.and_then(|output| Ok((output, input?)));
                both.and_then(|(output, input)| {
                    plan.run(BackwardData3dIo::new(output, input), workspace, threads)
                })
            }
            Plan::Weights(plan) => {
                let desc = plan.desc();
                let input = VolumeRef::packed(first, desc.input(), desc.layout());
                let output = VolumeRef::packed(second, desc.output(), desc.output_layout());
                let both = input.and_then(|input| Ok((input, output?)));
                both.and_then(|(input, output)| {
                    plan.run(BackwardWeights3dIo::new(input, output, result).bias(bias), workspace, threads)
                })
            }
        };
        ran.expect("tensors with the shapes of the plan");
    }

    /// The errors of the result; NaN if it has an element that is not a number, which includes a layer that has not run.
    ///
    /// # Panics
    /// Never: the tensors have the shapes of the plan.
    pub fn errors(&self) -> Errors {
        if self.result.iter().any(|value| value.is_nan()) {
            return Errors::all(f64::NAN);
        }
        let (shape, layout) = match &self.plan {
            Plan::Forward(plan) => (plan.desc().output(), plan.desc().output_layout()),
            Plan::Data(plan) => (plan.desc().input(), plan.desc().layout()),
            Plan::Weights(_) => return self.problem.errors(|index| self.result[index]),
        };
        let view = VolumeRef::packed(&self.result, shape, layout).expect("it was run");
        self.problem.errors(|index| self.result[offset(&view, index)])
    }

    /// The methods of the 2-D plans, without repetitions, such as `direct` or `winograd_4x4/direct`.
    pub(crate) fn method(&self) -> String {
        let mut methods: Vec<String> = match &self.plan {
            Plan::Forward(plan) => chosen(&plan.explain()),
            Plan::Data(plan) => chosen(&plan.explain()),
            Plan::Weights(plan) => {
                plan.plans().map(|plan| plan.explain().choice.method.to_string()).collect()
            }
        };
        let mut seen = HashSet::new();
        methods.retain(|method| seen.insert(method.clone()));
        methods.join("/")
    }
}

impl Plan {
    fn workspace_req(&self) -> WorkspaceReq {
        match self {
            Self::Forward(plan) => plan.workspace_req(),
            Self::Data(plan) => plan.workspace_req(),
            Self::Weights(plan) => plan.workspace_req(),
        }
    }
}

fn chosen(report: &VolumeReport<'_>) -> Vec<String> {
    report.plans().map(|plan| plan.explain().choice.method.to_string()).collect()
}

/// `plain`, in NCDHW, as a tensor in `layout`.
fn placed(plain: &[f32], shape: Shape5, layout: VolumeLayout) -> Result<Buffer, ConvError> {
    let mut buffer = Buffer::zeroed(shape.len(layout)?)?;
    let offsets: Vec<usize> = {
        let view = VolumeRef::packed(&buffer, shape, layout)?;
        (0..plain.len()).map(|index| offset(&view, index)).collect()
    };
    for (offset, &value) in offsets.into_iter().zip(plain) {
        buffer[offset] = value;
    }
    Ok(buffer)
}

/// Where element `index` of the plain tensor is in `view`.
fn offset(view: &VolumeRef<'_>, index: usize) -> usize {
    let Shape5 { c, d, h, w, .. } = view.shape();
    let (row, x) = (index / w, index % w);
    let (slice, y) = (row / h, row % h);
    let (channel, z) = (slice / d, slice % d);
    view.offset(channel / c, channel % c, z, y, x)
}
