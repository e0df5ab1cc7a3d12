//! [`Layer`]: the operation of a node. Each kind knows its output shape, its parameters and its multiplications.

mod conv;
mod norm;
mod param;
mod pool;
mod shapes;
mod tensor;
mod window;

use crate::error::LayerError;
use crate::shape::Shape;
use conv::invalid;
pub use conv::{Conv, ConvTranspose, Linear, SparseConv};
use kernels::{Activation, Layout, Pad2, PoolKind};
pub use norm::{Lrn, Norm, NormKind};
use param::product;
pub use param::{Param, Role};
pub use pool::{AdaptivePool, FractionalPool, Pool, Subsample};
use shapes::{add, concat, map, matmul, maxout, mul, padded, shortcut, vector};
use std::ops::RangeInclusive;
pub use tensor::TensorLayer;
pub(crate) use tensor::{
    Binary, Blend, Cell, ConvNd, Deform, GridSample, Interpolation, OPERANDS, Operand, Outside, Overlap,
    Pick, PoolOp, Recurrent, Reduction, Scatter, SoftKind, TensorOp, Unary, Windows, axes_of, broadcast,
    cubic, role, sigmoid,
};
pub(crate) use window::window;

/// A kind of layer with its attributes. The values of its parameters are stored separately, by name.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Layer {
    /// The input image: the first node of every graph.
    Input(Shape),
    /// A convolution.
    Conv(Conv),
    /// A convolution with a table of connections between maps.
    SparseConv(SparseConv),
    /// A transposed convolution.
    ConvTranspose(ConvTranspose),
    /// A fully connected layer.
    Linear(Linear),
    /// Squared distances to fixed codes: the output layer of LeNet-5, `sum over j of (x_j - code_ij)^2`.
    Rbf {
        /// Number of codes.
        codes: usize,
    },
    /// Max or average pooling over windows or whole maps.
    Pool(Pool),
    /// Average pooling with a fixed output size.
    AdaptivePool(AdaptivePool),
    /// Max pooling over windows at random distances.
    FractionalPool(FractionalPool),
    /// Subsampling with trained coefficients.
    Subsample(Subsample),
    /// An elementwise activation function.
    Activation(Activation),
    /// Batch, layer, instance or group normalisation.
    Norm(Norm),
    /// Local response normalisation across channels.
    Lrn(Lrn),
    /// Trained parameters per channel: a factor (`weight`), a summand (`bias`), or both.
    Scale {
        /// Whether each channel is multiplied by a parameter.
        scale: bool,
        /// Whether a parameter is added to each channel.
        shift: bool,
    },
    /// The maximum over every `pieces` neighbouring channels (Goodfellow et al. 2013).
    Maxout {
        /// Input channels per output channel.
        pieces: usize,
    },
    /// Dropout, which does nothing at inference.
    Dropout,
    /// Concatenation of the channels of all inputs.
    Concat,
    /// The sum of all inputs, which have the same shape.
    Add,
    /// The product of two inputs. The second can have one pixel, which is then used for all pixels (squeeze
    /// and excitation).
    Mul,
    /// Zero padding around the image.
    Pad(Pad2),
    /// The identity shortcut with additional channels, option A of He et al. 2016. It keeps every `stride`-th
    /// pixel and fills the additional channels with zeros.
    ShortcutA {
        /// Distance between the pixels that are kept.
        stride: usize,
        /// Number of output channels.
        channels: usize,
    },
    /// Flattens feature maps to one vector, channel by channel.
    Flatten,
    /// A new shape for the same elements in the same order.
    Reshape(Shape),
    /// Softmax over the channels.
    Softmax,
    /// `alpha * x + beta`, limited to 0 and 1.
    HardSigmoid {
        /// The slope.
        alpha: f32,
        /// The value at 0.
        beta: f32,
    },
    /// The matrix product of two inputs, map by map. It can be counted, but not run.
    MatMul,
    /// An operator on tensors of any rank, from an imported model.
    Tensor(Box<TensorLayer>),
    /// An operator that this library does not know, or a known one with an input of [`Shape::Unknown`]. Its
    /// parameters are counted, its operations count as zero, and it cannot run. It has any number of inputs.
    Unknown {
        /// The name of the operator in its source.
        op: String,
        /// The shape of the output, as far as it is known.
        output: Shape,
        /// The trained tensors that it is known to read.
        params: Vec<Param>,
        /// Why it is not known, for errors.
        reason: String,
    },
}

