//! Which operations and values have gradients, and which values the backward pass reads.

use crate::graph::Graph;
use crate::layer::{Layer, NormKind};
use crate::run::lower::{INPUT, Op, Program, Work};
use crate::run::storage::Storages;
use crate::train::parameter::Params;
use kernels::{Activation, PoolKind};

/// What has gradients.
pub(super) struct Needed {
    /// The storages of gradients: those of the values before operations share memory.
    pub(super) gradients: Storages,
    /// By storage of the gradients as they were lowered.
    storages: Vec<bool>,
    homes: Vec<usize>,
    /// By node: whether its layer has trained parameters.
    trains: Vec<bool>,
}

/// The tensors that the backward pass of an operation reads.
#[derive(Debug, Default)]
pub(super) struct Keeps {
    /// Inputs.
    pub(super) reads: Vec<usize>,
    pub(super) output: bool,
}

/// The layer of an operation; `None` for copies and views.
pub(super) fn layer_of<'g>(graph: &'g Graph, op: &Op) -> Option<&'g Layer> {
    match &op.work {
        Work::Layers(layers) => Some(&graph.node(layers[0].nodes[0]).layer),
        Work::Copy | Work::View => None,
    }
}

/// Whether the gradient of an activation is computed from its output.
pub(super) fn is_by_output(activation: Activation) -> bool {
    activation != Activation::None && activation.is_known_by_output()
}

impl Needed {
    pub(super) fn new(graph: &Graph, program: &Program, params: &Params) -> Self {
        let Program { ops, storages, .. } = program;
        let trains: Vec<bool> = graph.nodes().iter().map(|node| params.trains(&node.name)).collect();
        let homes: Vec<usize> = (0..storages.values()).map(|value| storages.of(value)).collect();
        let mut needed =
            Self { gradients: storages.clone(), storages: vec![false; storages.len()], homes, trains };
        for op in ops {
            let Some(write) = op.write else { continue };
            if needed.trains(op) || op.reads.iter().any(|arg| needed.value(arg.value)) {
                needed.storages[storages.of(write)] = true;
            }
        }
        needed
    }

    /// Whether the layer of an operation has trained parameters.
    pub(super) fn trains(&self, op: &Op) -> bool {
        matches!(&op.work, Work::Layers(layers) if self.trains[layers[0].nodes[0].index()])
    }

    /// Whether the gradient of a value is needed.
    pub(super) fn value(&self, value: usize) -> bool {
        value != INPUT && self.storages[self.homes[value]]
    }

    /// Whether an operation has a backward pass.
    pub(super) fn op(&self, op: &Op) -> bool {
        op.write.is_some_and(|write| self.value(write))
            && (self.trains(op) || op.reads.iter().any(|arg| self.value(arg.value)))
    }

    /// The tensors that the backward pass of `op` reads.
    pub(super) fn keeps(&self, graph: &Graph, op: &Op) -> Keeps {
        let Work::Layers(layers) = &op.work else { return Keeps::default() };
        if !self.op(op) {
            return Keeps::default();
        }
        let fused = layers[0].activation.is_some_and(|(_, activation)| activation != Activation::None);
        let (first, both, none) = (vec![0], vec![0, 1], Vec::new());
        let (reads, output) = match &graph.node(layers[0].nodes[0]).layer {
            Layer::Conv(_) | Layer::SparseConv(_) | Layer::Linear(_) => {
                (if self.trains(op) { first } else { none }, fused)
            }
            Layer::Norm(norm) => (first, norm.kind != NormKind::Batch && fused),
            Layer::Pool(pool) => (if pool.kind == PoolKind::Max { first } else { none }, false),
            Layer::Activation(activation) if is_by_output(*activation) => (none, true),
            Layer::Activation(_) | Layer::Lrn(_) | Layer::Maxout { .. } | Layer::Rbf { .. } => (first, false),
            Layer::FractionalPool(_) => (first, false),
            Layer::Scale { .. } => (first, fused),
            Layer::Mul => (both, false),
            Layer::Add => (none, fused),
            _ => (none, false),
        };
        Keeps { reads, output }
    }
}
