//! `--assert-choice`: compares the library's choices with the fastest algorithm that it could have selected.

use super::args::Candidate;
use super::row::{LayerRow, Run};
use crate::turns::{geometric_mean, median};
use comfy_table::{Table, presets};
use std::collections::BTreeMap;

/// Maximum layers listed, slowest choice first.
const NAMED: usize = 15;

/// The loss on one layer with one instruction set, layout and number of threads.
pub(super) struct Regret<'a> {
    chosen: &'a LayerRow,
    best: &'a LayerRow,
    /// The time of the choice divided by the time of the fastest algorithm; at least 1.
    pub(super) ratio: f64,
}

/// The losses of one way to choose.
pub(super) struct Judgement<'a> {
    pub(super) choice: Candidate,
    /// Largest loss first.
    regrets: Vec<Regret<'a>>,
}

impl<'a> Judgement<'a> {
    /// One judgement for each way to choose that has a timed row.
    pub(super) fn all(rows: &'a [LayerRow]) -> Vec<Self> {
        let choices = [Candidate::Auto, Candidate::Measured].into_iter();
        choices
            .map(|choice| Self::of(rows, choice))
            .filter(|judgement| !judgement.regrets.is_empty())
            .collect()
    }

    /// Judges `choice` over all timed rows. The choice itself counts as one of the algorithms.
    fn of(rows: &'a [LayerRow], choice: Candidate) -> Self {
        let mut contests: BTreeMap<_, Vec<&LayerRow>> = BTreeMap::new();
        for row in rows.iter().filter(|row| row.ms_min.is_some() && row.peer().is_none()) {
            contests.entry((row.run(), &row.layer)).or_default().push(row);
        }
        let name = choice.to_string();
        let regret = |rows: Vec<&'a LayerRow>| {
            let chosen = rows.iter().find(|row| row.algorithm == name)?;
            let best = rows.iter().min_by(|a, b| time(a).total_cmp(&time(b)))?;
            Some(Regret { chosen, best, ratio: time(chosen) / time(best) })
        };
        let mut regrets: Vec<Regret<'a>> = contests.into_values().filter_map(regret).collect();
        regrets.sort_by(|a, b| b.ratio.total_cmp(&a.ratio));
        Self { choice, regrets }
    }

    /// The geometric mean of all ratios; NaN if there are none.
    pub(super) fn mean(&self) -> f64 {
        mean(&self.regrets.iter().collect::<Vec<_>>())
    }

    /// The losses by run, largest first.
    pub(super) fn runs(&self) -> BTreeMap<Run, Vec<&Regret<'a>>> {
        let mut runs: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for regret in &self.regrets {
            runs.entry(regret.chosen.run()).or_default().push(regret);
        }
        runs
    }

    /// A line per run, the time of planning, and a table of the layers with the largest losses.
    pub(super) fn text(&self) -> String {
        let mut text = format!("Time of {}'s choice relative to the fastest algorithm:\n", self.choice);
        for (Run { direction, threads, isa, layout }, regrets) in &self.runs() {
            text += &format!("  {direction}, {threads} thread(s), {isa}, {layout}: {}\n", summary(regrets));
        }
        text += &format!("  all: {}\n", summary(&self.regrets.iter().collect::<Vec<_>>()));
        let planning: Vec<f64> = self.regrets.iter().map(|regret| regret.chosen.plan_ms).collect();
        if let Some(longest) =
            self.regrets.iter().map(|r| r.chosen).max_by(|a, b| a.plan_ms.total_cmp(&b.plan_ms))
        {
            let (middle, LayerRow { layer, isa, plan_ms, .. }) = (median(&planning), longest);
            text += &format!(
                "  planned and packed in {middle:.2} ms (median), {plan_ms:.1} ms at most ({layer}, {isa})\n\n"
            );
        }
        text + &self.worst()
    }

    fn worst(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        let header = [
            "worst layers",
            "direction",
            "isa",
            "layout",
            "threads",
            "chosen",
            "ms",
            "fastest",
            "ms",
            "ratio",
        ];
        table.set_header(header);
        for regret in self.regrets.iter().take(NAMED) {
            let Regret { chosen, best, ratio } = regret;
            table.add_row([
                chosen.layer.clone(),
                chosen.direction.to_string(),
                chosen.isa.to_owned(),
                chosen.layout.to_owned(),
                chosen.threads.to_string(),
                chosen.method().to_owned(),
                format!("{:.4}", time(chosen)),
                best.method().to_owned(),
                format!("{:.4}", time(best)),
                format!("{ratio:.2}"),
            ]);
        }
        table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
    }
}

/// The milliseconds to compare: those of the fastest round, which other load disturbs least.
fn time(row: &LayerRow) -> f64 {
    row.ms_min.unwrap_or(f64::INFINITY)
}

fn mean(regrets: &[&Regret<'_>]) -> f64 {
    geometric_mean(regrets.iter().map(|regret| regret.ratio))
}

/// Summarizes `regrets`, sorted from the largest on.
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
            let mut row = LayerRow::new(&problem, algorithm.to_owned(), Isa::Portable, "nchw");
            (row.layer, row.ms_min) = (layer.to_owned(), Some(ms));
            row
        };
        let rows = [
            row("a", "auto", 2.0),
            row("a", "measured", 1.5),
            row("a", "direct", 2.0),
            row("a", "fft", 1.0),
            row("b", "auto", 3.0),
            row("b", "measured", 3.0),
            row("b", "fft", 3.5),
            row("c", "peer:x", 0.1),
        ];
        let judgements = Judgement::all(&rows);
        let [auto, measured] = &judgements[..] else { panic!("two ways to choose") };
        assert!((auto.mean() - 2f64.sqrt()).abs() < 1e-12, "{}", auto.mean());
        assert!((measured.mean() - 1.5f64.sqrt()).abs() < 1e-12, "{}", measured.mean());
        let ratios = |judgement: &Judgement<'_>| -> Vec<f64> {
            judgement.regrets.iter().map(|regret| regret.ratio).collect()
        };
        assert_eq!((ratios(auto), ratios(measured)), (vec![2.0, 1.0], vec![1.5, 1.0]));
        let text = auto.text() + &measured.text();
        assert!(text.contains("auto's choice") && text.contains("measured's choice"), "{text}");
        assert!(text.contains("forward, 1 thread(s), portable, nchw: geometric mean 1.4142"), "{text}");
        assert_eq!(Judgement::all(&rows[3..4]).len(), 0);
    }
}
