//! The boxes and arrows of one section, in pixels.

use super::layers::{Layered, Owner};
use super::order::order;
use super::place::place;
use super::sections::Section;
use super::{LayerBox, PLAIN};
use crate::plot::sheet::text_width;

/// Between two layers: with straight arrows only, and with curves.
const GAP: f64 = 18.0;
const CURVED: f64 = 30.0;
/// Around the text beside a lane.
const LANE: f64 = 10.0;
const LABEL: f64 = 14.0;
/// An arrow into a section with a title is straight so far, so that curves leave the title free.
pub(super) const TITLE: f64 = 14.0;
/// Between two arrows that end at the same box.
const PORT: f64 = 13.0;

/// A section that is placed. `x` is 0 below the tail of the section before, and `y` is 0 at the bottom of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Placed {
    pub(super) boxes: Vec<Rect>,
    pub(super) arrows: Vec<Arrow>,
    pub(super) labels: Vec<Label>,
    /// The first and last pixel across.
    pub(super) left: f64,
    pub(super) right: f64,
    pub(super) height: f64,
}

/// Where a box stands; in the order of [`Section::boxes`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rect {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// An arrow through these points. Between two of them it is a vertical line, or a curve that leaves and ends vertically.
#[derive(Debug, Clone)]
pub(super) struct Arrow {
    pub(super) points: Vec<(f64, f64)>,
    /// Whether it passes layers beside other boxes that read the same.
    pub(super) is_skip: bool,
}

/// What passes on a lane.
#[derive(Debug, Clone)]
pub(super) struct Label {
    pub(super) at: (f64, f64),
    pub(super) text: String,
}

/// Lays a section out with boxes of this width. `head` is the tail of the section before; `head_room` is added
/// below it.
pub(super) fn placed(
    boxes: &[LayerBox],
    section: &Section,
    head: Option<&LayerBox>,
    width: f64,
    head_room: f64,
) -> Placed {
    let mut graph = Layered::new(boxes, section);
    order(&mut graph);
    let layout = Layout::new(boxes, section, &graph, head, width, head_room);
    layout.placed(section)
}

struct Layout<'a> {
    graph: &'a Layered,
    width: f64,
    heights: Vec<f64>,
    /// The text of each vertex that has one.
    texts: Vec<Option<String>>,
    /// The centre of each vertex.
    x: Vec<f64>,
    /// The first and last pixel of each layer.
    rows: Vec<(f64, f64)>,
    /// Where the arrows from the head leave its vertical line.
    head_room: f64,
    /// For each box, where the arrow from each vertex above ends, from its centre.
    ports: Vec<Vec<(usize, f64)>>,
}

impl<'a> Layout<'a> {
    fn new(
        boxes: &[LayerBox],
        section: &Section,
        graph: &'a Layered,
        head: Option<&LayerBox>,
        width: f64,
        head_room: f64,
    ) -> Self {
        let texts = texts(boxes, section, graph, head);
        let size = |vertex: usize| match (graph.owners[vertex], &texts[vertex]) {
            (Owner::Head, _) => (0.0, 0.0),
            (Owner::Box(place), _) => (width, boxes[section.boxes[place]].height()),
            (Owner::Lane(_), Some(text)) => (text_width(text, PLAIN) + LANE, LABEL),
            (Owner::Lane(_), None) => (LANE, 0.0),
        };
        let (widths, heights): (Vec<f64>, Vec<f64>) = (0..graph.owners.len()).map(size).unzip();
        let tail =
            section.tail.and_then(|tail| section.boxes.binary_search(&tail).ok()).map(|place| place + 1);
        let x = place(graph, &widths, tail);
        let ports = ports(graph, &x, width);
        let mut layout = Self { graph, width, heights, texts, x, rows: Vec::new(), head_room, ports };
        layout.rows = layout.rows();
        layout
    }

    /// The first and last pixel of each layer.
    fn rows(&self) -> Vec<(f64, f64)> {
        let mut rows: Vec<(f64, f64)> = Vec::new();
        for (number, row) in self.graph.rows.iter().enumerate() {
            let height = row.iter().map(|&vertex| self.heights[vertex]).fold(0.0, f64::max);
            let top = match rows.last() {
                None => 0.0,
                Some((_, bottom)) => {
                    let above = &self.graph.rows[number - 1];
                    let gap = match above.iter().any(|&from| self.is_bent(from)) {
                        true => CURVED,
                        // Nothing is above the first boxes of the network.
                        false if number == 1 && self.graph.down[0].is_empty() => 0.0,
                        false => GAP,
                    };
                    bottom + gap + if number == 1 { self.head_room } else { 0.0 }
                }
            };
            rows.push((top, top + height));
        }
        rows
    }

    /// Whether an arrow from this vertex to the next layer is not straight.
    fn is_bent(&self, from: usize) -> bool {
        self.graph.down[from].iter().any(|&to| (self.x[from] - self.end(from, to)).abs() > 0.5)
    }

    /// Where the arrow from a vertex to one in the next layer ends.
    fn end(&self, from: usize, to: usize) -> f64 {
        let port = self.ports[to].iter().find(|(above, _)| *above == from).map_or(0.0, |(_, port)| *port);
        self.x[to] + port
    }

