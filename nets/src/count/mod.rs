//! What a network costs, computed from the graph layer by layer: exact, checked, never typed in.

mod convention;
mod memory;
mod ops;
mod receptive;

use crate::error::NetError;
use crate::graph::{Graph, Node};
use crate::layer::{Param, Role};
use crate::shape::Shape;
pub use convention::Convention;
pub use receptive::Receptive;

/// Bytes of one number.
const F32: u64 = size_of::<f32>() as u64;

/// What one layer costs. Parameters do not depend on the batch; everything else is for all of its images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerCount {
    /// The name of the layer.
    pub name: String,
    /// Its kind, [`Layer::op`](crate::Layer::op).
    pub op: String,
    /// The shapes that go in, for one image.
    pub inputs: Vec<Shape>,
    /// The shape that comes out, for one image.
    pub output: Shape,
    /// Trained numbers: the sum of the four kinds.
    pub params: u64,
    /// The trained numbers by kind.
    pub kinds: ParamKinds,
    /// Numbers that belong to the layer and are not trained: running statistics, fixed codes.
    pub untrained: u64,
    /// Multiply-accumulates of convolutions and matrix products.
    pub macs: u64,
    /// Arithmetic operations of all other layers: see [`Convention::Ops`].
    pub other_ops: u64,
    /// Bytes that come out, 0 if the layer only passes its input on.
    pub activation_bytes: u64,
    /// Bytes that the layer must move at least: inputs, weights and output, each once.
    pub moved_bytes: u64,
    /// Bytes of all activations that are needed while it runs, its own inputs and output included.
    pub live_bytes: u64,
    /// What of the input one output sees; `None` where that has no answer.
    pub receptive: Option<Receptive>,
}

/// Trained numbers by kind.
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

/// What a network costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetCount {
    /// One entry per node of the graph, in its order.
    pub layers: Vec<LayerCount>,
    /// Images of one forward pass.
    pub batch: u64,
    /// Trained numbers in all.
    pub params: u64,
    /// The trained numbers by kind.
    pub kinds: ParamKinds,
    /// Running statistics and fixed codes in all.
    pub untrained: u64,
    /// Multiply-accumulates in all.
    pub macs: u64,
    /// Other arithmetic operations in all.
    pub other_ops: u64,
    /// Bytes of everything that comes out of any layer, the input included.
    pub activation_bytes: u64,
    /// The most bytes of activations that are needed at the same time.
    pub peak_activation_bytes: u64,
    /// Layers of operators that are not known ([`Layer::Unknown`](crate::Layer::Unknown)). If there is one, every total
    /// is only a lower bound.
    pub unknown_layers: u64,
}

impl LayerCount {
    /// `2 * macs`: a multiplication and an addition.
    pub const fn flops(&self) -> u64 {
        self.macs.saturating_mul(2)
    }

    /// Arithmetic operations per byte that must be moved; `None` if nothing is moved.
    pub fn intensity(&self) -> Option<f64> {
        let work = self.flops().saturating_add(self.other_ops);
        (self.moved_bytes > 0).then(|| work as f64 / self.moved_bytes as f64)
    }

    /// Bytes of its trained and other numbers.
    pub const fn weight_bytes(&self) -> u64 {
        self.params.saturating_add(self.untrained).saturating_mul(F32)
    }
}

impl NetCount {
    /// `2 * macs`: a multiplication and an addition.
    pub const fn flops(&self) -> u64 {
        self.macs.saturating_mul(2)
    }

    /// Bytes of the trained numbers.
    pub const fn weight_bytes(&self) -> u64 {
        self.params.saturating_mul(F32)
    }
}

/// Counts every layer of `graph` for one image.
///
/// # Errors
/// [`NetError::CountOverflow`] if a number does not fit 64 bits.
pub fn count(graph: &Graph) -> Result<NetCount, NetError> {
    count_batch(graph, 1)
}

/// Counts every layer of `graph` for `batch` images.
///
/// # Errors
/// [`NetError::CountOverflow`] if a number does not fit 64 bits.
pub fn count_batch(graph: &Graph, batch: u64) -> Result<NetCount, NetError> {
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
    /// Adds a layer, or says what overflows.
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
        // The kinds are parts of the parameters, which fit.
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
    let times = |number: Option<u64>, what| {
        number.and_then(|number| number.checked_mul(batch)).ok_or_else(|| overflow(node, what))
    };
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
        macs: times(layer.macs(&inputs, node.output), "multiply-accumulates")?,
        other_ops: times(ops::other_ops(layer, &inputs, node.output), "operations")?,
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

/// Trained numbers by kind, and untrained ones.
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
