//! From an operation to the kernel that computes it: descriptors, folded and permuted weights, plans.

use super::fuse::Fused;
use super::lower::{Arg, Op, Program, Work};
use super::step::{Kernel, ScaleShift};
use super::storage::Value;
use crate::error::{LayerError, NetError};
use crate::graph::{Graph, Node};
use crate::layer::{Conv, Layer, Linear, Norm};
use crate::weights::WeightSource;
use kernels::{
    Activation, ConvPlan, EpilogueSpec, Layout, LinearPlan, LrnSpec, NormSpec, PlanOptions, Select, Weights,
    Wisdom,
};
use std::borrow::Cow;

/// What building kernels needs.
pub(super) struct Kernels<'a> {
    pub(super) graph: &'a Graph,
    pub(super) weights: &'a dyn WeightSource,
    pub(super) program: &'a Program,
    pub(super) options: PlanOptions,
    /// Times of convolutions, known before or taken for one of the network's layers.
    pub(super) wisdom: Option<&'a Wisdom>,
}

/// Weights of one convolution with everything folded in.
#[derive(Default)]
struct Folded<'a> {
    filter: Cow<'a, [f32]>,
    bias: Option<Cow<'a, [f32]>>,
}

/// Why there is no kernel.
pub(super) enum Problem {
    /// To be tied to the layer.
    Layer(LayerError),
    /// Of the file of the weights; complete as it is.
    Weights(NetError),
}

impl<E: Into<LayerError>> From<E> for Problem {
    fn from(problem: E) -> Self {
        Self::Layer(problem.into())
    }
}

impl<'a> Kernels<'a> {
    /// The kernel of an operation.
    pub(super) fn kernel(&self, op: &Op) -> Result<Kernel, NetError> {
        let node = self.graph.node(op.node);
        let kernel = match &op.work {
            Work::View => Ok(Kernel::View),
            Work::Copy => Ok(Kernel::Copy),
            Work::Layers(layers) => match &layers[..] {
                [fused] => self.layer(self.graph.node(fused.nodes[0]), fused, op),
                merged => self.merged(merged, op),
            },
        };
        kernel.map_err(|problem| match problem {
            Problem::Layer(problem) => NetError::layer(&node.name, problem),
            Problem::Weights(error) => error,
        })
    }

    fn layer(&self, node: &Node, fused: &Fused, op: &Op) -> Result<Kernel, Problem> {
        let Arg { shape: input, layout, .. } = op.reads[0];
        Ok(match &node.layer {
            Layer::Conv(conv) => {
                let weights = self.fold(node, conv, fused, self.tensor(node, "weight")?)?;
                Kernel::Conv(self.conv(conv, fused, op, weights)?)
            }
            Layer::SparseConv(sparse) => {
                let dense = sparse.dense(&self.tensor(node, "weight")?, input.c);
                let weights = self.fold(node, &sparse.conv, fused, dense.into())?;
                Kernel::Conv(self.conv(&sparse.conv, fused, op, weights)?)
            }
            Layer::Linear(linear) => Kernel::Linear(self.linear(node, linear, op.reads[0], fused)?),
            Layer::Pool(pool) => Kernel::Pool(pool.desc(input, layout)?),
            Layer::AdaptivePool(pool) => match pool.as_pool(input) {
                Some(pool) => Kernel::Pool(pool.desc(input, layout)?),
                None => Kernel::AdaptivePool,
            },
            Layer::Subsample(subsample) => {
                let window = subsample.window.h as f32 * subsample.window.w as f32;
                let scale = self.tensor(node, "weight")?.iter().map(|factor| factor * window).collect();
                let shift = self.tensor(node, "bias")?.into_owned();
                Kernel::Subsample(subsample.pool().desc(input, layout)?, ScaleShift { scale, shift })
            }
            &Layer::Activation(activation) => {
                let slope = (activation == Activation::PRelu).then(|| self.tensor(node, "weight"));
                Kernel::Activation { activation, slope: slope.transpose()?.map(Cow::into_owned) }
            }
            Layer::Norm(norm) => self.norm(node, norm, input.c)?,
            Layer::Scale { scale, shift } => {
                let part = |wanted: bool, name, absent: f32| match wanted {
                    true => self.tensor(node, name).map(Cow::into_owned),
                    false => Ok(vec![absent; input.c]),
                };
                let (scale, shift) = (part(*scale, "weight", 1.0)?, part(*shift, "bias", 0.0)?);
                Kernel::ScaleShift(ScaleShift { scale, shift })
            }
            Layer::Lrn(lrn) => {
                Kernel::Lrn(LrnSpec { size: lrn.size, alpha: lrn.alpha, beta: lrn.beta, k: lrn.k })
            }
            Layer::Maxout { pieces } => Kernel::Maxout(*pieces),
            Layer::Add => Kernel::Add(activation(fused)),
            Layer::Mul => Kernel::Mul,
            Layer::Pad(pad) => Kernel::Pad(*pad),
            Layer::ShortcutA { stride, .. } => Kernel::ShortcutA(*stride),
            Layer::Rbf { .. } => {
                Kernel::Rbf(self.columns(self.tensor(node, "weight")?, op.reads[0]).into_owned())
            }
            Layer::Softmax => Kernel::Softmax,
            _ => return Err(LayerError::NoKernel { op: node.layer.op().to_owned() }.into()),
        })
    }

