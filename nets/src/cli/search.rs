//! `nets search`: tries values of hyperparameters, and sorts them by the accuracy on pictures that were not trained on.

use super::rows::{Align, Rows};
use super::text;
use super::train::{RecipeArgs, Source, parts, usual, weights};
use anyhow::{Context, ensure};
use clap::Args;
use kernels::Threads;
use nets::NetError;
use nets::data::{Dataset, Parts};
use nets::fit::{Range, Recipe, Space, Trainer, Trial, write_atomically};
use std::io::Write as _;
use std::path::PathBuf;

const EXAMPLES: &str = "Examples:
  nets search lenet5 --range lr=1e-4..1e-1 l2=1e-6..1e-2 --trials 12 --epochs 2
  nets search lenet5 --range lr=1e-4..1e-1 l2=1e-6..1e-2 --trials 12 --rounds 2 --table search.csv
  nets search lenet5 --range lr=1e-4..1e-1 --grid 4 --folds 3

Random values of penalties and learning rates are uniform in their logarithm. A second round tries a third of each range
around the best trial, with twice the epochs. A search with --table continues where it ended.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Search {
    #[command(flatten)]
    source: Source,
    /// What to try: lr, l1, l2, warm-up, dropout or drop-connect, with its range
    #[arg(long, value_name = "OPTION=LOW..HIGH", num_args = 1.., required = true)]
    range: Vec<Range>,
    /// Random trials per round
    #[arg(long, value_name = "N", default_value_t = 12, conflicts_with = "grid", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    trials: u64,
    /// Instead of random trials, all combinations of this many values of each option
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=100))]
    grid: Option<u16>,
    /// Rounds, each finer than the last
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=5))]
    rounds: u32,
    /// Parts for cross-validation: each trial trains this many times, each time without another part. 1 holds out a tenth
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=100))]
    folds: u16,
    /// Use only this many pictures of the training part
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(20..))]
    pictures: Option<u32>,
    /// The table, which a later call continues
    #[arg(long, value_name = "FILE.csv")]
    table: Option<PathBuf>,
    #[command(flatten)]
    recipe: RecipeArgs,
}

/// A trial that has ended.
#[derive(Debug, Clone)]
struct Done {
    round: u32,
    index: u64,
    trial: Trial,
    /// Mean and standard deviation over the folds.
    accuracy: (f64, f64),
    /// `None` if the training diverged.
    loss: Option<f64>,
}

const DEFAULT_EPOCHS: u64 = 3;
/// Of so many parts, one is held out without cross-validation.
const HOLD_OUT: usize = 10;

impl Search {
    pub(super) fn execute(&self) -> anyhow::Result<String> {
        let data = self.source.data_name();
        let mut base = usual(self.source.network(), data);
        base.epochs = DEFAULT_EPOCHS;
        let base = self.recipe.recipe(base)?;
        let folds = self.folds(parts(data)?.training, base.seed);
        let pool = self.source.pool()?;
        let mut space = Space(self.range.clone());
        let mut all = self.read()?;
        for round in 0..self.rounds {
            let recipe = Recipe { epochs: base.epochs << round, ..base.clone() };
            let trials = self.trials(&space, base.seed, round);
            for (index, trial) in (0u64..).zip(&trials) {
                if all.iter().any(|done| (done.round, done.index) == (round, index)) {
                    continue;
                }
                let mut recipe = recipe.clone();
                space.apply(trial, &mut recipe);
                let threads = pool.threads();
                let (accuracy, loss) = pool.install(|| self.measure(&folds, &recipe, threads))?;
                let done = Done { round, index, trial: trial.clone(), accuracy, loss };
                let _ = writeln!(std::io::stderr(), "{}", self.line(&done, trials.len()));
                all.push(done);
                if let Some(path) = &self.table {
                    write_atomically(path, self.csv(&all)?.as_bytes())?;
                }
            }
            let best = all
                .iter()
                .filter(|done| done.round == round)
                .max_by(|a, b| a.accuracy.0.total_cmp(&b.accuracy.0));
            if let Some(best) = best {
                space = space.around(&best.trial);
            }
        }
        all.sort_by(|a, b| b.accuracy.0.total_cmp(&a.accuracy.0));
        Ok(self.rows(&all).text())
    }

    /// Pairs of parts to train on and to measure on. The validation part of the data is never used.
    fn folds(&self, training: Dataset, seed: u64) -> Vec<Parts> {
        let training = match self.pictures {
            Some(most) => training.part(0..training.len().min(most as usize)),
            None => training,
        };
        let count = if self.folds == 1 { HOLD_OUT } else { usize::from(self.folds) };
        let folds = training.folds(count, seed);
        let pair = |held_out: usize| {
            let others: Vec<Dataset> =
                (0..count).filter(|&fold| fold != held_out).map(|fold| folds[fold].clone()).collect();
            Parts { training: Dataset::joined(&others), validation: folds[held_out].clone() }
        };
        (0..usize::from(self.folds)).map(pair).collect()
    }

    fn trials(&self, space: &Space, seed: u64, round: u32) -> Vec<Trial> {
        match self.grid {
            Some(steps) => space.grid(steps.into()),
            None => (0..self.trials).map(|index| space.random(seed, round.into(), index)).collect(),
        }
    }

