//! Of random networks: nothing stands on anything else, every arrow goes down beside the boxes, every layer is drawn or
//! accounted for.

use super::bound::bounded;
use super::columns::{Stack, stack};
use super::fold::{Item, fold};
use super::sections::sections;
use super::{Diagram, Kind, LayerBox, Strip, shown};
use rand_pcg::Pcg64;
use rand_pcg::rand_core::Rng;

const WIDTH: f64 = 150.0;

fn layer(index: usize, inputs: &[usize], class: usize) -> LayerBox {
    LayerBox {
        kind: Kind::Conv,
        class,
        operator: format!("conv {class}x{class}, 64"),
        name: format!("layer{}.{index}.conv", index / 7),
        shape: "64x56x56".to_owned(),
        params: 1,
        macs: 10,
        strips: [Vec::new(), vec![Strip { kind: Kind::Activation, text: "relu".to_owned() }; index % 5]],
        layers: vec![format!("layer {index}")],
        inputs: inputs.to_vec(),
    }
}

/// A network of `count` boxes. Each reads up to `most` boxes, of which the farthest is `reach` boxes before it.
fn random(random: &mut Pcg64, count: usize, most: usize, reach: usize) -> Vec<LayerBox> {
    let mut below = |bound: usize| random.next_u32() as usize % bound;
    let mut boxes = vec![layer(0, &[], 0)];
    for index in 1..count {
        let is_input = below(20) == 0;
        let reads = if is_input { 0 } else { 1 + below(most) };
        let mut inputs: Vec<usize> =
            (0..reads).map(|_| index - 1 - if below(3) == 0 { below(reach.min(index)) } else { 0 }).collect();
        inputs.sort_unstable();
        inputs.dedup();
        boxes.push(layer(index, &inputs, below(3)));
    }
    boxes
}

/// Left, top, right and bottom of every box on the sheet.
fn rects(stack: &Stack) -> Vec<[f64; 4]> {
    let mut all = Vec::new();
    for item in &stack.items {
        for (section, top) in item.sections.iter().zip(&item.tops) {
            let rect = |rect: &super::section::Rect| {
                let (x, y) = (rect.left + item.spine, rect.top + top);
                [x, y, x + rect.width, y + rect.height]
            };
            all.extend(section.boxes.iter().map(rect));
        }
    }
    all
}

/// Every arrow as points on the sheet, with what is read from a box or from the head.
fn arrows(stack: &Stack) -> Vec<Vec<(f64, f64)>> {
    let mut all = Vec::new();
    for item in &stack.items {
        for (section, top) in item.sections.iter().zip(&item.tops) {
            let on_sheet = |&(x, y): &(f64, f64)| (x + item.spine, y + top);
            all.extend(section.arrows.iter().map(|arrow| arrow.points.iter().map(on_sheet).collect()));
        }
        all.extend(item.turn.clone());
    }
    all
}

const CLOSE: f64 = 0.01;

fn check(boxes: &[LayerBox], items: &[Item], context: &str) {
    let stack = stack(boxes, items, WIDTH);
    let rects = rects(&stack);
    for (index, a) in rects.iter().enumerate() {
        assert!(a[0] >= -CLOSE && a[1] >= -CLOSE, "{context}: {a:?}");
        assert!(a[2] <= stack.width + CLOSE && a[3] <= stack.height + CLOSE, "{context}: {a:?}");
        for b in &rects[..index] {
            let apart = a[2] <= b[0] || b[2] <= a[0] || a[3] <= b[1] || b[3] <= a[1];
            assert!(apart, "{context}: {a:?} stands on {b:?}");
        }
    }
    let turns = stack.items.iter().filter(|item| item.turn.is_some()).count();
    let arrows = arrows(&stack);
    for points in &arrows {
        for pair in points.windows(2) {
            let [(x0, y0), (x1, y1)] = [pair[0], pair[1]];
            let (left, right, top, bottom) = (x0.min(x1), x0.max(x1), y0.min(y1), y0.max(y1));
            let meets = |rect: &&[f64; 4]| {
                left < rect[2] - CLOSE
                    && right > rect[0] + CLOSE
                    && top < rect[3] - CLOSE
                    && bottom > rect[1] + CLOSE
            };
            let crossed = rects.iter().find(meets);
            assert!(crossed.is_none(), "{context}: {pair:?} crosses {crossed:?}");
        }
        let (end, is_turn) = (points[points.len() - 1], points.len() == 6 && points[1].1 == points[2].1);
        let at_top = |rect: &[f64; 4]| (end.1 - rect[1]).abs() < CLOSE && end.0 > rect[0] && end.0 < rect[2];
        if !is_turn {
            assert!(points.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{context}: {points:?} goes up");
            assert!(rects.iter().any(at_top), "{context}: {points:?} ends at no box");
        }
    }
    // One arrow for each box that a drawn box reads.
    let drawn = items.iter().flat_map(Item::drawn).flat_map(|section| &section.boxes);
    let read: usize = drawn.map(|&index| boxes[index].inputs.len()).sum();
    assert_eq!(arrows.len(), read + turns, "{context}");
    // Every box is drawn, or is the counterpart of one that is.
    let mut members: Vec<usize> = Vec::new();
    for item in items {
        for (number, section) in item.drawn().iter().enumerate() {
            (0..section.boxes.len()).for_each(|place| members.extend(item.members(number, place)));
        }
    }
    members.sort_unstable();
    assert!(members.iter().copied().eq(0..boxes.len()), "{context}");
}

#[test]
fn boxes_and_arrows_of_random_networks_keep_apart() {
    let mut pcg = Pcg64::new(7, 11);
    for round in 0..300 {
        let (count, most, reach) = (2 + round % 39, 1 + round % 4, 1 + round % 13);
        let boxes = random(&mut pcg, count, most, reach);
        let items = fold(&boxes, sections(&boxes));
        check(&boxes, &items, &format!("round {round}: {count} boxes, {most} inputs, {reach} apart"));
    }
}

#[test]
fn sections_read_only_the_tail_before_them() {
    let mut pcg = Pcg64::new(3, 5);
    for round in 0..500 {
        let boxes = random(&mut pcg, 2 + round % 60, 1 + round % 3, 1 + round % 9);
        let sections = sections(&boxes);
        for (number, section) in sections.iter().enumerate() {
            assert!(section.tail.is_none_or(|tail| section.boxes.contains(&tail)));
            for input in section.boxes.iter().flat_map(|&index| &boxes[index].inputs) {
                let is_head = number > 0 && sections[number - 1].tail == Some(*input);
                assert!(is_head || section.boxes.contains(input), "round {round}: {sections:?}");
            }
        }
        let mut all: Vec<usize> = sections.iter().flat_map(|section| section.boxes.clone()).collect();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..boxes.len()), "round {round}: {sections:?}");
    }
}