impl Layer {
    /// The kind in tables: `"conv"`, `"linear"`, `"avg_pool"`, `"tanh"` and so on.
    pub fn op(&self) -> &str {
        match self {
            Self::Input(_) => "input",
            Self::Conv(_) => "conv",
            Self::SparseConv(_) => "sparse_conv",
            Self::ConvTranspose(_) => "conv_transpose",
            Self::Linear(_) => "linear",
            Self::Rbf { .. } => "rbf",
            Self::Pool(Pool { kind: PoolKind::Max, window: Some(_), .. }) => "max_pool",
            Self::Pool(Pool { kind: PoolKind::Max, window: None, .. }) => "global_max_pool",
            Self::Pool(Pool { window: None, .. }) => "global_avg_pool",
            Self::Pool(_) => "avg_pool",
            Self::AdaptivePool(_) => "adaptive_avg_pool",
            Self::FractionalPool(_) => "fractional_max_pool",
            Self::Subsample(_) => "subsample",
            Self::Activation(activation) => activation.name(),
            Self::Norm(norm) => norm.op(),
            Self::Lrn(_) => "lrn",
            Self::Scale { .. } => "scale",
            Self::Maxout { .. } => "maxout",
            Self::Dropout => "dropout",
            Self::Concat => "concat",
            Self::Add => "add",
            Self::Mul => "mul",
            Self::Pad(_) => "pad",
            Self::ShortcutA { .. } => "shortcut_a",
            Self::Flatten => "flatten",
            Self::Reshape(_) => "reshape",
            Self::Softmax => "softmax",
            Self::HardSigmoid { .. } => "hard_sigmoid",
            Self::MatMul => "matmul",
            Self::Tensor(tensor) => tensor.name(),
            Self::Unknown { op, .. } => op,
        }
    }

    /// The allowed number of inputs.
    pub(crate) fn arity(&self) -> RangeInclusive<usize> {
        match self {
            Self::Input(_) => 0..=0,
            Self::Concat | Self::Add => 1..=usize::MAX,
            Self::Mul | Self::MatMul => 2..=2,
            Self::Tensor(tensor) => tensor.arity()..=tensor.arity(),
            Self::Unknown { .. } => 0..=usize::MAX,
            _ => 1..=1,
        }
    }

    /// The output shape for the given input shapes. Their number must be allowed by [`arity`](Self::arity).
    pub(crate) fn output(&self, inputs: &[Shape]) -> Result<Shape, LayerError> {
        if let Self::Input(shape) | Self::Unknown { output: shape, .. } = self {
            shape.len()?;
            return match shape.is_empty() {
                true if *shape == Shape::Unknown && !matches!(self, Self::Input(_)) => Ok(*shape),
                true => Err(LayerError::Input { expected: "extents of at least 1", got: *shape }),
                false => Ok(*shape),
            };
        }
        if let Self::Tensor(tensor) = self {
            tensor.output.len()?;
            return Ok(tensor.output);
        }
        let input = inputs[0];
        match self {
            Self::Conv(conv) => conv.output(map(input)?),
            Self::SparseConv(conv) => conv.output(map(input)?),
            Self::ConvTranspose(conv) => conv.output(map(input)?),
            Self::Pool(pool) => Ok(pool.desc(map(input)?, Layout::Nchw)?.output().into()),
            Self::AdaptivePool(pool) => pool.output(map(input)?),
            Self::FractionalPool(pool) => pool.output(map(input)?),
            Self::Subsample(pool) => Ok(pool.pool().desc(map(input)?, Layout::Nchw)?.output().into()),
            Self::Linear(linear) => vector(input).and_then(|()| linear.output()),
            Self::Rbf { codes } => vector(input).and_then(|()| Linear::new(*codes).output()),
            Self::Norm(norm) => norm.check(input.channels()).map(|()| input),
            Self::Lrn(lrn) => lrn.check().map(|()| input),
            Self::Maxout { pieces } => maxout(*pieces, input),
            Self::Concat => concat(inputs),
            Self::Add => add(inputs),
            Self::Mul => mul(input, inputs[1]),
            Self::MatMul => matmul(input, inputs[1]),
            Self::Pad(pad) => padded(map(input)?, *pad),
            Self::ShortcutA { stride, channels } => shortcut(map(input)?, *stride, *channels),
            Self::Flatten => Ok(Shape::vector(input.len()?)),
            Self::Reshape(shape) if shape.len()? != input.len()? => {
                Err(invalid("shape", format!("{} elements as in {input}", input.len()?), shape))
            }
            Self::Reshape(shape) => Ok(*shape),
            Self::Activation(_) | Self::Softmax | Self::Dropout => Ok(input),
            Self::Scale { .. } | Self::HardSigmoid { .. } => Ok(input),
            Self::Input(_) | Self::Unknown { .. } | Self::Tensor(_) => Ok(input),
        }
    }

