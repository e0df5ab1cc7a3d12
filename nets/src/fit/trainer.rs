//! [`Trainer`]: the loop of a training, one step at a time.

use super::checkpoint::{Checkpoint, Progress};
use super::recipe::{Method, Recipe};
use super::report::{EpochReport, Event, LayerFigures, StepReport};
use super::updates::{StepOptions, Updates};
use crate::data::{Augment, Batches, Feed, Frame, Normalisation, Parts, Span};
use crate::error::NetError;
use crate::graph::Graph;
use crate::optim::LearningRate;
use crate::train::{BatchLoss, TrainNet, TrainOptions};
use crate::weights::{InputStatistics, WeightSet, WeightSource};
use kernels::{Isa, Threads};
use std::time::Instant;

/// A network in training. After an error, only what was saved before can be continued.
#[derive(Debug)]
pub struct Trainer {
    graph: Graph,
    recipe: Recipe,
    data: String,
    net: TrainNet,
    updates: Updates,
    rate: LearningRate,
    /// The training part, in random order; in the order of the data for full batches.
    training: Feed,
    validation: Feed,
    batches: Option<Batches>,
    progress: Progress,
    history: Vec<EpochReport>,
    /// When the first step of this epoch began in this process, and the step.
    epoch_start: Option<(Instant, u64)>,
}

/// What a training runs on. It does not decide the result, except that instruction sets round differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hardware {
    /// The instruction set; `None` for the best one of this machine.
    pub isa: Option<Isa>,
    /// Maximum number of threads of a step, at least 1.
    pub max_threads: usize,
    /// Whether activations are measured. They cost a pass in each step.
    pub figures: bool,
}

impl Trainer {
    /// Prepares the training of `graph` from `weights`. `data` is the name of the data, for checkpoints.
    ///
    /// # Errors
    /// - [`NetError::Data`] if the data do not fit the network.
    /// - [`NetError::Option`] if the recipe asks for more pictures in a batch than there are, or for a random loss in full
    ///   batches.
    /// - Those of [`TrainNet::new`], and of reading the pictures once for their statistics.
    pub fn new(
        graph: &Graph,
        weights: &dyn WeightSource,
        parts: &Parts,
        data: &str,
        recipe: &Recipe,
        hardware: Hardware,
    ) -> Result<Self, NetError> {
        check(recipe, parts)?;
        let frame = Frame::of(graph.name(), graph.input())?;
        let classes = graph.output().len()?;
        for part in [&parts.training, &parts.validation] {
            part.check(graph.name(), classes, frame)?;
        }
        let normalisation = Normalisation::of(&parts.training, frame, recipe.normalise)?;
        let net = TrainNet::new(graph, weights, &options(graph, recipe, hardware))?;
        let updates = Updates::new(&net, recipe);
        let feed = |data: &crate::data::Dataset, augment, seed| Feed {
            data: data.clone(),
            frame,
            normalisation: normalisation.clone(),
            augment,
            batch: recipe.batch,
            seed,
        };
        let is_full = matches!(recipe.method, Method::Lbfgs { .. });
        Ok(Self {
            graph: graph.clone(),
            data: data.to_owned(),
            net,
            updates,
            rate: recipe.learning_rate(),
            training: feed(&parts.training, recipe.augment, (!is_full).then_some(recipe.seed)),
            validation: feed(&parts.validation, Augment::default(), None),
            batches: None,
            progress: Progress::default(),
            history: Vec::new(),
            epoch_start: None,
            recipe: recipe.clone(),
        })
    }

    /// Continues from a checkpoint. The remaining steps are the same to the bit as without the interruption.
    ///
    /// # Errors
    /// Those of [`new`](Self::new), and [`NetError::Checkpoint`] if the state does not fit the recipe.
    pub fn resume(
        graph: &Graph,
        checkpoint: Checkpoint,
        parts: &Parts,
        hardware: Hardware,
    ) -> Result<Self, NetError> {
        let Checkpoint { data, recipe, progress, history, weights, state, .. } = checkpoint;
        let mut trainer = Self::new(graph, &weights, parts, &data, &recipe, hardware)?;
        trainer.updates.restore((progress.step, progress.averaged), state).map_err(|got| {
            NetError::Checkpoint {
                origin: "checkpoint".to_owned(),
                expected: "the state of its optimiser".to_owned(),
                got,
            }
        })?;
        trainer.net.set_step(progress.step);
        trainer.rate.restore(progress.plateau);
        (trainer.progress, trainer.history) = (progress, history);
        Ok(trainer)
    }

    /// The recipe.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// How far the training is.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// Epochs that have ended.
    pub fn history(&self) -> &[EpochReport] {
        &self.history
    }

    /// Steps per epoch.
    pub fn steps_per_epoch(&self) -> u64 {
        match self.recipe.method {
            Method::Steps(_) => self.training.batches_per_epoch(),
            Method::Lbfgs { .. } => 1,
        }
    }

    /// The name of the data.
    pub fn data(&self) -> &str {
        &self.data
    }

    /// Pictures to train on.
    pub fn training_len(&self) -> usize {
        self.training.data.len()
    }

