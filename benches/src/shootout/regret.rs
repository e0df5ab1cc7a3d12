//! `--assert-choice`: how much longer the library's choice takes than the fastest algorithm that could have been chosen.

use super::row::Row;
use comfy_table::{Table, presets};
use std::collections::BTreeMap;

/// Layers that are named at most, the worst first.
const NAMED: usize = 15;

/// One layer of one instruction set, layout and number of threads.
struct Regret<'a> {
    auto: &'a Row,
    best: &'a Row,
    /// The time of the choice by that of the fastest; at least 1.
    ratio: f64,
}

/// What a choice is judged by.
pub(super) struct Judgement<'a> {
    /// The worst first.
    regrets: Vec<Regret<'a>>,
}

impl<'a> Judgement<'a> {
    /// Of all rows that have times. The choice itself is one of the candidates.
    pub(super) fn of(rows: &'a [Row]) -> Self {
        let mut contests: BTreeMap<_, Vec<&Row>> = BTreeMap::new();
        for row in rows.iter().filter(|row| row.ms_min.is_some() && row.peer().is_none()) {
            contests.entry((row.threads, row.isa, row.layout, &row.layer)).or_default().push(row);
        }
        let regret = |rows: Vec<&'a Row>| {
            let auto = rows.iter().find(|row| row.algorithm == "auto")?;
            let best = rows.iter().min_by(|a, b| time(a).total_cmp(&time(b)))?;
            Some(Regret { auto, best, ratio: time(auto) / time(best) })
        };
        let mut regrets: Vec<Regret<'a>> = contests.into_values().filter_map(regret).collect();
        regrets.sort_by(|a, b| b.ratio.total_cmp(&a.ratio));
        Self { regrets }
    }

    /// The geometric mean of all ratios; not a number of none.
    pub(super) fn mean(&self) -> f64 {
        mean(&self.regrets.iter().collect::<Vec<_>>())
    }

    /// A line for each instruction set, layout and number of threads, and a table of the worst layers.
    pub(super) fn text(&self) -> String {
        let mut runs: BTreeMap<_, Vec<&Regret<'_>>> = BTreeMap::new();
        for regret in &self.regrets {
            let row = regret.auto;
            runs.entry((row.threads, row.isa, row.layout)).or_default().push(regret);
        }
        let mut text = String::from("Time of the choice by that of the fastest algorithm:\n");
        for ((threads, isa, layout), regrets) in &runs {
            text += &format!("  {threads} thread(s), {isa}, {layout}: {}\n", summary(regrets));
        }
        text += &format!("  all: {}\n\n", summary(&self.regrets.iter().collect::<Vec<_>>()));
        text + &self.worst()
    }

    fn worst(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header([
            "worst layers",
            "isa",
            "layout",
            "threads",
            "chosen",
            "ms",
            "fastest",
            "ms",
            "ratio",
        ]);
        for regret in self.regrets.iter().take(NAMED) {
            let Regret { auto, best, ratio } = regret;
            table.add_row([
                auto.layer.clone(),
                auto.isa.to_owned(),
                auto.layout.to_owned(),
                auto.threads.to_string(),
                auto.note.split(',').next().unwrap_or_default().to_owned(),
                format!("{:.4}", time(auto)),
                best.algorithm.clone(),
                format!("{:.4}", time(best)),
                format!("{ratio:.2}"),
            ]);
        }
        table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
    }
}

/// Milliseconds by which algorithms are compared: of the best round, which what else runs disturbs least.
fn time(row: &Row) -> f64 {
    row.ms_min.unwrap_or(f64::INFINITY)
}

fn mean(regrets: &[&Regret<'_>]) -> f64 {
    let logarithms: f64 = regrets.iter().map(|regret| regret.ratio.ln()).sum();
    (logarithms / regrets.len() as f64).exp()
}

/// `regrets` from the worst on.
fn summary(regrets: &[&Regret<'_>]) -> String {
    let percentile = |part: f64| {
        let index = ((1.0 - part) * regrets.len() as f64) as usize;
        regrets.get(index).map_or(f64::NAN, |regret| regret.ratio)
    };
    let right = regrets.iter().filter(|regret| regret.ratio <= 1.02).count();
    format!(
        "geometric mean {:.4}, 95th percentile {:.3}, worst {:.2}, within 2 % on {right} of {} layers",
        mean(regrets),
        percentile(0.95),
        percentile(1.0),
        regrets.len(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::by_id;
    use crate::problem::Problem;
    use kernels::Isa;

    #[test]
    fn the_mean_is_geometric_and_the_worst_come_first() {
        let row = |layer: &str, algorithm: &str, ms: f64| {
            let problem = Problem::bare(by_id("lenet5.c3"));
            let mut row = Row::new(&problem, algorithm.to_owned(), Isa::Portable, "nchw");
            (row.layer, row.ms_min) = (layer.to_owned(), Some(ms));
            row
        };
        let rows = [
            row("a", "auto", 2.0),
            row("a", "direct", 2.0),
            row("a", "fft", 1.0),
            row("b", "auto", 3.0),
            row("b", "fft", 3.5),
            row("c", "peer:x", 0.1),
        ];
        let judgement = Judgement::of(&rows);
        assert!((judgement.mean() - 2f64.sqrt()).abs() < 1e-12, "{}", judgement.mean());
        let ratios: Vec<f64> = judgement.regrets.iter().map(|regret| regret.ratio).collect();
        assert_eq!(ratios, [2.0, 1.0]);
        assert!(judgement.text().contains("1 thread(s), portable, nchw: geometric mean 1.4142"));
    }
}
