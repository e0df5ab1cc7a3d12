//! Stacking sections in columns that make a page.

use super::fold::{Item, with_ranges};
use super::section::{Placed, TITLE, placed};
use super::{LayerBox, range};

/// The widest page that is legible in print: its letters are then as small as those of footnotes. Wider ones are bad, but
/// less so than a page that is several times as high as wide.
const WIDEST: f64 = 1060.0;
/// Height of a page divided by its width.
const PAGE: f64 = 1.4;
const MOST_COLUMNS: usize = 6;
/// Between two columns; the arrow between them passes here.
const GUTTER: f64 = 44.0;
/// Above and below columns, for this arrow.
const TURN: f64 = 14.0;
/// Around the boxes of an item.
const FRAME: f64 = 8.0;
/// Right of an item that repeats, for the number.
pub(super) const BRACKET: f64 = 96.0;

/// An item with its place on the sheet.
#[derive(Debug)]
pub(super) struct Stacked {
    pub(super) sections: Vec<Placed>,
    /// The top of each section.
    pub(super) tops: Vec<f64>,
    /// Where the tails stand.
    pub(super) spine: f64,
    /// Left, top, right and bottom of the frame, if there is one.
    pub(super) frame: Option<[f64; 4]>,
    /// Where the line from the last box to the next item begins and ends.
    pub(super) stem: (f64, f64),
    /// The arrow from the column before.
    pub(super) turn: Option<Vec<(f64, f64)>>,
}

