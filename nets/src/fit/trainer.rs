//! [`Trainer`]: the loop of a training, one step at a time.

use super::checkpoint::{Checkpoint, Progress};
use super::evaluate::{evaluate, first_not_finite};
use super::recipe::Recipe;
use super::report::{EpochReport, Event, LayerFigures, StepReport};
use super::setting::Setting;
use super::updates::{StepOptions, Updates};
use crate::data::{Augment, Batches, Dataset, Feed, Normalisation, Normalise, Span};
use crate::error::NetError;
use crate::graph::Graph;
use crate::optim::LearningRate;
use crate::train::{BatchLoss, TrainNet};
use crate::weights::{InputStatistics, WeightSet, WeightSource};
use kernels::Threads;
use std::time::Instant;

/// What the names of tensors begin with from which weights are computed.
const TRAINED: &str = "trained/";

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

impl Trainer {
    /// Prepares a training from `weights`. Every picture file is read once before the training begins.
    ///
    /// # Errors
    /// - [`NetError::Data`] if the data do not fit the network.
    /// - [`NetError::Option`] if the recipe is not usable: more pictures in a batch than there are, a random loss in full
    ///   batches, or numbers out of range.
    /// - Those of [`TrainNet::new`], of [`Setting::normalisation`] and of [`Dataset::check_files`].
    pub fn new(setting: Setting<'_>, weights: &dyn WeightSource, recipe: &Recipe) -> Result<Self, NetError> {
        setting.check(recipe)?;
        let normalisation = setting.normalisation(recipe)?;
        // The statistics have read the training part already.
        if recipe.normalise == Normalise::None {
            setting.parts.training.check_files(setting.frame()?)?;
        }
        setting.parts.validation.check_files(setting.frame()?)?;
        Self::normalised(setting, weights, recipe, normalisation)
    }

    /// The same, with a normalisation that is known.
    ///
    /// # Errors
    /// As [`new`](Self::new), but the training part is not read. [`NetError::Data`] if the normalisation is for pictures of
    /// another shape.
    pub fn normalised(
        setting: Setting<'_>,
        weights: &dyn WeightSource,
        recipe: &Recipe,
        normalisation: Normalisation,
    ) -> Result<Self, NetError> {
        setting.check(recipe)?;
        let Setting { graph, parts, data, .. } = setting;
        let frame = setting.frame()?;
        if normalisation.frame() != frame {
            return Err(NetError::Data {
                origin: format!("normalisation for network `{}`", graph.name()),
                expected: format!("one of pictures of {frame}"),
                got: format!("one of pictures of {}", normalisation.frame()),
            });
        }
        let net = TrainNet::new(graph, weights, &setting.options(recipe))?;
        let feed = |data: &Dataset, augment, seed| Feed {
            data: data.clone(),
            frame,
            normalisation: normalisation.clone(),
            augment,
            batch: recipe.batch,
            seed,
        };
        let seed = (!recipe.has_full_batches()).then_some(recipe.seed);
        Ok(Self {
            graph: graph.clone(),
            data: data.to_owned(),
            updates: Updates::new(&net, recipe),
            net,
            rate: recipe.learning_rate(),
            training: feed(&parts.training, recipe.augment, seed),
            validation: feed(&parts.validation, Augment::default(), None),
            batches: None,
            progress: Progress::default(),
            history: Vec::new(),
            epoch_start: None,
            recipe: recipe.clone(),
        })
    }

    /// Continues from a checkpoint, with the statistics of its inputs. The remaining steps are the same to the bit as without
    /// the interruption.
    ///
    /// # Errors
    /// Those of [`new`](Self::new), and [`NetError::Checkpoint`] if the checkpoint does not fit the data, or its state the
    /// recipe.
    pub fn resume(setting: Setting<'_>, checkpoint: Checkpoint) -> Result<Self, NetError> {
        let Checkpoint { recipe, progress, history, weights, statistics, state, pictures, .. } = checkpoint;
        let wrong = |expected: String, got: String| NetError::Checkpoint {
            origin: "checkpoint".to_owned(),
            expected,
            got,
        };
        let text = |(training, validation)| {
            format!("{training} pictures to train on and {validation} to measure on")
        };
        let own = (setting.parts.training.len(), setting.parts.validation.len());
        if pictures != own {
            return Err(wrong(format!("one of data with {}", text(own)), text(pictures)));
        }
        if statistics.is_some() != (recipe.normalise != Normalise::None) {
            let expected = format!("the statistics of inputs normalised by `{}`", recipe.normalise.name());
            return Err(wrong(expected, if statistics.is_some() { "others" } else { "none" }.to_owned()));
        }
        let normalisation = Normalisation::by(setting.frame()?, statistics);
        let mut trainer = Self::normalised(setting, &weights, &recipe, normalisation)?;
        let per_epoch = trainer.steps_per_epoch();
        let steps = progress.epoch.checked_mul(per_epoch).and_then(|steps| steps.checked_add(progress.batch));
        if progress.batch > per_epoch || steps != Some(progress.step) {
            let Progress { epoch, batch, step, .. } = progress;
            let expected = format!("a place in epochs of {per_epoch} steps");
            return Err(wrong(expected, format!("step {step}, which is step {batch} of epoch {epoch}")));
        }
        let mut state = state;
        let forms = trainer.net.restore_forms(|name| state.remove(&format!("{TRAINED}{name}")), Threads::Seq);
        forms.map_err(|got| wrong("the tensors from which weights are computed".to_owned(), got))?;
        let restored = trainer.updates.restore((progress.step, progress.averaged), state);
        restored.map_err(|got| wrong("the state of its optimiser".to_owned(), got))?;
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
        match self.recipe.has_full_batches() {
            true => 1,
            false => self.training.batches_per_epoch(),
        }
    }

