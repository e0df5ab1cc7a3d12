//! `nets search`: tries values of hyperparameters, and sorts them by the accuracy on pictures that were not trained on.

mod table;

use self::table::{Done, Table};
use super::rows::{Align, Rows};
use super::text;
use super::train::{RecipeArgs, Source, parts, trainer, usual};
use anyhow::ensure;
use clap::Args;
use kernels::Threads;
use nets::data::{Dataset, Normalisation, Parts};
use nets::fit::{Range, Recipe, Space, Trial};
use nets::{Graph, NetError};
use std::io::Write as _;
use std::path::PathBuf;

const EXAMPLES: &str = "Examples:
  nets search lenet5 --range lr=1e-4..1e-1 l2=1e-6..1e-2 --trials 12 --epochs 2
  nets search lenet5 --range lr=1e-4..1e-1 l2=1e-6..1e-2 --trials 12 --rounds 2 --table search.csv
  nets search lenet5 --range lr=1e-4..1e-1 --grid 4 --folds 3

Random values of penalties and learning rates are uniform in their logarithm. A second round tries a third of each range
around the best trial, with twice the epochs. A search with --table continues where it ended, also with more trials or rounds.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Search {
    #[command(flatten)]
    source: Source,
    /// What to try: lr, l1, l2, warm-up, dropout or drop-connect, with its range
    #[arg(long, value_name = "OPTION=LOW..HIGH", num_args = 1.., required = true)]
    range: Vec<Range>,
    /// Random trials per round
    #[arg(long, value_name = "N", default_value_t = 12, conflicts_with = "grid", value_parser = clap::value_parser!(u64).range(1..=MOST_TRIALS))]
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

/// Trials per round, at most.
const MOST_TRIALS: u64 = 10_000;
const DEFAULT_EPOCHS: u64 = 3;
/// Of so many parts, one is held out without cross-validation.
const HOLD_OUT: usize = 10;

/// One part of the data to train on and one to measure on, with the statistics of the former.
struct Fold {
    parts: Parts,
    normalisation: Normalisation,
}

impl Search {
    pub(super) fn execute(&self) -> anyhow::Result<String> {
        self.check_grid()?;
        let data = self.source.data_name();
        let mut base = usual(self.source.network(), data);
        base.epochs = DEFAULT_EPOCHS;
        let base = self.recipe.recipe(base);
        let parts = parts(data)?;
        let graph = self.source.graph(&parts)?;
        let mut table = Table::open(self.table.as_deref(), &self.range, self.what(&graph, &base))?;
        let folds = self.folds(parts.training, &graph, &base)?;
        let pool = self.source.pool()?;
        let mut space = Space(self.range.clone());
        for round in 0..self.rounds {
            let recipe = Recipe { epochs: base.epochs << round, ..base.clone() };
            let trials = self.trials(&space, base.seed, round);
            if let Some(message) = table.keep(round, &trials) {
                let _ = writeln!(std::io::stderr(), "{message}");
            }
            for (index, trial) in (0u64..).zip(&trials) {
                if table.has(round, index) {
                    continue;
                }
                let mut recipe = recipe.clone();
                space.apply(trial, &mut recipe);
                let threads = pool.threads();
                let (accuracy, loss) = pool.install(|| self.measure(&graph, &folds, &recipe, threads))?;
                let done = Done { round, index, trial: trial.clone(), accuracy, loss };
                let _ = writeln!(std::io::stderr(), "{}", self.line(&done, trials.len()));
                table.push(done)?;
            }
            if let Some(best) = table.best(round) {
                space = space.around(&best.trial);
            }
        }
        Ok(self.rows(&table.sorted()).text())
    }

    /// What decides the results of all trials, besides their values.
    fn what(&self, graph: &Graph, base: &Recipe) -> String {
        let pictures = self.pictures.map_or("all".to_owned(), |pictures| pictures.to_string());
        let trials = self.grid.map_or("random".to_owned(), |steps| format!("grid-{steps}"));
        let is_searched = |option: &str| {
            let name = option.split('=').next();
            self.range.iter().any(|range| Some(range.name.as_str()) == name)
        };
        let recipe = base.to_string();
        let fixed: Vec<&str> = recipe.split(' ').filter(|option| !is_searched(option)).collect();
        format!(
            "network={} input={} data={} pictures={pictures} folds={} trials={trials} {}",
            graph.name(),
            graph.input(),
            self.source.data_name(),
            self.folds,
            fixed.join(" ")
        )
    }

    /// Pairs of parts to train on and to measure on. The validation part of the data is never used.
    fn folds(&self, training: Dataset, graph: &Graph, recipe: &Recipe) -> anyhow::Result<Vec<Fold>> {
        let training = match self.pictures {
            Some(most) => training.part(0..training.len().min(most as usize)),
            None => training,
        };
        let count = if self.folds == 1 { HOLD_OUT } else { usize::from(self.folds) };
        ensure!(
            training.len() >= count,
            "--folds: expected at most {} parts, one for each picture, got {count}",
            training.len()
        );
        let folds = training.folds(count, recipe.seed);
        let fold = |held_out: usize| {
            let others: Vec<Dataset> =
                (0..count).filter(|&fold| fold != held_out).map(|fold| folds[fold].clone()).collect();
            let parts = Parts { training: Dataset::joined(&others), validation: folds[held_out].clone() };
            let normalisation = self.source.setting(graph, &parts, false).normalisation(recipe)?;
            Ok(Fold { parts, normalisation })
        };
        (0..usize::from(self.folds)).map(fold).collect()
    }

    /// How many trials a grid has.
    fn check_grid(&self) -> anyhow::Result<()> {
        let Some(steps) = self.grid else { return Ok(()) };
        let count = u64::from(steps).checked_pow(self.range.len() as u32);
        let fits = count.is_some_and(|count| count <= MOST_TRIALS);
        let got = count.map_or("more".to_owned(), |count| count.to_string());
        ensure!(fits, "--grid: expected at most {MOST_TRIALS} combinations, got {got}");
        Ok(())
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
        graph: &Graph,
        folds: &[Fold],
        recipe: &Recipe,
        threads: Threads<'_>,
    ) -> anyhow::Result<((f64, f64), Option<f64>)> {
        let mut figures = Vec::new();
        for Fold { parts, normalisation } in folds {
            let setting = self.source.setting(graph, parts, false);
            let mut trainer = trainer(setting, recipe, normalisation)?;
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

    fn rows(&self, all: &[&Done]) -> Rows {
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
}
