//! Parameters and multiply-accumulates, computed from the graph: exact, checked, never typed in.

use crate::error::NetError;
use crate::graph::{Graph, Node};
use crate::shape::Shape;

/// What one layer costs, for one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerCount {
    /// The name of the layer.
    pub name: String,
    /// Its kind, [`Layer::op`](crate::Layer::op).
    pub op: &'static str,
    /// The shape that comes out.
    pub output: Shape,
    /// Trained numbers: weights, biases, slopes.
    pub params: u64,
    /// Multiply-accumulates.
    pub macs: u64,
}

/// What a network costs, for one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetCount {
    /// One entry per node of the graph, in its order; the input's is zero.
    pub layers: Vec<LayerCount>,
    /// Trained numbers in all.
    pub params: u64,
    /// Multiply-accumulates in all.
    pub macs: u64,
}

/// Counts every layer of `graph`.
///
/// # Errors
/// [`NetError::CountOverflow`] if a number does not fit 64 bits.
pub fn count(graph: &Graph) -> Result<NetCount, NetError> {
    let (mut params, mut macs) = (0u64, 0u64);
    let mut layers = Vec::with_capacity(graph.nodes().len());
    for node in graph.nodes() {
        let layer = count_layer(graph, node)?;
        params = params.checked_add(layer.params).ok_or_else(|| overflow(node, "parameters"))?;
        macs = macs.checked_add(layer.macs).ok_or_else(|| overflow(node, "multiply-accumulates"))?;
        layers.push(layer);
    }
    Ok(NetCount { layers, params, macs })
}

fn count_layer(graph: &Graph, node: &Node) -> Result<LayerCount, NetError> {
    let inputs = graph.input_shapes(node);
    let params = node.layer.params(&inputs).iter().try_fold(0u64, |sum, param| sum.checked_add(param.len()?));
    Ok(LayerCount {
        name: node.name.clone(),
        op: node.layer.op(),
        output: node.output,
        params: params.ok_or_else(|| overflow(node, "parameters"))?,
        macs: node.layer.macs(&inputs, node.output).ok_or_else(|| overflow(node, "multiply-accumulates"))?,
    })
}

fn overflow(node: &Node, what: &'static str) -> NetError {
    NetError::CountOverflow { layer: node.name.clone(), what }
}
