//! Builds the units of a network that trains.

use super::memory::{Memory, Writes};
use super::needs::Needed;
use crate::error::{LayerError, NetError};
use crate::graph::{Graph, Node};
use crate::layer::{Conv, Layer, Linear, Norm};
use crate::run::lower::{Op, Work, covers_image};
use crate::run::operand::Operand;
use crate::shape::Shape;
use crate::train::TrainOptions;
use crate::train::parameter::Params;
use crate::train::random::Stream;
use crate::train::unit::activation::ActivationUnit;
use crate::train::unit::batch_norm::{BatchNormParams, BatchNormUnit};
use crate::train::unit::combine::{AddUnit, Block};
use crate::train::unit::conv::{ConvOf, ConvUnit};
use crate::train::unit::dropout::DropoutUnit;
use crate::train::unit::linear::{LinearOf, LinearUnit};
use crate::train::unit::moves::{CopyUnit, MaxoutUnit, PadUnit, ShortcutUnit};
use crate::train::unit::multiply::MultiplyUnit;
use crate::train::unit::norm::{LrnUnit, NormUnit};
use crate::train::unit::pool::{AdaptivePoolUnit, FractionalPoolUnit, PoolUnit};
use crate::train::unit::scale::{RbfUnit, ScaleParams, ScaleUnit};
use crate::train::unit::{Dx, InputGradient, Unit, Wiring};
use kernels::{Activation, BatchNormSpec, Layout, LrnSpec, NormSpec, Pitch, PlanOptions, Shape4};

/// What units are built from.
pub(super) struct Builder<'a> {
    pub(super) graph: &'a Graph,
    pub(super) options: &'a TrainOptions,
    pub(super) plan_options: PlanOptions,
    pub(super) params: &'a Params,
    pub(super) needed: &'a Needed,
    pub(super) memory: &'a Memory,
}