    /// Pictures to measure on.
    pub fn validation_len(&self) -> usize {
        self.validation.data.len()
    }

    /// Names of the parameters that are trained.
    pub fn trained(&self) -> impl Iterator<Item = &str> {
        self.updates.names()
    }

    /// How inputs are normalised.
    pub fn statistics(&self) -> Option<&InputStatistics> {
        self.training.normalisation.statistics()
    }

    /// The result: the averaged weights if the recipe asks for them, else those of the last step.
    ///
    /// # Errors
    /// [`NetError::TooLarge`] as for any weights.
    pub fn weights(&self) -> Result<WeightSet, NetError> {
        let weights = self.net.weights();
        Ok(self.updates.averaged(&self.graph, &weights)?.unwrap_or(weights))
    }

    /// The state between two steps.
    pub fn checkpoint(&self) -> Checkpoint {
        let progress =
            Progress { plateau: self.rate.state(), averaged: self.updates.count_averaged(), ..self.progress };
        Checkpoint {
            network: self.graph.name().to_owned(),
            data: self.data.clone(),
            recipe: self.recipe.clone(),
            progress,
            history: self.history.clone(),
            weights: self.net.weights(),
            statistics: self.statistics().cloned(),
            state: self.updates.state(),
        }
    }

    /// Takes the next step, or measures at the end of an epoch. Returns `None` after the last epoch.
    ///
    /// # Errors
    /// - [`NetError::NotFinite`] names the layer where numbers are no longer finite.
    /// - Those of the network and of the data.
    pub fn advance(&mut self, threads: Threads<'_>) -> Result<Option<Event>, NetError> {
        if self.progress.epoch >= self.recipe.epochs {
            return Ok(None);
        }
        match self.progress.batch < self.steps_per_epoch() {
            true => self.step(threads).map(Event::Step).map(Some),
            false => self.end_epoch(threads).map(Event::Epoch).map(Some),
        }
    }

    fn step(&mut self, threads: Threads<'_>) -> Result<StepReport, NetError> {
        let start = Instant::now();
        let Progress { epoch, batch, step, .. } = self.progress;
        let per_epoch = self.steps_per_epoch();
        self.epoch_start.get_or_insert((start, step));
        let rate = self.rate.at(step, per_epoch);
        let options = StepOptions { step, rate, measure: batch == per_epoch / 2 };
        let (loss, images) = match self.full_step(threads)? {
            Some(loss) => (loss, self.training.data.len()),
            None => (self.batch_step(options, threads)?, self.training.batch),
        };
        self.progress.batch += 1;
        self.progress.step += 1;
        self.progress.loss += loss.value;
        self.progress.correct += loss.correct as u64;
        self.progress.seconds += start.elapsed().as_secs_f64();
        let accuracy = loss.correct as f64 / images as f64;
        Ok(StepReport { epoch, batch: (batch, per_epoch), rate, loss: loss.value, accuracy })
    }

    /// A step of L-BFGS; `None` for other optimisers. Its right answers are counted afterwards.
    fn full_step(&mut self, threads: Threads<'_>) -> Result<Option<BatchLoss>, NetError> {
        let loss = self.updates.full_step(&mut self.net, &self.recipe, &self.training, threads)?;
        let Some(value) = loss else { return Ok(None) };
        if !value.is_finite() {
            return Err(self.not_finite());
        }
        let BatchLoss { correct, .. } = evaluate(&mut self.net, &self.training, threads)?;
        Ok(Some(BatchLoss { value, correct }))
    }

    fn batch_step(&mut self, options: StepOptions, threads: Threads<'_>) -> Result<BatchLoss, NetError> {
        if self.batches.is_none() {
            let span =
                Span { epoch: self.progress.epoch, batch: self.progress.batch, end: self.recipe.epochs };
            self.batches = Some(self.training.start(span)?);
        }
        let batches = self.batches.as_mut().expect("started above");
        let batch = batches.next_batch()?.expect("as many batches as steps per epoch");
        let loss = self.net.gradients(&batch.images, &batch.labels, threads)?;
        batches.reuse(batch);
        if !loss.value.is_finite() {
            return Err(self.not_finite());
        }
        self.updates.step(&mut self.net, options, threads)?;
        Ok(loss)
    }

    /// Finds where numbers are no longer finite after a loss that is not: in the weights, or in an activation.
    fn not_finite(&self) -> NetError {
        let step = self.progress.step;
        let weights = self.net.weights();
        let is_broken = |name: &String| {
            weights.get(name).is_some_and(|tensor| !tensor.data().iter().all(|number| number.is_finite()))
        };
        let parameter = self.graph.params().map(|(name, _)| name).find(is_broken);
        let mut layers = self.net.activations();
        let layer = layers.find(|layer| !layer.mean.is_finite() || !layer.deviation.is_finite());
        let layer = layer.map(|layer| layer.name.to_owned());
        let what = if parameter.is_some() { "weights" } else { "an activation" };
        let output = || self.graph.node(self.graph.output_id()).name.clone();
        NetError::NotFinite { step, what, place: parameter.or(layer).unwrap_or_else(output) }
    }

