//! [`TrainNet`].

use super::figures::{ActivationFigures, Row};
use super::heads::{Heads, Labels};
use super::loss::BatchLoss;
use super::options::TrainOptions;
use super::parameter::{Parameter, ParameterMut};
use super::pass::{Parts, PassOf, backward, forward, named};
use super::random::Stream;
use super::unit::{Draw, Mode, Run, all};
use crate::error::{LayerError, NetError};
use crate::graph::Graph;
use crate::shape::Shape;
use crate::weights::{WeightSet, WeightSource};
use kernels::Threads;
use std::fmt;

/// The random stream of stochastic depth. Layers have the numbers of their nodes.
const DEPTH: Stream = Stream(u64::MAX);

/// A network that trains: all layers are planned forward and backward, weights packed, and activations and gradients placed
/// in one arena.
pub struct TrainNet {
    input: Shape,
    parts: Parts,
    batch: usize,
    accumulate: usize,
    seed: u64,
    /// Whether each residual block is dropped in this pass.
    dropped: Vec<bool>,
    rows: Vec<Row>,
    /// Number of updates, and of batches since the last one.
    updates: u64,
    batches: usize,
    output: Vec<f32>,
    /// A batch that is filled up, for evaluations of fewer images.
    filled: Vec<f32>,
}

impl fmt::Debug for TrainNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { input, batch, updates, .. } = self;
        let steps = self.parts.steps.len();
        f.debug_struct("TrainNet")
            .field("input", input)
            .field("batch", batch)
            .field("updates", updates)
            .field("steps", &steps)
            .finish_non_exhaustive()
    }
}

impl TrainNet {
    pub(super) fn from_parts(graph: &Graph, options: &TrainOptions, mut parts: Parts) -> Self {
        let mut rows = Vec::new();
        for step in &mut parts.steps {
            if let Some(kind) = step.figures.filter(|_| options.figures) {
                step.row = Some(rows.len());
                rows.push(Row::new(&step.name, kind, step.target.shape.c));
            }
        }
        let kernels::Shape4 { n, c, h, w } = parts.heads.logits().shape;
        Self {
            input: graph.input(),
            batch: options.batch,
            accumulate: options.accumulate,
            seed: options.seed,
            dropped: vec![false; parts.survivals.len()],
            rows,
            updates: 0,
            batches: 0,
            output: vec![0.0; n * c * h * w],
            filled: Vec::new(),
            parts,
        }
    }

    /// Images per batch.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// The shape of one image.
    pub fn input(&self) -> Shape {
        self.input
    }

    /// Runs the network forward and backward on a batch: `images` in NCHW order, and one label per image, or per pixel of the
    /// output if it has several.
    ///
    /// If the options accumulate batches, the first call after an update replaces the gradients and later ones add to them.
    /// The gradients are then those of the mean over all batches.
    ///
    /// # Errors
    /// - [`NetError::InputLen`] for the wrong number of images.
    /// - [`NetError::Kernel`] for the wrong number of labels, or a label that is no class. Values are computed by then, but no
    ///   gradient.
    pub fn gradients(
        &mut self,
        images: &[f32],
        labels: &[u32],
        threads: Threads<'_>,
    ) -> Result<BatchLoss, NetError> {
        self.check(images, self.batch)?;
        let first = self.batches.is_multiple_of(self.accumulate);
        let accumulates = self.accumulate > 1;
        if accumulates && first {
            self.parts.params.clear_gradients();
        }
        let draw = self.draw();
        for ((number, dropped), survival) in (0..).zip(&mut self.dropped).zip(&self.parts.survivals) {
            *dropped = DEPTH.unit(draw, number) >= *survival;
        }
        let Self { parts, rows, dropped, output, .. } = self;
        let weight = 1.0 / self.accumulate as f32;
        let labels = Labels { labels, images: self.batch, weight };
        let loss = threads.with_team(|threads| {
            let of = PassOf { threads, inputs: &[images], mode: Mode::Training, draw, dropped };
            let (steps, heads, mut run) = parts.run(of);
            forward(steps, &mut run, |step, data| {
                step.row.into_iter().for_each(|row| rows[row].measure(&step.target, data));
            })?;
            copy_output(heads, &run, output);
            let loss = heads.run(&mut run, labels)?;
            backward(steps, &mut run, accumulates)?;
            Ok::<_, NetError>(loss)
        })?;
        parts.params.pull_back();
        // A batch that was refused does not count.
        self.batches = self.batches % self.accumulate + 1;
        Ok(loss)
    }

