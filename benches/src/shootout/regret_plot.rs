//! `--assert-choice --plot`: on how many of the layers a choice takes at most so many times as long as the fastest.

use super::Candidate;
use super::regret::Judgement;
use nets::plot::{Axis, Chart, Line, PlaneChart, page};

/// Ratios that are drawn at least and at most; the worst of them are in the table.
const RATIOS: (f64, f64) = (1.2, 2.0);

/// One way to choose in one run.
struct Curve {
    name: String,
    is_measured: bool,
    /// Which of the runs.
    run: usize,
    /// The ratios, ascending.
    ratios: Vec<f64>,
}

/// The picture as text.
pub(super) fn svg(judgements: &[Judgement<'_>]) -> String {
    let curves = curves(judgements);
    let worst = curves.iter().flat_map(|curve| &curve.ratios).copied().fold(RATIOS.0, f64::max);
    let most = worst.min(RATIOS.1);
    let least = curves.iter().map(|curve| curve.steps(most)[0].1).fold(90.0, f64::min);
    let line = |curve: &Curve| Line {
        name: curve.name.clone(),
        points: curve.steps(most),
        colour: Some(curve.run),
        is_dashed: !curve.is_measured,
    };
    let axis = |title: &str, range| Axis { title: title.to_owned(), range, is_log: false };
    let chart = PlaneChart {
        title: "On how many layers a choice takes at most so many times as long as the fastest".to_owned(),
        notes: vec![
            "auto chooses by the model (dashed), measured by timing. A line that is higher is better."
                .to_owned(),
        ],
        x: axis("time of the choice by that of the fastest algorithm", (1.0, most)),
        y: axis("% of layers", ((least / 10.0).floor() * 10.0, 100.0)),
        series: Vec::new(),
        points: Vec::new(),
        lines: curves.iter().map(line).collect(),
    };
    page("What the choice of an algorithm loses", &[], &[Chart::Plane(chart)])
}

fn curves(judgements: &[Judgement<'_>]) -> Vec<Curve> {
    let of = |judgement: &Judgement<'_>| -> Vec<Curve> {
        let runs = judgement.runs().into_iter().enumerate();
        runs.map(|(number, (run, regrets))| Curve {
            name: format!(
                "{}, {}{}, {}, {} thread(s)",
                judgement.choice,
                run.prefix(),
                run.isa,
                run.layout,
                run.threads
            ),
            is_measured: judgement.choice == Candidate::Measured,
            run: number,
            ratios: regrets.iter().rev().map(|regret| regret.ratio).collect(),
        })
        .collect()
    };
    judgements.iter().flat_map(of).collect()
}

impl Curve {
    /// The share of layers, in per cent, up to each ratio: steps, from those on which the choice is the fastest.
    fn steps(&self, most: f64) -> Vec<(f64, f64)> {
        let share = |layers: usize| 100.0 * layers as f64 / self.ratios.len() as f64;
        let fastest = self.ratios.iter().filter(|&&ratio| ratio <= 1.0).count();
        let mut points = vec![(1.0, share(fastest))];
        let others = self.ratios.iter().enumerate().skip(fastest);
        for (index, &ratio) in others.take_while(|(_, ratio)| **ratio <= most) {
            points.extend([(ratio, share(index)), (ratio, share(index + 1))]);
        }
        let last = points[points.len() - 1].1;
        points.push((most, last));
        points
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_rise_in_steps_to_the_last_that_is_drawn() {
        let ratios = vec![1.0, 1.0, 1.5, 7.0];
        let line = Curve { name: String::new(), is_measured: false, run: 0, ratios };
        let expected = [(1.0, 50.0), (1.5, 50.0), (1.5, 75.0), (2.0, 75.0)];
        assert_eq!(line.steps(2.0), expected);
    }
}