    /// Measures on the validation part, with the weights that would be the result.
    fn end_epoch(&mut self, threads: Threads<'_>) -> Result<EpochReport, NetError> {
        let layers = self.net.activations().map(|layer| LayerFigures {
            name: layer.name.to_owned(),
            dead: layer.dead,
            saturated: layer.saturated,
            mean: layer.mean,
            deviation: layer.deviation,
        });
        let layers = layers.collect();
        let (start, first) = self.epoch_start.take().unwrap_or((Instant::now(), self.progress.step));
        let elapsed = start.elapsed().as_secs_f64();
        let live = self.net.weights();
        let averaged = self.updates.averaged(&self.graph, &live)?;
        if let Some(averaged) = &averaged {
            self.net.set_weights(averaged, threads)?;
        }
        let validation = evaluate(&mut self.net, &self.validation, threads)?;
        if averaged.is_some() {
            self.net.set_weights(&live, threads)?;
        }
        self.rate.end_epoch(validation.value);

        let Progress { batch, step, epoch, .. } = self.progress;
        let per_step = match self.recipe.method {
            Method::Steps(_) => self.training.batch,
            Method::Lbfgs { .. } => self.training.data.len(),
        } as f64;
        let images = (step - first) as f64 * per_step;
        let report = EpochReport {
            epoch: epoch + 1,
            step,
            rate: self.rate.at(step.saturating_sub(batch.div_ceil(2)), batch),
            training_loss: self.progress.loss / batch as f64,
            training_accuracy: self.progress.correct as f64 / (batch as f64 * per_step),
            validation_loss: validation.value,
            validation_accuracy: validation.correct as f64 / self.validation.data.len() as f64,
            images_per_second: if elapsed > 0.0 { images / elapsed } else { 0.0 },
            seconds: self.progress.seconds,
            ends_period: self.recipe.schedule.ends_period((epoch + 1) as f64, self.recipe.epochs as f64),
            ratios: self.updates.ratios(),
            layers,
        };
        self.history.push(report.clone());
        let progress = Progress { epoch: epoch + 1, batch: 0, loss: 0.0, correct: 0, ..self.progress };
        self.progress = progress;
        Ok(report)
    }

    /// The loss and the right answers on the validation part with the weights of the last step.
    ///
    /// # Errors
    /// Those of the network and of the data.
    pub fn validate(&mut self, threads: Threads<'_>) -> Result<BatchLoss, NetError> {
        evaluate(&mut self.net, &self.validation, threads)
    }

    /// The cost of the weights of the last step, besides the loss.
    pub fn penalty(&self) -> f64 {
        self.updates.penalty(&self.recipe, &self.net.weights())
    }
}

/// The mean loss and the right answers on all pictures of a feed.
fn evaluate(net: &mut TrainNet, feed: &Feed, threads: Threads<'_>) -> Result<BatchLoss, NetError> {
    let feed = Feed { seed: None, augment: Augment::default(), ..feed.clone() };
    let mut batches = feed.start(Span { epoch: 0, batch: 0, end: 1 })?;
    let (mut sum, mut correct) = (0.0, 0);
    while let Some(batch) = batches.next_batch()? {
        let loss = net.evaluate(&batch.images, &batch.labels, threads)?;
        sum += loss.value * batch.labels.len() as f64;
        correct += loss.correct;
        batches.reuse(batch);
    }
    Ok(BatchLoss { value: sum / feed.data.len() as f64, correct })
}

fn check(recipe: &Recipe, parts: &Parts) -> Result<(), NetError> {
    let wrong = |option, expected: String, got: String| Err(NetError::Option { option, expected, got });
    let pictures = parts.training.len();
    if recipe.batch == 0 || recipe.batch > pictures {
        return wrong(
            "batch",
            format!("1 to {pictures}, the pictures to train on"),
            recipe.batch.to_string(),
        );
    }
    let is_random = !recipe.augment.is_none() || recipe.drop_connect > 0.0 || recipe.survival < 1.0;
    if matches!(recipe.method, Method::Lbfgs { .. }) && is_random {
        let expected = "no augmentation, DropConnect and stochastic depth with lbfgs".to_owned();
        return wrong("optimizer", expected, "a random loss".to_owned());
    }
    Ok(())
}

fn options(graph: &Graph, recipe: &Recipe, hardware: Hardware) -> TrainOptions {
    let is_full = matches!(recipe.method, Method::Lbfgs { .. });
    let frozen = graph.params().map(|(name, _)| name).filter(|name| recipe.is_frozen(name)).collect();
    let mut options = TrainOptions::default()
        .batch(recipe.batch)
        .loss(recipe.loss)
        .max_threads(hardware.max_threads.max(1))
        .seed(recipe.seed)
        .dropout(if is_full { 0.0 } else { recipe.dropout })
        .drop_connect(recipe.drop_connect)
        .survival(recipe.survival)
        .frozen(frozen)
        .figures(hardware.figures);
    options.isa = hardware.isa;
    options
}
