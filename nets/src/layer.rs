//! [`Layer`]: what a node computes. Each kind knows its output shape, its parameters and its multiplications.

use crate::error::LayerError;
use crate::shape::Shape;
use kernels::{
    Activation, ConvDesc, ConvError, EpilogueSpec, Layout, Pad2, PoolDesc, PoolKind, Shape4, Size2,
};

/// One kind of layer with its attributes; the trained numbers are kept apart, by name.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Layer {
    /// Where the image comes in: the first node of every graph.
    Input(Shape),
    /// Convolution.
    Conv(Conv),
    /// Fully connected.
    Linear(Linear),
    /// Max or average over windows.
    Pool(Pool),
    /// One function for every element.
    Activation(Activation),
    /// Feature maps to one vector, channel by channel.
    Flatten,
    /// Exponentials that sum to one over the channels.
    Softmax,
}

/// A convolution without its weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Conv {
    /// Feature maps that it makes.
    pub out_channels: usize,
    /// Extents of the kernel.
    pub kernel: Size2,
    /// Input elements from one output to the next.
    pub stride: Size2,
    /// Zeros around the input.
    pub pad: Pad2,
    /// Input elements from one tap to the next.
    pub dilation: Size2,
    /// Groups of channels.
    pub groups: usize,
    /// Whether a trained number is added to each feature map.
    pub bias: bool,
}

/// A fully connected layer without its weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Linear {
    /// Elements that it makes.
    pub out_features: usize,
    /// Whether a trained number is added to each.
    pub bias: bool,
}

/// A pooling layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pool {
    /// Maximum or average.
    pub kind: PoolKind,
    /// Extents of the window; `None` is the whole image.
    pub window: Option<Size2>,
    /// Input elements from one window to the next.
    pub stride: Size2,
    /// Elements around the input.
    pub pad: Pad2,
    /// Whether the last window may hang over the edge.
    pub ceil_mode: bool,
}

impl Conv {
    /// A square kernel, stride 1, no padding, with bias.
    pub const fn new(out_channels: usize, kernel: usize) -> Self {
        let (kernel, one) = (Size2::square(kernel), Size2::square(1));
        Self { out_channels, kernel, stride: one, pad: Pad2::VALID, dilation: one, groups: 1, bias: true }
    }

    /// The same stride on both axes.
    pub const fn stride(self, stride: usize) -> Self {
        Self { stride: Size2::square(stride), ..self }
    }

    /// The same padding on all sides.
    pub const fn pad(self, pad: usize) -> Self {
        Self { pad: Pad2::all(pad), ..self }
    }

    /// With groups.
    pub const fn groups(self, groups: usize) -> Self {
        Self { groups, ..self }
    }

    /// Without bias, as before a batch normalisation.
    pub const fn no_bias(self) -> Self {
        Self { bias: false, ..self }
    }

    /// The kernels' description of this layer on such an input.
    ///
    /// # Errors
    /// Those of [`kernels::ConvDescBuilder::build`].
    pub fn desc(&self, input: Shape4, layout: Layout, activation: Activation) -> Result<ConvDesc, ConvError> {
        ConvDesc::builder(input, self.out_channels, self.kernel)
            .stride(self.stride)
            .pad(self.pad)
            .dilation(self.dilation)
            .groups(self.groups)
            .layout(layout)
            .epilogue(EpilogueSpec { bias: self.bias, residual: false, activation })
            .build()
    }
}

impl Linear {
    /// With bias.
    pub const fn new(out_features: usize) -> Self {
        Self { out_features, bias: true }
    }

    fn output(&self) -> Result<Shape, LayerError> {
        let output = Shape::vector(self.out_features);
        output.len()?;
        if output.is_empty() {
            let (expected, got) = ("at least 1".to_owned(), "0".to_owned());
            return Err(ConvError::InvalidField { field: "out_features", expected, got }.into());
        }
        Ok(output)
    }
}

impl Pool {
    /// Averages over `window` by `window`, `stride` apart, without padding.
    pub const fn average(window: usize, stride: usize) -> Self {
        Self::new(PoolKind::Average { count_include_pad: true }, window, stride)
    }

    /// Maxima over `window` by `window`, `stride` apart, without padding.
    pub const fn max(window: usize, stride: usize) -> Self {
        Self::new(PoolKind::Max, window, stride)
    }

    /// The average of each feature map.
    pub const fn global_average() -> Self {
        Self { window: None, ..Self::average(1, 1) }
    }

    const fn new(kind: PoolKind, window: usize, stride: usize) -> Self {
        let (window, stride) = (Some(Size2::square(window)), Size2::square(stride));
        Self { kind, window, stride, pad: Pad2::VALID, ceil_mode: false }
    }

    /// The same padding on all sides.
    pub const fn pad(self, pad: usize) -> Self {
        Self { pad: Pad2::all(pad), ..self }
    }

    /// Rounds the output extents up.
    pub const fn ceil_mode(self) -> Self {
        Self { ceil_mode: true, ..self }
    }

    /// The kernels' description of this layer on such an input.
    ///
    /// # Errors
    /// Those of the kernels: an empty output, a zero stride, ...
    pub fn desc(&self, input: Shape4, layout: Layout) -> Result<PoolDesc, ConvError> {
        let Some(window) = self.window else { return PoolDesc::global(input, self.kind, layout) };
        PoolDesc::builder(input, window, self.kind)
            .stride(self.stride)
            .pad(self.pad)
            .ceil_mode(self.ceil_mode)
            .layout(layout)
            .build()
    }
}

