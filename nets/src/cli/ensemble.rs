//! `nets ensemble`: the average answer of several networks, and the answer of their average weights.

use super::rows::{Align, Rows};
use super::text;
use super::train::{Source, parts};
use anyhow::ensure;
use clap::Args;
use kernels::Threads;
use nets::data::{Augment, Dataset, Feed, Frame, Normalisation, Span};
use nets::fit::Ensemble;
use nets::{Graph, InputStatistics, Net, NetOptions, WeightSet};
use std::path::PathBuf;

const EXAMPLES: &str = "Examples:
  nets ensemble lenet5 --weights seed-1.safetensors seed-2.safetensors seed-3.safetensors
  nets train lenet5 --epochs 18 --schedule cosine:6 --snapshots snapshots
  nets ensemble lenet5 --weights snapshots/*.safetensors

Probabilities of independent trainings can be averaged. Weights can be averaged only if they come from one training.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct EnsembleArgs {
    #[command(flatten)]
    source: Source,
    /// Weights of `nets train`
    #[arg(long, value_name = "FILE.safetensors", num_args = 1.., required = true)]
    weights: Vec<PathBuf>,
}

/// Pictures per pass.
const BATCH: usize = 50;

impl EnsembleArgs {
    pub(super) fn execute(&self) -> anyhow::Result<String> {
        let parts = parts(self.source.data_name())?;
        let graph = self.source.graph(&parts)?;
        let data = &parts.validation;
        let classes = parts.training.classes().len();
        data.check(graph.name(), graph.output().len()?, Frame::of(graph.name(), graph.input())?)?;
        let pool = self.source.pool()?;
        let mut all = Ensemble::new(data.len(), classes);
        let mut sets = Vec::new();
        let mut rows = Rows::new(&[
            ("Weights", Align::Left, 0),
            ("Right", Align::Right, 0),
            ("Accuracy", Align::Right, 0),
        ]);
        let labels = || (0..data.len()).map(|index| data.label(index));
        let mut row = |name: String, right: usize| {
            let accuracy = format!("{:.2} %", 100.0 * right as f64 / data.len() as f64);
            rows.push(vec![name, text::thousands(right as u64), accuracy]);
        };
        let mut statistics: Option<Option<InputStatistics>> = None;
        for path in &self.weights {
            let (set, own) = WeightSet::load_with_statistics(&graph, path)?;
            let logits = logits(&graph, &set, own.as_ref(), data, self.source.max_threads(), pool.threads())?;
            let mut alone = Ensemble::new(data.len(), classes);
            alone.add(&logits);
            all.add(&logits);
            row(path.display().to_string(), alone.correct(labels()));
            ensure!(
                statistics.get_or_insert_with(|| own.clone()) == &own,
                "{}: expected inputs normalised as for {}, got others",
                path.display(),
                self.weights[0].display()
            );
            sets.push(set);
        }
        row("mean of the probabilities".to_owned(), all.correct(labels()));
        let mean = Ensemble::mean(&graph, &sets)?;
        let own = statistics.flatten();
        let answers = logits(&graph, &mean, own.as_ref(), data, self.source.max_threads(), pool.threads())?;
        let mut alone = Ensemble::new(data.len(), classes);
        alone.add(&answers);
        row("mean of the weights".to_owned(), alone.correct(labels()));
        Ok(rows.text())
    }
}

/// The answers of a network to all pictures.
fn logits(
    graph: &Graph,
    weights: &WeightSet,
    statistics: Option<&InputStatistics>,
    data: &Dataset,
    max_threads: usize,
    threads: Threads<'_>,
) -> anyhow::Result<Vec<f32>> {
    let frame = Frame::of(graph.name(), graph.input())?;
    let normalisation = Normalisation::by(frame, statistics.cloned());
    let feed = Feed {
        data: data.clone(),
        frame,
        normalisation,
        augment: Augment::default(),
        batch: BATCH,
        seed: None,
    };
    let mut net = Net::new(graph, weights, &NetOptions::default().batch(BATCH).max_threads(max_threads))?;
    let mut batches = feed.start(Span { epoch: 0, batch: 0, end: 1 })?;
    let mut logits = Vec::new();
    let classes = graph.output().len()?;
    while let Some(mut batch) = batches.next_batch()? {
        let count = batch.labels.len();
        batch.images.resize(BATCH * frame.len(), 0.0);
        logits.extend_from_slice(&net.run(&batch.images, threads)?[..count * classes]);
        batches.reuse(batch);
    }
    Ok(logits)
}
