//! [`Graph`]: named layers that read earlier layers. Every shape is inferred and checked while the graph is built.

use crate::error::{LayerError, NetError};
use crate::layer::{Layer, Param};
use crate::shape::Shape;
use kernels::Activation;
use std::collections::HashSet;

/// Identifies a node of the graph that returned it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(usize);

impl NodeId {
    /// The node of the input image.
    pub(crate) const INPUT: Self = Self(0);

    /// The index of the node in [`Graph::nodes`].
    pub const fn index(self) -> usize {
        self.0
    }
}

/// A layer in a graph.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The name, unique in the graph. The tensors of the node are `name.weight`, `name.bias` and so on.
    pub name: String,
    /// The operation.
    pub layer: Layer,
    /// The nodes that it reads, all of them earlier in the graph.
    pub inputs: Vec<NodeId>,
    /// The shape of its output, for one image.
    pub output: Shape,
}

/// A checked network. It is acyclic, its nodes are in an executable order, and every shape is known except
/// behind a [`Layer::Unknown`].
#[derive(Debug, Clone, PartialEq)]
pub struct Graph {
    name: String,
    nodes: Vec<Node>,
    /// At least one; the first is the output of networks with one.
    outputs: Vec<NodeId>,
    batch: Option<usize>,
}

impl Graph {
    /// The name of the network.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All nodes. The first one is the input, and every node reads only earlier ones.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// All nodes with their ids.
    pub fn ids(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.nodes.iter().enumerate().map(|(index, node)| (NodeId(index), node))
    }

    /// The node with this id.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    /// The shape of one input image. If there are several inputs, it is the shape of the first one.
    pub fn input(&self) -> Shape {
        self.nodes[0].output
    }

    /// The nodes of the inputs, in the order in which a forward pass takes them.
    pub fn inputs(&self) -> impl Iterator<Item = NodeId> {
        self.ids().filter(|(_, node)| matches!(node.layer, Layer::Input(_))).map(|(id, _)| id)
    }

    /// The node whose output is the output of the network. It defaults to the last node. If there are several outputs, it
    /// is the main one.
    pub fn output_id(&self) -> NodeId {
        self.outputs[0]
    }

    /// The nodes of all outputs, the main one first.
    pub fn outputs(&self) -> &[NodeId] {
        &self.outputs
    }

    /// The shape of the output, for one image.
    pub fn output(&self) -> Shape {
        self.node(self.output_id()).output
    }

    /// The only batch size that the network supports, or `None` if it supports every batch size. It is set for
    /// imported models whose layers depend on the batch size, because they mix the images of a batch.
    pub fn batch(&self) -> Option<usize> {
        self.batch
    }

    /// The shapes that a node reads.
    pub fn input_shapes(&self, node: &Node) -> Vec<Shape> {
        node.inputs.iter().map(|&id| self.node(id).output).collect()
    }

    /// By node: whether it is one of `nodes`, or one of them depends on it.
    pub(crate) fn ancestors(&self, nodes: &[NodeId]) -> Vec<bool> {
        let mut found = vec![false; self.nodes.len()];
        nodes.iter().for_each(|node| found[node.0] = true);
        for (index, node) in self.nodes.iter().enumerate().rev() {
            if found[index] {
                node.inputs.iter().for_each(|input| found[input.0] = true);
            }
        }
        found
    }

    /// The nodes that read each node.
    pub fn consumers(&self) -> Vec<Vec<NodeId>> {
        let mut consumers = vec![Vec::new(); self.nodes.len()];
        for (id, node) in self.ids() {
            for input in &node.inputs {
                consumers[input.0].push(id);
            }
        }
        consumers
    }

    /// All parameter tensors with their full names, in the order of the layers.
    pub fn params(&self) -> impl Iterator<Item = (String, Param)> {
        self.nodes.iter().flat_map(|node| {
            let params = node.layer.params(&self.input_shapes(node));
            params.into_iter().map(|param| (format!("{}.{}", node.name, param.name), param))
        })
    }
}

/// Builds a [`Graph`] layer by layer.
///
/// Methods do not return errors, so that the code of a network reads like the table of its paper.
/// [`build`](Self::build) reports the first mistake.
#[derive(Debug)]
#[must_use = "call build()"]
pub struct GraphBuilder {
    name: String,
    nodes: Vec<Node>,
    names: HashSet<String>,
    /// The node that the next layer reads.
    current: NodeId,
    outputs: Vec<NodeId>,
    batch: Option<usize>,
    first_error: Option<NetError>,
}

