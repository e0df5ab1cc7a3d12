//! What is written in an SVG file, and where.
#![allow(dead_code)] // each test uses a part

use nets::plot::text_width;
use roxmltree::{Document, Node};

struct Text {
    content: String,
    left: f64,
    right: f64,
    base: f64,
    size: f64,
}

/// A rectangle: left, top, right and bottom.
type Rect = [f64; 4];

pub struct Picture {
    texts: Vec<Text>,
    /// In the order in which they are drawn; the first is the paper.
    rects: Vec<Rect>,
    tips: Vec<String>,
    width: f64,
    height: f64,
}

impl Picture {
    pub fn parse(svg: &str) -> Self {
        assert!(svg.starts_with("<svg"), "{}", &svg[..svg.len().min(80)]);
        let document = Document::parse(svg).unwrap();
        let named = |name: &'static str| document.descendants().filter(move |node| node.has_tag_name(name));
        Self {
            texts: named("text").map(|node| text(&node)).collect(),
            rects: named("rect").map(|node| rect(&node)).collect(),
            tips: named("title").filter_map(|node| node.text()).map(|tip| tip.trim().to_owned()).collect(),
            width: attribute(&document.root_element(), "width"),
            height: attribute(&document.root_element(), "height"),
        }
    }

    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.texts.iter().map(|text| text.content.as_str())
    }

    pub fn has(&self, text: &str) -> bool {
        self.texts().any(|content| content == text)
    }

    /// Whether a line of a tooltip begins so.
    pub fn has_tip(&self, start: &str) -> bool {
        self.tips.iter().flat_map(|tip| tip.lines()).any(|line| line.starts_with(start))
    }

    /// A text that begins in a rectangle also ends in it.
    pub fn check_rects(&self) {
        for Text { content, left, right, base, size } in &self.texts {
            let holds = |rect: &&Rect| {
                (rect[0]..=rect[2]).contains(&(left + 0.5))
                    && (rect[1]..=rect[3]).contains(&(base - 0.3 * size))
            };
            // What is drawn last is seen.
            let [_, top, edge, bottom] = self.rects.iter().rev().find(holds).unwrap();
            let is_inside = right <= edge && base - 0.75 * size >= *top && base + 0.1 * size <= *bottom;
            assert!(is_inside, "`{content}` ends at {right}, {base} in {top}, {edge}, {bottom}");
        }
    }

    /// No text stands on another, and none beyond the sheet.
    pub fn check(&self) {
        for (index, text) in self.texts.iter().enumerate() {
            let Text { content, left, right, base, size } = text;
            assert!(
                *left >= 0.0 && *right <= self.width && *base <= self.height && base - size >= 0.0,
                "{content}"
            );
            for other in &self.texts[..index] {
                let across = left < &other.right && &other.left < right;
                let down = base - 0.75 * size < other.base && other.base - 0.75 * other.size < *base;
                assert!(!(across && down), "`{content}` stands on `{}`", other.content);
            }
        }
    }
}

fn attribute(node: &Node<'_, '_>, name: &str) -> f64 {
    let text = node.attribute(name).unwrap_or_else(|| panic!("no {name}"));
    text.parse().unwrap_or_else(|_| panic!("{name} is {text}"))
}

fn rect(node: &Node<'_, '_>) -> Rect {
    let number = |name| if node.has_attribute(name) { attribute(node, name) } else { 0.0 };
    let (x, y) = (number("x"), number("y"));
    [x, y, x + attribute(node, "width"), y + attribute(node, "height")]
}

fn text(node: &Node<'_, '_>) -> Text {
    let content = node.text().unwrap_or_default().trim().to_owned();
    let (x, size) = (attribute(node, "x"), attribute(node, "font-size"));
    let width = text_width(&content, size);
    let left = match node.attribute("text-anchor") {
        None | Some("start") => x,
        Some("middle") => x - width / 2.0,
        Some("end") => x - width,
        Some(other) => panic!("anchored at {other}"),
    };
    Text { content, left, right: left + width, base: attribute(node, "y"), size }
}
