//! Drawing what is laid out.

use super::bound::bounded;
use super::columns::{BRACKET, Stacked, stack};
use super::fold::{Item, with_ranges};
use super::section::{Arrow, Rect};
use super::{
    BOLD, BOLDNESS, Diagram, INSET, Kind, LINE, LayerBox, PLAIN, STRIP, STRIPS_PER_ROW, Strip, TINY, shown,
};
use crate::plot::scale::short;
use crate::plot::sheet::{Anchor, FAINT, INK, Letters, Look, MARGIN, Sheet, round, shortened, text_width};

/// The narrowest and the widest boxes.
const BOXES: (f64, f64) = (120.0, 220.0);
/// The least width of a sheet, for title and notes.
const LEAST: f64 = 560.0;
/// A tooltip has at most so many lines.
const MOST_LINES: usize = 40;
const LINE_COLOUR: &str = "#444444";
const SKIP_COLOUR: &str = "#0072b2";

/// Every kind with its name, fill and edge, in the order of the legend.
const KINDS: [(Kind, &str, &str, &str); 10] = [
    (Kind::Port, "input, output", "#ffffff", "#555555"),
    (Kind::Conv, "convolution", "#cfe3f5", "#4a7ba6"),
    (Kind::Linear, "matrix product", "#ded5ee", "#7d66a8"),
    (Kind::Pool, "pooling", "#d5ead0", "#5f9354"),
    (Kind::Norm, "normalisation, scale", "#e6e6e6", "#8a8a8a"),
    (Kind::Activation, "activation", "#fbdcc9", "#bd7a4f"),
    (Kind::Join, "sum, product, concatenation", "#fff1c2", "#b39633"),
    (Kind::Other, "other layer", "#dff0f0", "#5e9b9b"),
    (Kind::Unknown, "unknown operator", "#f6c9c9", "#b23b3b"),
    (Kind::Several, "several layers", "#f3f3f3", "#333333"),
];

fn look(kind: Kind) -> Look {
    let (_, _, fill, edge) = KINDS.into_iter().find(|entry| entry.0 == kind).unwrap_or(KINDS[0]);
    Look { fill, edge, radius: 3.0 }
}

const fn letters(anchor: Anchor, size: f64, colour: &'static str) -> Letters {
    Letters { anchor, size, colour, is_bold: false }
}

/// The picture as the text of an SVG file.
pub(super) fn page(diagram: &Diagram) -> String {
    let (plain, items) = bounded(diagram.boxes.clone());
    let boxes = with_ranges(plain.clone(), &items);
    let width = items.iter().map(|item| needed(item, &boxes)).fold(BOXES.0, f64::max).min(BOXES.1).ceil();
    let stack = stack(&plain, &items, width);
    let mut sheet = Sheet::of_width((stack.width + 2.0 * MARGIN).max(LEAST).ceil());
    sheet.title(&diagram.title);
    sheet.notes(&diagram.notes);
    legend(&mut sheet, &boxes);
    sheet.skip(20.0);
    let mut pen = Pen { sheet, boxes: &boxes, x: MARGIN, y: 0.0 };
    pen.y = pen.sheet.y;
    pen.x += ((pen.sheet.width() - 2.0 * MARGIN - stack.width) / 2.0).max(0.0);
    let last = items.len().saturating_sub(1);
    for (index, (item, stacked)) in items.iter().zip(&stack.items).enumerate() {
        pen.item(item, stacked, index == last);
    }
    pen.sheet.skip(stack.height);
    pen.sheet.finish(&diagram.title)
}

/// The width of a box in which all texts of an item find room, but for long names.
fn needed(item: &Item, boxes: &[LayerBox]) -> f64 {
    let mut most = 0.0f64;
    for (number, section) in item.drawn().iter().enumerate() {
        for place in 0..section.boxes.len() {
            let members: Vec<&LayerBox> = item.members(number, place).map(|index| &boxes[index]).collect();
            let first = BOLDNESS * text_width(&members[0].operator, BOLD)
                + 10.0
                + text_width(&members[0].shape, PLAIN);
            let second = text_width("a layer's name", PLAIN).min(text_width(&members[0].name, PLAIN));
            let second = second + 10.0 + text_width(&costs(&members), PLAIN);
            most = most.max(first).max(if members[0].is_flat() { 0.0 } else { second });
        }
    }
    most + 2.0 * INSET
}

