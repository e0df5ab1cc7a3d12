//! A sheet that grows downwards, and the marks on it.

use std::fmt::Display;
use svg::Document;
use svg::node::Node;
use svg::node::element::{Group, Line, Path, Polyline, Rectangle, Text, Title};

/// Pixels from edge to edge.
pub(super) const WIDTH: f64 = 1000.0;
pub(super) const MARGIN: f64 = 24.0;
/// Font sizes: of names, titles of axes and notes; of figures and ticks.
pub(super) const TEXT: f64 = 12.0;
pub(super) const SMALL: f64 = 11.0;
pub(super) const INK: &str = "#222222";
pub(super) const FAINT: &str = "#5f5f5f";
pub(super) const GRID: &str = "#dddddd";

/// Colours that differ to every eye (M. Okabe and K. Ito, "Color Universal Design", 2008), without the yellow, which
/// is too pale for lines on white.
const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];

pub(super) fn colour(series: usize) -> &'static str {
    COLOURS[series % COLOURS.len()]
}

/// Where a text's `x` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

impl Anchor {
    const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Middle => "middle",
            Self::End => "end",
        }
    }
}

/// How wide each letter of ASCII is in DejaVu Sans, from the space on, in thousandths of the font size.
#[rustfmt::skip]
const ADVANCES: [u16; 95] = [
    318, 401, 460, 838, 636, 950, 780, 275, 390, 390, 500, 838, 318, 361, 318, 337, 636, 636, 636,
    636, 636, 636, 636, 636, 636, 636, 337, 337, 838, 838, 838, 531, 1000, 684, 686, 698, 770, 632,
    575, 775, 752, 295, 295, 656, 557, 863, 748, 787, 603, 787, 695, 635, 611, 732, 684, 989, 685,
    611, 685, 390, 337, 390, 838, 500, 500, 613, 635, 550, 635, 615, 352, 635, 634, 278, 278, 579,
    278, 974, 634, 612, 635, 635, 411, 521, 392, 634, 592, 818, 592, 592, 525, 636, 337, 636, 838,
];

/// How wide a text is in DejaVu Sans, in pixels. Letters beyond ASCII are taken to be square.
pub fn text_width(text: &str, size: f64) -> f64 {
    let advance = |letter: char| (letter as usize).checked_sub(32).and_then(|index| ADVANCES.get(index));
    let advances = text.chars().map(|letter| f64::from(advance(letter).copied().unwrap_or(1000)));
    size * advances.sum::<f64>() / 1e3
}

/// Cut in the middle to fit `width`: names of layers differ at both ends.
pub(super) fn shortened(text: &str, size: f64, width: f64) -> String {
    let letters: Vec<char> = text.chars().collect();
    let cut = |kept: usize| -> String {
        let (head, tail) = (&letters[..kept.div_ceil(2)], &letters[letters.len() - kept / 2..]);
        head.iter().chain(&['…']).chain(tail).collect()
    };
    if text_width(text, size) <= width {
        return text.to_owned();
    }
    (0..letters.len()).rev().map(cut).find(|text| text_width(text, size) <= width).unwrap_or_default()
}

/// Marks so far, and how far down they reach.
pub(super) struct Sheet {
    marks: Group,
    pub(super) y: f64,
    width: f64,
}

/// How a rectangle looks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    pub(super) fill: &'static str,
    pub(super) edge: &'static str,
    /// Radius of the corners.
    pub(super) radius: f64,
}

/// How a text inside a rectangle looks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Letters {
    pub(super) anchor: Anchor,
    pub(super) size: f64,
    pub(super) colour: &'static str,
    pub(super) is_bold: bool,
}

impl Sheet {
    pub(super) fn new() -> Self {
        Self::of_width(WIDTH)
    }

    /// A sheet that is not as wide as charts are.
    pub(super) fn of_width(width: f64) -> Self {
        let fonts = "DejaVu Sans, Verdana, Helvetica, Arial, sans-serif";
        Self { marks: Group::new().set("font-family", fonts), y: MARGIN, width }
    }

    pub(super) const fn width(&self) -> f64 {
        self.width
    }