/// One trained tensor of a layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Param {
    /// `"weight"`, `"bias"`; the full name is `layer.weight`.
    pub name: &'static str,
    /// Extents, outermost first.
    pub dims: Vec<usize>,
    /// What it is for.
    pub role: Role,
}

/// What a trained tensor is for: how it is initialised depends on it.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Role {
    /// Multiplies inputs.
    Weight {
        /// Inputs of one output.
        fan_in: f64,
        /// Outputs of one input.
        fan_out: f64,
    },
    /// Is added.
    Bias,
    /// Multiplies the negative half of PReLU.
    Slope,
}

impl Param {
    /// Elements, if they fit 64 bits.
    pub fn len(&self) -> Option<u64> {
        product(&self.dims)
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.dims.contains(&0)
    }

    fn weight(dims: Vec<usize>, fan_in: f64, fan_out: f64) -> Self {
        Self { name: "weight", dims, role: Role::Weight { fan_in, fan_out } }
    }

    fn bias(len: usize) -> Self {
        Self { name: "bias", dims: vec![len], role: Role::Bias }
    }
}

impl Layer {
    /// The kind, as tables show it: `"conv"`, `"linear"`, `"avg_pool"`, `"tanh"`, ...
    pub fn op(&self) -> &'static str {
        match self {
            Self::Input(_) => "input",
            Self::Conv(_) => "conv",
            Self::Linear(_) => "linear",
            Self::Pool(Pool { kind: PoolKind::Max, .. }) => "max_pool",
            Self::Pool(_) => "avg_pool",
            Self::Activation(activation) => activation.name(),
            Self::Flatten => "flatten",
            Self::Softmax => "softmax",
        }
    }

    /// Tensors that it reads.
    pub(crate) fn arity(&self) -> usize {
        match self {
            Self::Input(_) => 0,
            _ => 1,
        }
    }

    /// The shape that comes out, given what goes in (as many shapes as [`arity`](Self::arity) says).
    pub(crate) fn output(&self, inputs: &[Shape]) -> Result<Shape, LayerError> {
        if let Self::Input(shape) = self {
            shape.len()?;
            return match shape.is_empty() {
                true => Err(LayerError::Input { expected: "extents of at least 1", got: *shape }),
                false => Ok(*shape),
            };
        }
        let input = inputs[0];
        match self {
            Self::Conv(conv) => {
                let desc = conv.desc(map(input)?, Layout::Nchw, Activation::None)?;
                Ok(desc.output().into())
            }
            Self::Pool(pool) => Ok(pool.desc(map(input)?, Layout::Nchw)?.output().into()),
            Self::Linear(linear) => match input {
                Shape::Vector { .. } => linear.output(),
                Shape::Map { .. } => {
                    Err(LayerError::Input { expected: "a vector (flatten first)", got: input })
                }
            },
            Self::Flatten => Ok(Shape::vector(input.len()?)),
            Self::Activation(_) | Self::Softmax | Self::Input(_) => Ok(input),
        }
    }

    /// The trained tensors, in the order of their names in files. Valid after [`output`](Self::output) was.
    pub(crate) fn params(&self, inputs: &[Shape]) -> Vec<Param> {
        let bias = |wanted: bool, len| wanted.then(|| Param::bias(len));
        match self {
            Self::Conv(conv) => {
                let (Size2 { h, w }, outputs) = (conv.kernel, conv.out_channels);
                let inputs = inputs[0].channels() / conv.groups;
                let taps = h as f64 * w as f64;
                let fan_out = outputs as f64 / conv.groups as f64 * taps;
                let weight = Param::weight(vec![outputs, inputs, h, w], inputs as f64 * taps, fan_out);
                [Some(weight), bias(conv.bias, outputs)].into_iter().flatten().collect()
            }
            Self::Linear(linear) => {
                let (inputs, outputs) = (inputs[0].channels(), linear.out_features);
                let weight = Param::weight(vec![outputs, inputs], inputs as f64, outputs as f64);
                [Some(weight), bias(linear.bias, outputs)].into_iter().flatten().collect()
            }
            Self::Activation(Activation::PRelu) => {
                vec![Param { name: "weight", dims: vec![inputs[0].channels()], role: Role::Slope }]
            }
            Self::Input(_) | Self::Pool(_) | Self::Activation(_) | Self::Flatten | Self::Softmax => {
                Vec::new()
            }
        }
    }

    /// Multiply-accumulates for one image, if they fit 64 bits. Products with padding count; bias, pooling and
    /// activations do not: the convention of the literature.
    pub(crate) fn macs(&self, inputs: &[Shape], output: Shape) -> Option<u64> {
        match self {
            Self::Conv(conv) => {
                let per_output =
                    product(&[inputs[0].channels() / conv.groups, conv.kernel.h, conv.kernel.w])?;
                product(&output.dims())?.checked_mul(per_output)
            }
            Self::Linear(linear) => product(&[inputs[0].channels(), linear.out_features]),
            _ => Some(0),
        }
    }
}

fn product(factors: &[usize]) -> Option<u64> {
    factors.iter().try_fold(1u64, |product, &factor| product.checked_mul(u64::try_from(factor).ok()?))
}

fn map(input: Shape) -> Result<Shape4, LayerError> {
    match input {
        Shape::Map { .. } => Ok(input.batched(1)),
        Shape::Vector { .. } => Err(LayerError::Input { expected: "feature maps", got: input }),
    }
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

impl From<Activation> for Layer {
    fn from(activation: Activation) -> Self {
        Self::Activation(activation)
    }
}