    fn norm(&self, node: &Node, norm: &Norm, channels: usize) -> Result<Kernel, Problem> {
        let Some(groups) = norm.groups(channels) else {
            return Ok(Kernel::ScaleShift(self.scale_shift(node, norm)?));
        };
        let spec = NormSpec { groups, eps: norm.eps };
        let part = |name| norm.affine.then(|| self.tensor(node, name).map(Cow::into_owned)).transpose();
        Ok(Kernel::Normalize { spec, scale: part("weight")?, shift: part("bias")? })
    }

    /// Batch normalisation as one factor and one sum per channel, computed in `f64`.
    fn scale_shift(&self, node: &Node, norm: &Norm) -> Result<ScaleShift, Problem> {
        let (mean, var) = (self.tensor(node, "running_mean")?, self.tensor(node, "running_var")?);
        let part = |name| norm.affine.then(|| self.tensor(node, name)).transpose();
        let (weight, bias) = (part("weight")?, part("bias")?);
        let number = |numbers: &Option<Cow<'_, [f32]>>, c: usize, absent| {
            numbers.as_ref().map_or(absent, |n| f64::from(n[c]))
        };
        let both = mean.iter().zip(&*var).enumerate().map(|(c, (&mean, &var))| {
            let scale = number(&weight, c, 1.0) / (f64::from(var) + f64::from(norm.eps)).sqrt();
            (scale as f32, (number(&bias, c, 0.0) - f64::from(mean) * scale) as f32)
        });
        let (scale, shift) = both.unzip();
        Ok(ScaleShift { scale, shift })
    }

    /// Filter and bias of a convolution with the normalisation after it folded in.
    fn fold(
        &self,
        node: &Node,
        conv: &Conv,
        fused: &Fused,
        mut filter: Cow<'a, [f32]>,
    ) -> Result<Folded<'a>, Problem> {
        let mut bias = conv.bias.then(|| self.tensor(node, "bias")).transpose()?;
        if let Some((id, norm)) = &fused.norm {
            let ScaleShift { scale, shift } = self.scale_shift(self.graph.node(*id), norm)?;
            let taps = filter.len() / scale.len();
            for (row, scale) in filter.to_mut().chunks_exact_mut(taps).zip(&scale) {
                row.iter_mut().for_each(|weight| *weight *= scale);
            }
            let old = |c: usize| bias.as_ref().map_or(0.0, |bias| bias[c]);
            let sums = scale.iter().zip(&shift).enumerate().map(|(c, (scale, shift))| old(c) * scale + shift);
            bias = Some(sums.collect());
        }
        Ok(Folded { filter, bias })
    }

    fn conv(&self, conv: &Conv, fused: &Fused, op: &Op, weights: Folded<'_>) -> Result<ConvPlan, Problem> {
        let Arg { shape: input, layout, .. } = op.reads[0];
        let output = op.write.map_or(layout, |write| self.program.storages.value(write).layout);
        let Folded { filter, bias } = weights;
        let residual = fused.residual.is_some();
        let epilogue = EpilogueSpec { bias: bias.is_some(), residual, activation: activation(fused) };
        let desc = conv.desc_with(input, (layout, output), epilogue)?;
        let slope = self.slope(fused)?;
        let weights = Weights { filter: &filter, bias: bias.as_deref(), slope: slope.as_deref() };
        Ok(match self.wisdom {
            Some(wisdom) => ConvPlan::with_wisdom(&desc, weights, &self.options, wisdom)?,
            None => ConvPlan::new(&desc, weights, &self.options)?,
        })
    }

    /// One convolution with the output channels of all.
    fn merged(&self, members: &[Fused], op: &Op) -> Result<Kernel, Problem> {
        let mut all = Folded::default();
        let mut biases = Vec::new();
        let mut whole: Option<Conv> = None;
        for fused in members {
            let node = self.graph.node(fused.nodes[0]);
            let Layer::Conv(conv) = &node.layer else {
                return Err(LayerError::NoKernel { op: node.layer.op().to_owned() }.into());
            };
            let Folded { filter, bias } = self.fold(node, conv, fused, self.tensor(node, "weight")?)?;
            all.filter.to_mut().extend_from_slice(&filter);
            biases.extend(bias.map_or_else(|| vec![0.0; conv.out_channels], Cow::into_owned));
            let before = whole.map_or(0, |whole| whole.out_channels);
            whole = Some(Conv { out_channels: before + conv.out_channels, ..*conv });
        }
        all.bias = Some(biases.into());
        let conv = whole.ok_or(LayerError::NoKernel { op: "conv".to_owned() })?;
        Ok(Kernel::Conv(self.conv(&conv, &members[0], op, all)?))
    }

    fn linear(&self, node: &Node, linear: &Linear, input: Arg, fused: &Fused) -> Result<LinearPlan, Problem> {
        let epilogue = EpilogueSpec { bias: linear.bias, residual: false, activation: activation(fused) };
        let bias = linear.bias.then(|| self.tensor(node, "bias")).transpose()?;
        let filter = self.columns(self.tensor(node, "weight")?, input);
        let slope = self.slope(fused)?;
        let weights = Weights { filter: &filter, bias: bias.as_deref(), slope: slope.as_deref() };
        let (batch, ins) = (input.shape.w, input.shape.c);
        let options = match self.options.select {
            // The weights may be most of the network: packed once is enough.
            Select::Measured => self.options.select(Select::Auto),
            _ => self.options,
        };
        Ok(LinearPlan::new(batch, ins, linear.out_features, epilogue, weights, &options)?)
    }

    /// Rows of weights in the order of what they are multiplied with: flattened blocks of channels have another order
    /// than flattened planes. The permutation is done here, once, instead of one of the image at every run.
    fn columns(&self, mut rows: Cow<'a, [f32]>, input: Arg) -> Cow<'a, [f32]> {
        const BLOCK: usize = super::layout::BLOCK;
        let Value { shape, layout } = self.program.storages.value(input.value);
        let pixels = shape.h * shape.w;
        if layout != Layout::Nchw16c || pixels == 1 {
            return rows;
        }
        // In place, row by row: the matrix may be most of the network.
        let mut plain = Vec::with_capacity(shape.c * pixels);
        for row in rows.to_mut().chunks_exact_mut(shape.c * pixels) {
            plain.clear();
            plain.extend_from_slice(row);
            for (block, to) in plain.chunks_exact(BLOCK * pixels).zip(row.chunks_exact_mut(BLOCK * pixels)) {
                for (pixel, to) in to.chunks_exact_mut(BLOCK).enumerate() {
                    to.iter_mut()
                        .zip(block[pixel..].iter().step_by(pixels))
                        .for_each(|(to, &from)| *to = from);
                }
            }
        }
        rows
    }

    /// The slopes of a PReLU that is fused.
    fn slope(&self, fused: &Fused) -> Result<Option<Cow<'a, [f32]>>, Problem> {
        let node = fused.activation.filter(|&(_, activation)| activation == Activation::PRelu);
        node.map(|(node, _)| self.tensor(self.graph.node(node), "weight")).transpose()
    }

    fn tensor(&self, node: &Node, param: &'static str) -> Result<Cow<'a, [f32]>, Problem> {
        let name = format!("{}.{param}", node.name);
        let params = node.layer.params(&self.graph.input_shapes(node));
        let found = match params.iter().find(|known| known.name == param) {
            Some(param) => self.weights.tensor(&name, param).map_err(Problem::Weights)?,
            None => None,
        };
        let network = || self.weights.network().to_owned();
        Ok(found.ok_or_else(|| LayerError::NoWeights { tensor: name, network: network() })?)
    }
}

fn activation(fused: &Fused) -> Activation {
    fused.activation.map_or(Activation::None, |(_, activation)| activation)
}
