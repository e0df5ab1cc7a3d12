//! Fusion: a convolution computes the normalisation, the residual addition and the activation that follow it. A sum, a
//! batch normalisation and a scaling compute the activation that follows them.

use crate::graph::{Graph, Node, NodeId};
use crate::layer::{Layer, Norm, NormKind};
use kernels::Activation;

/// The layers that one operation computes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fused {
    /// In order; the first layer does the main work.
    pub(super) nodes: Vec<NodeId>,
    /// A batch normalisation that is folded into the weights.
    pub(super) norm: Option<(NodeId, Norm)>,
    /// The other input of a residual addition.
    pub(super) residual: Option<NodeId>,
    /// An activation, with the node that holds its slopes.
    pub(super) activation: Option<(NodeId, Activation)>,
}

/// The readers of each node, among the nodes that the outputs depend on.
pub(super) struct Readers {
    needed: Vec<bool>,
    readers: Vec<Vec<NodeId>>,
    outputs: Vec<NodeId>,
}

impl Readers {
    /// The readers in a graph of which the nodes `outputs` are computed.
    pub(super) fn of(graph: &Graph, outputs: &[NodeId]) -> Self {
        let mut needed = vec![false; graph.nodes().len()];
        outputs.iter().for_each(|output| needed[output.index()] = true);
        for index in (0..graph.nodes().len()).rev().collect::<Vec<_>>() {
            if needed[index] {
                graph.nodes()[index].inputs.iter().for_each(|input| needed[input.index()] = true);
            }
        }
        let mut readers = graph.consumers();
        readers.iter_mut().for_each(|readers| readers.retain(|reader| needed[reader.index()]));
        Self { needed, readers, outputs: outputs.to_vec() }
    }

    /// Whether an output depends on a node.
    pub(super) fn needs(&self, id: NodeId) -> bool {
        self.needed[id.index()]
    }

    /// The only reader of a node, if the node is not an output.
    fn only(&self, id: NodeId) -> Option<NodeId> {
        match self.readers[id.index()][..] {
            [reader] if !self.outputs.contains(&id) => Some(reader),
            _ => None,
        }
    }
}

/// The layers to fuse with `id`. `known` tells whether the output of a node is already computed.
pub(super) fn fuse(graph: &Graph, readers: &Readers, id: NodeId, known: impl Fn(NodeId) -> bool) -> Fused {
    let mut fused = Fused { nodes: vec![id], norm: None, residual: None, activation: None };
    let node = graph.node(id);
    let convolution = matches!(node.layer, Layer::Conv(_) | Layer::SparseConv(_));
    let mut last = id;
    while let Some(reader) = readers.only(last) {
        let Node { layer, inputs, .. } = graph.node(reader);
        match layer {
            Layer::Norm(norm) if norm.kind == NormKind::Batch && convolution && fused.nodes.len() == 1 => {
                fused.norm = Some((reader, *norm));
            }
            Layer::Add if convolution && fused.residual.is_none() => match inputs[..] {
                [a, b] if a == last && known(b) => fused.residual = Some(b),
                [a, b] if b == last && known(a) => fused.residual = Some(a),
                _ => break,
            },
            Layer::Activation(Activation::None) => break,
            Layer::Activation(activation) if convolution || matches!(node.layer, Layer::Linear(_)) => {
                fused.activation = Some((reader, *activation));
            }
            Layer::Activation(activation)
                if applies_activations(&node.layer) && *activation != Activation::PRelu =>
            {
                fused.activation = Some((reader, *activation));
            }
            _ => break,
        }
        fused.nodes.push(reader);
        last = reader;
        if fused.activation.is_some() {
            break;
        }
    }
    fused
}

/// Whether a layer other than convolutions and fully connected layers applies activations without slopes.
fn applies_activations(layer: &Layer) -> bool {
    match layer {
        Layer::Add | Layer::Scale { .. } => true,
        Layer::Norm(norm) => norm.kind == NormKind::Batch,
        _ => false,
    }
}
