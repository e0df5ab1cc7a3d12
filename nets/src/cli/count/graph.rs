//! `--graph`: the network as boxes and arrows. Small layers are strips at the edge of the box that they belong to.

use super::Counted;
use super::operator::{is_small, kind, operator};
use crate::cli::text::thousands;
use nets::plot::{Diagram, Kind, LayerBox, Strip};
use nets::{Graph, Layer, LayerCount, Node, Shape};
use std::collections::{HashMap, HashSet};

/// More strips than this are not drawn at one box.
const MOST_STRIPS: usize = 6;

const LEGEND: &str = "In a box: operator with kernel/stride, output channels, groups g and dilation d; shape of the output; name; \
     parameters · MACs. Strips are small layers that belong to the box, and count in it.";

/// The picture as text.
pub(super) fn svg(counted: &Counted) -> String {
    let count = &counted.count;
    let images = if count.batch == 1 { "one image".to_owned() } else { format!("{} images", count.batch) };
    let least = if count.unknown_layers > 0 { "at least " } else { "" };
    let counts = format!(
        "For {images}: {least}{} parameters, {least}{} multiply-accumulates (MACs).",
        thousands(count.params),
        thousands(count.macs)
    );
    let notes = vec![counts, LEGEND.to_owned()];
    let title = format!("{}: the layers", counted.graph.name());
    Diagram { title, notes, boxes: Boxes::new(&counted.graph, &count.layers).finish() }.page()
}

/// The boxes so far.
struct Boxes<'a> {
    graph: &'a Graph,
    counts: &'a [LayerCount],
    /// What each node reads, and by how many nodes and outputs it is read.
    inputs: Vec<Vec<usize>>,
    readers: Vec<usize>,
    /// The nodes of each box: strips before, the layer, strips behind.
    parts: Vec<[Vec<usize>; 3]>,
    /// The box of each node.
    home: Vec<usize>,
}

impl<'a> Boxes<'a> {
    fn new(graph: &'a Graph, counts: &'a [LayerCount]) -> Self {
        let inputs = inputs(graph);
        let mut readers = vec![0; inputs.len()];
        inputs
            .iter()
            .flatten()
            .chain(graph.outputs().iter().map(|id| id.index()).collect::<Vec<_>>().iter())
            .for_each(|&input| readers[input] += 1);
        let home = vec![usize::MAX; inputs.len()];
        let mut boxes = Self { graph, counts, inputs, readers, parts: Vec::new(), home };
        let before = boxes.strips_before();
        let in_front: HashSet<usize> = before.values().flatten().copied().collect();
        for node in (0..boxes.home.len()).filter(|node| !in_front.contains(node)) {
            boxes.add(node, &before);
        }
        boxes
    }

