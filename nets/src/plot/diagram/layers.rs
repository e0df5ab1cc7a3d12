//! The layers of a section: boxes below all that they read, and lanes for arrows that pass layers.

use super::LayerBox;
use super::sections::Section;

/// What stands at a place of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// The tail of the section before, above the first layer.
    Head,
    /// The box of this place in the section.
    Box(usize),
    /// An arrow that starts at this vertex and passes the layer.
    Lane(usize),
}

/// The graph of a section, with a vertex in each layer that an arrow passes.
#[derive(Debug)]
pub(super) struct Layered {
    pub(super) owners: Vec<Owner>,
    /// The layer of each vertex. The head alone is in layer 0.
    pub(super) layer: Vec<usize>,
    /// The vertices in the next and in the previous layer that each is joined with.
    pub(super) down: Vec<Vec<usize>>,
    pub(super) up: Vec<Vec<usize>>,
    /// The vertices of each layer from the left to the right.
    pub(super) rows: Vec<Vec<usize>>,
    /// For each arrow its vertices from the box that is read to the one that reads.
    pub(super) arrows: Vec<Vec<usize>>,
}

impl Layered {
    /// The vertex of the head is 0. The vertices of the boxes follow, and then those of the lanes.
    pub(super) fn new(boxes: &[LayerBox], section: &Section) -> Self {
        let count = section.boxes.len();
        let reads = reads(boxes, section);
        let layer = layers(&reads, section);
        let owners = std::iter::once(Owner::Head).chain((0..count).map(Owner::Box)).collect();
        let none = || vec![Vec::new(); count + 1];
        let mut graph =
            Self { owners, layer, down: none(), up: none(), rows: Vec::new(), arrows: Vec::new() };
        let mut readers = none();
        for (reader, reads) in reads.iter().enumerate() {
            reads.iter().for_each(|&read| readers[read].push(reader));
        }
        for (read, readers) in readers.iter().enumerate() {
            graph.join(read, readers);
        }
        graph.rows = graph.in_depth_first_order();
        graph
    }

    /// Joins a vertex with its readers. Arrows to readers farther down share one lane.
    fn join(&mut self, read: usize, readers: &[usize]) {
        let farthest = readers.iter().map(|&reader| self.layer[reader]).max().unwrap_or(0);
        let mut lane = vec![read];
        for layer in self.layer[read] + 1..farthest {
            let vertex = self.owners.len();
            self.owners.push(Owner::Lane(read));
            self.layer.push(layer);
            self.down.push(Vec::new());
            self.up.push(Vec::new());
            self.edge(lane[lane.len() - 1], vertex);
            lane.push(vertex);
        }
        for &reader in readers {
            let passed = &lane[..self.layer[reader] - self.layer[read]];
            let arrow = passed.iter().copied().chain([reader]).collect();
            self.edge(passed[passed.len() - 1], reader);
            self.arrows.push(arrow);
        }
    }

    fn edge(&mut self, from: usize, to: usize) {
        self.down[from].push(to);
        self.up[to].push(from);
    }

    /// Whether the vertex is a box.
    pub(super) fn is_box(&self, vertex: usize) -> bool {
        matches!(self.owners[vertex], Owner::Box(_))
    }

    /// The vertices in the order of a walk that goes down first. Branches are side by side in it, in the order of their
    /// boxes, and a lane stands where the box is that it leads to.
    fn in_depth_first_order(&self) -> Vec<Vec<usize>> {
        let mut goal: Vec<usize> = (0..self.owners.len()).collect();
        for arrow in &self.arrows {
            let reader = arrow[arrow.len() - 1];
            for &vertex in &arrow[1..arrow.len() - 1] {
                goal[vertex] = if goal[vertex] == vertex { reader } else { goal[vertex].max(reader) };
            }
        }
        let mut rows = vec![Vec::new(); self.layer.iter().max().map_or(0, |last| last + 1)];
        let mut seen = vec![false; self.owners.len()];
        let roots = (0..self.owners.len()).filter(|&vertex| self.up[vertex].is_empty()).rev();
        let mut open: Vec<usize> = roots.collect();
        while let Some(vertex) = open.pop() {
            if std::mem::replace(&mut seen[vertex], true) {
                continue;
            }
            rows[self.layer[vertex]].push(vertex);
            let mut next = self.down[vertex].clone();
            next.sort_by_key(|&vertex| std::cmp::Reverse(goal[vertex]));
            open.extend(next);
        }
        rows
    }
}

/// For each vertex, the head and the boxes, those that it reads.
fn reads(boxes: &[LayerBox], section: &Section) -> Vec<Vec<usize>> {
    let vertex = |input: &usize| section.boxes.binary_search(input).map_or(0, |place| place + 1);
    let reads = |&index: &usize| boxes[index].inputs.iter().map(vertex).collect();
    std::iter::once(Vec::new()).chain(section.boxes.iter().map(reads)).collect()
}

/// Below all that a box reads, as far up as possible. The tail is alone below all others.
fn layers(reads: &[Vec<usize>], section: &Section) -> Vec<usize> {
    let mut layer = vec![0; reads.len()];
    for vertex in 1..reads.len() {
        layer[vertex] = 1 + reads[vertex].iter().map(|&read| layer[read]).max().unwrap_or(0);
    }
    let tail = section.tail.and_then(|tail| section.boxes.binary_search(&tail).ok()).map(|place| place + 1);
    if let Some(tail) = tail.filter(|_| reads.len() > 2) {
        let others = (1..reads.len()).filter(|&vertex| vertex != tail).map(|vertex| layer[vertex]);
        layer[tail] = layer[tail].max(1 + others.max().unwrap_or(0));
    }
    // An input of the network stands above the first box that reads it.
    let mut first = vec![usize::MAX; reads.len()];
    for (vertex, reads) in reads.iter().enumerate() {
        reads.iter().for_each(|&read| first[read] = first[read].min(layer[vertex]));
    }
    for vertex in (1..reads.len()).filter(|&vertex| reads[vertex].is_empty() && first[vertex] != usize::MAX) {
        layer[vertex] = first[vertex] - 1;
    }
    layer
}
