//! Points and lines between two axes.

use super::head;
use super::labels::{Labels, Room};
use super::scale::{Scale, short};
use super::sheet::{Anchor, FAINT, GRID, INK, MARGIN, SMALL, Sheet, TEXT, WIDTH, colour, shortened};

/// Points and lines between two axes.
#[derive(Debug, Clone)]
pub struct PlaneChart {
    /// What is drawn.
    pub title: String,
    /// Sentences under the title.
    pub notes: Vec<String>,
    /// To the right.
    pub x: Axis,
    /// Upwards.
    pub y: Axis,
    /// What the points' colours and shapes mean; if it is one only, nothing has to be said.
    pub series: Vec<String>,
    /// Every one has a tooltip, and a label if there is room; those in front are labelled first.
    pub points: Vec<Point>,
    /// Under the points.
    pub lines: Vec<Line>,
}

/// An axis.
#[derive(Debug, Clone)]
pub struct Axis {
    /// The quantity and its unit.
    pub title: String,
    /// The first and the last number.
    pub range: (f64, f64),
    /// Whether equal distances are equal ratios.
    pub is_log: bool,
}

/// A point.
#[derive(Debug, Clone)]
pub struct Point {
    /// What it is.
    pub name: String,
    /// What else is to be known of it, under the pointer.
    pub note: String,
    /// Which of the series.
    pub series: usize,
    /// Where.
    pub at: (f64, f64),
}

/// A line.
#[derive(Debug, Clone)]
pub struct Line {
    /// What it is.
    pub name: String,
    /// Its corners.
    pub points: Vec<(f64, f64)>,
    /// `None` for black, and the name beside the line; else a colour, and the name in the legend.
    pub colour: Option<usize>,
    /// Whether it is dashed.
    pub is_dashed: bool,
}

const HEIGHT: f64 = 460.0;
/// Left of the vertical axis, for its numbers.
const NUMBERS: f64 = 46.0;
/// Labels beyond which a chart is crowded.
const MOST_LABELS: usize = 20;
const LONGEST_LABEL: f64 = 190.0;
/// Points of one series that are nearer are one.
const SAME: f64 = 2.0;

/// A point on the sheet, and the points that are drawn as it.
struct Spot<'a> {
    at: (f64, f64),
    points: Vec<&'a Point>,
}

impl PlaneChart {
    pub(super) fn draw(&self, sheet: &mut Sheet) {
        head(sheet, &self.title, &self.notes);
        self.legend(sheet);
        sheet.skip(18.0);
        sheet.text((MARGIN, sheet.y), Anchor::Start, TEXT, INK, &self.y.title);
        sheet.skip(8.0);
        let (left, top, bottom) = (MARGIN + NUMBERS, sheet.y, sheet.y + HEIGHT);
        let x = self.x.scale(left, WIDTH - MARGIN - 8.0);
        let y = self.y.scale(bottom, top);
        grid(sheet, &x, &y);
        sheet.y = bottom + 34.0;
        sheet.text(((x.from + x.to) / 2.0, sheet.y), Anchor::Middle, TEXT, INK, &self.x.title);

        let place = |&(a, b): &(f64, f64)| (x.place(a), y.place(b));
        let mut labels = Labels::within(Room(x.from, top, x.to, bottom));
        let spots = self.spots(place);
        spots.iter().for_each(|spot| labels.avoid(Room::around(spot.at, 4.0)));
        for line in &self.lines {
            let corners: Vec<(f64, f64)> = line.points.iter().map(place).collect();
            sheet.curve(&corners, line.colour.map_or(INK, colour), line.is_dashed, &line.name);
            if line.colour.is_none() {
                // No label stands on it.
                along(&corners, 5.0).for_each(|at| labels.avoid(Room::around(at, 1.5)));
            }
        }
        for spot in &spots {
            sheet.dot(spot.at, spot.points[0].series, &spot.tip());
        }
        for line in self.lines.iter().filter(|line| line.colour.is_none()) {
            line.label(sheet, &mut labels, place);
        }
        let placed = by_importance(&spots).into_iter().filter_map(|spot| {
            let name = shortened(&spot.name(), SMALL, LONGEST_LABEL);
            Some((spot, labels.place(spot.at, &name)?, name))
        });
        for (spot, placed, name) in placed.take(MOST_LABELS) {
            if let Some(end) = placed.leader {
                sheet.rule(spot.at, end, FAINT, false);
            }
            sheet.label(placed.start, INK, &name);
        }
    }

