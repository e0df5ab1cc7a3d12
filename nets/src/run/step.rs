//! [`Step`]: one call of the kernels.

use super::plain;
use crate::graph::NodeId;
use crate::shape::Shape;
use kernels::{
    Activation, ConvError, ConvIo, ConvPlan, Layout, LinearPlan, LrnSpec, NormSpec, Ops, Pad2, Pitch,
    PoolDesc, Shape4, TensorMut, TensorRef, Threads, Workspace,
};

/// One call of the kernels in a forward pass.
pub(super) struct Step {
    /// The layer's, for errors and tables.
    pub(super) name: String,
    /// The layer, and those fused into it.
    pub(super) nodes: Vec<NodeId>,
    pub(super) kernel: Kernel,
    pub(super) sources: Vec<Place>,
    /// The buffer that is written; `None` if the step only gives its source another shape.
    pub(super) target: Option<usize>,
    /// Extents of the sources, in their order.
    pub(super) inputs: Vec<Shape4>,
    pub(super) output: Shape4,
    /// The shape that comes out, for one image.
    pub(super) shape: Shape,
}

pub(super) enum Kernel {
    /// A second source is the residual.
    Conv(ConvPlan),
    Linear(LinearPlan),
    Pool(PoolDesc),
    AdaptivePool,
    /// Pooling, then a scale and a shift.
    Subsample(PoolDesc, ScaleShift),
    Activation {
        activation: Activation,
        slope: Option<Vec<f32>>,
    },
    ScaleShift(ScaleShift),
    Normalize {
        spec: NormSpec,
        scale: Option<Vec<f32>>,
        shift: Option<Vec<f32>>,
    },
    Lrn(LrnSpec),
    Maxout(usize),
    Concat,
    Add(Activation),
    Mul,
    Pad(Pad2),
    ShortcutA(usize),
    Rbf(Vec<f32>),
    Softmax,
    /// Nothing to compute.
    View,
}

/// One of each per channel.
pub(super) struct ScaleShift {
    pub(super) scale: Vec<f32>,
    pub(super) shift: Vec<f32>,
}

/// Where the output of a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In the caller's input.
    Input,
    /// In a buffer of the network.
    Buffer(usize),
}

impl Step {
    /// Computes `target` from the sources, as many as [`Step::sources`].
    pub(super) fn run(
        &self,
        ops: &Ops,
        sources: &Sources<'_>,
        target: &mut [f32],
        workspace: &mut Workspace,
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        let (source, shape) = (sources.get(0), self.inputs[0]);
        let input = || packed(source, shape);
        let output = self.output;
        match &self.kernel {
            Kernel::View => Ok(()),
            Kernel::Conv(plan) => {
                let residual =
                    (self.sources.len() > 1).then(|| packed(sources.get(1), output)).transpose()?;
                plan.run(
                    ConvIo { input: input()?, output: tensor(target, output)?, residual },
                    workspace,
                    threads,
                )
            }
            Kernel::Linear(plan) => plan.run(source, target, None, workspace, threads),
            Kernel::Pool(desc) => ops.pool(desc, input()?, tensor(target, output)?, threads),
            Kernel::Subsample(desc, ScaleShift { scale, shift }) => {
                ops.pool(desc, input()?, tensor(target, output)?, threads)?;
                ops.scale_shift(scale, shift, tensor(target, output)?, threads)
            }
            Kernel::Lrn(spec) => ops.lrn(*spec, input()?, tensor(target, output)?, threads),
            Kernel::Maxout(pieces) => ops.maxout(*pieces, input()?, tensor(target, output)?, threads),
            Kernel::Normalize { spec, scale, shift } => {
                let (scale, shift) = (scale.as_deref(), shift.as_deref());
                ops.normalize(*spec, scale, shift, input()?, tensor(target, output)?, threads)
            }
            Kernel::Concat => self.concat(ops, sources, target, threads),
            Kernel::AdaptivePool => {
                plain::adaptive(source, shape, target, output);
                Ok(())
            }
            Kernel::Pad(pad) => {
                plain::pad(source, shape, *pad, target, output);
                Ok(())
            }
            Kernel::ShortcutA(stride) => {
                plain::shortcut(source, shape, *stride, target, output);
                Ok(())
            }
            Kernel::Rbf(codes) => {
                plain::rbf(source, codes, shape.c, target);
                Ok(())
            }
            _ => {
                target.copy_from_slice(source);
                self.in_place(ops, sources, target, threads)
            }
        }
    }

    /// Kernels that change a copy of the first source.
    fn in_place(
        &self,
        ops: &Ops,
        sources: &Sources<'_>,
        target: &mut [f32],
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        let output = self.output;
        match &self.kernel {
            Kernel::Activation { activation, slope } => {
                ops.activate(*activation, slope.as_deref(), tensor(target, output)?, threads)
            }
            Kernel::ScaleShift(ScaleShift { scale, shift }) => {
                ops.scale_shift(scale, shift, tensor(target, output)?, threads)
            }
            Kernel::Softmax => ops.softmax(tensor(target, output)?, threads),
            Kernel::Mul => {
                plain::multiply(sources.get(1), target);
                Ok(())
            }
            Kernel::Add(activation) => {
                let addends = self.sources.len() - 1;
                if addends == 0 {
                    return ops.activate(*activation, None, tensor(target, output)?, threads);
                }
                for addend in 1..=addends {
                    let activation = if addend == addends { *activation } else { Activation::None };
                    let addend = packed(sources.get(addend), output)?;
                    ops.add(addend, tensor(target, output)?, activation, threads)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Each source becomes a slice of the channels of the target.
    fn concat(
        &self,
        ops: &Ops,
        sources: &Sources<'_>,
        target: &mut [f32],
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        let pixels = self.output.h * self.output.w;
        let pitch = Pitch { image: self.output.c * pixels, pixel: 1 };
        let mut channel = 0;
        for (index, &shape) in self.inputs.iter().enumerate() {
            let slice = &mut target[channel * pixels..];
            let slice = TensorMut::with_pitch(slice, shape, Layout::Nchw, pitch)?;
            ops.copy(packed(sources.get(index), shape)?, slice, threads)?;
            channel += shape.c;
        }
        Ok(())
    }

    pub(super) fn plan(&self) -> Option<&ConvPlan> {
        match &self.kernel {
            Kernel::Conv(plan) => Some(plan),
            Kernel::Linear(plan) => Some(plan.conv()),
            _ => None,
        }
    }
}

/// What a step reads.
pub(super) struct Sources<'a> {
    pub(super) places: &'a [Place],
    pub(super) lens: &'a [Shape4],
    pub(super) input: &'a [f32],
    pub(super) buffers: &'a [Vec<f32>],
}

impl<'a> Sources<'a> {
    /// A buffer may be longer than what is in it.
    fn get(&self, index: usize) -> &'a [f32] {
        let Shape4 { n, c, h, w } = self.lens[index];
        match self.places[index] {
            Place::Input => self.input,
            Place::Buffer(slot) => &self.buffers[slot][..n * c * h * w],
        }
    }
}

fn packed(data: &[f32], shape: Shape4) -> Result<TensorRef<'_>, ConvError> {
    TensorRef::packed(data, shape, Layout::Nchw)
}

fn tensor(data: &mut [f32], shape: Shape4) -> Result<TensorMut<'_>, ConvError> {
    TensorMut::packed(data, shape, Layout::Nchw)
}
