//! What is computed together: a convolution with the normalisation, the residual and the activation after it.

use crate::graph::{Graph, Node, NodeId};
use crate::layer::{Layer, Norm, NormKind};
use kernels::Activation;

/// The layers that one operation computes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fused {
    /// In their order; the first does the work.
    pub(super) nodes: Vec<NodeId>,
    /// Batch normalisation, folded into the weights.
    pub(super) norm: Option<(NodeId, Norm)>,
    /// The other input of the addition.
    pub(super) residual: Option<NodeId>,
    /// With the node that has its slopes.
    pub(super) activation: Option<(NodeId, Activation)>,
}

/// Who reads whom, among the nodes that the output needs.
pub(super) struct Readers {
    needed: Vec<bool>,
    readers: Vec<Vec<NodeId>>,
    output: NodeId,
}

impl Readers {
    pub(super) fn of(graph: &Graph) -> Self {
        let mut needed = vec![false; graph.nodes().len()];
        needed[graph.output_id().index()] = true;
        for index in (0..graph.nodes().len()).rev().collect::<Vec<_>>() {
            if needed[index] {
                graph.nodes()[index].inputs.iter().for_each(|input| needed[input.index()] = true);
            }
        }
        let mut readers = graph.consumers();
        readers.iter_mut().for_each(|readers| readers.retain(|reader| needed[reader.index()]));
        Self { needed, readers, output: graph.output_id() }
    }

    /// Whether the output depends on it.
    pub(super) fn needs(&self, id: NodeId) -> bool {
        self.needed[id.index()]
    }

    /// The only reader of a node that is not the output.
    fn only(&self, id: NodeId) -> Option<NodeId> {
        match self.readers[id.index()][..] {
            [reader] if id != self.output => Some(reader),
            _ => None,
        }
    }
}

/// What can be computed together with `id`; `known` are the nodes whose outputs exist already.
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
            Layer::Activation(activation) if node.layer == Layer::Add && *activation != Activation::PRelu => {
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
