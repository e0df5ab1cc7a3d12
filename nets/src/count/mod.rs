//! Exact costs of a network, computed from the graph layer by layer with overflow checks.

mod convention;
mod memory;
mod ops;
mod receptive;

use crate::error::NetError;
use crate::graph::{Graph, Node};
use crate::layer::{Layer, Param, Role};
use crate::shape::Shape;
pub use convention::Convention;
pub use receptive::Receptive;

/// Bytes per element.
const F32: u64 = size_of::<f32>() as u64;

/// The costs of one layer. All counts except parameters are for the whole batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerCount {
    /// The name of the layer.
    pub name: String,
    /// The kind of the layer, [`Layer::op`](crate::Layer::op).
    pub op: String,
    /// The input shapes, for one image.
    pub inputs: Vec<Shape>,
    /// The output shape, for one image.
    pub output: Shape,
    /// Number of trained parameters, the sum of `kinds`.
    pub params: u64,
    /// Number of trained parameters by kind.
    pub kinds: ParamKinds,
    /// Number of untrained parameters: running statistics and fixed codes.
    pub untrained: u64,
    /// Multiply-accumulates of convolutions and matrix products.
    pub macs: u64,
    /// Arithmetic operations of all other layers; see [`Convention::Ops`].
    pub other_ops: u64,
    /// Bytes of the output; 0 if the layer only passes on its input.
    pub activation_bytes: u64,
    /// Minimum bytes moved: inputs, weights and output, each counted once.
    pub moved_bytes: u64,
    /// Bytes of all activations that are live while the layer runs, including its inputs and output.
    pub live_bytes: u64,
    /// The receptive field of one output element in the input image; `None` if it is undefined.
    pub receptive: Option<Receptive>,
}

/// Number of trained parameters by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ParamKinds {
    /// Filters and matrices.
    pub weights: u64,
    /// Biases of convolutions and fully connected layers.
    pub biases: u64,
    /// Scales and shifts of normalisations and subsampling.
    pub norms: u64,
    /// Slopes of PReLU.
    pub slopes: u64,
}

/// The costs of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetCount {
    /// One entry per node, in the order of the graph.
    pub layers: Vec<LayerCount>,
    /// Images per forward pass.
    pub batch: u64,
    /// Total number of trained parameters.
    pub params: u64,
    /// Number of trained parameters by kind.
    pub kinds: ParamKinds,
    /// Total number of running statistics and fixed codes.
    pub untrained: u64,
    /// Total multiply-accumulates.
    pub macs: u64,
    /// Total of other arithmetic operations.
    pub other_ops: u64,
    /// Total bytes of all layer outputs, including the input.
    pub activation_bytes: u64,
    /// Maximum bytes of activations that are live at the same time.
    pub peak_activation_bytes: u64,
    /// Number of unknown operators ([`Layer::Unknown`](crate::Layer::Unknown)). If there are any, every total
    /// is only a lower bound.
    pub unknown_layers: u64,
}

impl LayerCount {
    /// Floating-point operations: `2 * macs`.
    pub const fn flops(&self) -> u64 {
        self.macs.saturating_mul(2)
    }

    /// Arithmetic intensity in operations per byte moved; `None` if nothing is moved.
    pub fn intensity(&self) -> Option<f64> {
        let work = self.flops().saturating_add(self.other_ops);
        (self.moved_bytes > 0).then(|| work as f64 / self.moved_bytes as f64)
    }

    /// Bytes of the trained and untrained parameters.
    pub const fn weight_bytes(&self) -> u64 {
        self.params.saturating_add(self.untrained).saturating_mul(F32)
    }
}

impl NetCount {
    /// Floating-point operations: `2 * macs`.
    pub const fn flops(&self) -> u64 {
        self.macs.saturating_mul(2)
    }

    /// Bytes of the trained parameters.
    pub const fn weight_bytes(&self) -> u64 {
        self.params.saturating_mul(F32)
    }
}

/// Counts every layer of `graph` for one image. A network with tensors that is valid for one batch size only
/// ([`Graph::batch`]) is counted for that size, which [`NetCount::batch`] says.
///
/// # Errors
/// [`NetError::CountOverflow`] if a count overflows 64 bits.
pub fn count(graph: &Graph) -> Result<NetCount, NetError> {
    count_batch(graph, only_batch(graph).unwrap_or(1))
}

/// The only batch size that can be counted: that of tensors whose extents do not follow the batch.
fn only_batch(graph: &Graph) -> Option<u64> {
    let is_tensor =
        |node: &Node| matches!(node.output, Shape::Tensor(_)) || matches!(node.layer, Layer::Tensor(_));
    let batch = graph.batch()?;
    graph.nodes().iter().any(is_tensor).then_some(batch as u64)
}

