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
use std::ops::Range;

/// The value of the caller's input.
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
pub(super) struct Program {
    pub(super) ops: Vec<Op>,
    pub(super) storages: Storages,
    /// The value that the caller receives, in NCHW.
    pub(super) output: usize,
}

/// The same of a network that trains.
#[derive(Debug)]
pub(crate) struct Training {
    pub(crate) ops: Vec<Op>,
    pub(crate) storages: Storages,
    /// The values of the wanted nodes, in NCHW.
    pub(crate) outputs: Vec<usize>,
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
struct Seen {
    value: usize,
    shape: Shape,
}

struct Lowering<'a> {
    graph: &'a Graph,
    batch: usize,
    blocked: bool,
    /// Whether each convolution chooses the layout of its output.
    mixed: bool,
    training: bool,
    drops: bool,
    ops: Vec<Op>,
    storages: Storages,
    /// The output of each node, once it is computed.
    seen: Vec<Option<Seen>>,
    /// Converted values, by source value, target shape and target layout.
    copies: HashMap<(usize, Shape4, Layout), usize>,
}

/// Lowers `graph` for `batch` images, with most maps in `layout`.
pub(super) fn lower(graph: &Graph, batch: usize, layout: Layout) -> Result<Program, NetError> {
    let output = graph.output_id();
    let mut lowering =
        Lowering::new(graph, &Wanted { batch, layout: Some(layout), outputs: &[output], drops: false });
    lowering.run(&[output])?;
    let output = lowering.output(output);
    Ok(Program { ops: lowering.ops, storages: lowering.storages, output })
}

