//! Names of points, where there is room for them.

use super::sheet::{SMALL, text_width};

/// An upright rectangle: left, top, right, bottom.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Room(pub(super) f64, pub(super) f64, pub(super) f64, pub(super) f64);

impl Room {
    pub(super) fn around((x, y): (f64, f64), radius: f64) -> Self {
        Self(x - radius, y - radius, x + radius, y + radius)
    }

    /// With `gap` more on its left and on its right.
    fn widened(self, gap: f64) -> Self {
        Self(self.0 - gap, self.1, self.2 + gap, self.3)
    }

    /// The point in it that is nearest to `(x, y)`.
    fn nearest(&self, (x, y): (f64, f64)) -> (f64, f64) {
        (x.clamp(self.0, self.2), y.clamp(self.1, self.3))
    }

    fn meets(&self, other: &Self) -> bool {
        self.0 < other.2 && other.0 < self.2 && self.1 < other.3 && other.1 < self.3
    }

    fn contains(&self, other: &Self) -> bool {
        self.0 <= other.0 && self.1 <= other.1 && self.2 >= other.2 && self.3 >= other.3
    }
}

/// Between two texts side by side, which would read as one word.
const GAP: f64 = 4.0;

/// The room that is left.
pub(super) struct Labels {
    bounds: Room,
    /// Points and lines.
    marks: Vec<Room>,
    /// With their gaps.
    texts: Vec<Room>,
}

/// A label with room of its own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Placed {
    /// The beginning of its base line.
    pub(super) start: (f64, f64),
    /// Where a line to its point ends, if it is not beside it.
    pub(super) leader: Option<(f64, f64)>,
}

impl Labels {
    pub(super) fn within(bounds: Room) -> Self {
        Self { bounds, marks: Vec::new(), texts: Vec::new() }
    }

    /// No text is placed on this mark.
    pub(super) fn avoid(&mut self, mark: Room) {
        self.marks.push(mark);
    }

    /// The nearest free room for `text` around a point, the right side first.
    pub(super) fn place(&mut self, (x, y): (f64, f64), text: &str) -> Option<Placed> {
        const DISTANCES: [f64; 4] = [7.0, 16.0, 30.0, 48.0];
        const SIDES: [(f64, f64); 8] = [
            (1.0, 0.0),
            (-1.0, 0.0),
            (0.0, -1.0),
            (0.0, 1.0),
            (0.7, -0.7),
            (0.7, 0.7),
            (-0.7, -0.7),
            (-0.7, 0.7),
        ];
        let (width, height) = (text_width(text, SMALL), 1.2 * SMALL);
        for (distance, (right, down)) in DISTANCES.into_iter().flat_map(|far| SIDES.map(|side| (far, side))) {
            let (cx, cy) = (x + distance * right, y + distance * down);
            // The side of the text that is towards the point stays where it is.
            let left = cx - width * (0.5 - 0.5 * right.signum() * f64::from(right != 0.0));
            let top = cy - height * (0.5 - 0.5 * down.signum() * f64::from(down != 0.0));
            let room = Room(left, top, left + width, top + height);
            let end = (distance > DISTANCES[0]).then(|| room.nearest((x, y)));
            let leader: Vec<Room> = end.map_or(Vec::new(), |end| dots((x, y), end));
            let is_free = |room: &Room| !self.texts.iter().any(|text| text.meets(room));
            if self.bounds.contains(&room)
                && is_free(&room)
                && !self.marks.iter().any(|mark| mark.meets(&room))
                && leader.iter().all(is_free)
            {
                self.texts.push(room.widened(GAP));
                self.marks.extend(leader);
                return Some(Placed { start: (left, top + 0.95 * SMALL), leader: end });
            }
        }
        None
    }
}

/// What a thin line covers.
fn dots(from: (f64, f64), to: (f64, f64)) -> Vec<Room> {
    let steps = (to.0 - from.0).hypot(to.1 - from.1).ceil().max(1.0);
    let at = |part: f64| (from.0 + part * (to.0 - from.0), from.1 + part * (to.1 - from.1));
    (0..=steps as u32).map(|step| Room::around(at(f64::from(step) / steps), 1.0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_give_way_to_points_and_to_each_other() {
        let mut labels = Labels::within(Room(0.0, 0.0, 300.0, 100.0));
        let point = (150.0, 50.0);
        labels.avoid(Room::around(point, 5.0));
        let places: Vec<Placed> = (0..60).map_while(|_| labels.place(point, "conv1")).collect();
        assert!((4..60).contains(&places.len()), "{}", places.len());
        assert!(places[0].start.0 > 150.0 && places[0].leader.is_none());
        let rooms = &labels.texts;
        // The gap of one is free of the text of the other.
        let apart = |a: usize, b: usize| !rooms[a].widened(-GAP).meets(&rooms[b]);
        assert!((0..rooms.len()).all(|a| (0..a).all(|b| apart(a, b))));
    }

    #[test]
    fn labels_side_by_side_are_two_words() {
        let width = text_width("conv1", SMALL);
        // The point of the second label is so far right that its room is on its left, where the first ends.
        let second = 7.0 + 2.0 * width + 7.0;
        let mut labels = Labels::within(Room(0.0, 0.0, second + width, 18.0));
        assert!(labels.place((0.0, 9.0), "conv1").is_some_and(|first| first.start.0 == 7.0));
        assert_eq!(labels.place((second, 9.0), "conv1"), None);
        assert!(labels.place((second + GAP, 9.0), "conv1").is_some());
    }

    #[test]
    fn a_label_that_is_not_beside_its_point_has_a_leader() {
        let mut labels = Labels::within(Room(0.0, 0.0, 300.0, 100.0));
        labels.avoid(Room::around((150.0, 50.0), 15.0));
        let placed = labels.place((150.0, 50.0), "conv1").unwrap();
        assert!(placed.leader.is_some_and(|end| end.0 > 160.0), "{placed:?}");
        assert_eq!(labels.place((150.0, 50.0), &"long".repeat(30)), None);
    }
}