/// The kinds that occur, in boxes and strips.
fn legend(sheet: &mut Sheet, boxes: &[LayerBox]) {
    let occurs = |kind: Kind| {
        let strips = |layer: &LayerBox| layer.strips.iter().flatten().any(|strip| strip.kind == kind);
        boxes.iter().any(|layer| layer.kind == kind || strips(layer))
    };
    let kinds: Vec<_> = KINDS.into_iter().filter(|entry| occurs(entry.0)).collect();
    let swatch = |sheet: &mut Sheet, index: usize, x: f64, y: f64| {
        let (kind, ..) = kinds[index];
        sheet.frame((x, y - 5.0), (18.0, 11.0), look(kind), "");
    };
    sheet.legend(kinds.iter().map(|entry| entry.1), swatch);
}

/// A sheet, and where the drawing begins on it.
struct Pen<'a> {
    sheet: Sheet,
    boxes: &'a [LayerBox],
    x: f64,
    y: f64,
}

impl Pen<'_> {
    fn item(&mut self, item: &Item, stacked: &Stacked, is_last: bool) {
        let drawn =
            || item.drawn().iter().flat_map(|section| &section.boxes).map(|&index| &self.boxes[index]);
        let common = if stacked.frame.is_some() { common_path(drawn()) } else { "" };
        if let Some(frame) = stacked.frame {
            self.frame(item, stacked, frame, common);
        }
        if let Some(turn) = &stacked.turn {
            let shape = corners(turn.iter().map(|&(x, y)| (x + self.x, y + self.y)));
            self.sheet.path(&shape, "", LINE_COLOUR, 1.3);
        }
        let origin = |top: f64| (self.x + stacked.spine, self.y + top);
        let origins: Vec<(f64, f64)> = stacked.tops.iter().map(|&top| origin(top)).collect();
        if !is_last && stacked.stem.1 > stacked.stem.0 {
            let (x, from, to) = (self.x + stacked.spine, self.y + stacked.stem.0, self.y + stacked.stem.1);
            self.sheet.path(&format!("M{} {}V{}", round(x), round(from), round(to)), "", LINE_COLOUR, 1.3);
        }
        for (section, &origin) in stacked.sections.iter().zip(&origins) {
            // Where arrows leave a box together, the main one is seen.
            let (skips, others): (Vec<&Arrow>, _) = section.arrows.iter().partition(|arrow| arrow.is_skip);
            skips.iter().chain(&others).for_each(|arrow| self.arrow(arrow, origin));
            for label in &section.labels {
                let at = (origin.0 + label.at.0, origin.1 + label.at.1 + 0.36 * PLAIN);
                self.sheet.text(at, Anchor::Middle, PLAIN, SKIP_COLOUR, &label.text);
            }
        }
        for (number, (section, origin)) in stacked.sections.iter().zip(origins).enumerate() {
            for (place, rect) in section.boxes.iter().enumerate() {
                let members: Vec<&LayerBox> =
                    item.members(number, place).map(|index| &self.boxes[index]).collect();
                let rect = Rect { left: rect.left + origin.0, top: rect.top + origin.1, ..*rect };
                layer(&mut self.sheet, &members, rect, common);
            }
        }
    }

    /// The frame around an item, what it is called, and how often it is repeated.
    fn frame(&mut self, item: &Item, stacked: &Stacked, frame: [f64; 4], common: &str) {
        let [left, top, right, bottom] = frame;
        let (x, y) = (self.x + left, self.y + top);
        let all: Vec<&LayerBox> = {
            let sections = item.repeats.iter().flatten();
            sections.flat_map(|section| &section.boxes).map(|&index| &self.boxes[index]).collect()
        };
        let sum = |value: fn(&LayerBox) -> u64| all.iter().map(|layer| value(layer) as f64).sum::<f64>();
        let (params, macs) = (short(sum(|layer| layer.params)), short(sum(|layer| layer.macs)));
        let look = Look { fill: "#f7f7f7", edge: "#d4d4d4", radius: 5.0 };
        self.sheet.frame((x, y), (right - left, bottom - top), look, "");
        let times = item.repeats.len();
        let last = item.repeats[times - 1].iter().flat_map(|section| &section.boxes);
        let last = common_path(last.map(|&index| &self.boxes[index]));
        let name = match shown(common) {
            name if name.is_empty() || times == 1 || last == common => name.to_owned(),
            name => format!("{name} … {}", ending(common, last)),
        };
        // The title stands left of the arrow into the frame.
        let room = stacked.spine - left - 14.0;
        let full = format!("{name}: {params} parameters, {macs} MACs");
        let title = match times == 1 && !name.is_empty() && text_width(&full, PLAIN) <= room {
            true => full,
            false => shortened(within(&name, room), PLAIN, room),
        };
        if !title.is_empty() {
            let at = (x + 6.0, y + 2.0 + PLAIN);
            self.sheet.inscription(at, letters(Anchor::Start, PLAIN, FAINT), &title);
        }
        if times > 1 {
            let (edge, middle) = (self.x + right + 5.0, self.y + (top + bottom) / 2.0);
            let shape = format!("M{} {}h6V{}h-6", round(edge), round(y), round(self.y + bottom));
            self.sheet.path(&shape, "", INK, 1.5);
            let lines = [format!("{params} params"), format!("{macs} MACs"), "in total".to_owned()];
            let bold = Letters { is_bold: true, ..letters(Anchor::Start, 15.0, INK) };
            self.sheet.inscription((edge + 12.0, middle - 12.0), bold, &format!("× {times}"));
            for (line, baseline) in lines.iter().zip([2.0, 15.0, 28.0]) {
                let text = shortened(line, PLAIN, BRACKET - 18.0);
                self.sheet.inscription(
                    (edge + 12.0, middle + baseline),
                    letters(Anchor::Start, PLAIN, FAINT),
                    &text,
                );
            }
        }
    }

    fn arrow(&mut self, arrow: &Arrow, origin: (f64, f64)) {
        let points: Vec<(f64, f64)> =
            arrow.points.iter().map(|&(x, y)| (x + origin.0, y + origin.1)).collect();
        let (colour, width) = if arrow.is_skip { (SKIP_COLOUR, 1.6) } else { (LINE_COLOUR, 1.3) };
        let Some(&(x, y)) = points.last() else { return };
        let head = format!("M{} {}l-3.5 -6.5h7z", round(x), round(y));
        self.sheet.path(&curve(&points), &head, colour, width);
    }
}