/// The items on the sheet, and its extents.
pub(super) struct Stack {
    pub(super) items: Vec<Stacked>,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// An item that is not yet in a column: its extents beside and below the spine.
struct Block {
    sections: Vec<Placed>,
    left: f64,
    right: f64,
    height: f64,
    is_framed: bool,
    /// Whether it reads the tail of the item before.
    has_head: bool,
}

/// Lays all items out with boxes of this width.
pub(super) fn stack(boxes: &[LayerBox], items: &[Item], width: f64) -> Stack {
    let shown = with_ranges(boxes.to_vec(), items);
    let mut blocks = Vec::new();
    let mut head = None;
    for item in items {
        let first = heads(boxes, item, head);
        blocks.push(block(&shown, item, first, width));
        let last = item.repeats.last().and_then(|sections| sections.last());
        head = last.and_then(|section| section.tail).map(|tail| &boxes[tail]);
    }
    let count = best_count(&blocks);
    let starts = columns(&blocks, count);
    arranged(blocks, &starts)
}

/// What an item reads: the tail before it, with the shapes that its first and its last repetition read.
fn heads(boxes: &[LayerBox], item: &Item, head: Option<&LayerBox>) -> Option<LayerBox> {
    let head = head?;
    let before = item.repeats.iter().rev().nth(1).and_then(|sections| sections.last());
    let last = before.and_then(|section| section.tail).map_or(head, |tail| &boxes[tail]);
    Some(LayerBox { shape: range(&head.shape, &last.shape), ..head.clone() })
}

fn block(boxes: &[LayerBox], item: &Item, mut head: Option<LayerBox>, width: f64) -> Block {
    let is_framed = item.repeats.len() > 1 || item.drawn().iter().any(|section| section.boxes.len() > 1);
    let has_head = head.is_some();
    let mut sections = Vec::new();
    for (number, section) in item.drawn().iter().enumerate() {
        let room = if is_framed && number == 0 { TITLE } else { 0.0 };
        sections.push(placed(boxes, section, head.as_ref(), width, room));
        head = section.tail.map(|tail| boxes[tail].clone());
    }
    let edge = |side: fn(&Placed) -> f64| sections.iter().map(side).fold(0.0, f64::max);
    let frame = if is_framed { FRAME } else { 0.0 };
    Block {
        left: edge(|section| -section.left) + frame,
        right: edge(|section| section.right) + frame + if item.repeats.len() > 1 { BRACKET } else { 0.0 },
        height: sections.iter().map(|section| section.height).sum::<f64>() + frame,
        sections,
        is_framed,
        has_head,
    }
}

/// The number of columns that comes nearest to a page.
fn best_count(blocks: &[Block]) -> usize {
    let total: f64 = blocks.iter().map(|block| block.height).sum();
    let badness = |count: usize| {
        let (width, height) = extents(blocks, &columns(blocks, count));
        // Up to a whole page in one column, no arrow has to turn. Short columns beside a long one are no gain.
        let ratio = (height / width / PAGE).ln();
        let unused = 1.0 - total / (count as f64 * height);
        let tiny = (width / WIDEST).ln().max(0.0);
        if ratio < 0.0 && count == 1 { 0.0 } else { ratio.abs() + 2.0 * unused + 3.0 * tiny }
    };
    let counts = (1..=MOST_COLUMNS.min(blocks.len().max(1))).map(|count| (badness(count), count));
    counts.min_by(|a, b| a.0.total_cmp(&b.0)).map_or(1, |(_, count)| count)
}

/// Starts of columns, so that the highest of at most `count` columns is as low as possible.
fn columns(blocks: &[Block], count: usize) -> Vec<usize> {
    let starts = |limit: f64| {
        let (mut starts, mut height) = (vec![0], 0.0);
        for (index, block) in blocks.iter().enumerate() {
            // Branches without a common tail cannot be cut.
            if index > 0 && height + block.height > limit && block.has_head {
                starts.push(index);
                height = 0.0;
            }
            height += block.height;
        }
        starts
    };
    let total: f64 = blocks.iter().map(|block| block.height).sum();
    let (mut low, mut high) = (0.0, total);
    while high - low > 1.0 {
        let middle = (low + high) / 2.0;
        if starts(middle).len() <= count { high = middle } else { low = middle }
    }
    starts(high)
}

fn spans(blocks: &[Block], starts: &[usize]) -> Vec<std::ops::Range<usize>> {
    let ends = starts.iter().skip(1).copied().chain([blocks.len()]);
    starts.iter().zip(ends).map(|(&start, end)| start..end).collect()
}

fn extents(blocks: &[Block], starts: &[usize]) -> (f64, f64) {
    let mut width = GUTTER * (starts.len() as f64 - 1.0);
    let mut height = 0.0f64;
    for span in spans(blocks, starts) {
        width += sides(&blocks[span.clone()]).iter().sum::<f64>();
        height = height.max(blocks[span].iter().map(|block| block.height).sum());
    }
    (width, height + if starts.len() > 1 { 2.0 * TURN } else { 0.0 })
}

/// How far a column reaches to the left and to the right of its spine.
fn sides(column: &[Block]) -> [f64; 2] {
    [
        column.iter().map(|block| block.left).fold(0.0, f64::max),
        column.iter().map(|block| block.right).fold(0.0, f64::max),
    ]
}

fn arranged(blocks: Vec<Block>, starts: &[usize]) -> Stack {
    let (width, height) = extents(&blocks, starts);
    let spans = spans(&blocks, starts);
    let sides: Vec<[f64; 2]> = spans.iter().map(|span| sides(&blocks[span.clone()])).collect();
    let top = if starts.len() > 1 { TURN } else { 0.0 };
    let mut items = Vec::new();
    let (mut blocks, mut edge, mut end) = (blocks.into_iter(), 0.0, None);
    for (span, [left, right]) in spans.into_iter().zip(sides) {
        let spine = edge + left;
        let mut y = top;
        let mut turn = end.map(|(x, bottom): (f64, f64)| {
            let gutter = edge - GUTTER / 2.0;
            vec![
                (x, bottom),
                (x, height - 2.0),
                (gutter, height - 2.0),
                (gutter, 2.0),
                (spine, 2.0),
                (spine, top),
            ]
        });
        for block in blocks.by_ref().take(span.len()) {
            items.push(stacked(block, spine, &mut y, turn.take()));
        }
        let last = items.last().and_then(|item: &Stacked| item.sections.last());
        end = last.map(|_| (spine, y));
        edge += left + right + GUTTER;
    }
    Stack { items, width, height }
}

fn stacked(block: Block, spine: f64, y: &mut f64, turn: Option<Vec<(f64, f64)>>) -> Stacked {
    let start = *y;
    let mut tops = Vec::new();
    for section in &block.sections {
        tops.push(*y);
        *y += section.height;
    }
    let frame = block.is_framed.then(|| {
        let edge = |side: fn(&Placed) -> f64| block.sections.iter().map(side).fold(0.0, f64::max);
        let (left, right) = (edge(|section| -section.left), edge(|section| section.right));
        let above = if block.has_head { 4.0 } else { 0.0 };
        [spine - left - FRAME, start + above, spine + right + FRAME, *y + FRAME - 2.0]
    });
    let stem = (*y, *y + if block.is_framed { FRAME } else { 0.0 });
    *y = stem.1;
    Stacked { sections: block.sections, tops, spine, frame, stem, turn }
}
