//! The order in which nodes are imported, and the errors that make one impossible.

use super::proto::{GraphDef, NodeDef};
use super::source::ModelSource;
use crate::error::{OnnxError, Place};
use std::collections::{HashMap, HashSet};

/// The producer and the readers of each value.
#[derive(Debug)]
pub(super) struct Wiring<'a> {
    /// The node that produces a value.
    pub(super) makers: HashMap<&'a str, usize>,
    /// The nodes that read a value, once per use.
    pub(super) readers: HashMap<&'a str, Vec<usize>>,
    /// The outputs of the graph.
    pub(super) outputs: HashSet<&'a str>,
}

/// The position of a node, for errors.
pub(super) fn place(node: &NodeDef) -> Place {
    Place::Node { name: label(node).to_owned(), op: node.op.clone() }
}

/// The name of a node, or of its first output if it has none.
pub(super) fn label(node: &NodeDef) -> &str {
    let named = Some(&node.name).filter(|name| !name.is_empty());
    named.or_else(|| node.outputs.iter().find(|name| !name.is_empty())).map_or("", String::as_str)
}

impl<'a> Wiring<'a> {
    /// Checks that every value has exactly one producer and that every input of a node is produced.
    pub(super) fn new(graph: &'a GraphDef, source: &ModelSource) -> Result<Self, OnnxError> {
        let mut given: HashSet<&str> = HashSet::new();
        for tensor in &graph.initializers {
            if !given.insert(&tensor.name) {
                return Err(tensor.fault(source, "expected a name that no other tensor has"));
            }
        }
        given.extend(graph.inputs.iter().map(|input| input.name.as_str()));
        let (mut makers, mut readers) = (HashMap::new(), HashMap::<&str, Vec<usize>>::new());
        for (index, node) in graph.nodes.iter().enumerate() {
            for name in node.outputs.iter().filter(|name| !name.is_empty()) {
                if given.contains(name.as_str()) || makers.insert(name.as_str(), index).is_some() {
                    let problem = format!("expected an output that is new, got `{name}` a second time");
                    return Err(source.error(place(node), problem));
                }
            }
            for name in node.inputs.iter().filter(|name| !name.is_empty()) {
                readers.entry(name).or_default().push(index);
            }
        }
        for node in &graph.nodes {
            let known = |name: &&String| {
                name.is_empty() || given.contains(name.as_str()) || makers.contains_key(name.as_str())
            };
            if let Some(name) = node.inputs.iter().find(|name| !known(name)) {
                let problem = format!("expected inputs that something makes, got `{name}`");
                return Err(source.error(place(node), problem));
            }
        }
        let outputs = graph.outputs.iter().map(|output| output.name.as_str()).collect();
        Ok(Self { makers, readers, outputs })
    }

    /// The only node that reads a value, if the value is not an output of the graph.
    pub(super) fn sole_reader(&self, value: &str) -> Option<usize> {
        match self.readers.get(value).map(Vec::as_slice) {
            Some(&[reader]) if !self.outputs.contains(value) => Some(reader),
            _ => None,
        }
    }

    /// All nodes in topological order, which is the order of the file if that is topological.
    pub(super) fn sorted(&self, nodes: &[NodeDef], source: &ModelSource) -> Result<Vec<usize>, OnnxError> {
        #[derive(Clone, Copy, PartialEq)]
        enum State {
            New,
            Open,
            Done,
        }
        let (mut states, mut order) = (vec![State::New; nodes.len()], Vec::with_capacity(nodes.len()));
        // An explicit stack of open nodes, each with the number of inputs that are done. Recursion could
        // overflow the call stack.
        let mut stack: Vec<(usize, usize)> = Vec::new();
        for root in 0..nodes.len() {
            if states[root] == State::New {
                states[root] = State::Open;
                stack.push((root, 0));
            }
            while let Some((node, input)) = stack.last_mut() {
                let Some(name) = nodes[*node].inputs.get(*input) else {
                    states[*node] = State::Done;
                    order.push(*node);
                    stack.pop();
                    continue;
                };
                *input += 1;
                let Some(&maker) = self.makers.get(name.as_str()) else { continue };
                match states[maker] {
                    State::Done => {}
                    State::New => {
                        states[maker] = State::Open;
                        stack.push((maker, 0));
                    }
                    State::Open => {
                        let problem = format!("expected no cycle, got `{name}`, which depends on this node");
                        return Err(source.error(place(&nodes[*node]), problem));
                    }
                }
            }
        }
        Ok(order)
    }
}