/// Vertical lines and curves through points; the last few pixels are the arrow's head.
fn curve(points: &[(f64, f64)]) -> String {
    const HEAD: f64 = 5.0;
    let mut shape = format!("M{} {}", round(points[0].0), round(points[0].1));
    for (index, pair) in points.windows(2).enumerate() {
        let [(x0, y0), (x1, y1)] = [pair[0], pair[1]];
        let end = if index + 2 == points.len() { y1 - HEAD } else { y1 };
        shape += &match (x0 - x1).abs() < 0.05 {
            true => format!("V{}", round(end)),
            false => {
                let middle = round((y0 + end) / 2.0);
                format!("C{} {middle} {} {middle} {} {}", round(x0), round(x1), round(x1), round(end))
            }
        };
    }
    shape
}

/// A line with round corners.
fn corners(points: impl Iterator<Item = (f64, f64)>) -> String {
    const RADIUS: f64 = 8.0;
    let points: Vec<(f64, f64)> = points.collect();
    let towards = |from: (f64, f64), to: (f64, f64)| {
        let length = (to.0 - from.0).hypot(to.1 - from.1).max(1e-9);
        let part = (RADIUS / length).min(0.5);
        (round(from.0 + part * (to.0 - from.0)), round(from.1 + part * (to.1 - from.1)))
    };
    let mut shape = format!("M{} {}", round(points[0].0), round(points[0].1));
    for three in points.windows(3) {
        let (before, after) = (towards(three[1], three[0]), towards(three[1], three[2]));
        let corner = (round(three[1].0), round(three[1].1));
        shape += &format!("L{} {}Q{} {} {} {}", before.0, before.1, corner.0, corner.1, after.0, after.1);
    }
    let last = points[points.len() - 1];
    shape + &format!("L{} {}", round(last.0), round(last.1))
}

/// A box with its text and strips. `members` are it and its repetitions.
fn layer(sheet: &mut Sheet, members: &[&LayerBox], rect: Rect, common: &str) {
    let layer = members[0];
    let size = (rect.width, rect.height);
    sheet.frame((rect.left, rect.top), size, look(layer.kind), &tip(members));
    let rows = |strips: &[Strip]| strips.len().div_ceil(STRIPS_PER_ROW) as f64 * STRIP;
    strips(sheet, &layer.strips[0], rect, rect.top);
    strips(sheet, &layer.strips[1], rect, rect.top + rect.height - rows(&layer.strips[1]));
    let (left, right) = (rect.left + INSET, rect.left + rect.width - INSET);
    let baseline = rect.top + rows(&layer.strips[0]) + 1.0 + 0.82 * LINE;
    let shape = shortened(&layer.shape, PLAIN, 0.55 * (right - left));
    let room = (right - left - text_width(&shape, PLAIN) - 8.0) / BOLDNESS;
    let bold = Letters { is_bold: true, ..letters(Anchor::Start, BOLD, INK) };
    sheet.inscription((left, baseline), bold, &shortened(&layer.operator, BOLD, room));
    sheet.inscription((right, baseline), letters(Anchor::End, PLAIN, INK), &shape);
    if layer.is_flat() {
        return;
    }
    let costs = shortened(&costs(members), PLAIN, right - left);
    let name = shown(&layer.name[common.len()..]);
    let name = shortened(name, PLAIN, right - left - text_width(&costs, PLAIN) - 8.0);
    for (x, anchor, colour, text) in [(left, Anchor::Start, FAINT, name), (right, Anchor::End, INK, costs)] {
        if !text.is_empty() {
            sheet.inscription((x, baseline + LINE), letters(anchor, PLAIN, colour), &text);
        }
    }
}