impl Builder<'_> {
    /// The unit of an operation that writes `write`. `block` is the residual block that it ends.
    pub(super) fn unit(
        &self,
        op: &Op,
        write: usize,
        writes: &Writes,
        block: Option<Block>,
    ) -> Result<Box<dyn Unit>, NetError> {
        let wiring = self.wiring(op, write, writes);
        let Work::Layers(layers) = &op.work else { return Ok(Box::new(CopyUnit { wiring })) };
        let node = self.graph.node(layers[0].nodes[0]);
        let activation = layers[0].activation.map_or(Activation::None, |(_, activation)| activation);
        let problem = |problem| NetError::layer(&node.name, problem);
        match &node.layer {
            Layer::Conv(_) | Layer::SparseConv(_) | Layer::Linear(_) => {
                self.product(node, op, activation, wiring).map_err(problem)
            }
            Layer::Norm(_) | Layer::Scale { .. } | Layer::Subsample(_) | Layer::Rbf { .. } => {
                self.per_channel(node, activation, wiring).map_err(problem)
            }
            Layer::Add => Ok(Box::new(AddUnit { wiring, activation, block })),
            _ => self.other(node, op, wiring).map_err(problem),
        }
    }

    fn wiring(&self, op: &Op, write: usize, writes: &Writes) -> Wiring {
        let dx = op.reads.iter().enumerate().map(|(k, arg)| {
            let adds = writes.adds.get(k).copied().flatten()?;
            Some(Dx { operand: self.memory.gradient_of(arg), adds })
        });
        Wiring {
            sources: op.reads.iter().map(|arg| self.memory.source(arg)).collect(),
            target: self.memory.target(write),
            dy: self.memory.gradient(write),
            dx: dx.collect(),
            saved: self.memory.saved(op, write),
        }
    }

    /// The index of a parameter of a layer.
    fn param(&self, node: &Node, name: &str) -> Option<usize> {
        self.params.find(&node.name, name)
    }

    fn required(&self, node: &Node, name: &'static str) -> Result<usize, LayerError> {
        self.param(node, name).ok_or_else(|| LayerError::NoGradient { op: node.layer.op().to_owned() })
    }

    fn accumulates(&self) -> bool {
        self.options.accumulate > 1
    }

    /// Convolutions and fully connected layers.
    fn product(
        &self,
        node: &Node,
        op: &Op,
        activation: Activation,
        wiring: Wiring,
    ) -> Result<Box<dyn Unit>, LayerError> {
        let (filter, bias) = (self.required(node, "weight")?, self.param(node, "bias"));
        let (trains, accumulates) = (self.needed.trains(op), self.accumulates());
        let (values, options) = (&self.params.values, &self.plan_options);
        let (conv, sparse) = match &node.layer {
            Layer::Conv(conv) => (conv, None),
            Layer::SparseConv(sparse) => (&sparse.conv, Some(sparse)),
            Layer::Linear(linear) => {
                let is_last = op.node == self.graph.output_id();
                let rate = self.options.drop_connect;
                let drop = (rate > 0.0 && !is_last).then(|| (rate, self.stream(node)));
                let of = LinearOf { linear: *linear, activation, filter, bias, trains, accumulates, drop };
                return Ok(Box::new(LinearUnit::new(&of, wiring, values, options)?));
            }
            other => return Err(LayerError::NoGradient { op: other.op().to_owned() }),
        };
        if sparse.is_none()
            && let Some(wiring) = as_rows(conv, &wiring)
        {
            let linear = Linear { out_features: conv.out_channels, bias: conv.bias };
            let of = LinearOf { linear, activation, filter, bias, trains, accumulates, drop: None };
            return Ok(Box::new(LinearUnit::new(&of, wiring, values, options)?));
        }
        let of = ConvOf { conv, sparse, activation, filter, bias, trains, accumulates };
        Ok(Box::new(ConvUnit::new(&of, wiring, values, options)?))
    }

    /// Layers with numbers for each channel.
    fn per_channel(
        &self,
        node: &Node,
        activation: Activation,
        wiring: Wiring,
    ) -> Result<Box<dyn Unit>, LayerError> {
        let (scale, shift) = (self.param(node, "weight"), self.param(node, "bias"));
        let (trains, accumulates) = (self.params.trains(&node.name), self.accumulates());
        let params = ScaleParams { scale, shift, trains, accumulates };
        Ok(match &node.layer {
            Layer::Norm(norm) => self.norm(node, norm, activation, wiring)?,
            Layer::Subsample(subsample) => {
                let source = wiring.source();
                let desc = subsample.pool().desc(source.shape, source.layout)?;
                Box::new(ScaleUnit::new(wiring, params, Some(desc))?)
            }
            Layer::Rbf { .. } => Box::new(RbfUnit { wiring, codes: self.required(node, "weight")? }),
            _ => Box::new(ScaleUnit::new(wiring, params, None)?),
        })
    }

    fn norm(
        &self,
        node: &Node,
        norm: &Norm,
        activation: Activation,
        wiring: Wiring,
    ) -> Result<Box<dyn Unit>, LayerError> {
        let scale_and_shift = self.param(node, "weight").zip(self.param(node, "bias"));
        let (trains, accumulates) = (self.params.trains(&node.name), self.accumulates());
        if let Some(groups) = norm.groups(wiring.target.shape.c) {
            let spec = NormSpec { groups, eps: norm.eps };
            let (gradient, params) = (InputGradient::new(&wiring, trains)?, scale_and_shift);
            return Ok(Box::new(NormUnit { wiring, gradient, spec, params, trains, accumulates }));
        }
        let spec = BatchNormSpec { eps: norm.eps, momentum: self.options.momentum, activation };
        let params = BatchNormParams {
            scale_and_shift,
            running_mean: self.required(node, "running_mean")?,
            running_var: self.required(node, "running_var")?,
            trains,
            accumulates,
        };
        Ok(Box::new(BatchNormUnit::new(wiring, spec, params)?))
    }

    /// Layers without weights, and activations.
    fn other(&self, node: &Node, op: &Op, wiring: Wiring) -> Result<Box<dyn Unit>, LayerError> {
        let (input, layout) = (wiring.source().shape, wiring.source().layout);
        Ok(match &node.layer {
            Layer::Pool(pool) => Box::new(PoolUnit { desc: pool.desc(input, layout)?, wiring }),
            Layer::AdaptivePool(pool) => match pool.as_pool(input) {
                Some(pool) => Box::new(PoolUnit { desc: pool.desc(input, layout)?, wiring }),
                None => Box::new(AdaptivePoolUnit { wiring }),
            },
            Layer::FractionalPool(pool) => {
                Box::new(FractionalPoolUnit::new(wiring, *pool, self.stream(node)))
            }
            Layer::Activation(activation) => {
                let slope = (*activation == Activation::PRelu).then(|| self.required(node, "weight"));
                let (slope, accumulates) = (slope.transpose()?, self.accumulates());
                let trains = self.needed.trains(op);
                Box::new(ActivationUnit::new(wiring, *activation, slope, (trains, accumulates))?)
            }
            Layer::Lrn(lrn) => {
                let spec = LrnSpec { size: lrn.size, alpha: lrn.alpha, beta: lrn.beta, k: lrn.k };
                Box::new(LrnUnit { wiring, spec })
            }
            Layer::Maxout { pieces } => Box::new(MaxoutUnit { wiring, pieces: *pieces }),
            Layer::Mul => Box::new(MultiplyUnit { wiring }),
            Layer::Pad(pad) => Box::new(PadUnit { wiring, pad: *pad }),
            Layer::ShortcutA { stride, .. } => Box::new(ShortcutUnit { wiring, stride: *stride }),
            Layer::Dropout => Box::new(DropoutUnit::new(wiring, self.stream(node), self.options.dropout)?),
            other => return Err(LayerError::NoGradient { op: other.op().to_owned() }),
        })
    }

    /// The random numbers of a layer.
    fn stream(&self, node: &Node) -> Stream {
        let number = self.graph.nodes().iter().position(|other| other.name == node.name);
        Stream(number.map_or(0, |number| number as u64))
    }
}

/// The tensors of a convolution whose kernel covers the image as those of a fully connected layer: the elements of an image in
/// NCHW are in the order of the filter.
fn as_rows(conv: &Conv, wiring: &Wiring) -> Option<Wiring> {
    if !covers_image(conv, Shape::from(wiring.source().shape)) {
        return None;
    }
    let has_gaps = |operand: &Operand| {
        let Shape4 { c, h, w, .. } = operand.shape;
        operand.layout != Layout::Nchw || operand.pitch.image != c * h * w
    };
    let gradients = wiring.dx().map(|dx| &dx.operand);
    if [wiring.source(), &wiring.target, &wiring.dy].into_iter().chain(gradients).any(has_gaps) {
        return None;
    }
    Some(wiring.seen_as(|operand| {
        let Shape4 { n, c, h, w } = operand.shape;
        Operand {
            place: operand.place.clone(),
            shape: Shape4::new(1, c * h * w, 1, n),
            layout: Layout::Nhwc,
            pitch: Pitch { image: n * c * h * w, pixel: c * h * w },
        }
    }))
}
