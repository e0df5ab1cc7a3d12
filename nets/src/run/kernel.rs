//! Builds the kernel of an operation: descriptors, folded and permuted weights, plans.

use super::blockwise::blockwise;
use super::filter::{Filter, Member, Problem, Rows, permute};
use super::fuse::Fused;
use super::lower::{Arg, Op, Program, Work};
use super::packed::PackedWeights;
use super::step::{Kernel, ScaleShift};
use super::storage::Value;
use super::tensor::TensorKernel;
use super::volume::VolumeKernel;
use crate::error::{LayerError, NetError};
use crate::graph::{Graph, Node};
use crate::layer::{Conv, ConvTranspose, Layer, Linear, Norm, TensorLayer};
use crate::weights::WeightSource;
use kernels::{
    Activation, Choice, ConvDesc, ConvError, ConvPlan, EpilogueSpec, Layout, LinearPlan, LrnSpec, NormSpec,
    PlanOptions, Select, TransposedPlan, Weights, Wisdom,
};
use std::borrow::Cow;
use std::cell::RefCell;

/// The inputs for building kernels.
pub(super) struct Kernels<'a> {
    pub(super) graph: &'a Graph,
    pub(super) weights: &'a dyn WeightSource,
    pub(super) program: &'a Program,
    pub(super) options: PlanOptions,
    /// Times of convolutions, from the caller or from layers of this network.
    pub(super) known: Known<'a>,
    /// A buffer for weights during packing. All layers share it, so that the allocator does not retain memory
    /// for many.
    pub(super) part: RefCell<Vec<f32>>,
}

/// What earlier compilations left.
#[derive(Clone, Copy, Default)]
pub(super) struct Known<'a> {
    /// Times of convolutions.
    pub(super) wisdom: Option<&'a Wisdom>,
    pub(super) packed: Option<&'a PackedWeights>,
}

/// Weights of one layer with its normalisation folded in.
struct Folded<'a> {
    filter: Member<'a>,
    bias: Option<Cow<'a, [f32]>>,
}

