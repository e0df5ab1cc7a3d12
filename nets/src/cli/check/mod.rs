//! `nets check`: what to look at before a long training.

mod activations;
mod gradients;

use super::train::{RecipeArgs, Source, parts, trainer, usual};
use clap::Args;
use kernels::Threads;
use nets::NetError;
use nets::data::{Augment, Batch, Dataset, Feed, Normalisation, Parts, Span};
use nets::fit::{Event, Method, Recipe, Setting, Trainer};
use nets::optim::{Penalty, Schedule};
use nets::train::{Loss, TrainOptions};
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
/// Pictures for the first loss.
const FIRST_LOSS: usize = 1000;
/// Pictures for gradients and for activations.
const PICTURES: usize = 64;
/// Learning rates from 10 to this power, and steps with each.
const RATES: std::ops::RangeInclusive<i32> = -6..=1;
const STEPS: u64 = 60;
/// Changes of the loss by less than this share are as large as those between batches.
const BARELY: f64 = 0.05;

/// What all checks need.
struct Checks<'a> {
    setting: Setting<'a>,
    recipe: Recipe,
    /// By the statistics of the whole training part.
    normalisation: Normalisation,
    threads: Threads<'a>,
}

impl Check {
    pub(super) fn execute(&self) -> anyhow::Result<String> {
        let data = self.source.data_name();
        let recipe = self.recipe.recipe(usual(self.source.network(), data));
        let parts = parts(data)?;
        let graph = self.source.graph(&parts)?;
        let pool = self.source.pool()?;
        let setting = self.source.setting(&graph, &parts, false);
        let normalisation = setting.normalisation(&recipe)?;
        let checks = Checks { setting, recipe, normalisation, threads: pool.threads() };
        pool.install(|| {
            let mut out = checks.first_loss()?;
            out += &checks.few()?;
            out += &checks.rates()?;
            let batch = checks.batch()?;
            out += &gradients::report(&checks, &batch)?;
            out += &activations::report(&checks, &batch)?;
            Ok(out)
        })
    }
}

impl Checks<'_> {
    /// The options that a training by the recipe would have, for another number of pictures.
    fn options(&self, batch: usize) -> TrainOptions {
        self.setting.options(&Recipe { batch, ..self.recipe.clone() }).figures(true)
    }

    /// A training on `parts`, normalised as for the whole training part.
    fn trainer(&self, parts: &Parts, recipe: &Recipe) -> anyhow::Result<Trainer> {
        trainer(Setting { parts, ..self.setting }, recipe, &self.normalisation)
    }

    /// The first pictures of the training part, at most so many.
    fn first(&self, most: usize) -> Dataset {
        let training = &self.setting.parts.training;
        training.part(0..training.len().min(most))
    }

    /// Before the first step, every class should be as likely.
    fn first_loss(&self) -> anyhow::Result<String> {
        let recipe = &self.recipe;
        let classes = self.setting.parts.training.classes().len();
        let few = self.first(FIRST_LOSS);
        let few = Parts { training: few.clone(), validation: few };
        let recipe = Recipe { batch: recipe.batch.min(few.training.len()), ..recipe.clone() };
        let mut trainer = self.trainer(&few, &recipe)?;
        let loss = trainer.validate(self.threads)?.value;
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
    fn few(&self) -> anyhow::Result<String> {
        let few = self.first(FEW);
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
            ..self.recipe.clone()
        };
        let mut trainer = self.trainer(&few, &recipe)?;
        let count = few.training.len();
        loop {
            match trainer.advance(self.threads) {
                Ok(Some(Event::Epoch(epoch))) if epoch.validation_accuracy == 1.0 => {
                    let (epochs, loss) = (epoch.epoch, epoch.validation_loss);
                    return Ok(format!(
                        "{count} pictures       learned by heart in {epochs} steps, loss {loss:.4}\n"
                    ));
                }
                Ok(Some(_)) => {}
                Ok(None) => break,
                // This is a result, and not the end of the checks.
                Err(error @ NetError::NotFinite { .. }) => {
                    return Ok(format!("{count} pictures       NOT learned by heart: {error}\n"));
                }
                Err(error) => return Err(error.into()),
            }
        }
        let right = trainer.history().last().map_or(0.0, |last| last.validation_accuracy * count as f64);
        Ok(format!(
            "{count} pictures       NOT learned by heart in {MOST_EPOCHS} steps: {right:.0} are right\n"
        ))
    }

    /// The loss after some steps tells rates apart that are too low, useful and too high.
    fn rates(&self) -> anyhow::Result<String> {
        let Method::Steps(rule) = self.recipe.method else { return Ok(String::new()) };
        let mut out = format!("\nLearning rates with {rule}, {STEPS} steps each:\n");
        let mut has_fallen = false;
        for power in RATES {
            let rate = 10f64.powi(power);
            let recipe = Recipe { rate, warm_up: 0.0, schedule: Schedule::Constant, ..self.recipe.clone() };
            let mut trainer = self.trainer(self.setting.parts, &recipe)?;
            let mut losses = Vec::new();
            let diverged = loop {
                match trainer.advance(self.threads) {
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
                ratio if ratio > 1.0 - BARELY && has_fallen => "too high: the loss barely changes",
                ratio if ratio > 1.0 - BARELY => "too low: the loss barely changes",
                _ => "the loss falls",
            };
            has_fallen |= verdict == "the loss falls";
            // Writing to a string cannot fail.
            let _ = writeln!(out, "  1e{power:<3} loss {first:.3} -> {last:.3}  {verdict}");
        }
        Ok(out)
    }

    /// The first pictures of the training part, as the network reads them.
    fn batch(&self) -> anyhow::Result<Batch> {
        let data = self.first(PICTURES);
        let feed = Feed {
            frame: self.setting.frame()?,
            normalisation: self.normalisation.clone(),
            augment: Augment::default(),
            batch: data.len(),
            seed: None,
            data,
        };
        let batch = feed.start(Span { epoch: 0, batch: 0, end: 1 })?.next_batch()?;
        Ok(batch.unwrap_or_default())
    }
}
