//! Sections that repeat are drawn once.

use super::sections::Section;
use super::{LayerBox, range};
use std::collections::HashMap;

/// Sections that are drawn together.
#[derive(Debug, Clone)]
pub(super) struct Item {
    /// The sections of each repetition; the first is drawn.
    pub(super) repeats: Vec<Vec<Section>>,
}

impl Item {
    /// The sections that are drawn.
    pub(super) fn drawn(&self) -> &[Section] {
        &self.repeats[0]
    }

    /// The boxes that a drawn box stands for: it, and its counterparts in the repetitions.
    pub(super) fn members(&self, section: usize, place: usize) -> impl Iterator<Item = usize> {
        self.repeats.iter().map(move |sections| sections[section].boxes[place])
    }
}

/// Gives each drawn box the shapes of all that it stands for.
pub(super) fn with_ranges(mut boxes: Vec<LayerBox>, items: &[Item]) -> Vec<LayerBox> {
    for item in items.iter().filter(|item| item.repeats.len() > 1) {
        let last = &item.repeats[item.repeats.len() - 1];
        for (section, last) in item.drawn().iter().zip(last) {
            for (&index, &counterpart) in section.boxes.iter().zip(&last.boxes) {
                boxes[index].shape = range(&boxes[index].shape, &boxes[counterpart].shape);
            }
        }
    }
    boxes
}

/// Up to so many boxes are all drawn.
const FEW: usize = 32;
/// Longest group of sections that is looked for.
const LONGEST: usize = 16;
/// Repetitions save at least so many boxes, or they are not worth a bracket.
const LEAST_SAVED: usize = 2;

/// Folds runs of groups of sections that repeat.
pub(super) fn fold(boxes: &[LayerBox], sections: Vec<Section>) -> Vec<Item> {
    let alone = |section: Section| Item { repeats: vec![vec![section]] };
    if boxes.len() <= FEW {
        return sections.into_iter().map(alone).collect();
    }
    let classes = classes(boxes, &sections);
    let sizes: Vec<usize> = sections.iter().map(|section| section.boxes.len()).collect();
    let mut rest = sections.into_iter();
    let mut items = Vec::new();
    let mut start = 0;
    while start < classes.len() {
        let (period, times) = best(&classes[start..], &sizes[start..]);
        let repeats = (0..times).map(|_| rest.by_ref().take(period).collect()).collect();
        items.push(Item { repeats });
        start += period * times;
    }
    items
}

/// The period and the number of repetitions at the start that save most boxes; among equals, the shortest period.
fn best(classes: &[usize], sizes: &[usize]) -> (usize, usize) {
    let mut best = (0, 1, 1);
    for period in 1..=LONGEST.min(classes.len() / 2) {
        let repeats = |times: &usize| classes[times * period..].starts_with(&classes[..period]);
        let times = 1 + (1..classes.len() / period).take_while(repeats).count();
        let saved = (times - 1) * sizes[..period].iter().sum::<usize>();
        if saved > best.0 && saved >= LEAST_SAVED {
            best = (saved, period, times);
        }
    }
    (best.1, best.2)
}

/// For each section the number of the first one that it repeats: with boxes of the same classes, joined in the same way.
fn classes(boxes: &[LayerBox], sections: &[Section]) -> Vec<usize> {
    let mut known = HashMap::new();
    let class = |(number, section): (usize, &Section)| {
        let one = |&index: &usize| {
            let inputs = boxes[index].inputs.iter().map(|input| section.boxes.binary_search(input).ok());
            (boxes[index].class, Some(index) == section.tail, inputs.collect::<Vec<_>>())
        };
        *known.entry(section.boxes.iter().map(one).collect::<Vec<_>>()).or_insert(number)
    };
    sections.iter().enumerate().map(class).collect()
}
