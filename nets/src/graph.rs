//! [`Graph`]: named layers, each reading earlier ones, with every shape inferred and checked while it is built.

use crate::error::{LayerError, NetError};
use crate::layer::{Layer, Param};
use crate::shape::Shape;
use kernels::Activation;
use std::collections::HashSet;

/// A node of the graph that returned it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(usize);

impl NodeId {
    /// Its place in [`Graph::nodes`].
    pub const fn index(self) -> usize {
        self.0
    }
}

/// A layer in its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Unique in the graph; its tensors are `name.weight`, `name.bias`.
    pub name: String,
    /// What it computes.
    pub layer: Layer,
    /// What it reads: nodes before it.
    pub inputs: Vec<NodeId>,
    /// The shape that comes out.
    pub output: Shape,
}

/// A checked network: acyclic, in an order in which it can be run, all shapes known.
#[derive(Debug, Clone, PartialEq)]
pub struct Graph {
    name: String,
    nodes: Vec<Node>,
}

impl Graph {
    /// The name of the network.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Every node; the first is the input, the last the output, and each reads earlier ones only.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Every node with its number.
    pub fn ids(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.nodes.iter().enumerate().map(|(index, node)| (NodeId(index), node))
    }

    /// The node of that number.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    /// The shape of one input image.
    pub fn input(&self) -> Shape {
        self.nodes[0].output
    }

    /// The last node, whose output is the network's.
    pub fn output_id(&self) -> NodeId {
        NodeId(self.nodes.len() - 1)
    }

    /// The shape of the output for one image.
    pub fn output(&self) -> Shape {
        self.node(self.output_id()).output
    }

    /// The shapes that a node reads.
    pub fn input_shapes(&self, node: &Node) -> Vec<Shape> {
        node.inputs.iter().map(|&id| self.node(id).output).collect()
    }

    /// For each node, those that read it.
    pub fn consumers(&self) -> Vec<Vec<NodeId>> {
        let mut consumers = vec![Vec::new(); self.nodes.len()];
        for (id, node) in self.ids() {
            for input in &node.inputs {
                consumers[input.0].push(id);
            }
        }
        consumers
    }

    /// Every trained tensor with its full name, in the order of the layers.
    pub fn params(&self) -> impl Iterator<Item = (String, Param)> {
        self.nodes.iter().flat_map(|node| {
            let params = node.layer.params(&self.input_shapes(node));
            params.into_iter().map(|param| (format!("{}.{}", node.name, param.name), param))
        })
    }
}

/// Builds a [`Graph`] layer by layer. The first mistake is kept and comes out of [`build`](Self::build), so that the
/// code of a network reads like the table of its paper.
#[derive(Debug)]
#[must_use = "call build()"]
pub struct GraphBuilder {
    name: String,
    nodes: Vec<Node>,
    names: HashSet<String>,
    first_error: Option<NetError>,
}

impl GraphBuilder {
    /// A graph whose input, the node `input`, is one image of `input`.
    pub fn new(name: &str, input: Shape) -> Self {
        let mut builder =
            Self { name: name.to_owned(), nodes: Vec::new(), names: HashSet::new(), first_error: None };
        builder.add("input", Layer::Input(input), &[]);
        builder
    }

    /// The node added last.
    pub fn last(&self) -> NodeId {
        NodeId(self.nodes.len() - 1)
    }

    /// Adds a layer that reads the one added last.
    pub fn then(&mut self, name: &str, layer: impl Into<Layer>) -> &mut Self {
        let last = self.last();
        self.add(name, layer, &[last]);
        self
    }

    /// Adds an activation that reads the layer added last, under the name `layer.activation`.
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
                // Later layers would only complain about this one.
                self.first_error.get_or_insert_with(|| NetError::layer(name, problem));
                Shape::vector(1)
            }
        };
        self.names.insert(name.to_owned());
        self.nodes.push(Node { name: name.to_owned(), layer, inputs: inputs.to_vec(), output });
        self.last()
    }

    fn check(&self, name: &str, layer: &Layer, inputs: &[NodeId]) -> Result<Shape, LayerError> {
        if self.names.contains(name) {
            return Err(LayerError::DuplicateName);
        }
        let (expected, got) = (layer.arity(), inputs.len());
        if expected != got {
            return Err(LayerError::Arity { expected, got });
        }
        let nodes = self.nodes.len();
        if let Some(&NodeId(got)) = inputs.iter().find(|id| id.0 >= nodes) {
            return Err(LayerError::UnknownInput { nodes, got });
        }
        let shapes: Vec<Shape> = inputs.iter().map(|id| self.nodes[id.0].output).collect();
        layer.output(&shapes)
    }

    /// The graph; the layer added last is its output.
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
        Ok(Graph { name: self.name, nodes: self.nodes })
    }
}
