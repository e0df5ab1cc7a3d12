//! `nets check`: what to look at before a long training.

mod activations;
mod gradients;

use super::train::{RecipeArgs, Source, parts, usual, weights};
use clap::Args;
use kernels::Threads;
use nets::data::{Augment, Batch, Feed, Frame, Normalisation, Parts, Span};
use nets::fit::{Event, Method, Recipe, Trainer};
use nets::optim::{Penalty, Schedule};
use nets::train::{Loss, TrainOptions};
use nets::{Graph, NetError};
use std::fmt::Write as _;

const EXAMPLES: &str = "Examples:
  nets check lenet5
  nets check lenet5 --l2 1e-2 --loss hinge
  nets check resnet20-cifar --data cifar-10-batches-bin";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Check {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    recipe: RecipeArgs,
}

/// Pictures that a network must be able to learn by heart.
const FEW: usize = 20;
const MOST_EPOCHS: u64 = 400;
/// Pictures for the first loss, for gradients and for activations.
const PICTURES: usize = 64;
/// Learning rates from 10 to this power, and steps with each.
const RATES: std::ops::RangeInclusive<i32> = -6..=1;
const STEPS: u64 = 60;
/// Changes of the loss by less than this share are as large as those between batches.
const BARELY: f64 = 0.05;

impl Check {
    pub(super) fn execute(&self) -> anyhow::Result<String> {
        let data = self.source.data_name();
        let recipe = self.recipe.recipe(usual(self.source.network(), data))?;
        let parts = parts(data)?;
        let graph = self.source.graph(&parts)?;
        let pool = self.source.pool()?;
        let threads = pool.threads();
        pool.install(|| {
            let mut out = self.first_loss(&graph, &parts, &recipe, threads)?;
            out += &self.few(&graph, &parts, &recipe, threads)?;
            out += &self.rates(&graph, &parts, &recipe, threads)?;
            let batch = batch(&graph, &parts, &recipe)?;
            out += &gradients::report(
                &graph,
                &batch,
                &self.options(&recipe, batch.labels.len()),
                &recipe,
                threads,
            )?;
            out += &activations::report(&graph, &batch, &self.options(&recipe, batch.labels.len()), threads)?;
            Ok(out)
        })
    }

    fn options(&self, recipe: &Recipe, batch: usize) -> TrainOptions {
        let mut options = TrainOptions::default().batch(batch).loss(recipe.loss).figures(true);
        options.max_threads = self.source.max_threads();
        options.isa = self.source.hardware(true).isa;
        options
    }

    fn trainer(&self, graph: &Graph, parts: &Parts, recipe: &Recipe) -> anyhow::Result<Trainer> {
        let (weights, _) = weights(graph, None, false, recipe)?;
        let hardware = self.source.hardware(false);
        Ok(Trainer::new(graph, &*weights, parts, self.source.data_name(), recipe, hardware)?)
    }

    /// Before the first step, every class should be as likely.
    fn first_loss(
        &self,
        graph: &Graph,
        parts: &Parts,
        recipe: &Recipe,
        threads: Threads<'_>,
    ) -> anyhow::Result<String> {
        let classes = parts.training.classes().len();
        let few = parts.training.part(0..parts.training.len().min(1000));
        let few = Parts { training: few.clone(), validation: few };
        let recipe = Recipe { batch: recipe.batch.min(few.training.len()), ..recipe.clone() };
        let mut trainer = self.trainer(graph, &few, &recipe)?;
        let loss = trainer.validate(threads)?.value;
        let penalty = trainer.penalty();
        let (expected, by) = match recipe.loss {
            Loss::Hinge { margin } => {
                (f64::from(margin) * (classes - 1) as f64, format!("{margin} x ({classes} - 1)"))
            }
            _ => ((classes as f64).ln(), format!("ln {classes}")),
        };
        let verdict = match loss / expected {
            ratio if ratio < 0.9 => "lower: labels leak into the pictures, or the weights are trained",
            ratio if ratio < 1.3 => "as expected",
            _ => "higher: the initial weights are too large",
        };
        Ok(format!(
            "First loss        {loss:.3}; {expected:.3} ({by}) if every class is as likely: {verdict}\n\
             With penalties    {:.3}\n",
            loss + penalty
        ))
    }

