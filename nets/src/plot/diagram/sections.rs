//! Cutting a network at the boxes that every path passes.

use super::LayerBox;

/// A part of the network. It reads only its own boxes and the tail of the section before it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Section {
    /// In ascending order.
    pub(super) boxes: Vec<usize>,
    /// The box that every path to the next section passes.
    pub(super) tail: Option<usize>,
}

/// Cuts the network.
pub(super) fn sections(boxes: &[LayerBox]) -> Vec<Section> {
    let (home, tails) = homes(boxes);
    let count = home.iter().map(|home| home + 1).max().unwrap_or(0);
    let mut sections = vec![Section::default(); count];
    for (index, &home) in home.iter().enumerate() {
        sections[home].boxes.push(index);
    }
    for (section, &tail) in sections.iter_mut().zip(&tails) {
        section.tail = Some(tail);
    }
    merged(boxes, &home, sections)
}

/// The section of each box, where side branches can still read any earlier section, and the tail of each section.
fn homes(boxes: &[LayerBox]) -> (Vec<usize>, Vec<usize>) {
    let main = main_path(boxes);
    // The farthest box of the main path that reads a box.
    let mut reach = vec![0; boxes.len()];
    for (index, layer) in boxes.iter().enumerate().filter(|&(index, _)| main[index]) {
        layer.inputs.iter().for_each(|&input| reach[input] = reach[input].max(index));
    }
    let (mut home, mut tails, mut farthest) = (vec![None; boxes.len()], Vec::new(), 0);
    for index in (0..boxes.len()).filter(|&index| main[index]) {
        home[index] = Some(tails.len());
        if farthest <= index {
            tails.push(index);
        }
        farthest = farthest.max(reach[index]);
    }
    // Side branches stand behind what they read.
    for index in 0..boxes.len() {
        if home[index].is_none() {
            let behind =
                |&input: &usize| Some(home[input]? + usize::from(tails.get(home[input]?) == Some(&input)));
            home[index] = boxes[index].inputs.iter().filter_map(behind).max();
        }
    }
    // Further inputs stand where they are first read.
    for (index, layer) in boxes.iter().enumerate().rev() {
        for &input in layer.inputs.iter().filter(|&&input| boxes[input].inputs.is_empty() && !main[input]) {
            home[input] = home[input].into_iter().chain(home[index]).min();
        }
    }
    (home.into_iter().map(Option::unwrap_or_default).collect(), tails)
}

/// The boxes that the last one depends on, except further inputs.
fn main_path(boxes: &[LayerBox]) -> Vec<bool> {
    let mut main = vec![false; boxes.len()];
    if let Some(last) = main.last_mut() {
        *last = true;
    }
    for index in (0..boxes.len()).rev() {
        if main[index] {
            boxes[index].inputs.iter().for_each(|&input| main[input] = true);
        }
    }
    let inputs = (0..boxes.len()).filter(|&index| boxes[index].inputs.is_empty());
    inputs.skip(1).for_each(|further| main[further] = false);
    main
}

/// Merges sections until each reads only its own boxes and the tail of the one before.
fn merged(boxes: &[LayerBox], home: &[usize], sections: Vec<Section>) -> Vec<Section> {
    let mut continues = vec![false; sections.len()];
    for (layer, &to) in boxes.iter().zip(home) {
        for &input in &layer.inputs {
            let from = home[input] + usize::from(sections[home[input]].tail == Some(input));
            // A tail can be read where it stands, too: by a side branch that other inputs keep there.
            let (first, last) = (from.min(to), from.max(to));
            (first..last).for_each(|section| continues[section] = true);
        }
    }
    let mut all: Vec<Section> = Vec::new();
    let mut is_open = false;
    for (section, continues) in sections.into_iter().zip(continues) {
        match all.last_mut().filter(|_| is_open) {
            Some(last) => {
                last.boxes.extend(section.boxes);
                last.tail = section.tail;
            }
            None => all.push(section),
        }
        is_open = continues;
    }
    all.retain(|section| !section.boxes.is_empty());
    all.iter_mut().for_each(|section| section.boxes.sort_unstable());
    all
}
