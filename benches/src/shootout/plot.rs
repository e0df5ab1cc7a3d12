//! `--plot`: how much of the roof the library reaches on each layer, beside the fastest peer, and the layers under the
//! roofline; a pair of charts for each direction, instruction set, layout and number of threads.

use super::row::{LayerRow, Run};
use crate::cli::once_each;
use crate::peak::Bandwidth;
use nets::plot::{Axis, Bar, BarChart, Chart, Column, Line, Mark, PlaneChart, Point, Row, page, short};

/// The roofs under which some of the rows are.
pub(super) struct Roofs<'a> {
    pub(super) isa: &'a str,
    pub(super) threads: usize,
    /// 10^9 operations per second of sustained fused multiply-adds.
    pub(super) gflops: f64,
    /// None where they were not measured.
    pub(super) bandwidths: &'a [Bandwidth],
}

/// The rows of one run.
struct Drawing<'a> {
    run: Run,
    contests: Vec<Contest<'a>>,
    roofs: Option<&'a Roofs<'a>>,
    /// Whom the library is compared with.
    rival: &'static str,
}

/// One layer: the library's choice, or its fastest algorithm where the choice was not timed, and whom it is compared with.
struct Contest<'a> {
    ours: &'a LayerRow,
    rival: Option<&'a LayerRow>,
}

