//! Lowers a graph to operations on tensors: decides which layers are fused, the layout of each tensor, and
//! which tensors share memory.
//!
//! In a blocked network, convolutions write [`Layout::Nchw16c`], and so do the layers after them.
//! Convolutions read an image of fewer than 16 channels directly; any other image is converted once. Vectors
//! are NCHW, and so are images whose elements are needed in their own order.

use super::fuse::{Fused, Readers, fuse, fuse_for_training};
use super::layout::{BLOCK, few_are_empty, has_no_padding, interchangeable};
use super::storage::{Storages, Value};
use crate::error::{LayerError, NetError};
use crate::graph::{Graph, Node, NodeId};
use crate::layer::{Conv, Layer};
use crate::shape::Shape;
use kernels::{Layout, Pad2, Shape4};
use std::collections::HashMap;

/// The value of the first input.
pub(crate) const INPUT: usize = 0;

/// A tensor as an operation reads or writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arg {
    pub(crate) value: usize,
    /// The shape can be another view of the same elements, such as a flattened image or one row of pixels for
    /// a matrix product.
    pub(crate) shape: Shape4,
    pub(crate) layout: Layout,
}

impl Arg {
    /// Whether the value `write` has the same elements in the same order, and no other tensor shares the memory of either.
    pub(crate) fn is_same(&self, storages: &Storages, write: usize) -> bool {
        let seen = Value { shape: self.shape, layout: self.layout };
        [self.value, write].iter().all(|&value| storages.is_alone(value) && storages.value(value) == seen)
    }
}

/// The work of an operation.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Work {
    /// Layers of the graph; more than one only for merged convolutions.
    Layers(Vec<Fused>),
    /// A copy to another layout, or to a part of a concatenation.
    Copy,
    /// No work: the layer only gives its input another name or shape.
    View,
}

/// A step without its kernel.
#[derive(Debug)]
pub(crate) struct Op {
    pub(crate) work: Work,
    /// The layer that it belongs to.
    pub(crate) node: NodeId,
    pub(crate) reads: Vec<Arg>,
    pub(crate) write: Option<usize>,
}

/// All steps, and the tensors between them.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) ops: Vec<Op>,
    pub(crate) storages: Storages,
    pub(super) batch: usize,
    /// The values that the caller gives, in NCHW.
    pub(super) inputs: Vec<usize>,
    /// The values of the wanted nodes, in NCHW. At inference, the caller receives them.
    pub(crate) outputs: Vec<usize>,
}

impl Program {
    /// The index of the input that is in this storage, if one is.
    pub(super) fn input_in(&self, storage: usize) -> Option<usize> {
        self.inputs.iter().position(|&value| self.storages.of(value) == storage)
    }

    /// The index of the output that is in this storage, if one is.
    pub(super) fn output_in(&self, storage: usize) -> Option<usize> {
        self.outputs.iter().position(|&value| self.storages.of(value) == storage)
    }
}

/// What is lowered where a network trains.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) batch: usize,
    /// The layout of most maps; `None` for blocks of channels where few lanes are empty, and NCHW elsewhere.
    pub(crate) layout: Option<Layout>,
    /// The nodes whose values are wanted.
    pub(crate) outputs: &'a [NodeId],
    /// Whether dropout does something.
    pub(crate) drops: bool,
}

/// The value that holds a node's output, and its shape there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) value: usize,
    pub(super) shape: Shape,
}

pub(super) struct Lowering<'a> {
    pub(super) graph: &'a Graph,
    pub(super) batch: usize,
    blocked: bool,
    /// Whether each convolution chooses the layout of its output.
    mixed: bool,
    pub(super) training: bool,
    drops: bool,
    pub(super) ops: Vec<Op>,
    pub(super) storages: Storages,
    /// The values that the caller gives, in NCHW.
    pub(super) inputs: Vec<usize>,
    /// The output of each node, once it is computed.
    seen: Vec<Option<Seen>>,
    /// Converted values, by source value, target shape and target layout.
    copies: HashMap<(usize, Shape4, Layout), usize>,
}