    pub(super) fn skip(&mut self, pixels: f64) {
        self.y += pixels;
    }

    pub(super) fn title(&mut self, text: &str) {
        self.line_of_text(text, 18.0, INK, true);
    }

    pub(super) fn heading(&mut self, text: &str) {
        self.line_of_text(text, 14.0, INK, true);
    }

    pub(super) fn notes(&mut self, notes: &[String]) {
        let room = self.width - 2.0 * MARGIN;
        for line in notes.iter().flat_map(|note| wrapped(note, TEXT, room)) {
            self.line_of_text(&line, TEXT, FAINT, false);
        }
    }

    fn line_of_text(&mut self, text: &str, size: f64, colour: &str, is_bold: bool) {
        // Bold letters are wider.
        let room = (self.width - 2.0 * MARGIN) / if is_bold { 1.2 } else { 1.0 };
        let text = shortened(text, size, room);
        let element = outlined(text_element(MARGIN, self.y + size, size, colour, &text));
        self.marks.append(if is_bold { element.set("font-weight", "bold") } else { element });
        self.y += 1.45 * size;
    }

    /// Names of series behind what they are drawn with, in as many lines as it takes.
    pub(super) fn legend<'a>(
        &mut self,
        entries: impl Iterator<Item = &'a str>,
        swatch: impl Fn(&mut Self, usize, f64, f64),
    ) {
        const SWATCH: f64 = 24.0;
        let mut x = MARGIN;
        for (index, name) in entries.enumerate() {
            let width = SWATCH + text_width(name, TEXT) + 18.0;
            if index == 0 || x + width > self.width - MARGIN {
                (x, self.y) = (MARGIN, self.y + 1.6 * TEXT);
            }
            swatch(self, index, x, self.y - 4.0);
            self.text((x + SWATCH, self.y), Anchor::Start, TEXT, INK, name);
            x += width;
        }
        self.y += 6.0;
    }

    /// Text on a base line.
    pub(super) fn text(&mut self, (x, y): (f64, f64), anchor: Anchor, size: f64, colour: &str, text: &str) {
        let element = outlined(text_element(x, y, size, colour, text));
        self.marks.append(element.set("text-anchor", anchor.name()));
    }

    /// Text on a base line in a rectangle, where an outline would be seen.
    pub(super) fn inscription(&mut self, (x, y): (f64, f64), letters: Letters, text: &str) {
        let Letters { anchor, size, colour, is_bold } = letters;
        let element = text_element(x, y, size, colour, text).set("text-anchor", anchor.name());
        self.marks.append(if is_bold { element.set("font-weight", "bold") } else { element });
    }

    /// A rectangle with an edge.
    pub(super) fn frame(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), look: Look, tip: &str) {
        let frame = Rectangle::new().set("x", round(x)).set("y", round(y)).set("rx", look.radius);
        let frame = frame.set("width", round(width)).set("height", round(height));
        self.marks.append(with_tip(frame.set("fill", look.fill).set("stroke", look.edge), tip));
    }

    /// A line of this shape, in the language of SVG paths; `head` is the shape of its end, which is filled.
    pub(super) fn path(&mut self, shape: &str, head: &str, colour: &str, width: f64) {
        let line = Path::new().set("d", shape).set("fill", "none").set("stroke", colour);
        self.marks.append(line.set("stroke-width", width));
        if !head.is_empty() {
            self.marks.append(Path::new().set("d", head).set("fill", colour));
        }
    }

    /// Text that stays legible over lines.
    pub(super) fn label(&mut self, (x, y): (f64, f64), colour: &str, text: &str) {
        let halo = text_element(x, y, SMALL, colour, text);
        self.marks.append(
            halo.set("stroke", "#ffffff")
                .set("stroke-width", 3)
                .set("stroke-linejoin", "round")
                .set("paint-order", "stroke"),
        );
    }

    pub(super) fn bar(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), fill: &str, tip: &str) {
        let bar = Rectangle::new().set("x", round(x)).set("y", round(y)).set("fill", fill);
        let bar = bar.set("width", round(width.max(0.5))).set("height", round(height));
        self.marks.append(with_tip(bar, tip));
    }

    /// A straight line, dashed if it is no axis.
    pub(super) fn rule(&mut self, from: (f64, f64), to: (f64, f64), colour: &str, is_dashed: bool) {
        let line = Line::new().set("x1", round(from.0)).set("y1", round(from.1)).set("x2", round(to.0));
        let line = line.set("y2", round(to.1)).set("stroke", colour);
        self.marks.append(if is_dashed { line.set("stroke-dasharray", "5 3") } else { line });
    }

    pub(super) fn curve(&mut self, points: &[(f64, f64)], colour: &str, is_dashed: bool, tip: &str) {
        let points: Vec<String> = points.iter().map(|&(x, y)| format!("{},{}", round(x), round(y))).collect();
        let line = Polyline::new().set("points", points.join(" ")).set("fill", "none");
        let line = line.set("stroke", colour).set("stroke-width", 1.8);
        self.marks.append(with_tip(if is_dashed { line.set("stroke-dasharray", "7 3") } else { line }, tip));
    }

    /// A point; each series has a shape of its own, besides its colour.
    pub(super) fn dot(&mut self, (x, y): (f64, f64), series: usize, tip: &str) {
        let (x, y) = (round(x), round(y));
        let shape = match series % 4 {
            0 => format!("M{x} {y}m-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0z"),
            1 => format!("M{x} {y}m-4 -4h8v8h-8z"),
            2 => format!("M{x} {y}m0 -5.5l5.5 9.5h-11z"),
            _ => format!("M{x} {y}m0 -5.5l5.5 5.5l-5.5 5.5l-5.5 -5.5z"),
        };
        let dot = Path::new().set("d", shape).set("fill", colour(series)).set("fill-opacity", 0.75);
        self.marks.append(with_tip(dot.set("stroke", "#ffffff").set("stroke-width", 0.7), tip));
    }

    /// The file.
    pub(super) fn finish(self, title: &str) -> String {
        let height = (self.y + MARGIN).ceil();
        let paper = Rectangle::new().set("width", self.width).set("height", height).set("fill", "#ffffff");
        let document = Document::new().set("width", self.width).set("height", height);
        let document = document.set("viewBox", (0, 0, self.width, height)).set("role", "img");
        document.add(Title::new(title)).add(paper).add(self.marks).to_string() + "\n"
    }
}

