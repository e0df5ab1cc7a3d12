//! [`Step`]: one operation of a forward pass.

use super::chain::{Chain, Link};
use super::operand::{Context, Operand, Place, Sources};
use super::plain;
use super::tensor::TensorKernel;
use super::volume::VolumeKernel;
use crate::graph::NodeId;
use crate::layer::FractionalPool;
use crate::shape::Shape;
use kernels::{
    Activation, ConvError, ConvIo, ConvPlan, LrnSpec, NormSpec, Pad2, PoolDesc, TransposedPlan, Workspace,
    WorkspaceReq,
};

/// One operation of a forward pass.
pub(super) struct Step {
    /// The name of the layer, for errors and tables.
    pub(super) name: String,
    /// The layer and those fused with it; empty for a copy.
    pub(super) nodes: Vec<NodeId>,
    pub(super) kernel: Kernel,
    pub(super) sources: Vec<Operand>,
    /// `None` if there is nothing to compute.
    pub(super) target: Option<Operand>,
    /// The shape of the output, for one image.
    pub(super) shape: Shape,
}

pub(super) enum Kernel {
    /// Also a fully connected layer. A second source is the residual.
    Conv(Box<ConvPlan>),
    /// Convolutions in turns. All sources but the first are residuals.
    Chain(Box<Chain>),
    Pool(PoolDesc),
    AdaptivePool,
    FractionalPool(FractionalPool),
    /// Pooling, followed by a scale and a shift.
    Subsample(PoolDesc, ScaleShift),
    Activation {
        activation: Activation,
        slope: Option<Vec<f32>>,
    },
    ScaleShift(ScaleShift, Activation),
    Normalize {
        spec: NormSpec,
        scale: Option<Vec<f32>>,
        shift: Option<Vec<f32>>,
    },
    Lrn(LrnSpec),
    Maxout(usize),
    Add(Activation),
    Mul,
    Pad(Pad2),
    ShortcutA(usize),
    Rbf(Vec<f32>),
    Softmax,
    /// An operator on plain tensors.
    Tensor(Box<TensorKernel>),
    Volume(Box<VolumeKernel>),
    Transposed(Box<TransposedPlan>),
    /// A copy to another layout or place.
    Copy,
    /// Nothing to compute.
    View,
}

impl Kernel {
    /// The plan of a single convolution.
    pub(super) fn plan(&self) -> Option<&ConvPlan> {
        match self {
            Self::Conv(plan) => Some(plan),
            _ => None,
        }
    }

    /// As [`plan`](Self::plan).
    pub(super) fn into_plan(self) -> Option<ConvPlan> {
        match self {
            Self::Conv(plan) => Some(*plan),
            _ => None,
        }
    }
}

/// A factor and a summand for each channel.
pub(super) struct ScaleShift {
    pub(super) scale: Vec<f32>,
    pub(super) shift: Vec<f32>,
}

impl Step {
    /// Computes the target from the sources.
    pub(super) fn run(
        &self,
        context: &Context<'_>,
        arena: &mut [f32],
        outputs: &mut [&mut [f32]],
        (workspace, bands): (&mut Workspace, &mut [f32]),
    ) -> Result<(), ConvError> {
        let Some(target) = &self.target else { return Ok(()) };
        let inputs = context.inputs;
        // The target is the first source of an operation in place. It does not overlap any other source, so these lie
        // before or behind it.
        let (sources, data) = match &target.place {
            Place::Arena(range) => {
                let (before, rest) = arena.split_at_mut(range.start);
                let (data, behind) = rest.split_at_mut(range.len());
                (Sources { inputs, before, behind, behind_start: range.end }, data)
            }
            Place::Output(index, range) => {
                let sources = Sources { inputs, before: arena, behind: &[], behind_start: usize::MAX };
                (sources, &mut outputs[*index][range.clone()])
            }
            // The input is never written.
            Place::Input(_) => return Ok(()),
        };
        match &self.kernel {
            Kernel::Conv(plan) => self.conv(plan, context, &sources, data, workspace),
            Kernel::Chain(chain) => {
                chain.run((&self.sources, target), context, &sources, data, (workspace, bands))
            }
            Kernel::Tensor(kernel) => {
                let to = &mut data[..row_len(target)];
                kernel.run(&|index| self.row(&sources, index), bands, to, context.threads)
            }
            Kernel::Volume(kernel) => {
                let tensors = (self.row(&sources, 0), &mut data[..row_len(target)]);
                kernel.run(context, tensors, workspace)
            }
            Kernel::Transposed(plan) => {
                let io = ConvIo {
                    input: self.sources[0].tensor(sources.get(&self.sources[0]))?,
                    output: target.tensor_mut(data)?.into(),
                    residual: None,
                };
                plan.run(io, workspace, context.threads)
            }
            kernel => self.layer(kernel, context, &sources, data),
        }
    }