impl GraphBuilder {
    /// Starts a graph with one input node called `input`, for one image of shape `input`.
    pub fn new(name: &str, input: Shape) -> Self {
        Self::with_input(name, "input", input)
    }

    /// Starts a graph with one input node called `input_name`, for one image of shape `input`.
    pub fn with_input(name: &str, input_name: &str, input: Shape) -> Self {
        let (name, nodes, names) = (name.to_owned(), Vec::new(), HashSet::new());
        let current = NodeId::INPUT;
        let (outputs, batch, first_error) = (Vec::new(), None, None);
        let mut builder = Self { name, nodes, names, current, outputs, batch, first_error };
        builder.add(input_name, Layer::Input(input), &[]);
        builder
    }

    /// Makes `node` the output of the network, instead of the last layer.
    pub fn output(&mut self, node: NodeId) {
        self.outputs = vec![node];
    }

    /// Makes `nodes` the outputs of the network, the main one first.
    pub fn outputs(&mut self, nodes: &[NodeId]) {
        self.outputs = nodes.to_vec();
    }

    /// Restricts the network to exactly `batch` images; see [`Graph::batch`].
    pub fn batch(&mut self, batch: usize) {
        self.batch = Some(batch);
    }

    /// The shape of the output of a node.
    pub fn shape(&self, node: NodeId) -> Shape {
        self.nodes[node.0].output
    }

    /// The name of a node.
    pub fn name(&self, node: NodeId) -> &str {
        &self.nodes[node.0].name
    }

    /// The node that the next layer reads: the last one added, or the one passed to [`at`](Self::at).
    pub fn last(&self) -> NodeId {
        self.current
    }

    /// Makes the next layer read `node`, to start a branch.
    pub fn at(&mut self, node: NodeId) -> &mut Self {
        self.current = node;
        self
    }

    /// Adds a layer that reads the previous one.
    pub fn then(&mut self, name: &str, layer: impl Into<Layer>) -> &mut Self {
        let last = self.last();
        self.add(name, layer, &[last]);
        self
    }

    /// Adds an activation that reads the previous layer. Its name is `layer.activation`.
    pub fn act(&mut self, activation: Activation) -> &mut Self {
        let name = format!("{}.{}", self.nodes[self.last().0].name, activation.name());
        self.then(&name, activation)
    }

    /// Adds a layer that reads `inputs`, for networks with branches.
    pub fn add(&mut self, name: &str, layer: impl Into<Layer>, inputs: &[NodeId]) -> NodeId {
        let layer = layer.into();
        let output = match self.check(name, &layer, inputs) {
            Ok(output) => output,
            Err(problem) => {
                // Errors of later layers would only be consequences of this one.
                self.first_error.get_or_insert_with(|| NetError::layer(name, problem));
                Shape::vector(1)
            }
        };
        self.names.insert(name.to_owned());
        self.current = NodeId(self.nodes.len());
        self.nodes.push(Node { name: name.to_owned(), layer, inputs: inputs.to_vec(), output });
        self.current
    }

    fn check(&self, name: &str, layer: &Layer, inputs: &[NodeId]) -> Result<Shape, LayerError> {
        if self.names.contains(name) {
            return Err(LayerError::DuplicateName);
        }
        let (arity, got) = (layer.arity(), inputs.len());
        if !arity.contains(&got) {
            let (least, exact) = (arity.start(), arity.start() == arity.end());
            let expected = if exact { least.to_string() } else { format!("at least {least}") };
            return Err(LayerError::Arity { expected, got });
        }
        let nodes = self.nodes.len();
        if let Some(&NodeId(got)) = inputs.iter().find(|id| id.0 >= nodes) {
            return Err(LayerError::UnknownInput { nodes, got });
        }
        let shapes: Vec<Shape> = inputs.iter().map(|id| self.nodes[id.0].output).collect();
        layer.output(&shapes)
    }

    /// Returns the graph. Its output is the last layer added, or the node passed to [`output`](Self::output).
    ///
    /// # Errors
    /// The first mistake, with the name of its layer.
    pub fn build(self) -> Result<Graph, NetError> {
        if let Some(error) = self.first_error {
            return Err(error);
        }
        if self.nodes.len() < 2 {
            return Err(NetError::NoLayers { network: self.name });
        }
        let last = NodeId(self.nodes.len() - 1);
        let outputs = if self.outputs.is_empty() { vec![last] } else { self.outputs };
        Ok(Graph { name: self.name, nodes: self.nodes, outputs, batch: self.batch })
    }
}