/// Parameters and multiply-accumulates, of the first and of the last member if they differ.
fn costs(members: &[&LayerBox]) -> String {
    let (first, last) = (members[0], members[members.len() - 1]);
    let part = |value: fn(&LayerBox) -> u64| match (value(first) as f64, value(last) as f64) {
        (a, b) if a == b => short(a),
        (a, b) => format!("{}…{}", short(a), short(b)),
    };
    match (first.params, first.macs) {
        (0, 0) => String::new(),
        _ => format!("{} · {}", part(|layer| layer.params), part(|layer| layer.macs)),
    }
}

fn strips(sheet: &mut Sheet, strips: &[Strip], rect: Rect, top: f64) {
    for (row, strips) in strips.chunks(STRIPS_PER_ROW).enumerate() {
        let (width, y) = (rect.width / strips.len() as f64, top + row as f64 * STRIP);
        for (index, strip) in strips.iter().enumerate() {
            let x = rect.left + index as f64 * width;
            sheet.frame((x, y), (width, STRIP), Look { radius: 2.0, ..look(strip.kind) }, "");
            let text = shortened(&strip.text, TINY, width - 6.0);
            let at = (x + width / 2.0, y + 0.78 * STRIP);
            sheet.inscription(at, letters(Anchor::Middle, TINY, INK), &text);
        }
    }
}

/// What a browser shows of a box: its layers.
fn tip(members: &[&LayerBox]) -> String {
    let layer = members[0];
    let mut lines: Vec<String> = layer.layers.iter().take(MOST_LINES).cloned().collect();
    if layer.layers.len() > MOST_LINES {
        lines.push(format!("and {} more layers", layer.layers.len() - MOST_LINES));
    }
    if let [_, .., last] = members {
        lines.push(format!("repeated {} times, up to {}", members.len(), last.name));
    }
    lines.join("\n")
}

/// What the names of all boxes begin with, in whole parts: `layer3.1` of a residual block, `inception_3a` of a module.
fn common_path<'a>(mut boxes: impl Iterator<Item = &'a LayerBox>) -> &'a str {
    let first = boxes.next().map_or("", |layer| layer.name.as_str());
    boxes.fold(parent(first), |mut path, layer| {
        let is_inside = |path: &str| {
            let rest = layer.name.strip_prefix(path);
            path.is_empty() || rest.is_some_and(|rest| rest.starts_with(['/', '.']))
        };
        while !is_inside(path) {
            path = parent(path);
        }
        path
    })
}

/// A name without its last part.
fn parent(name: &str) -> &str {
    name.rfind(['/', '.']).map_or("", |place| &name[..place])
}

/// The end of a path that is not wider than `width`: without as many of its first parts as it takes, but for the last one.
fn within(path: &str, width: f64) -> &str {
    let path_end = path.find(' ').unwrap_or(path.len());
    let starts = path[..path_end].match_indices(['/', '.']).map(|(place, _)| place + 1);
    let mut ends = std::iter::once(0).chain(starts).map(|start| &path[start..]).peekable();
    while let Some(end) = ends.next() {
        let is_name = |rest: &&str| rest.starts_with(|letter: char| letter.is_ascii_alphabetic());
        if text_width(end, PLAIN) <= width || !ends.peek().is_some_and(is_name) {
            return end;
        }
    }
    path
}

/// What differs at the end of the last name: `35` of `layer3.35` behind `layer3.1`.
fn ending<'a>(first: &str, last: &'a str) -> &'a str {
    let is_start = |place: &usize| first.starts_with(&last[..*place]);
    let parts = last.match_indices(['/', '.']).map(|(place, _)| place + 1);
    let part = parts.take_while(is_start).last().unwrap_or(0);
    let number = last[part..].find(|letter: char| letter.is_ascii_digit()).map(|place| part + place);
    &last[number.filter(is_start).unwrap_or(part)..]
}