    /// Accuracy with its deviation over the folds, and loss. A training that diverges has accuracy 0.
    fn measure(
        &self,
        folds: &[Parts],
        recipe: &Recipe,
        threads: Threads<'_>,
    ) -> anyhow::Result<((f64, f64), Option<f64>)> {
        let mut figures = Vec::new();
        for parts in folds {
            let graph = self.source.graph(parts)?;
            let (weights, _) = weights(&graph, None, false, recipe)?;
            let hardware = self.source.hardware(false);
            let mut trainer =
                Trainer::new(&graph, &*weights, parts, self.source.data_name(), recipe, hardware)?;
            let ended = loop {
                match trainer.advance(threads) {
                    Ok(Some(_)) => {}
                    Ok(None) => break true,
                    Err(NetError::NotFinite { .. }) => break false,
                    Err(error) => return Err(error.into()),
                }
            };
            let last = trainer.history().last().filter(|_| ended);
            figures.push(
                last.map_or((0.0, None), |last| (last.validation_accuracy, Some(last.validation_loss))),
            );
        }
        let count = figures.len() as f64;
        let mean = figures.iter().map(|figure| figure.0).sum::<f64>() / count;
        let variance = figures.iter().map(|figure| (figure.0 - mean).powi(2)).sum::<f64>() / count;
        let losses: Option<Vec<f64>> = figures.iter().map(|figure| figure.1).collect();
        Ok(((mean, variance.sqrt()), losses.map(|losses| losses.iter().sum::<f64>() / count)))
    }

    fn line(&self, done: &Done, count: usize) -> String {
        let values: Vec<String> = self
            .range
            .iter()
            .zip(&done.trial.0)
            .map(|(range, value)| format!("{} {value:.3e}", range.name))
            .collect();
        let (round, rounds, trial) = (done.round + 1, self.rounds, done.index + 1);
        let result = done.loss.map_or("diverged".to_owned(), |loss| {
            format!("accuracy {:.2} %, loss {loss:.4}", done.accuracy.0 * 100.0)
        });
        format!("round {round}/{rounds}, trial {trial}/{count}: {}: {result}", values.join(", "))
    }

    fn rows(&self, all: &[Done]) -> Rows {
        let fixed = [("Accuracy", Align::Right, 0), ("+-", Align::Right, 1), ("Loss", Align::Right, 1)];
        let own = self.range.iter().map(|range| (range.name.as_str(), Align::Right, 0));
        let columns: Vec<_> = fixed
            .into_iter()
            .chain(own)
            .chain([("Round", Align::Right, 2), ("Trial", Align::Right, 2)])
            .collect();
        let mut rows = Rows::new(&columns);
        for done in all {
            let figures = [
                format!("{:.2} %", done.accuracy.0 * 100.0),
                format!("{:.2} %", done.accuracy.1 * 100.0),
                done.loss.map_or("diverged".to_owned(), |loss| format!("{loss:.4}")),
            ];
            let values = done.trial.0.iter().map(|value| format!("{value:.3e}"));
            let place = [u64::from(done.round) + 1, done.index + 1].map(text::thousands);
            rows.push(figures.into_iter().chain(values).chain(place).collect());
        }
        rows
    }

    fn header(&self) -> Vec<String> {
        let own = self.range.iter().map(ToString::to_string);
        let fixed = ["round", "trial", "accuracy", "deviation", "loss"].map(str::to_owned);
        fixed.into_iter().chain(own).collect()
    }

    fn csv(&self, all: &[Done]) -> anyhow::Result<String> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(self.header())?;
        for done in all {
            let figures = [done.accuracy.0, done.accuracy.1].map(|figure| figure.to_string());
            let loss = done.loss.map(|loss| loss.to_string()).unwrap_or_default();
            let values = done.trial.0.iter().map(|value| format!("{value:?}"));
            let place = [done.round.to_string(), done.index.to_string()];
            writer.write_record(place.into_iter().chain(figures).chain([loss]).chain(values))?;
        }
        Ok(String::from_utf8(writer.into_inner()?)?)
    }

    /// The trials of an earlier call.
    fn read(&self) -> anyhow::Result<Vec<Done>> {
        let Some(path) = self.table.as_ref().filter(|path| path.exists()) else { return Ok(Vec::new()) };
        let mut reader =
            csv::Reader::from_path(path).with_context(|| format!("cannot read {}", path.display()))?;
        let (expected, got) =
            (self.header(), reader.headers()?.iter().map(str::to_owned).collect::<Vec<_>>());
        ensure!(
            expected == got,
            "{}: expected the table of this search ({}), got {}",
            path.display(),
            expected.join(","),
            got.join(",")
        );
        let mut all = Vec::new();
        for record in reader.records() {
            let record = record?;
            let wrong = || {
                format!(
                    "{}: expected numbers, got `{}`",
                    path.display(),
                    record.iter().collect::<Vec<_>>().join(",")
                )
            };
            let number = |column: usize| record.get(column).and_then(|cell| cell.parse::<f64>().ok());
            let values: Option<Vec<f64>> = (5..record.len()).map(number).collect();
            let done = (|| {
                Some(Done {
                    round: record.get(0)?.parse().ok()?,
                    index: record.get(1)?.parse().ok()?,
                    accuracy: (number(2)?, number(3)?),
                    loss: number(4),
                    trial: Trial(values?),
                })
            })();
            all.push(done.with_context(wrong)?);
        }
        Ok(all)
    }
}
