//! A network as boxes and arrows, from the top to the bottom, as papers draw them ([`Diagram`]).
//!
//! The steps, one file each:
//!
//! 1. `bound` contracts layers of graphs that are too large to be read.
//! 2. `sections` cuts the network at the boxes that every path passes.
//! 3. `fold` finds sections that repeat, which are drawn once.
//! 4. `layers` gives each box of a section a layer, longest paths first (K. Sugiyama, S. Tagawa and M. Toda, "Methods for
//!    visual understanding of hierarchical system structures", IEEE Trans. SMC 11(2), 1981), and `order` an order in its
//!    layer, by barycentres. `place` aligns boxes below each other, as U. Brandes and B. Köpf do ("Fast and simple
//!    horizontal coordinate assignment", Graph Drawing 2001), but along the longest path only, so that it is straight.
//! 5. `columns` stacks the sections, in as many columns as make a page.
//! 6. `draw` draws them.

mod bound;
mod columns;
mod draw;
mod fold;
mod layers;
mod order;
mod place;
mod section;
mod sections;

#[cfg(test)]
mod tests;

/// A network to draw.
#[derive(Debug, Clone, Default)]
pub struct Diagram {
    /// The name of the network.
    pub title: String,
    /// Sentences under the title.
    pub notes: Vec<String>,
    /// In an executable order.
    pub boxes: Vec<LayerBox>,
}

/// What a box or strip does, which decides its colour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// An input or output of the network.
    #[default]
    Port,
    /// A convolution.
    Conv,
    /// A product with a matrix.
    Linear,
    /// Pooling.
    Pool,
    /// A normalisation.
    Norm,
    /// A function of each element.
    Activation,
    /// A layer that joins branches.
    Join,
    /// Any other layer.
    Other,
    /// An operator that the library does not know.
    Unknown,
    /// Layers that are not drawn one by one.
    Several,
}

/// A layer with the small layers that belong to it.
#[derive(Debug, Clone, Default)]
pub struct LayerBox {
    /// What it does.
    pub kind: Kind,
    /// Boxes of the same class repeat each other, but for the number of channels that they read.
    pub class: usize,
    /// The operator with its attributes, such as `conv 3x3/2, 64`.
    pub operator: String,
    /// The layer's name.
    pub name: String,
    /// The extents of the output.
    pub shape: String,
    /// Parameters of all layers in the box.
    pub params: u64,
    /// Multiply-accumulates of all layers in the box.
    pub macs: u64,
    /// The small layers before and after it, in their order.
    pub strips: [Vec<Strip>; 2],
    /// One line for each layer.
    pub layers: Vec<String>,
    /// The boxes that it reads, all of them earlier.
    pub inputs: Vec<usize>,
}

/// A small layer, drawn at the edge of a box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strip {
    /// What it does.
    pub kind: Kind,
    /// The operator.
    pub text: String,
}

/// Font sizes: of operators, of other texts in boxes, of strips.
const BOLD: f64 = 11.0;
const PLAIN: f64 = 10.0;
const TINY: f64 = 9.0;
/// Height of a line of text in a box, and of a row of strips.
const LINE: f64 = 14.0;
const STRIP: f64 = 12.0;
/// Strips in a row.
const STRIPS_PER_ROW: usize = 3;
/// Bold letters are wider than those that `text_width` knows.
const BOLDNESS: f64 = 1.12;
/// Between the edge of a box and its text.
const INSET: f64 = 7.0;

impl LayerBox {
    /// Joins of branches need no name, and one line.
    fn is_flat(&self) -> bool {
        matches!(self.kind, Kind::Join | Kind::Port) && self.params == 0 && self.macs == 0
    }

    fn height(&self) -> f64 {
        let rows = |strips: &Vec<Strip>| strips.len().div_ceil(STRIPS_PER_ROW) as f64;
        let lines = if self.is_flat() { 1.0 } else { 2.0 };
        lines * LINE + 4.0 + STRIP * self.strips.iter().map(rows).sum::<f64>()
    }
}

/// What is shown of a path: without the names of modules that PyTorch's exporter repeats in front (`/layer1/layer1.0`), and
/// without the operator that it appends (`/Conv`).
fn shown(path: &str) -> &str {
    let path = match path.rsplit_once('/') {
        Some((path, operator))
            if operator.starts_with(|letter: char| letter.is_ascii_uppercase()) && !path.is_empty() =>
        {
            path
        }
        _ => path,
    };
    let path = path.trim_start_matches(['/', '.']);
    match path.rsplit_once('/') {
        Some((_, last)) if last.contains('.') => last,
        _ => path,
    }
}

/// Two shapes in one, if they differ: those of a box in the first and in the last block that repeats.
fn range(first: &str, last: &str) -> String {
    match (first.split_once('x'), last.split_once('x')) {
        _ if first == last => first.to_owned(),
        (Some((a, rest)), Some((b, other))) if rest == other => format!("{a}…{b}x{rest}"),
        _ => format!("{first} … {last}"),
    }
}

impl Diagram {
    /// The picture as the text of an SVG file.
    pub fn page(&self) -> String {
        draw::page(self)
    }
}