    fn node(&self, index: usize) -> &'a Node {
        &self.graph.nodes()[index]
    }

    /// The only node that reads this one, if there is only one.
    fn is_read_once(&self, index: usize) -> bool {
        self.readers[index] == 1
    }

    /// Whether a small layer can be a strip at the box of its input.
    fn follows(&self, index: usize) -> bool {
        let [input] = self.inputs[index][..] else { return false };
        is_small(&self.node(index).layer, 1)
            && self.is_read_once(input)
            && !matches!(self.node(input).layer, Layer::Input(_))
    }

    /// For each layer the small layers in front of it that cannot follow what they read, because others read it too: the
    /// normalisation and the activation before a convolution of DenseNet.
    fn strips_before(&self) -> HashMap<usize, Vec<usize>> {
        let mut chain: Vec<Vec<usize>> = vec![Vec::new(); self.inputs.len()];
        let mut before = HashMap::new();
        for index in 0..self.inputs.len() {
            let [input] = self.inputs[index][..] else { continue };
            let in_front =
                if self.is_read_once(input) { std::mem::take(&mut chain[input]) } else { Vec::new() };
            let is_start = in_front.is_empty() && !self.follows(index);
            if is_small(&self.node(index).layer, 1)
                && (is_start || !in_front.is_empty())
                && in_front.len() < MOST_STRIPS
            {
                chain[index] = in_front;
                chain[index].push(index);
            } else if !in_front.is_empty() {
                before.insert(index, in_front);
            }
        }
        before
    }

    fn add(&mut self, index: usize, before: &HashMap<usize, Vec<usize>>) {
        if self.follows(index) {
            let home = self.home[self.inputs[index][0]];
            if home != usize::MAX && self.parts[home][2].len() < MOST_STRIPS {
                self.parts[home][2].push(index);
                self.home[index] = home;
                return;
            }
        }
        let front = before.get(&index).cloned().unwrap_or_default();
        for &node in front.iter().chain([&index]) {
            self.home[node] = self.parts.len();
        }
        self.parts.push([front, vec![index], Vec::new()]);
    }

    fn finish(self) -> Vec<LayerBox> {
        let mut classes: HashMap<String, Vec<(usize, usize)>> = HashMap::new();
        let mut boxes: Vec<LayerBox> = Vec::new();
        for number in 0..self.parts.len() {
            let class = self.class(number, &mut classes);
            boxes.push(self.layer(number, class));
        }
        // The main output is last, so that it is at the end of the main path.
        for id in self.graph.outputs().iter().rev() {
            let node = self.graph.node(*id);
            boxes.push(LayerBox {
                kind: Kind::Port,
                class: usize::MAX,
                operator: port("output", &node.name, self.graph.outputs().len()),
                name: node.name.clone(),
                shape: shape(node.output),
                params: 0,
                macs: 0,
                strips: [Vec::new(), Vec::new()],
                layers: Vec::new(),
                inputs: vec![self.home[id.index()]],
            });
        }
        boxes
    }

    /// Boxes of a class have equal layers, and outputs that are equal but for the channels.
    fn class(&self, number: usize, classes: &mut HashMap<String, Vec<(usize, usize)>>) -> usize {
        let nodes = |number: usize| self.parts[number].iter().flatten().map(|&index| self.node(index));
        let outline = |shape: Shape| match shape {
            Shape::Map { h, w, .. } => format!("{h}x{w}"),
            shape => shape.to_string(),
        };
        let key = nodes(number).map(|node| format!("{} {}", node.layer.op(), outline(node.output)));
        let known = classes.entry(key.collect::<Vec<_>>().join(";")).or_default();
        let lengths = |number: usize| self.parts[number].iter().map(Vec::len).collect::<Vec<_>>();
        let is_equal = |&&(_, other): &&(usize, usize)| {
            lengths(other) == lengths(number)
                && nodes(other).zip(nodes(number)).all(|(a, b)| a.layer == b.layer)
        };
        if let Some(&(class, _)) = known.iter().find(is_equal) {
            return class;
        }
        known.push((number, number));
        number
    }

    fn layer(&self, number: usize, class: usize) -> LayerBox {
        let [before, main, behind] = &self.parts[number];
        let node = self.node(main[0]);
        let strip = |&index: &usize| {
            let layer = &self.node(index).layer;
            // With a constant.
            let kind = if kind(layer) == Kind::Join { Kind::Norm } else { kind(layer) };
            Strip { kind, text: layer.op().replace('_', " ") }
        };
        let all = || before.iter().chain(main).chain(behind);
        let sum = |value: fn(&LayerCount) -> u64| {
            all().fold(0u64, |sum, &index| sum.saturating_add(value(&self.counts[index])))
        };
        let first = before.first().unwrap_or(&main[0]);
        let mut inputs: Vec<usize> = self.inputs[*first].iter().map(|&input| self.home[input]).collect();
        inputs.sort_unstable();
        inputs.dedup();
        let output = behind.last().unwrap_or(&main[0]);
        LayerBox {
            kind: kind(&node.layer),
            class,
            operator: match node.layer {
                Layer::Input(_) => port("input", &node.name, self.graph.inputs().count()),
                _ => operator(node, &self.graph.input_shapes(node)),
            },
            name: node.name.clone(),
            shape: shape(self.node(*output).output),
            params: sum(|layer| layer.params),
            macs: sum(|layer| layer.macs),
            strips: [before.iter().map(strip).collect(), behind.iter().map(strip).collect()],
            layers: all().map(|&index| line(&self.counts[index])).collect(),
            inputs,
        }
    }
}

/// An input or output, which needs its name if there are several.
fn port(kind: &str, name: &str, count: usize) -> String {
    if count > 1 { format!("{kind} {name}") } else { kind.to_owned() }
}

/// A line of a tooltip.
fn line(layer: &LayerCount) -> String {
    let (name, op, output) = (&layer.name, &layer.op, shape(layer.output));
    let mut line = format!("{name}: {op}, {output}");
    if layer.params > 0 {
        line += &format!(", {} parameters", thousands(layer.params));
    }
    if layer.macs > 0 {
        line += &format!(", {} MACs", thousands(layer.macs));
    }
    line
}

fn shape(shape: Shape) -> String {
    if shape == Shape::Unknown { "unknown".to_owned() } else { shape.to_string() }
}

/// What each node reads. A concatenation of what an earlier one concatenates, and more, is drawn as if it read that one:
/// the block of DenseNet is then a chain, as its output is.
fn inputs(graph: &Graph) -> Vec<Vec<usize>> {
    let mut known: HashMap<Vec<usize>, usize> = HashMap::new();
    let mut all = Vec::with_capacity(graph.nodes().len());
    for (index, node) in graph.nodes().iter().enumerate() {
        let mut inputs: Vec<usize> = node.inputs.iter().map(|id| id.index()).collect();
        if node.layer == Layer::Concat && inputs.len() > 1 {
            let shorter =
                (2..inputs.len()).rev().find_map(|length| Some((length, *known.get(&inputs[..length])?)));
            known.insert(inputs.clone(), index);
            if let Some((length, earlier)) = shorter {
                inputs.splice(..length, [earlier]);
            }
        }
        all.push(inputs);
    }
    all
}
