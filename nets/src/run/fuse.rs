//! Fusion: a convolution computes the normalisation, the residual addition and the activation that follow it. A sum, a
//! batch normalisation and a scaling compute the activation that follows them.
//!
//! Where a network trains, a layer computes only an activation whose gradient its output determines.

use crate::graph::{Graph, Node, NodeId};
use crate::layer::{Layer, Norm, NormKind};
use kernels::Activation;

/// The layers that one operation computes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fused {
    /// In order; the first layer does the main work.
    pub(crate) nodes: Vec<NodeId>,
    /// A batch normalisation that is folded into the weights.
    pub(super) norm: Option<(NodeId, Norm)>,
    /// The other input of a residual addition.
    pub(super) residual: Option<NodeId>,
    /// An activation, with the node that holds its slopes.
    pub(crate) activation: Option<(NodeId, Activation)>,
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
        let needed = graph.ancestors(outputs);
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

/// The layers to fuse with `id` where the network trains: an activation whose gradient its output determines. Behind a batch
/// normalisation, only those that its kernels apply.
pub(super) fn fuse_for_training(graph: &Graph, readers: &Readers, id: NodeId) -> Fused {
    let mut fused = Fused { nodes: vec![id], norm: None, residual: None, activation: None };
    let Some(reader) = readers.only(id) else { return fused };
    let Layer::Activation(activation) = graph.node(reader).layer else { return fused };
    let fits = match &graph.node(id).layer {
        Layer::Conv(_) | Layer::SparseConv(_) | Layer::Linear(_) | Layer::Add => {
            activation.is_known_by_output()
        }
        Layer::Norm(Norm { kind: NormKind::Batch, .. }) => {
            matches!(activation, Activation::Relu | Activation::Clip { .. })
        }
        _ => false,
    };
    if fits && activation != Activation::None {
        fused.activation = Some((reader, activation));
        fused.nodes.push(reader);
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