/// Lowers `graph` for `batch` images, with most maps in `layout`, to compute the nodes `outputs`.
pub(super) fn lower(
    graph: &Graph,
    outputs: &[NodeId],
    batch: usize,
    layout: Layout,
) -> Result<Program, NetError> {
    let wanted = Wanted { batch, layout: Some(layout), outputs, drops: false };
    Lowering::new(graph, &wanted).program(outputs)
}

/// Lowers `graph` for training: each layer is an operation of its own, with at most an activation.
pub(crate) fn lower_for_training(graph: &Graph, wanted: &Wanted<'_>) -> Result<Program, NetError> {
    Lowering { training: true, ..Lowering::new(graph, wanted) }.program(wanted.outputs)
}

/// Whether the kernel of a convolution covers the whole image, so that the output has one pixel.
pub(crate) fn covers_image(conv: &Conv, input: Shape) -> bool {
    let whole = input.batched(1);
    conv.kernel == whole.size() && conv.pad == Pad2::VALID && conv.groups == 1
}

impl<'a> Lowering<'a> {
    fn new(graph: &'a Graph, wanted: &Wanted<'_>) -> Self {
        Self {
            graph,
            batch: wanted.batch,
            blocked: wanted.layout != Some(Layout::Nchw),
            mixed: wanted.layout.is_none(),
            training: false,
            drops: wanted.drops,
            ops: Vec::new(),
            storages: Storages::default(),
            inputs: Vec::new(),
            seen: vec![None; graph.nodes().len()],
            copies: HashMap::new(),
        }
    }

    /// Lowers every layer that an output depends on, and the outputs.
    fn program(mut self, outputs: &[NodeId]) -> Result<Program, NetError> {
        self.run(outputs)?;
        // All are converted first: two outputs can be converted to one value, and reading a value keeps it from being one.
        let converted: Vec<Arg> = outputs.iter().map(|&id| self.demand(self.at(id), Layout::Nchw)).collect();
        let values = converted.iter().map(|&arg| self.output(arg, &converted)).collect();
        let Self { ops, storages, inputs, batch, .. } = self;
        Ok(Program { ops, storages, batch, inputs, outputs: values })
    }

    fn run(&mut self, outputs: &[NodeId]) -> Result<(), NetError> {
        let graph = self.graph;
        // All inputs, so that the caller gives each of them even if no output depends on it.
        for id in graph.inputs() {
            let shape = graph.node(id).output;
            let value = self.storages.add(Value { shape: shape.batched(self.batch), layout: Layout::Nchw });
            self.seen[id.index()] = Some(Seen { value, shape });
            self.inputs.push(value);
        }
        let readers = Readers::of(graph, outputs);
        for (id, node) in graph.ids().filter(|&(id, _)| readers.needs(id)) {
            if self.seen[id.index()].is_none() {
                let fused = match self.training {
                    true => fuse_for_training(graph, &readers, id),
                    false => fuse(graph, &readers, id, |id| self.seen[id.index()].is_some()),
                };
                self.node(id, node, fused)?;
            }
        }
        Ok(())
    }
}

