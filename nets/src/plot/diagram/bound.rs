//! Contracting networks that are too large to be drawn layer by layer.

use super::fold::{Item, fold};
use super::sections::{Section, sections};
use super::{Kind, LayerBox, Strip, shown};
use crate::plot::rows::key;

/// A section of more boxes than this is not legible.
const MOST_IN_SECTION: usize = 80;
/// A section of more boxes than this is long: arrows that pass many layers are cut.
const LONG: usize = 40;
/// At most so many arrows are cut.
const MOST_DETACHED: usize = 12;
/// More boxes than this are not drawn at all.
const MOST: usize = 400;

/// The boxes that are drawn, and their sections.
pub(super) fn bounded(boxes: Vec<LayerBox>) -> (Vec<LayerBox>, Vec<Item>) {
    let mut boxes = detached(&boxes).unwrap_or(boxes);
    // A contracted graph has other sections, so this is repeated. It ends because each round has fewer boxes.
    loop {
        let cut = sections(&boxes);
        let large = cut.iter().any(|section| section.boxes.len() > MOST_IN_SECTION);
        if large {
            boxes = contracted(&boxes, &cut, MOST_IN_SECTION);
            continue;
        }
        let items = fold(&boxes, cut.clone());
        let drawn: usize = items.iter().flat_map(Item::drawn).map(|section| section.boxes.len()).sum();
        if drawn <= MOST {
            return (boxes, items);
        }
        boxes = contracted(&boxes, &cut, 1.max(MOST / 2 / cut.len()));
        if boxes.len() > MOST {
            let all = Section { boxes: (0..boxes.len()).collect(), tail: None };
            boxes = contracted(&boxes, &[all], MOST / 2);
        }
    }
}

/// The network with its longest arrows cut, if that leaves sections of at most [`LONG`] boxes: an arrow from the beginning
/// to the end, as detectors and segmenting networks have, would forbid every other cut. Where it ended there is a box that
/// says where it comes from, and where it began a strip.
fn detached(boxes: &[LayerBox]) -> Option<Vec<LayerBox>> {
    let mut boxes = boxes.to_vec();
    for cuts in 0..=MOST_DETACHED {
        let sections = sections(&boxes);
        let Some(long) = sections.iter().find(|section| section.boxes.len() > LONG) else {
            return (cuts > 0).then_some(boxes);
        };
        let place = |index: &usize| long.boxes.binary_search(index).ok();
        let arrows = long
            .boxes
            .iter()
            .flat_map(|&reader| boxes[reader].inputs.iter().map(move |&input| (input, reader)));
        let passed = |&(input, reader): &(usize, usize)| {
            let is_port = boxes[input].inputs.is_empty();
            if is_port { 0 } else { place(&reader).unwrap_or(0) - place(&input).unwrap_or(0) }
        };
        let (input, reader) = arrows.max_by_key(passed)?;
        boxes = without(&boxes, input, reader);
    }
    None
}

/// The network with a box of its own in the place of what `reader` reads from `input`.
fn without(boxes: &[LayerBox], input: usize, reader: usize) -> Vec<LayerBox> {
    let moved = |index: usize| if index < reader { index } else { index + 1 };
    let mut all = boxes.to_vec();
    for layer in &mut all {
        layer.inputs.iter_mut().for_each(|input| *input = moved(*input));
    }
    let source = &boxes[input];
    let port = LayerBox {
        kind: Kind::Port,
        class: usize::MAX,
        operator: format!("from {}", shown(&source.name)),
        shape: source.shape.clone(),
        ..LayerBox::default()
    };
    all[reader].inputs.retain(|&other| other != input);
    all[reader].inputs.push(reader);
    let strip = Strip { kind: Kind::Port, text: format!("to {}", shown(&boxes[reader].name)) };
    all[input].strips[1].push(strip);
    // Boxes with a way out repeat no others.
    all[input].class = usize::MAX - 1 - input;
    all.insert(reader, port);
    all
}

/// Contracts boxes that follow each other until each section has at most `most`: first those whose names begin alike.
fn contracted(boxes: &[LayerBox], sections: &[Section], most: usize) -> Vec<LayerBox> {
    let mut group = vec![0; boxes.len()];
    let mut next = 0;
    for section in sections {
        let mut runs = runs(section.boxes.len(), |place| {
            key(&boxes[section.boxes[place - 1]].name) == key(&boxes[section.boxes[place]].name)
        });
        if section.boxes.len() <= most {
            runs = (0..section.boxes.len()).collect();
        } else if runs.last().is_some_and(|last| last + 1 > most) {
            let length = section.boxes.len().div_ceil(most);
            runs = (0..section.boxes.len()).map(|place| place / length).collect();
        }
        for (&index, run) in section.boxes.iter().zip(&runs) {
            group[index] = next + run;
        }
        next += runs.last().map_or(0, |last| last + 1);
    }
    contract(boxes, &group, next)
}

/// Numbers `count` places so that neighbours for which `is_same` holds have the same number.
fn runs(count: usize, is_same: impl Fn(usize) -> bool) -> Vec<usize> {
    let mut run = 0;
    let number = |place| {
        run += usize::from(place > 0 && !is_same(place));
        run
    };
    (0..count).map(number).collect()
}

/// Joins the boxes of each group. The groups are in an executable order.
fn contract(boxes: &[LayerBox], group: &[usize], groups: usize) -> Vec<LayerBox> {
    let mut members = vec![Vec::new(); groups];
    for (index, &group) in group.iter().enumerate() {
        members[group].push(index);
    }
    members.iter().map(|members| joined(boxes, members, group)).collect()
}

fn joined(boxes: &[LayerBox], members: &[usize], group: &[usize]) -> LayerBox {
    let own = group[members[0]];
    let mut inputs: Vec<usize> =
        members.iter().flat_map(|&index| &boxes[index].inputs).map(|&input| group[input]).collect();
    inputs.sort_unstable();
    inputs.dedup();
    inputs.retain(|&input| input != own);
    if let [only] = members {
        return LayerBox { inputs, ..boxes[*only].clone() };
    }
    let (first, last) = (&boxes[members[0]], &boxes[members[members.len() - 1]]);
    let layers: Vec<String> = members.iter().flat_map(|&index| boxes[index].layers.iter().cloned()).collect();
    LayerBox {
        kind: Kind::Several,
        // Not one of the classes of layers: two of these are never said to repeat each other.
        class: usize::MAX / 2 - own,
        operator: format!("{} layers", layers.len()),
        name: format!("{} … {}", first.name, last.name),
        shape: last.shape.clone(),
        params: members.iter().fold(0, |sum, &index| boxes[index].params.saturating_add(sum)),
        macs: members.iter().fold(0, |sum, &index| boxes[index].macs.saturating_add(sum)),
        strips: [Vec::new(), Vec::new()],
        layers,
        inputs,
    }
}