/// The picture as text.
pub(super) fn svg(rows: &[LayerRow], roofs: &[Roofs<'_>]) -> String {
    let right: Vec<&LayerRow> = rows.iter().filter(|row| row.gflops.is_some() && !row.is_wrong).collect();
    let runs: Vec<Run> = right.iter().filter(|row| row.peer().is_none()).map(|row| row.run()).collect();
    let charts = once_each(&runs).into_iter().flat_map(|run| {
        let drawing = Drawing::new(run, &right, roofs);
        [Chart::Bars(drawing.bars()), Chart::Plane(drawing.roofline())]
    });
    page("The speed of each layer", &[], &charts.collect::<Vec<_>>())
}

impl<'a> Drawing<'a> {
    fn new(run: Run, right: &[&'a LayerRow], roofs: &'a [Roofs<'a>]) -> Self {
        // Peers have layouts of their own.
        let of_run = |row: &&&LayerRow| Run { layout: run.layout, ..row.run() } == run;
        let (peers, own): (Vec<&LayerRow>, Vec<&LayerRow>) =
            right.iter().filter(of_run).partition(|row| row.peer().is_some());
        let own: Vec<&LayerRow> = own.into_iter().filter(|row| row.layout == run.layout).collect();
        let layers = once_each(&own.iter().map(|row| row.layer.as_str()).collect::<Vec<_>>());
        let contest = |layer: &str| {
            let of_layer = |rows: &[&'a LayerRow]| -> Vec<&'a LayerRow> {
                rows.iter().copied().filter(|row| row.layer == layer).collect()
            };
            let own = of_layer(&own);
            let ours = own.iter().copied().find(|row| row.algorithm == "auto").or_else(|| fastest(&own))?;
            let others = own.into_iter().filter(|row| !row.is_same_run(ours)).collect();
            let rival = fastest(&if peers.is_empty() { others } else { of_layer(&peers) });
            Some(Contest { ours, rival })
        };
        Self {
            run,
            contests: layers.into_iter().filter_map(contest).collect(),
            roofs: roofs.iter().find(|roofs| (roofs.isa, roofs.threads) == (run.isa, run.threads)),
            rival: if peers.is_empty() { "its fastest other algorithm" } else { "the fastest peer" },
        }
    }

    fn series(&self) -> Vec<String> {
        vec!["this library".to_owned(), self.rival.to_owned()]
    }

    fn title(&self, what: &str) -> String {
        let run = &self.run;
        format!("{what}: {}{}, {}, {} thread(s)", run.prefix(), run.isa, run.layout, run.threads)
    }

    fn bars(&self) -> BarChart {
        let has_roof = self.contests.iter().all(|contest| contest.ours.roof_percent.is_some());
        let value = |row: &LayerRow| if has_roof { row.roof_percent } else { row.gflops }.unwrap_or_default();
        let bar = |series: usize, row: &LayerRow| {
            let figure = format!("{} {}", short(value(row)), computed_by(row));
            let gflops = row.gflops.map_or(String::new(), |gflops| format!("{} GFLOP/s", short(gflops)));
            let ms = row.ms_median.map_or(String::new(), |ms| format!("{} ms", short(ms)));
            Bar { figure, note: format!("{gflops}, {ms}"), ..Bar::plain(series, value(row)) }
        };
        let row = |contest: &Contest<'_>| {
            let rival = contest.rival.map(|rival| bar(1, rival));
            let bars = [bar(0, contest.ours)].into_iter().chain(rival).collect();
            Row { name: contest.ours.layer.clone(), cells: vec![bars] }
        };
        let unit = if has_roof { "% of the roof of sustained multiply-adds" } else { "GFLOP/s" };
        let roof = self.roofs.map_or(String::new(), |roofs| format!(", {:.0} GFLOP/s", roofs.gflops));
        let mark = Mark { at: 100.0, name: format!("the roof{roof}") };
        let won = self.contests.iter().filter(|contest| contest.is_won()).count();
        let compared = self.contests.iter().filter(|contest| contest.rival.is_some()).count();
        BarChart {
            title: self.title("Operations of the definition per second"),
            notes: vec![format!(
                "On {won} of {compared} layers the library is at least as fast as {}. Behind each bar: its length, and \
                 what computed the layer.",
                self.rival
            )],
            series: self.series(),
            columns: vec![Column { title: unit.to_owned(), mark: has_roof.then_some(mark) }],
            rows: self.contests.iter().map(row).collect(),
        }
    }

    fn roofline(&self) -> PlaneChart {
        let point = |series: usize, row: &LayerRow| {
            let gflops = row.gflops.filter(|_| row.intensity > 0.0)?;
            let note = format!("{}, {} GFLOP/s", computed_by(row), short(gflops));
            Some(Point { name: row.layer.clone(), note, series, at: (row.intensity, gflops) })
        };
        let ours = self.contests.iter().filter_map(|contest| point(0, contest.ours));
        let rivals = self.contests.iter().filter_map(|contest| point(1, contest.rival?));
        let points: Vec<Point> = ours.chain(rivals).collect();
        let (left, right) = range(points.iter().map(|point| point.at.0));
        // So far that the slope of memory is seen.
        let memory = self.roofs.and_then(|roofs| Some(roofs.gflops / roofs.bandwidths.last()?.gbs));
        let left = memory.map_or(left, |ridge| left.min(ridge / 3.0));
        let peak = self.roofs.map(|roofs| roofs.gflops);
        let (bottom, top) = range(points.iter().map(|point| point.at.1).chain(peak));
        let axis = |title: &str, range| Axis { title: title.to_owned(), range, is_log: true };
        PlaneChart {
            title: self.title("Roofline"),
            notes: vec![
                "The name of every point is under the pointer, and beside it where there is room.".to_owned(),
                self.roofs_note().to_owned(),
            ],
            x: axis("operations per byte that must be moved, each byte once", (left, right)),
            y: axis("GFLOP/s", (bottom, top)),
            series: self.series(),
            points,
            lines: self.roofs.map_or(Vec::new(), |roofs| roofs.lines((left, right), bottom)),
        }
    }

    fn roofs_note(&self) -> &'static str {
        match self.roofs {
            None => "No roof was measured for this instruction set, so none is drawn.",
            Some(Roofs { bandwidths: [], .. }) => {
                "Of the roofs only that of multiply-adds is known from the rows: no slope is drawn."
            }
            Some(_) => {
                "The roofs were measured in the same run: sustained multiply-adds, and reads of each level of memory."
            }
        }
    }
}

impl Contest<'_> {
    fn is_won(&self) -> bool {
        let ms = |row: &LayerRow| row.ms_median.unwrap_or(f64::INFINITY);
        self.rival.is_some_and(|rival| ms(self.ours) <= ms(rival))
    }
}

impl Roofs<'_> {
    /// The flat roof, and a slope for each level of memory up to it.
    fn lines(&self, (left, right): (f64, f64), bottom: f64) -> Vec<Line> {
        let line = |name: String, points: [(f64, f64); 2]| Line {
            name,
            points: points.to_vec(),
            colour: None,
            is_dashed: false,
        };
        let flat = line(
            format!("multiply-adds, {:.0} GFLOP/s", self.gflops),
            [right, left].map(|x| (x, self.gflops)),
        );
        let slope = |level: &Bandwidth| {
            let start = left.max(bottom / level.gbs);
            let end = (self.gflops / level.gbs).min(right);
            let name = format!("{}, {:.0} GB/s", level.level, level.gbs);
            (start < end).then(|| line(name, [start, end].map(|x| (x, x * level.gbs))))
        };
        [flat].into_iter().chain(self.bandwidths.iter().filter_map(slope)).collect()
    }
}

fn fastest<'a>(rows: &[&'a LayerRow]) -> Option<&'a LayerRow> {
    let ms = |row: &LayerRow| row.ms_median.unwrap_or(f64::INFINITY);
    rows.iter().copied().min_by(|a, b| ms(a).total_cmp(&ms(b)))
}

/// The peer, or the method.
fn computed_by(row: &LayerRow) -> &str {
    row.peer().unwrap_or(row.method())
}

/// From the least to the greatest, with room around.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (least, greatest) =
        values.fold((f64::INFINITY, 0.0), |(low, high), value| (value.min(low), value.max(high)));
    if greatest > 0.0 { (least / 1.6, greatest * 1.6) } else { (1.0, 10.0) }
}