    /// The parameter tensors of the layer, in the order of their names in files. Valid after
    /// [`output`](Self::output) has accepted the inputs.
    pub(crate) fn params(&self, inputs: &[Shape]) -> Vec<Param> {
        match self {
            Self::Unknown { params, .. } => return params.clone(),
            Self::Tensor(tensor) => return tensor.params.clone(),
            _ => {}
        }
        let Some(channels) = inputs.first().map(|input| input.channels()) else { return Vec::new() };
        match self {
            Self::Conv(conv) => conv.params(channels),
            Self::SparseConv(conv) => conv.params(),
            Self::ConvTranspose(conv) => conv.params(channels),
            Self::Linear(linear) => linear.params(channels),
            Self::Rbf { codes } => {
                vec![Param { name: "weight", dims: vec![*codes, channels], role: Role::Fixed }]
            }
            Self::Subsample(_) => scale_and_shift(true, true, channels),
            Self::Scale { scale, shift } => scale_and_shift(*scale, *shift, channels),
            Self::Norm(norm) => norm.params(channels),
            Self::Activation(Activation::PRelu) => vec![Param::vector("weight", channels, Role::Slope)],
            _ => Vec::new(),
        }
    }

    /// Multiply-accumulates of `batch` images; `None` if they overflow 64 bits. By the convention of the literature,
    /// products with padding count, and bias, pooling, normalisation and activations do not.
    pub(crate) fn macs(&self, inputs: &[Shape], output: Shape, batch: u64) -> Option<u64> {
        let per_image = match self {
            // The batch is one of its axes.
            Self::Tensor(tensor) => return tensor.macs(inputs, usize::try_from(batch).ok()?),
            Self::Conv(conv) => conv.macs(inputs[0].channels(), output),
            Self::SparseConv(conv) => conv.macs(output),
            Self::ConvTranspose(conv) => conv.macs(inputs[0]),
            Self::Linear(linear) => product(&[inputs[0].channels(), linear.out_features]),
            Self::MatMul => product(&output.dims())?.checked_mul(u64::try_from(inputs[0].batched(1).w).ok()?),
            _ => Some(0),
        };
        per_image?.checked_mul(batch)
    }

    /// The layer for any batch, if `a` is it for a batch of `one` and `b` for a batch of `two`.
    pub(crate) fn unify(a: &Self, b: &Self, batches: (usize, usize)) -> Option<Self> {
        let shape = |a, b| Shape::unify(a, b, batches);
        Some(match (a, b) {
            (Self::Input(a), Self::Input(b)) => Self::Input(shape(*a, *b)?),
            (Self::Reshape(a), Self::Reshape(b)) => Self::Reshape(shape(*a, *b)?),
            (Self::Tensor(a), Self::Tensor(b)) => Self::Tensor(Box::new(TensorLayer::unify(a, b, batches)?)),
            (
                Self::Unknown { op, output: one, params, reason },
                Self::Unknown { op: other, output: two, params: others, .. },
            ) if op == other && params == others => {
                let (op, params, reason) = (op.clone(), params.clone(), reason.clone());
                Self::Unknown { op, output: shape(*one, *two)?, params, reason }
            }
            _ if a == b => a.clone(),
            _ => return None,
        })
    }

    /// Whether the layer is unknown and therefore counts as zero.
    pub(crate) const fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown { .. })
    }

    /// Whether the layer only passes on its input.
    pub(crate) fn is_view(&self) -> bool {
        matches!(self, Self::Flatten | Self::Reshape(_) | Self::Dropout)
            || *self == Self::Activation(Activation::None)
            || matches!(self, Self::Tensor(tensor) if tensor.is_view())
    }
}

fn scale_and_shift(scale: bool, shift: bool, channels: usize) -> Vec<Param> {
    let scale = scale.then(|| Param::vector("weight", channels, Role::Scale));
    let shift = shift.then(|| Param::vector("bias", channels, Role::Shift));
    scale.into_iter().chain(shift).collect()
}

impl From<Conv> for Layer {
    fn from(conv: Conv) -> Self {
        Self::Conv(conv)
    }
}

impl From<Linear> for Layer {
    fn from(linear: Linear) -> Self {
        Self::Linear(linear)
    }
}

impl From<Pool> for Layer {
    fn from(pool: Pool) -> Self {
        Self::Pool(pool)
    }
}

impl From<FractionalPool> for Layer {
    fn from(pool: FractionalPool) -> Self {
        Self::FractionalPool(pool)
    }
}

impl From<Activation> for Layer {
    fn from(activation: Activation) -> Self {
        Self::Activation(activation)
    }
}

impl From<Norm> for Layer {
    fn from(norm: Norm) -> Self {
        Self::Norm(norm)
    }
}

impl From<Lrn> for Layer {
    fn from(lrn: Lrn) -> Self {
        Self::Lrn(lrn)
    }
}