    fn placed(&self, section: &Section) -> Placed {
        let graph = self.graph;
        let tail =
            section.tail.and_then(|tail| section.boxes.binary_search(&tail).ok()).map(|place| place + 1);
        let boxes = 1..=section.boxes.len();
        let middle = match (graph.down[0].is_empty(), tail) {
            (false, _) => self.x[0],
            (true, Some(tail)) => self.x[tail],
            (true, None) => {
                let edges = || boxes.clone().map(|vertex| self.x[vertex]);
                (edges().fold(f64::MAX, f64::min) + edges().fold(f64::MIN, f64::max)) / 2.0
            }
        };
        let rect = |vertex: usize| Rect {
            left: self.x[vertex] - middle - self.width / 2.0,
            top: self.rows[graph.layer[vertex]].0,
            width: self.width,
            height: self.heights[vertex],
        };
        let label = |(vertex, text): (usize, &Option<String>)| {
            let (top, bottom) = self.rows[graph.layer[vertex]];
            Some(Label { at: (self.x[vertex] - middle, (top + bottom) / 2.0), text: text.clone()? })
        };
        let boxes: Vec<Rect> = boxes.map(rect).collect();
        let labels: Vec<Label> = self.texts.iter().enumerate().filter_map(label).collect();
        let arrows: Vec<Arrow> = graph.arrows.iter().map(|arrow| self.arrow(arrow, middle)).collect();
        let mut edges: Vec<f64> = boxes.iter().flat_map(|rect| [rect.left, rect.left + rect.width]).collect();
        edges.extend(arrows.iter().flat_map(|arrow| arrow.points.iter().map(|point| point.0)));
        for label in &labels {
            let half = text_width(&label.text, PLAIN) / 2.0;
            edges.extend([label.at.0 - half, label.at.0 + half]);
        }
        Placed {
            height: self.rows.last().map_or(0.0, |row| row.1),
            left: edges.iter().copied().fold(0.0, f64::min),
            right: edges.iter().copied().fold(0.0, f64::max),
            boxes,
            arrows,
            labels,
        }
    }

    fn arrow(&self, vertices: &[usize], middle: f64) -> Arrow {
        let graph = self.graph;
        let (first, last) = (vertices[0], vertices[vertices.len() - 1]);
        let mut points = vec![];
        for &vertex in &vertices[..vertices.len() - 1] {
            let (top, mut bottom) = self.rows[graph.layer[vertex]];
            let start = if vertex == first { top + self.heights[vertex] } else { top };
            if graph.owners[vertex] == Owner::Head {
                bottom += self.head_room;
            }
            points.extend([(self.x[vertex] - middle, start), (self.x[vertex] - middle, bottom)]);
        }
        let before = vertices[vertices.len() - 2];
        points.push((self.end(before, last) - middle, self.rows[graph.layer[last]].0));
        points.dedup();
        Arrow { points, is_skip: is_skip(graph, vertices) }
    }
}

/// Whether an arrow passes a layer, and starts where others start.
fn is_skip(graph: &Layered, vertices: &[usize]) -> bool {
    vertices.len() > 2 && graph.down[vertices[0]].len() > 1
}

/// The text in the middle of each lane that passes boxes which read the same.
fn texts(
    boxes: &[LayerBox],
    section: &Section,
    graph: &Layered,
    head: Option<&LayerBox>,
) -> Vec<Option<String>> {
    let mut texts = vec![None; graph.owners.len()];
    let owner = |vertex: usize| match graph.owners[vertex] {
        Owner::Box(place) => Some(&boxes[section.boxes[place]]),
        _ => None,
    };
    for source in 0..=section.boxes.len() {
        let own = |arrow: &&Vec<usize>| arrow[0] == source && is_skip(graph, arrow);
        let Some(longest) = graph.arrows.iter().filter(own).max_by_key(|arrow| arrow.len()) else { continue };
        let readers = graph.arrows.iter().filter(own).map(|arrow| owner(arrow[arrow.len() - 1]));
        let only_sums = readers.flatten().all(|reader| reader.operator == "add");
        let shape = owner(source).or(head).map(|layer| layer.shape.clone());
        texts[longest[longest.len() / 2]] = if only_sums { Some("identity".to_owned()) } else { shape };
    }
    texts
}

/// Where the arrows to each box end: an arrow from straight above in the middle, and others beside it.
fn ports(graph: &Layered, x: &[f64], width: f64) -> Vec<Vec<(usize, f64)>> {
    let mut ports = vec![Vec::new(); x.len()];
    for (vertex, above) in
        graph.up.iter().enumerate().filter(|(vertex, above)| graph.is_box(*vertex) && above.len() > 1)
    {
        let mut above = above.clone();
        above.sort_by(|&a, &b| x[a].total_cmp(&x[b]));
        above.dedup();
        let straight = above.iter().position(|&near| (x[near] - x[vertex]).abs() < 0.5);
        let middle = straight.map_or((above.len() - 1) as f64 / 2.0, |index| index as f64);
        let apart = PORT.min((width / 2.0 - 10.0) / middle.max((above.len() - 1) as f64 - middle).max(1.0));
        let port = |(index, near): (usize, usize)| (near, (index as f64 - middle) * apart);
        ports[vertex] = above.into_iter().enumerate().map(port).collect();
    }
    ports
}