/// A chain of blocks with shortcuts: two boxes and their sum.
fn residual(blocks: usize) -> Vec<LayerBox> {
    let mut boxes = vec![layer(0, &[], 0)];
    for block in 0..blocks {
        let start = 3 * block;
        boxes.push(layer(start + 1, &[start], 1));
        boxes.push(layer(start + 2, &[start + 1], 2));
        boxes.push(layer(start + 3, &[start, start + 2], 3));
    }
    boxes
}

#[test]
fn repeated_blocks_are_drawn_once_with_a_straight_path() {
    let boxes = residual(36);
    let items = fold(&boxes, sections(&boxes));
    let times: Vec<usize> = items.iter().map(|item| item.repeats.len()).collect();
    assert_eq!(times, [1, 36]);
    check(&boxes, &items, "residual");
    let stack = stack(&boxes, &items, WIDTH);
    let lefts: Vec<f64> = rects(&stack).iter().map(|rect| rect[0]).collect();
    assert!(lefts.len() == 4 && lefts.iter().all(|left| *left == lefts[0]), "{lefts:?}");
    let label = &stack.items[1].sections[0].labels;
    assert_eq!(label.iter().map(|label| label.text.as_str()).collect::<Vec<_>>(), ["64x56x56"]);
    let page = Diagram { boxes, ..Diagram::default() }.page();
    assert!(page.contains("× 36") && page.contains("108 params") && page.contains("1.08k MACs"));
}

#[test]
fn few_blocks_are_all_drawn() {
    let boxes = residual(8);
    assert!(fold(&boxes, sections(&boxes)).iter().all(|item| item.repeats.len() == 1));
}

#[test]
fn huge_networks_stay_legible_and_account_for_every_layer() {
    let mut pcg = Pcg64::new(1, 2);
    for (count, most, reach) in [(5000, 1, 1), (3000, 2, 3), (2000, 3, 400), (1200, 2, 1200)] {
        let boxes = random(&mut pcg, count, most, reach);
        let start = std::time::Instant::now();
        let (drawn, items) = bounded(boxes.clone());
        let page = Diagram { boxes, ..Diagram::default() }.page();
        let seconds = start.elapsed().as_secs_f64();
        let context = format!("{count} boxes, {most} inputs, {reach} apart");
        assert!(seconds < if cfg!(debug_assertions) { 30.0 } else { 2.0 }, "{context}: {seconds} s");
        assert!(page.len() < 3 << 20, "{context}: {} bytes", page.len());
        let shown: usize = items.iter().flat_map(Item::drawn).map(|section| section.boxes.len()).sum();
        assert!((1..=400).contains(&shown), "{context}: {shown} boxes");
        check(&drawn, &items, &context);
        let mut lines: Vec<&String> = drawn.iter().flat_map(|layer| &layer.layers).collect();
        lines.sort_unstable();
        lines.dedup();
        assert_eq!(lines.len(), count, "{context}");
        assert_eq!(drawn.iter().map(|layer| layer.params).sum::<u64>(), count as u64, "{context}");
    }
}

/// A chain of 90 boxes, the first of which is also read by the last: the long arrow is cut, and named at both ends.
#[test]
fn a_long_arrow_is_cut() {
    let mut boxes = vec![layer(0, &[], 0)];
    boxes.extend((1..90).map(|index| layer(index, &[index - 1], index)));
    boxes[89].inputs.insert(0, 1);
    let (drawn, items) = bounded(boxes);
    assert_eq!(drawn.len(), 91);
    check(&drawn, &items, "cut");
    assert!(drawn.iter().any(|layer| layer.operator == "from layer0.1.conv" && layer.shape == "64x56x56"));
    assert!(drawn[1].strips[1].iter().any(|strip| strip.text == "to layer12.89.conv"));
}

#[test]
fn paths_are_shown_without_what_repeats() {
    for (path, expected) in [
        ("/layer1/layer1.0/conv1/Conv", "layer1/layer1.0/conv1"),
        ("conv1/7x7_s2", "conv1/7x7_s2"),
        ("/layer1/layer1.0", "layer1.0"),
        (".conv2", "conv2"),
        ("/Concat", "Concat"),
        ("", ""),
    ] {
        assert_eq!(shown(path), expected, "{path}");
    }
}

#[test]
fn networks_of_nothing_are_drawn() {
    for boxes in [Vec::new(), vec![layer(0, &[], 0)], vec![layer(0, &[], 0), layer(1, &[], 0)]] {
        let page = Diagram { boxes, ..Diagram::default() }.page();
        assert!(page.starts_with("<svg") && !page.contains("NaN") && !page.contains("inf"));
    }
}