impl<'a> Kernels<'a> {
    /// Builds the kernel of an operation.
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
        if let Layer::Tensor(tensor) = &node.layer {
            return match tensor.trained_matrix() {
                Some(extents) => {
                    Ok(Kernel::Conv(Box::new(self.product(node, tensor, extents, (op, fused))?)))
                }
                None => self.operator(node, tensor, op),
            };
        }
        let Arg { shape: input, layout, .. } = op.reads[0];
        Ok(match &node.layer {
            Layer::Conv(conv) => {
                let Folded { filter, bias } = self.fold(node, conv, fused, self.rows(node)?)?;
                Kernel::Conv(Box::new(self.conv(conv, fused, op, (vec![filter], bias))?))
            }
            Layer::SparseConv(sparse) => {
                let dense = sparse.dense(&self.tensor(node, "weight")?, input.c);
                let Folded { filter, bias } =
                    self.fold(node, &sparse.conv, fused, Rows::Whole(dense.into()))?;
                Kernel::Conv(Box::new(self.conv(&sparse.conv, fused, op, (vec![filter], bias))?))
            }
            Layer::Linear(linear) => Kernel::Conv(Box::new(self.linear(node, linear, op.reads[0], fused)?)),
            Layer::Pool(pool) => Kernel::Pool(pool.desc(input, layout)?),
            Layer::AdaptivePool(pool) => match pool.as_pool(input) {
                Some(pool) => Kernel::Pool(pool.desc(input, layout)?),
                None => Kernel::AdaptivePool,
            },
            Layer::FractionalPool(pool) => Kernel::FractionalPool(*pool),
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
            Layer::Norm(norm) => self.norm(node, norm, input.c, activation(fused))?,
            Layer::Scale { scale, shift } => {
                let part = |wanted: bool, name, absent: f32| match wanted {
                    true => self.tensor(node, name).map(Cow::into_owned),
                    false => Ok(vec![absent; input.c]),
                };
                let (scale, shift) = (part(*scale, "weight", 1.0)?, part(*shift, "bias", 0.0)?);
                Kernel::ScaleShift(ScaleShift { scale, shift }, activation(fused))
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
                let mut codes = self.tensor(node, "weight")?.into_owned();
                if let (taps, Some(pixels)) = self.flattened(op.reads[0]) {
                    permute(&mut codes, taps, pixels);
                }
                Kernel::Rbf(codes)
            }
            Layer::Softmax => Kernel::Softmax,
            &Layer::HardSigmoid { alpha, beta } => {
                let line = ScaleShift { scale: vec![alpha; input.c], shift: vec![beta; input.c] };
                Kernel::ScaleShift(line, Activation::Clip { lo: 0.0, hi: 1.0 })
            }
            Layer::ConvTranspose(conv) => {
                Kernel::Transposed(Box::new(self.transposed(node, conv, op.reads[0])?))
            }
            _ => return Err(LayerError::NoKernel { op: node.layer.op().to_owned() }.into()),
        })
    }

    /// An operator on tensors, with the elements of its parameters.
    fn operator(&self, node: &Node, tensor: &TensorLayer, op: &Op) -> Result<Kernel, Problem> {
        let params = tensor.params.iter().map(|param| self.tensor(node, param.name).map(Cow::into_owned));
        let params: Vec<Vec<f32>> = params.collect::<Result<_, _>>()?;
        let (inputs, batch) = (self.graph.input_shapes(node), self.program.batch);
        let layout = op.write.map(|write| self.program.storages.value(write).layout);
        if layout == Some(Layout::Nchw16c)
            && let Some((layer, inputs)) = blockwise(tensor, &inputs, batch)
        {
            return Ok(Kernel::Tensor(Box::new(TensorKernel::new(&layer, &inputs, 1, params)?)));
        }
        if let (Some(dims), Some(output)) = (tensor.operand_dims(&inputs, batch), tensor.output.full(batch))
            && let Some(kernel) = VolumeKernel::new(tensor, (&dims, &output), &params, &self.options)?
        {
            return Ok(Kernel::Volume(Box::new(kernel)));
        }
        Ok(Kernel::Tensor(Box::new(TensorKernel::new(tensor, &inputs, batch, params)?)))
    }

    /// A product with a trained matrix, as a convolution of one row of pixels.
    fn product(
        &self,
        node: &Node,
        tensor: &TensorLayer,
        [inputs, outputs]: [usize; 2],
        (op, fused): (&Op, &Fused),
    ) -> Result<ConvPlan, Problem> {
        let matrix = self.tensor(node, tensor.params[0].name)?;
        let turned = (0..outputs).flat_map(|output| matrix.iter().skip(output).step_by(outputs).copied());
        let rows = Rows::Whole(turned.collect::<Vec<f32>>().into());
        let desc = LinearPlan::desc(op.reads[0].shape.w, inputs, outputs, EpilogueSpec::NONE)?;
        let filter = Filter { members: vec![Member { rows, channels: outputs, scale: None }], pixels: None };
        self.packed(&desc, &self.options, fused, (&filter, None))
    }

    fn transposed(&self, node: &Node, conv: &ConvTranspose, input: Arg) -> Result<TransposedPlan, Problem> {
        let desc = conv.desc(input.shape, input.layout)?;
        let (filter, bias) =
            (self.tensor(node, "weight")?, conv.bias.then(|| self.tensor(node, "bias")).transpose()?);
        let weights = Weights { filter: &filter, bias: bias.as_deref(), slope: None };
        Ok(TransposedPlan::new(&desc, weights, &self.options)?)
    }

    /// `activation` follows batch normalisation only.
    fn norm(
        &self,
        node: &Node,
        norm: &Norm,
        channels: usize,
        activation: Activation,
    ) -> Result<Kernel, Problem> {
        let Some(groups) = norm.groups(channels) else {
            return Ok(Kernel::ScaleShift(self.scale_shift(node, norm)?, activation));
        };
        let spec = NormSpec { groups, eps: norm.eps };
        let part = |name| norm.affine.then(|| self.tensor(node, name).map(Cow::into_owned)).transpose();
        Ok(Kernel::Normalize { spec, scale: part("weight")?, shift: part("bias")? })
    }

    /// Batch normalisation as one factor and one summand per channel, computed in `f64`.
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

    /// The filter and the bias of a convolution, with the following normalisation folded in.
    fn fold(&self, node: &Node, conv: &Conv, fused: &Fused, rows: Rows<'a>) -> Result<Folded<'a>, Problem> {
        let mut bias = conv.bias.then(|| self.tensor(node, "bias")).transpose()?;
        let mut filter = Member { rows, channels: conv.out_channels, scale: None };
        if let Some((id, norm)) = &fused.norm {
            let ScaleShift { scale, shift } = self.scale_shift(self.graph.node(*id), norm)?;
            let old = |c: usize| bias.as_ref().map_or(0.0, |bias| bias[c]);
            let sums = scale.iter().zip(&shift).enumerate().map(|(c, (scale, shift))| old(c) * scale + shift);
            bias = Some(sums.collect());
            filter.scale = Some(scale);
        }
        Ok(Folded { filter, bias })
    }

    fn conv(
        &self,
        conv: &Conv,
        fused: &Fused,
        op: &Op,
        (members, bias): (Vec<Member<'a>>, Option<Cow<'a, [f32]>>),
    ) -> Result<ConvPlan, Problem> {
        let Arg { shape: input, layout, .. } = op.reads[0];
        let output = op.write.map_or(layout, |write| self.program.storages.value(write).layout);
        let residual = fused.residual.is_some();
        let epilogue = EpilogueSpec { bias: bias.is_some(), residual, activation: activation(fused) };
        let desc = conv.desc_with(input, (layout, output), epilogue)?;
        let filter = Filter { members, pixels: None };
        self.packed(&desc, &self.options, fused, (&filter, bias.as_deref()))
    }

    /// One convolution with the output channels of all members.
    fn merged(&self, members: &[Fused], op: &Op) -> Result<Kernel, Problem> {
        let (mut filters, mut biases) = (Vec::new(), Vec::new());
        let mut whole: Option<Conv> = None;
        for fused in members {
            let node = self.graph.node(fused.nodes[0]);
            let Layer::Conv(conv) = &node.layer else {
                return Err(LayerError::NoKernel { op: node.layer.op().to_owned() }.into());
            };
            let Folded { filter, bias } = self.fold(node, conv, fused, self.rows(node)?)?;
            filters.push(filter);
            biases.extend(bias.map_or_else(|| vec![0.0; conv.out_channels], Cow::into_owned));
            let before = whole.map_or(0, |whole| whole.out_channels);
            whole = Some(Conv { out_channels: before + conv.out_channels, ..*conv });
        }
        let conv = whole.ok_or(LayerError::NoKernel { op: "conv".to_owned() })?;
        Ok(Kernel::Conv(Box::new(self.conv(&conv, &members[0], op, (filters, Some(biases.into())))?)))
    }

    fn linear(&self, node: &Node, linear: &Linear, input: Arg, fused: &Fused) -> Result<ConvPlan, Problem> {
        let epilogue = EpilogueSpec { bias: linear.bias, residual: false, activation: activation(fused) };
        let bias = linear.bias.then(|| self.tensor(node, "bias")).transpose()?;
        let desc = LinearPlan::desc(input.shape.w, input.shape.c, linear.out_features, epilogue)?;
        let member = Member { rows: self.rows(node)?, channels: linear.out_features, scale: None };
        let filter = Filter { members: vec![member], pixels: self.flattened(input).1 };
        // Timing would pack these weights several times, and they can be most of the network.
        let options = match self.options.select {
            Select::Measured => self.options.select(Select::Auto),
            _ => self.options,
        };
        self.packed(&desc, &options, fused, (&filter, bias.as_deref()))
    }

    /// Plans a convolution and packs `filter` part by part. The filter can be most of the network, so it
    /// should not be in memory twice.
    fn packed(
        &self,
        desc: &ConvDesc,
        options: &PlanOptions,
        fused: &Fused,
        (filter, bias): (&Filter<'_>, Option<&[f32]>),
    ) -> Result<ConvPlan, Problem> {
        if let Some(plan) = self.packed_before(desc, options, fused) {
            return Ok(plan);
        }
        let slope = self.slope(fused)?;
        let weights = Weights { filter: &[], bias, slope: slope.as_deref() };
        let taps = desc.filter_len() / desc.output().c;
        let mut part = self.part.borrow_mut();
        let mut packing = ConvPlan::packing(desc, weights, options)?;
        while !packing.next_channels().is_empty() {
            let channels = packing.next_channels();
            part.resize(channels.len() * taps, 0.0);
            filter.read(channels, taps, &mut part)?;
            packing.fill(&part)?;
        }
        Ok(match self.known.wisdom {
            Some(wisdom) => packing.finish_with_wisdom(wisdom)?,
            None => packing.finish()?,
        })
    }

    /// The plan with weights that are packed already, unless another form would be much faster.
    fn packed_before(&self, desc: &ConvDesc, options: &PlanOptions, fused: &Fused) -> Option<ConvPlan> {
        const SLOWER: f64 = 1.1;
        let filter = self.known.packed?.filter(&self.graph.node(fused.nodes[0]).name)?;
        let plan = ConvPlan::new(desc, filter, options).ok()?;
        let seconds = |choice: &Choice| choice.candidate().map(|candidate| candidate.estimate.seconds);
        let best = seconds(&ConvPlan::choice(desc, options).ok()?)?;
        (seconds(&plan.explain().choice)? <= SLOWER * best).then_some(plan)
    }

    /// The number of weights per output feature. Also the number of pixels in the flattened input, if it
    /// consists of channel blocks with more than one pixel.
    fn flattened(&self, input: Arg) -> (usize, Option<usize>) {
        let Value { shape, layout } = self.program.storages.value(input.value);
        let pixels = shape.h * shape.w;
        (shape.c * pixels, Some(pixels).filter(|&pixels| layout == Layout::Nchw16c && pixels > 1))
    }

    /// The slopes of a fused PReLU.
    fn slope(&self, fused: &Fused) -> Result<Option<Cow<'a, [f32]>>, Problem> {
        let node = fused.activation.filter(|&(_, activation)| activation == Activation::PRelu);
        node.map(|(node, _)| self.tensor(self.graph.node(node), "weight")).transpose()
    }

    /// The weights of a layer, in parts if the source supports that.
    fn rows(&self, node: &Node) -> Result<Rows<'a>, Problem> {
        let (name, weights) = (format!("{}.weight", node.name), self.weights);
        let params = node.layer.params(&self.graph.input_shapes(node));
        if let Some(param) = params.into_iter().find(|param| param.name == "weight")
            && weights.part(&name, &param, 0, &mut []).map_err(Problem::Weights)?
        {
            return Ok(Rows::Parts { weights, name, param });
        }
        self.tensor(node, "weight").map(Rows::Whole)
    }

    fn tensor(&self, node: &Node, param: &'static str) -> Result<Cow<'a, [f32]>, Problem> {
        let name = format!("{}.{param}", node.name);
        let params = node.layer.params(&self.graph.input_shapes(node));
        let network = || self.weights.network().to_owned();
        let missing = || Problem::from(LayerError::NoWeights { tensor: name.clone(), network: network() });
        let known = params.iter().find(|known| known.name == param).ok_or_else(missing)?;
        let found = self.weights.tensor(&name, known).map_err(Problem::Weights)?.ok_or_else(missing)?;
        let (expected, got) = (known.dims.iter().product(), found.len());
        // Callers can implement their own sources, so check the length.
        if expected != got {
            return Err(ConvError::BufferLen { what: param, expected, got }.into());
        }
        Ok(found)
    }
}

fn activation(fused: &Fused) -> Activation {
    fused.activation.map_or(Activation::None, |(_, activation)| activation)
}