fn text_element(x: f64, y: f64, size: f64, colour: &str, text: &str) -> Text {
    let element = Text::new(text).set("x", round(x)).set("y", round(y));
    element.set("font-size", size).set("fill", colour)
}

/// A white outline under the letters keeps them legible where a line of the grid or a roof passes.
fn outlined(text: Text) -> Text {
    text.set("paint-order", "stroke").set("stroke", "white").set("stroke-width", 3)
}

/// With what a browser shows under the pointer.
fn with_tip<T: Node>(mut element: T, tip: &str) -> T {
    if !tip.is_empty() {
        element.append(Title::new(tip));
    }
    element
}

/// To a tenth of a pixel.
pub(super) fn round(pixels: f64) -> f64 {
    (pixels * 10.0).round() / 10.0
}

/// In lines of at most `width`.
fn wrapped(text: &str, size: f64, width: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line)
                if text_width(line, size) + text_width(word, size) + text_width(" ", size) <= width =>
            {
                *line += " ";
                *line += word;
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// One line of several parts.
pub(super) fn tip(parts: &[&dyn Display]) -> String {
    let parts = parts.iter().map(|part| part.to_string()).filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_keep_both_ends() {
        let name = "a/very/long/name/of/a/layer.17";
        let short = shortened(name, 12.0, 100.0);
        assert!(short.starts_with("a/very") && short.ends_with("17") && text_width(&short, 12.0) <= 100.0);
        assert_eq!(
            (shortened("conv1", 12.0, 100.0), shortened(name, 12.0, 1.0)),
            ("conv1".into(), String::new())
        );
    }

    #[test]
    fn lines_break_between_words() {
        let lines = wrapped("one two three four", 12.0, text_width("one two three", 12.0) + 0.1);
        assert_eq!(lines, ["one two three", "four"]);
    }
}