impl Lowering<'_> {
    fn node(&mut self, id: NodeId, node: &Node, fused: Fused) -> Result<(), NetError> {
        if node.inputs.is_empty() && !matches!(node.layer, Layer::Tensor(_)) {
            let problem = LayerError::NoKernel { op: node.layer.op().to_owned() };
            return Err(NetError::layer(&node.name, problem));
        }
        let last = fused.nodes[fused.nodes.len() - 1];
        let shape = self.graph.node(last).output;
        let value = match &node.layer {
            _ if !node.inputs.is_empty() && self.is_view(node) => {
                self.ops.push(Op { work: Work::View, node: id, reads: Vec::new(), write: None });
                self.at(node.inputs[0]).value
            }
            Layer::Concat => self.concat(id, node, shape),
            Layer::Tensor(tensor) => self.operator((id, node), tensor, (&fused, shape)),
            _ => {
                let (reads, layout) = self.reads(node, &fused);
                let write = self.storages.add(Value { shape: shape.batched(self.batch), layout });
                let work = Work::Layers(vec![fused.clone()]);
                self.ops.push(Op { work, node: id, reads, write: Some(write) });
                write
            }
        };
        for node in &fused.nodes {
            self.seen[node.index()] = Some(Seen { value, shape });
        }
        Ok(())
    }

    /// The output of a node. Nodes are visited in an order in which it is known.
    pub(super) fn at(&self, id: NodeId) -> Seen {
        self.seen[id.index()].expect("a graph's nodes read earlier nodes only")
    }

    fn is_view(&self, node: &Node) -> bool {
        let input = self.graph.node(node.inputs[0]).output;
        // An adaptive average over single elements does nothing.
        let same_size = matches!(node.layer, Layer::AdaptivePool(_)) && input == node.output;
        let drops = self.drops && node.layer == Layer::Dropout;
        (node.layer.is_view() && !drops) || same_size
    }

    /// The operands of a layer, and the layout of its output.
    fn reads(&mut self, node: &Node, fused: &Fused) -> (Vec<Arg>, Layout) {
        let first = self.at(node.inputs[0]);
        let (from, to) = match node.layer {
            Layer::Linear(_) | Layer::Rbf { .. } => return (vec![self.rows(first)], Layout::Nchw),
            // The matrix product of a fully connected layer.
            Layer::Conv(conv) if self.training && self.mixed && covers_image(&conv, first.shape) => {
                (Layout::Nchw, Layout::Nchw)
            }
            Layer::Conv(_) | Layer::SparseConv(_) if self.mixed => {
                let (from, narrow) = (self.kept(first), first.shape.channels() < BLOCK);
                let is_blocked = from == Layout::Nchw16c || (narrow && few_are_empty(node.output.channels()));
                (from, if is_blocked { Layout::Nchw16c } else { Layout::Nchw })
            }
            Layer::Conv(_) | Layer::SparseConv(_) if self.blocked => (self.kept(first), Layout::Nchw16c),
            _ => (self.kept(first), self.kept(first)),
        };
        let mut reads: Vec<Arg> = node.inputs.iter().map(|&id| self.demand(self.at(id), from)).collect();
        reads.extend(fused.residual.map(|id| self.demand(self.at(id), to)));
        (reads, to)
    }

    /// The layout in which a layer reads `seen`: its present layout, except that a blocked network converts
    /// wide maps from NCHW.
    pub(super) fn kept(&self, seen: Seen) -> Layout {
        let is_map = matches!(seen.shape, Shape::Map { .. });
        let narrow = seen.shape.channels() < BLOCK;
        let is_nchw = self.storages.value(seen.value).layout == Layout::Nchw;
        match self.blocked && is_map && !((narrow || self.mixed) && is_nchw) {
            true => Layout::Nchw16c,
            false => Layout::Nchw,
        }
    }

    /// A vector as a row of pixels, one pixel per image. Flattened channel blocks without padding lanes
    /// already are such rows, but their readers must permute the weights. Where the weights are trained, they keep their
    /// order.
    fn rows(&mut self, seen: Seen) -> Arg {
        let value = self.storages.value(seen.value);
        let blocks = value.layout == Layout::Nchw16c && has_no_padding(value.shape) && !self.training;
        let arg = if blocks {
            Arg { value: seen.value, shape: seen.shape.batched(self.batch), layout: value.layout }
        } else if self.training && value.layout == Layout::Nchw16c && !has_no_padding(value.shape) {
            // The gradients of a fully connected layer have no gaps between images.
            let source = Arg { value: seen.value, shape: value.shape, layout: value.layout };
            let flat = self.converted(source, Value { shape: value.shape, layout: Layout::Nchw });
            Arg { shape: seen.shape.batched(self.batch), ..flat }
        } else {
            self.demand(seen, Layout::Nchw)
        };
        let row = Shape4::new(1, seen.shape.channels(), 1, self.batch);
        Arg { shape: row, layout: Layout::Nhwc, ..arg }
    }

    /// The elements of `seen` in a layout, converted if necessary.
    pub(super) fn demand(&mut self, seen: Seen, layout: Layout) -> Arg {
        let shape = seen.shape.batched(self.batch);
        let differs = shape.n != self.storages.value(seen.value).shape.n;
        // Other images than the value has: they must lie next to each other.
        let seen = if differs { Seen { value: self.packed(seen.value, Layout::Nchw), ..seen } } else { seen };
        let value = self.storages.value(seen.value);
        let arg = Arg { value: seen.value, shape, layout };
        match (value.layout, layout) {
            (Layout::Nchw, Layout::Nchw) => arg,
            (Layout::Nchw, _) if interchangeable(Layout::Nchw, layout, shape) => arg,
            (Layout::Nchw, _) => {
                let source = Arg { layout: Layout::Nchw, ..arg };
                self.converted(source, Value { shape, layout })
            }
            (_, Layout::Nchw) if interchangeable(value.layout, Layout::Nchw, value.shape) => arg,
            (_, Layout::Nchw) => {
                let source = Arg { shape: value.shape, layout: value.layout, ..arg };
                let flat = self.converted(source, Value { shape: value.shape, layout });
                Arg { shape, ..flat }
            }
            _ if value.shape == shape => arg,
            // Only NCHW keeps the order of elements across shapes, so convert through it. A row of channels is read as NCHW where
            // it is.
            _ => {
                let flat = self.demand(seen, Layout::Nchw);
                match interchangeable(Layout::Nchw, layout, shape) {
                    true => Arg { layout, ..flat },
                    false => self.converted(flat, Value { shape, layout }),
                }
            }
        }
    }

    fn converted(&mut self, source: Arg, to: Value) -> Arg {
        let key = (source.value, to.shape, to.layout);
        let value = match self.copies.get(&key) {
            Some(&value) => value,
            None => {
                let value = self.copy(source, to.layout);
                self.copies.insert(key, value);
                value
            }
        };
        Arg { value, shape: to.shape, layout: to.layout }
    }

    pub(super) fn copy(&mut self, source: Arg, layout: Layout) -> usize {
        let write = self.storages.add(Value { shape: source.shape, layout });
        let node = self.ops.iter().rev().find(|op| op.write == Some(source.value)).map(|op| op.node);
        let node = node.unwrap_or(NodeId::INPUT);
        self.ops.push(Op { work: Work::Copy, node, reads: vec![source], write: Some(write) });
        write
    }

    /// One of the `outputs` of the network, which are in NCHW. It has its own memory, which no operation reads, because it is
    /// the caller's buffer.
    fn output(&mut self, arg: Arg, outputs: &[Arg]) -> usize {
        let (value, storage) = (self.storages.value(arg.value), self.storages.of(arg.value));
        let inside = |value: usize| self.storages.of(value) == storage;
        let written = self.ops.iter().any(|op| op.write.is_some_and(inside));
        let read = self.ops.iter().any(|op| op.reads.iter().any(|arg| inside(arg.value)));
        let packed = value.layout == Layout::Nchw || has_no_padding(value.shape);
        let is_shared = outputs.iter().filter(|arg| inside(arg.value)).count() > 1;
        match packed && written && !read && !is_shared && self.storages.is_alone(arg.value) {
            true => arg.value,
            false => self.copy(arg, Layout::Nchw),
        }
    }
}