    /// The numbers that the masks of the next pass depend on.
    fn draw(&self) -> Draw {
        let batches = self.updates.wrapping_mul(self.accumulate as u64);
        Draw { seed: self.seed, pass: batches.wrapping_add((self.batches % self.accumulate) as u64) }
    }

    /// The parameters that are trained, with the gradients of the last pass, in the order of the graph. The gains of weight
    /// normalisation are behind them.
    pub fn parameters(&self) -> impl Iterator<Item = Parameter<'_>> {
        self.parts.params.trained()
    }

    /// Calls `update` with the index of each parameter that is trained, in the order of the graph. Then packs the new values,
    /// so that the next pass uses them.
    ///
    /// # Errors
    /// [`NetError::Layer`] if the kernels refuse the new values.
    pub fn update(
        &mut self,
        mut update: impl FnMut(usize, ParameterMut<'_>),
        threads: Threads<'_>,
    ) -> Result<(), NetError> {
        self.parts.params.trained_mut().enumerate().for_each(|(index, parameter)| update(index, parameter));
        self.parts.params.compose();
        self.updates += 1;
        self.batches = 0;
        self.repack(threads)
    }

    fn repack(&mut self, _threads: Threads<'_>) -> Result<(), NetError> {
        let Parts { steps, params, .. } = &mut self.parts;
        steps.iter_mut().try_for_each(|step| step.unit.repack(&params.values).map_err(named(&step.name)))
    }

    /// The loss of a batch at inference: dropout does nothing, and batch normalisation uses its running averages. There can be
    /// fewer images than a batch.
    ///
    /// # Errors
    /// As [`gradients`](Self::gradients).
    pub fn evaluate(
        &mut self,
        images: &[f32],
        labels: &[u32],
        threads: Threads<'_>,
    ) -> Result<BatchLoss, NetError> {
        let per_image = self.input.len()?;
        let count = (images.len() / per_image).clamp(1, self.batch);
        self.check(images, count)?;
        let mut filled = std::mem::take(&mut self.filled);
        let input = if count < self.batch {
            filled.resize(self.batch * per_image, 0.0);
            filled[..images.len()].copy_from_slice(images);
            &filled[..]
        } else {
            images
        };
        let draw = self.draw();
        let Self { parts, dropped, output, .. } = self;
        let labels = Labels { labels, images: count, weight: 1.0 };
        let loss = threads.with_team(|threads| {
            let of = PassOf { threads, inputs: &[input], mode: Mode::Inference, draw, dropped };
            let (steps, heads, mut run) = parts.run(of);
            forward(steps, &mut run, |_, _| ())?;
            copy_output(heads, &run, output);
            Ok(heads.run(&mut run, labels)?)
        });
        self.filled = filled;
        loss
    }

    fn check(&self, images: &[f32], count: usize) -> Result<(), NetError> {
        let (expected, got) = (count * self.input.len()?, images.len());
        match expected == got {
            true => Ok(()),
            false => Err(NetError::InputLen { batch: self.batch, shape: self.input, expected, got }),
        }
    }

    /// The outputs of the last pass, in front of a softmax: `batch` times the output of one image, in NCHW order.
    pub fn output(&self) -> &[f32] {
        &self.output
    }

    /// The number of updates so far.
    pub fn step(&self) -> u64 {
        self.updates
    }

    /// Sets the number of updates so far, which the random masks depend on, to resume training.
    pub fn set_step(&mut self, step: u64) {
        (self.updates, self.batches) = (step, 0);
    }

    /// Uses `mask` in a dropout layer from now on, instead of random ones: a factor for each element of the batch in NCHW
    /// order. A layer of fractional max-pooling takes two numbers from 0 to below 1 for each map of the batch, which place its
    /// columns and its rows. `None` returns to random numbers.
    ///
    /// # Errors
    /// [`NetError::Layer`] if there is no such layer of this name, or it needs other numbers.
    pub fn set_mask(&mut self, layer: &str, mask: Option<&[f32]>) -> Result<(), NetError> {
        let mut steps = self.parts.steps.iter_mut().filter(|step| step.name == layer);
        match steps.any(|step| step.unit.set_mask(mask)) {
            true => Ok(()),
            false => Err(NetError::layer(layer, LayerError::NoMask { got: mask.map(<[f32]>::len) })),
        }
    }

    /// The parameters and running statistics. Weights are those that layers use, whatever they are computed from.
    pub fn weights(&self) -> WeightSet {
        self.parts.params.weights()
    }

    /// Replaces the parameters and running statistics. With weight normalisation, these weights become the trained vectors, and
    /// their lengths the gains. With weight standardisation, they become the trained vectors, and are standardised.
    ///
    /// # Errors
    /// Those of the source. The network is unchanged then.
    pub fn set_weights(&mut self, weights: &dyn WeightSource, threads: Threads<'_>) -> Result<(), NetError> {
        self.parts.params.set(weights)?;
        self.repack(threads)
    }

    /// The trained tensors from which weights are computed, with their names.
    #[cfg(feature = "train")]
    pub(crate) fn trained_forms(&self) -> impl Iterator<Item = (&str, &[f32])> {
        self.parts.params.trained_forms()
    }

    /// Continues with saved tensors from which weights are computed. The error says what is missing.
    #[cfg(feature = "train")]
    pub(crate) fn restore_forms(
        &mut self,
        saved: impl FnMut(&str) -> Option<Vec<f32>>,
        threads: Threads<'_>,
    ) -> Result<(), String> {
        self.parts.params.restore_forms(saved)?;
        self.repack(threads).map_err(|error| error.to_string())
    }

    /// Figures of the activations of the last step, if the options ask for them.
    pub fn activations(&self) -> impl Iterator<Item = ActivationFigures<'_>> {
        self.rows.iter().map(Row::figures)
    }

    /// The name of the first layer whose output on `images` has an infinity or NaN, or of the first such parameter or running
    /// average. For messages after a loss that is no number.
    ///
    /// # Errors
    /// As [`gradients`](Self::gradients).
    pub fn first_not_finite(
        &mut self,
        images: &[f32],
        threads: Threads<'_>,
    ) -> Result<Option<String>, NetError> {
        self.check(images, self.batch)?;
        let is_bad = |data: &[f32]| data.iter().any(|x| !x.is_finite());
        if let Some(name) = self.parts.params.first(is_bad) {
            return Ok(Some(name.to_owned()));
        }
        let (draw, mut first) = (self.draw(), None);
        // The pass would spoil running averages.
        let saved = self.parts.params.values.clone();
        let of = PassOf { threads, inputs: &[images], mode: Mode::Training, draw, dropped: &self.dropped };
        let (steps, _, mut run) = self.parts.run(of);
        let passed = forward(steps, &mut run, |step, data| {
            if first.is_none() && step.target.images(data).any(is_bad) {
                first = Some(step.name.clone());
            }
        });
        self.parts.params.values = saved;
        passed.map(|()| first)
    }

    /// Bytes of activations, gradients of activations and workspace.
    pub fn memory_bytes(&self) -> usize {
        (self.parts.arena.len() + self.parts.workspace.len()) * size_of::<f32>()
    }
}

/// Copies the logits of the network.
fn copy_output(heads: &Heads, run: &Run<'_>, output: &mut [f32]) {
    let logits = heads.logits();
    let from = all(run.arena, run.inputs).get(logits);
    let images = logits.images(from);
    let len = output.len() / logits.shape.n;
    output.chunks_exact_mut(len).zip(images).for_each(|(to, image)| to.copy_from_slice(image));
}