    /// The elements of a source that is one row.
    fn row<'a>(&self, sources: &Sources<'a>, index: usize) -> &'a [f32] {
        self.sources.get(index).map_or(&[][..], |source| {
            let data = sources.get(source);
            &data[..source.shape.w.min(data.len())]
        })
    }

    fn conv(
        &self,
        plan: &ConvPlan,
        context: &Context<'_>,
        sources: &Sources<'_>,
        data: &mut [f32],
        workspace: &mut Workspace,
    ) -> Result<(), ConvError> {
        let Some(target) = &self.target else { return Ok(()) };
        let residual = self.sources.get(1).map(|residual| residual.tensor(sources.get(residual)));
        let io = ConvIo {
            input: self.sources[0].tensor(sources.get(&self.sources[0]))?,
            output: target.tensor_mut(data)?.into(),
            residual: residual.transpose()?,
        };
        plan.run(io, workspace, context.threads)
    }

    fn layer(
        &self,
        kernel: &Kernel,
        context: &Context<'_>,
        sources: &Sources<'_>,
        data: &mut [f32],
    ) -> Result<(), ConvError> {
        let (Some(target), Some(source)) = (&self.target, self.sources.first()) else { return Ok(()) };
        let &Context { ops, threads, .. } = context;
        let input = || source.tensor(sources.get(source));
        match kernel {
            Kernel::Pool(desc) => ops.pool(desc, input()?, target.tensor_mut(data)?, threads),
            Kernel::Subsample(desc, ScaleShift { scale, shift }) => {
                ops.pool(desc, input()?, target.tensor_mut(data)?, threads)?;
                ops.scale_shift(scale, shift, target.tensor_mut(data)?, threads)
            }
            Kernel::ScaleShift(ScaleShift { scale, shift }, activation) => {
                ops.affine((scale, shift), *activation, input()?, target.tensor_mut(data)?, threads)
            }
            Kernel::Lrn(spec) => ops.lrn(*spec, input()?, target.tensor_mut(data)?, threads),
            Kernel::Maxout(pieces) => ops.maxout(*pieces, input()?, target.tensor_mut(data)?, threads),
            Kernel::Normalize { spec, scale, shift } => {
                let (scale, shift) = (scale.as_deref(), shift.as_deref());
                ops.normalize(*spec, scale, shift, input()?, target.tensor_mut(data)?, threads)
            }
            Kernel::AdaptivePool
            | Kernel::FractionalPool(_)
            | Kernel::Pad(_)
            | Kernel::ShortcutA(_)
            | Kernel::Rbf(_) => {
                let images = source.images(sources.get(source)).zip(target.images_mut(data));
                images.for_each(|(from, to)| self.image(kernel, from, to));
                Ok(())
            }
            _ => {
                if source.place != target.place {
                    ops.copy(input()?, target.tensor_mut(data)?, threads)?;
                }
                self.in_place(kernel, context, sources, data)
            }
        }
    }

    /// Computes one image of a layer that has no kernel.
    fn image(&self, kernel: &Kernel, from: &[f32], to: &mut [f32]) {
        let (Some(target), source) = (&self.target, &self.sources[0]) else { return };
        let (source, target) = ((from, source.image()), (to, target.image()));
        match kernel {
            Kernel::AdaptivePool => plain::adaptive(source, target),
            Kernel::FractionalPool(pool) => plain::fractional(source, (*pool, &[]), target),
            Kernel::Pad(pad) => plain::pad(source, *pad, target),
            Kernel::ShortcutA(stride) => plain::shortcut(source, *stride, target),
            Kernel::Rbf(codes) => plain::rbf(source.0, codes, target.0),
            _ => {}
        }
    }

    /// Changes the target, which holds the first source.
    fn in_place(
        &self,
        kernel: &Kernel,
        context: &Context<'_>,
        sources: &Sources<'_>,
        data: &mut [f32],
    ) -> Result<(), ConvError> {
        let Some(target) = &self.target else { return Ok(()) };
        let &Context { ops, threads, .. } = context;
        match kernel {
            Kernel::Activation { activation, slope } => {
                ops.activate(*activation, slope.as_deref(), target.tensor_mut(data)?, threads)
            }
            Kernel::Softmax => ops.softmax(target.tensor_mut(data)?, threads),
            Kernel::Mul => {
                let factor = &self.sources[1];
                let factor = factor.tensor(sources.get(factor))?;
                ops.multiply(factor, target.tensor_mut(data)?, threads)
            }
            Kernel::Add(activation) => {
                let addends = &self.sources[1..];
                let Some((last, others)) = addends.split_last() else {
                    return ops.activate(*activation, None, target.tensor_mut(data)?, threads);
                };
                let mut add = |addend: &Operand, activation| {
                    let tensor = addend.tensor(sources.get(addend))?;
                    ops.add(tensor, target.tensor_mut(data)?, activation, threads)
                };
                others.iter().try_for_each(|addend| add(addend, Activation::None))?;
                add(last, *activation)
            }
            _ => Ok(()),
        }
    }

    /// The plan of the convolution, or of the first one in turns.
    pub(super) fn plan(&self) -> Option<&ConvPlan> {
        self.convolutions().next().map(|(_, _, plan)| plan)
    }

    /// The name, the layers and the plan of each convolution.
    pub(super) fn convolutions(&self) -> impl Iterator<Item = (&str, &[NodeId], &ConvPlan)> {
        let (one, links) = match &self.kernel {
            Kernel::Conv(plan) => (Some((self.name.as_str(), &self.nodes[..], &**plan)), &[][..]),
            Kernel::Chain(chain) => (None, &chain.links[..]),
            _ => (None, &[][..]),
        };
        one.into_iter().chain(links.iter().map(Link::convolution))
    }

    /// The plans that a run uses.
    pub(super) fn runs(&self) -> impl Iterator<Item = &ConvPlan> {
        let (one, links) = match &self.kernel {
            Kernel::Conv(plan) => (Some(&**plan), &[][..]),
            Kernel::Chain(chain) => (None, &chain.links[..]),
            _ => (None, &[][..]),
        };
        one.into_iter().chain(links.iter().flat_map(Link::runs))
    }

    /// The workspace of a run.
    pub(super) fn workspace_req(&self) -> WorkspaceReq {
        let own = match &self.kernel {
            Kernel::Transposed(plan) => plan.workspace_req(),
            Kernel::Volume(kernel) => kernel.workspace_req(),
            _ => WorkspaceReq::default(),
        };
        self.runs().map(ConvPlan::workspace_req).fold(own, WorkspaceReq::union)
    }

    /// Elements of the bands of convolutions in turns, or of the scratch memory of an operator.
    pub(super) fn bands_len(&self) -> usize {
        match &self.kernel {
            Kernel::Chain(chain) => chain.len,
            Kernel::Tensor(kernel) => kernel.scratch_len(),
            _ => 0,
        }
    }
}

/// The elements of a target that is one row.
fn row_len(target: &Operand) -> usize {
    target.shape.n * target.shape.c * target.shape.h * target.shape.w
}