    /// Pictures whose answers are counted in each step.
    pub fn pictures_per_step(&self) -> usize {
        match self.recipe.has_full_batches() {
            true => self.training.data.len(),
            false => self.training.batch,
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
        let forms = self.net.trained_forms();
        let mut state = self.updates.state();
        state.extend(forms.map(|(name, data)| (format!("{TRAINED}{name}"), data.to_vec())));
        Checkpoint {
            network: self.graph.name().to_owned(),
            input: self.graph.input(),
            data: self.data.clone(),
            pictures: (self.training_len(), self.validation_len()),
            recipe: self.recipe.clone(),
            progress,
            history: self.history.clone(),
            weights: self.net.weights(),
            statistics: self.statistics().cloned(),
            state,
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
        let loss = match self.full_step(threads)? {
            Some(loss) => loss,
            None => self.batch_step(options, threads)?,
        };
        self.progress.batch += 1;
        self.progress.step += 1;
        self.progress.loss += loss.value;
        self.progress.correct += loss.correct as u64;
        self.progress.seconds += start.elapsed().as_secs_f64();
        let accuracy = loss.correct as f64 / self.pictures_per_step() as f64;
        Ok(StepReport { epoch, batch: (batch, per_epoch), rate, loss: loss.value, accuracy })
    }

    /// A step of L-BFGS; `None` for other optimisers. Its right answers are counted afterwards.
    fn full_step(&mut self, threads: Threads<'_>) -> Result<Option<BatchLoss>, NetError> {
        let loss = self.updates.full_step(&mut self.net, &self.recipe, &self.training, threads)?;
        let Some(value) = loss else { return Ok(None) };
        if !value.is_finite() {
            let place = first_not_finite(&mut self.net, &self.training, threads)?;
            return Err(self.not_finite("a loss", place));
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
        if !loss.value.is_finite() {
            let place = self.net.first_not_finite(&batch.images, threads)?;
            return Err(self.not_finite("a loss", place));
        }
        batches.reuse(batch);
        self.updates.step(&mut self.net, options, threads)?;
        Ok(loss)
    }

    /// The error after a loss that is not finite. `place` is the parameter or layer where that began; without one, it is the
    /// loss itself.
    fn not_finite(&self, loss: &'static str, place: Option<String>) -> NetError {
        let is_parameter = |place: &String| self.graph.params().any(|(name, _)| name == *place);
        let what = match &place {
            None => loss,
            Some(place) if is_parameter(place) => "weights",
            Some(_) => "an activation",
        };
        let output = || self.graph.node(self.graph.output_id()).name.clone();
        NetError::NotFinite { step: self.progress.step, what, place: place.unwrap_or_else(output) }
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
        let layers = layers.filter(|layer| layer.mean.is_finite() && layer.deviation.is_finite()).collect();
        let (start, first) = self.epoch_start.take().unwrap_or((Instant::now(), self.progress.step));
        let elapsed = start.elapsed().as_secs_f64();
        let validation = self.validate_result(threads)?;

        let Progress { batch, step, epoch, .. } = self.progress;
        let per_step = self.pictures_per_step() as f64;
        let images = (step - first) as f64 * per_step;
        // A plateau changes the rate of the next epoch.
        let rate = self.rate.at(step.saturating_sub(batch.div_ceil(2)), batch);
        self.rate.end_epoch(validation.value);
        let report = EpochReport {
            epoch: epoch + 1,
            step,
            rate,
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

    /// The loss and the right answers on the validation part with the weights that would be the result.
    fn validate_result(&mut self, threads: Threads<'_>) -> Result<BatchLoss, NetError> {
        let live = self.net.weights();
        let averaged = self.updates.averaged(&self.graph, &live)?;
        if let Some(averaged) = &averaged {
            self.net.set_weights(averaged, threads)?;
        }
        let validation = evaluate(&mut self.net, &self.validation, threads)?;
        if !validation.value.is_finite() {
            let place = first_not_finite(&mut self.net, &self.validation, threads)?;
            return Err(self.not_finite("a validation loss", place));
        }
        if averaged.is_some() {
            self.net.set_weights(&live, threads)?;
        }
        Ok(validation)
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
        self.updates.penalty(&self.recipe, &self.net)
    }
}