/// Counts every layer of `graph` for `batch` images.
///
/// # Errors
/// - [`NetError::CountOverflow`] if a count overflows 64 bits.
/// - [`NetError::Option`] if the network has tensors whose extents are for another batch size.
pub fn count_batch(graph: &Graph, batch: u64) -> Result<NetCount, NetError> {
    if let Some(only) = only_batch(graph).filter(|&only| only != batch) {
        let expected = format!("{only} (the extents in network `{}` are for this batch)", graph.name());
        return Err(NetError::Option { option: "batch", expected, got: batch.to_string() });
    }
    let (live, receptive) = (memory::live(graph, batch)?, receptive::fields(graph));
    let mut total = NetCount {
        layers: Vec::with_capacity(graph.nodes().len()),
        batch,
        params: 0,
        kinds: ParamKinds::default(),
        untrained: 0,
        macs: 0,
        other_ops: 0,
        activation_bytes: 0,
        peak_activation_bytes: live.iter().copied().max().unwrap_or(0),
        unknown_layers: graph.nodes().iter().filter(|node| node.layer.is_unknown()).count() as u64,
    };
    for ((node, live_bytes), receptive) in graph.nodes().iter().zip(live).zip(receptive) {
        let layer = count_layer(graph, node, batch)?;
        total.add(&layer).map_err(|what| overflow(node, what))?;
        total.layers.push(LayerCount { live_bytes, receptive, ..layer });
    }
    Ok(total)
}

impl NetCount {
    /// Adds a layer, or names the count that overflows.
    fn add(&mut self, layer: &LayerCount) -> Result<(), &'static str> {
        let add = |sum: &mut u64, number: u64, what| {
            *sum = sum.checked_add(number).ok_or(what)?;
            Ok(())
        };
        add(&mut self.params, layer.params, "parameters")?;
        add(&mut self.untrained, layer.untrained, "untrained numbers")?;
        add(&mut self.macs, layer.macs, "multiply-accumulates")?;
        add(&mut self.other_ops, layer.other_ops, "operations")?;
        add(&mut self.activation_bytes, layer.activation_bytes, "activation bytes")?;
        // Cannot overflow: each kind is part of the parameters.
        self.kinds.weights += layer.kinds.weights;
        self.kinds.biases += layer.kinds.biases;
        self.kinds.norms += layer.kinds.norms;
        self.kinds.slopes += layer.kinds.slopes;
        Ok(())
    }
}

fn count_layer(graph: &Graph, node: &Node, batch: u64) -> Result<LayerCount, NetError> {
    let (layer, inputs) = (&node.layer, graph.input_shapes(node));
    let (kinds, untrained) = kinds(&layer.params(&inputs)).ok_or_else(|| overflow(node, "parameters"))?;
    let params = kinds.total().ok_or_else(|| overflow(node, "parameters"))?;
    let fits = |number: Option<u64>, what| number.ok_or_else(|| overflow(node, what));
    let bytes =
        |shape: &Shape| memory::bytes(*shape, batch).ok_or_else(|| overflow(node, "activation bytes"));
    let activation_bytes = if layer.is_view() { 0 } else { bytes(&node.output)? };
    let moved_bytes = match layer.is_view() || node.inputs.is_empty() {
        true => Some(0),
        false => {
            let read = inputs.iter().map(bytes).collect::<Result<Vec<_>, _>>()?;
            let weights = params.checked_add(untrained).and_then(|numbers| numbers.checked_mul(F32));
            read.iter()
                .try_fold(activation_bytes, |sum, bytes| sum.checked_add(*bytes))
                .zip(weights)
                .and_then(|(activations, weights)| activations.checked_add(weights))
        }
    };
    Ok(LayerCount {
        name: node.name.clone(),
        op: layer.op().to_owned(),
        output: node.output,
        params,
        kinds,
        untrained,
        macs: fits(layer.macs(&inputs, node.output, batch), "multiply-accumulates")?,
        other_ops: fits(ops::other_ops(layer, &inputs, node.output, batch), "operations")?,
        activation_bytes,
        moved_bytes: moved_bytes.ok_or_else(|| overflow(node, "moved bytes"))?,
        live_bytes: 0,
        receptive: None,
        inputs,
    })
}

impl ParamKinds {
    fn total(&self) -> Option<u64> {
        self.weights.checked_add(self.biases)?.checked_add(self.norms)?.checked_add(self.slopes)
    }
}

/// Trained parameters by kind, and the number of untrained parameters.
fn kinds(params: &[Param]) -> Option<(ParamKinds, u64)> {
    let (mut kinds, mut untrained) = (ParamKinds::default(), 0u64);
    for param in params {
        let sum = match param.role {
            Role::Weight { .. } => &mut kinds.weights,
            Role::Bias => &mut kinds.biases,
            Role::Scale | Role::Shift => &mut kinds.norms,
            Role::Slope => &mut kinds.slopes,
            Role::RunningMean | Role::RunningVar | Role::Fixed => &mut untrained,
        };
        *sum = sum.checked_add(param.len()?)?;
    }
    Some((kinds, untrained))
}

fn overflow(node: &Node, what: &'static str) -> NetError {
    NetError::CountOverflow { layer: node.name.clone(), what }
}