/// Lowers `graph` for training: each layer is an operation of its own, with at most an activation.
pub(crate) fn lower_for_training(graph: &Graph, wanted: &Wanted<'_>) -> Result<Training, NetError> {
    let mut lowering = Lowering { training: true, ..Lowering::new(graph, wanted) };
    lowering.run(wanted.outputs)?;
    let outputs = wanted.outputs.iter().map(|&output| lowering.output(output)).collect();
    Ok(Training { ops: lowering.ops, storages: lowering.storages, outputs })
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
            seen: vec![None; graph.nodes().len()],
            copies: HashMap::new(),
        }
    }

    /// Lowers every layer that an output depends on.
    fn run(&mut self, outputs: &[NodeId]) -> Result<(), NetError> {
        let (graph, readers) = (self.graph, Readers::of(self.graph, outputs));
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
        if let Layer::Input(shape) = node.layer {
            if id != NodeId::INPUT {
                let problem = LayerError::NoKernel { op: "second input".to_owned() };
                return Err(NetError::layer(&node.name, problem));
            }
            let value = self.storages.add(Value { shape: shape.batched(self.batch), layout: Layout::Nchw });
            self.seen[id.index()] = Some(Seen { value, shape });
            return Ok(());
        }
        if node.inputs.is_empty() {
            let problem = LayerError::NoKernel { op: node.layer.op().to_owned() };
            return Err(NetError::layer(&node.name, problem));
        }
        let last = fused.nodes[fused.nodes.len() - 1];
        let shape = self.graph.node(last).output;
        let value = match &node.layer {
            _ if self.is_view(node) => {
                self.ops.push(Op { work: Work::View, node: id, reads: Vec::new(), write: None });
                self.at(node.inputs[0]).value
            }
            Layer::Concat => self.concat(id, node, shape),
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
    fn at(&self, id: NodeId) -> Seen {
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
                let fits = few_are_empty(node.output.channels());
                (self.kept(first), if fits { Layout::Nchw16c } else { Layout::Nchw })
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
    fn kept(&self, seen: Seen) -> Layout {
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
    fn demand(&mut self, seen: Seen, layout: Layout) -> Arg {
        let (shape, value) = (seen.shape.batched(self.batch), self.storages.value(seen.value));
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
            // Only NCHW keeps the order of elements across shapes, so convert through it.
            _ => {
                let Arg { value, .. } = self.demand(seen, Layout::Nchw);
                self.demand(Seen { value, ..seen }, layout)
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

    fn copy(&mut self, source: Arg, layout: Layout) -> usize {
        let write = self.storages.add(Value { shape: source.shape, layout });
        let node = self.ops.iter().rev().find(|op| op.write == Some(source.value)).map(|op| op.node);
        let node = node.unwrap_or(NodeId::INPUT);
        self.ops.push(Op { work: Work::Copy, node, reads: vec![source], write: Some(write) });
        write
    }

    /// The sources become channel ranges of the result. A source with its own memory is placed there
    /// directly, and so are sources that lie next to each other already, so that nothing is copied. Any other
    /// source, such as the caller's input, is copied.
    fn concat(&mut self, id: NodeId, node: &Node, shape: Shape) -> usize {
        let sources: Vec<Seen> = node.inputs.iter().map(|&id| self.at(id)).collect();
        let wanted = sources.iter().map(|&source| self.kept(source));
        let wanted = if wanted.into_iter().any(|layout| layout == Layout::Nchw16c) {
            Layout::Nchw16c
        } else {
            Layout::Nchw
        };
        let starts = sources.iter().scan(0, |channel, source| {
            *channel += source.shape.channels();
            Some(*channel - source.shape.channels())
        });
        let starts: Vec<usize> = starts.collect();
        let aligned = starts.iter().all(|&channel| Storages::is_aligned(wanted, channel));
        let layout = if aligned { wanted } else { Layout::Nchw };
        let whole = self.storages.add(Value { shape: shape.batched(self.batch), layout });
        let args: Vec<Arg> = sources.iter().map(|&source| self.demand(source, layout)).collect();
        // For the same reason, vectors that train are copied.
        let moves = !self.training || matches!(shape, Shape::Map { .. });
        let placed = if moves { self.longest_run(&args) } else { 0..0 };
        if !placed.is_empty() {
            self.storages.join(whole, args[placed.start].value, -(starts[placed.start] as isize));
        }
        for (index, (arg, channel)) in args.iter().zip(starts).enumerate() {
            if placed.contains(&index) {
                continue;
            }
            let once = args.iter().filter(|other| other.value == arg.value).count() == 1;
            let part = if moves && once && self.can_move(arg, whole) {
                arg.value
            } else {
                self.part(*arg, whole, layout)
            };
            self.storages.join(part, whole, channel as isize);
        }
        self.ops.push(Op { work: Work::View, node: id, reads: Vec::new(), write: None });
        whole
    }

    /// The longest run of `args` that lie next to each other already, with room before and after it for the others.
    ///
    /// In a dense block every concatenation begins with the one before it. It takes over the memory of the earlier one
    /// and adds to it, so that the whole block is one tensor and nothing is copied.
    fn longest_run(&self, args: &[Arg]) -> Range<usize> {
        let is_placed = |arg: &Arg| {
            let Value { shape, layout } = self.storages.value(arg.value);
            (shape, layout) == (arg.shape, arg.layout) && arg.value != INPUT
        };
        let has_room = |run: &Range<usize>| {
            let (low, _) = self.storages.is_at_edge(args[run.start].value);
            let (_, high) = self.storages.is_at_edge(args[run.end - 1].value);
            (run.start == 0 || low) && (run.end == args.len() || high)
        };
        let (mut longest, mut start) = (0..0, 0);
        for end in 1..=args.len() {
            let goes_on = args.get(end).is_some_and(|next| {
                is_placed(next) && self.storages.follows(args[end - 1].value, next.value)
            });
            if goes_on && is_placed(&args[start]) {
                continue;
            }
            let run = start..end;
            if is_placed(&args[start]) && run.len() > longest.len() && has_room(&run) {
                longest = run;
            }
            start = end;
        }
        longest
    }

    /// Whether the memory of `arg` can become a part of `whole`.
    fn can_move(&self, arg: &Arg, whole: usize) -> bool {
        let Value { shape, layout } = self.storages.value(arg.value);
        let as_it_is = (shape, layout) == (arg.shape, arg.layout);
        let (own, other) = (self.storages.of(arg.value), self.storages.of(whole));
        arg.value != INPUT
            && as_it_is
            && own != other
            && self.storages.is_alone(arg.value)
            && !(self.batch > 1 && self.would_read_what_it_writes(own, other))
    }

    /// Whether an operation would read and write the same storage after these two are joined. With one image
    /// the parts are separate in memory; with several, the parts of different images alternate.
    fn would_read_what_it_writes(&self, a: usize, b: usize) -> bool {
        let inside = |value: usize| [a, b].contains(&self.storages.of(value));
        self.ops.iter().any(|op| op.write.is_some_and(inside) && op.reads.iter().any(|arg| inside(arg.value)))
    }

    /// Places a copy of `arg` in `whole`.
    fn part(&mut self, arg: Arg, whole: usize, layout: Layout) -> usize {
        let inside = self.storages.of(arg.value) == self.storages.of(whole);
        if self.batch > 1 && inside {
            let value = self.copy(arg, layout);
            return self.copy(Arg { value, ..arg }, layout);
        }
        self.copy(arg, layout)
    }

    /// The value of a wanted node in NCHW. It has its own memory, which no operation reads, because it is the
    /// caller's buffer.
    fn output(&mut self, node: NodeId) -> usize {
        let arg = self.demand(self.at(node), Layout::Nchw);
        let (value, storage) = (self.storages.value(arg.value), self.storages.of(arg.value));
        let inside = |value: usize| self.storages.of(value) == storage;
        let written = self.ops.iter().any(|op| op.write.is_some_and(inside));
        let read = self.ops.iter().any(|op| op.reads.iter().any(|arg| inside(arg.value)));
        let packed = value.layout == Layout::Nchw || has_no_padding(value.shape);
        match packed && written && !read && self.storages.is_alone(arg.value) {
            true => arg.value,
            false => self.copy(arg, Layout::Nchw),
        }
    }
}