    /// A network that cannot learn a few pictures by heart will not learn many.
    fn few(
        &self,
        graph: &Graph,
        parts: &Parts,
        recipe: &Recipe,
        threads: Threads<'_>,
    ) -> anyhow::Result<String> {
        let few = parts.training.part(0..parts.training.len().min(FEW));
        let few = Parts { training: few.clone(), validation: few };
        let recipe = Recipe {
            epochs: MOST_EPOCHS,
            batch: few.training.len(),
            warm_up: 0.0,
            dropout: 0.0,
            drop_connect: 0.0,
            survival: 1.0,
            schedule: Schedule::Constant,
            penalty: Penalty::default(),
            augment: Augment::default(),
            average: None,
            ..recipe.clone()
        };
        let mut trainer = self.trainer(graph, &few, &recipe)?;
        let count = few.training.len();
        while let Some(event) = trainer.advance(threads)? {
            match event {
                Event::Epoch(epoch) if epoch.validation_accuracy == 1.0 => {
                    let (epochs, loss) = (epoch.epoch, epoch.validation_loss);
                    return Ok(format!(
                        "{count} pictures       learned by heart in {epochs} steps, loss {loss:.4}\n"
                    ));
                }
                _ => {}
            }
        }
        let right = trainer.history().last().map_or(0.0, |last| last.validation_accuracy * count as f64);
        Ok(format!(
            "{count} pictures       NOT learned by heart in {MOST_EPOCHS} steps: {right:.0} are right\n"
        ))
    }

    /// The loss after some steps tells rates apart that are too low, useful and too high.
    fn rates(
        &self,
        graph: &Graph,
        parts: &Parts,
        recipe: &Recipe,
        threads: Threads<'_>,
    ) -> anyhow::Result<String> {
        let Method::Steps(rule) = recipe.method else { return Ok(String::new()) };
        let mut out = format!("\nLearning rates with {rule}, {STEPS} steps each:\n");
        for power in RATES {
            let rate = 10f64.powi(power);
            let recipe = Recipe { rate, warm_up: 0.0, schedule: Schedule::Constant, ..recipe.clone() };
            let mut trainer = self.trainer(graph, parts, &recipe)?;
            let mut losses = Vec::new();
            let diverged = loop {
                match trainer.advance(threads) {
                    Ok(Some(Event::Step(step))) => losses.push(step.loss),
                    Ok(_) => {}
                    Err(NetError::NotFinite { .. }) => break true,
                    Err(error) => return Err(error.into()),
                }
                if trainer.progress().step >= STEPS || trainer.progress().epoch == recipe.epochs {
                    break false;
                }
            };
            let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len().max(1) as f64;
            let first = losses.first().copied().unwrap_or(f64::NAN);
            let last = mean(&losses[losses.len() - losses.len().min(10)..]);
            let verdict = match last / first {
                _ if diverged => "too high: diverges",
                ratio if ratio > 1.0 + BARELY => "too high: the loss rises",
                ratio if ratio > 1.0 - BARELY => "too low: the loss barely changes",
                _ => "the loss falls",
            };
            // Writing to a string cannot fail.
            let _ = writeln!(out, "  1e{power:<3} loss {first:.3} -> {last:.3}  {verdict}");
        }
        Ok(out)
    }
}

/// The first pictures of the training part, as the network reads them.
fn batch(graph: &Graph, parts: &Parts, recipe: &Recipe) -> anyhow::Result<Batch> {
    let frame = Frame::of(graph.name(), graph.input())?;
    let data = parts.training.part(0..parts.training.len().min(PICTURES));
    let normalisation = Normalisation::of(&data, frame, recipe.normalise)?;
    let batch = data.len();
    let feed = Feed { data, frame, normalisation, augment: Augment::default(), batch, seed: None };
    let batch = feed.start(Span { epoch: 0, batch: 0, end: 1 })?.next_batch()?;
    Ok(batch.unwrap_or_default())
}