    fn legend(&self, sheet: &mut Sheet) {
        if self.series.len() > 1 {
            let swatch = |sheet: &mut Sheet, series, x, y| sheet.dot((x + 10.0, y), series, "");
            sheet.legend(self.series.iter().map(String::as_str), swatch);
        }
        let named: Vec<(&Line, usize)> =
            self.lines.iter().filter_map(|line| Some((line, line.colour?))).collect();
        let swatch = |sheet: &mut Sheet, index: usize, x: f64, y: f64| {
            let (line, series) = named[index];
            sheet.curve(&[(x, y), (x + 20.0, y)], colour(series), line.is_dashed, "");
        };
        sheet.legend(named.iter().map(|(line, _)| line.name.as_str()), swatch);
    }

    /// The points, those of one series in one place as one.
    fn spots(&self, place: impl Fn(&(f64, f64)) -> (f64, f64)) -> Vec<Spot<'_>> {
        let mut spots: Vec<Spot<'_>> = Vec::new();
        for point in &self.points {
            let at = place(&point.at);
            let is_same = |spot: &&mut Spot<'_>| {
                let (dx, dy) = (spot.at.0 - at.0, spot.at.1 - at.1);
                spot.points[0].series == point.series && dx.abs().max(dy.abs()) < SAME
            };
            match spots.iter_mut().find(is_same) {
                Some(spot) => spot.points.push(point),
                None => spots.push(Spot { at, points: vec![point] }),
            }
        }
        spots
    }
}

impl Axis {
    fn scale(&self, from: f64, to: f64) -> Scale {
        Scale { low: self.range.0, high: self.range.1, from, to, is_log: self.is_log }
    }
}

impl Line {
    /// Its name where there is room along it, from its beginning.
    fn label(&self, sheet: &mut Sheet, labels: &mut Labels, place: impl Fn(&(f64, f64)) -> (f64, f64)) {
        let corners: Vec<(f64, f64)> = self.points.iter().map(place).collect();
        let placed = along(&corners, 40.0).skip(1).find_map(|at| labels.place(at, &self.name));
        if let Some(placed) = placed {
            sheet.label(placed.start, FAINT, &self.name);
        }
    }
}

/// Places on a line, so many pixels from each other.
fn along(corners: &[(f64, f64)], apart: f64) -> impl Iterator<Item = (f64, f64)> {
    corners.windows(2).flat_map(move |ends| {
        let [from, to] = [ends[0], ends[1]];
        let steps = ((to.0 - from.0).hypot(to.1 - from.1) / apart).ceil().max(1.0);
        (0..=steps as u32).map(move |step| {
            let part = f64::from(step) / steps;
            (from.0 + part * (to.0 - from.0), from.1 + part * (to.1 - from.1))
        })
    })
}

impl Spot<'_> {
    fn name(&self) -> String {
        match &self.points[..] {
            [only] => only.name.clone(),
            [first, others @ ..] => format!("{} and {} more", first.name, others.len()),
            [] => String::new(),
        }
    }

    /// A line for each point.
    fn tip(&self) -> String {
        let line = |point: &&Point| super::sheet::tip(&[&point.name, &point.note]);
        self.points.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

/// The outermost on all sides, then the others in their order.
fn by_importance<'a, 'b>(spots: &'b [Spot<'a>]) -> Vec<&'b Spot<'a>> {
    let sides: [fn(&Spot<'_>) -> f64; 4] =
        [|spot| spot.at.0, |spot| -spot.at.0, |spot| spot.at.1, |spot| -spot.at.1];
    let least = |side: fn(&Spot<'_>) -> f64| {
        (0..spots.len()).min_by(|&a, &b| side(&spots[a]).total_cmp(&side(&spots[b])))
    };
    let mut order: Vec<usize> = Vec::new();
    for index in sides.into_iter().filter_map(least).chain(0..spots.len()) {
        if !order.contains(&index) {
            order.push(index);
        }
    }
    order.into_iter().map(|index| &spots[index]).collect()
}

/// Few lines, and the numbers at their ends.
fn grid(sheet: &mut Sheet, x: &Scale, y: &Scale) {
    for tick in x.ticks(70.0) {
        let place = x.place(tick);
        sheet.rule((place, y.from), (place, y.to), GRID, false);
        sheet.text((place, y.from + 16.0), Anchor::Middle, SMALL, FAINT, &short(tick));
    }
    for tick in y.ticks(36.0) {
        let place = y.place(tick);
        sheet.rule((x.from, place), (x.to, place), GRID, false);
        sheet.text((x.from - 6.0, place + 0.36 * SMALL), Anchor::End, SMALL, FAINT, &short(tick));
    }
    sheet.rule((x.from, y.from), (x.to, y.from), FAINT, false);
    sheet.rule((x.from, y.from), (x.from, y.to), FAINT, false);
}
