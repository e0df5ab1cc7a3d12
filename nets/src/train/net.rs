//! [`TrainNet`].

use super::loss::BatchLoss;
use super::options::TrainOptions;
use super::parameter::ParameterMut;
use crate::error::NetError;
use crate::graph::Graph;
use crate::weights::{WeightSet, WeightSource};
use kernels::Threads;

/// A network that trains.
#[derive(Debug)]
pub struct TrainNet {
    step: u64,
}

/// Figures of the activations of one layer in the last step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ActivationFigures<'a> {
    /// The name of the layer.
    pub name: &'a str,
    /// The share of channels of a ReLU that are zero for the whole batch. `None` for other activations.
    pub dead: Option<f32>,
    /// The share of outputs of a sigmoid or tanh within 2 % of its range from an end. `None` for other activations.
    pub saturated: Option<f32>,
    /// The mean of all elements.
    pub mean: f32,
    /// The standard deviation of all elements.
    pub deviation: f32,
}

impl TrainNet {
    /// Plans every layer of `graph` for training.
    ///
    /// # Errors
    /// [`NetError::Layer`] names a layer that cannot be trained.
    pub fn new(graph: &Graph, weights: &dyn WeightSource, options: &TrainOptions) -> Result<Self, NetError> {
        let _ = (graph, weights, options);
        todo!("the reverse pass")
    }

    /// Runs the network forward and backward on a batch: `images` in NCHW order, one label per image.
    ///
    /// # Errors
    /// [`NetError::InputLen`] for the wrong number of images; [`NetError::Kernel`] for the wrong number of labels or a label
    /// that is no class.
    pub fn gradients(
        &mut self,
        images: &[f32],
        labels: &[u32],
        threads: Threads<'_>,
    ) -> Result<BatchLoss, NetError> {
        let _ = (images, labels, threads);
        todo!("the reverse pass")
    }

    /// Calls `update` with the index of each parameter that is trained, in the order of the graph, and makes the network use
    /// the new values.
    ///
    /// # Errors
    /// Those of the kernels.
    pub fn update(
        &mut self,
        mut update: impl FnMut(usize, ParameterMut<'_>),
        threads: Threads<'_>,
    ) -> Result<(), NetError> {
        let _ = (&mut update, threads);
        todo!("the reverse pass")
    }

    /// The loss of a batch at inference: dropout does nothing, and batch normalisation uses its running averages.
    ///
    /// # Errors
    /// As [`gradients`](Self::gradients). Fewer images than a batch are allowed.
    pub fn evaluate(
        &mut self,
        images: &[f32],
        labels: &[u32],
        threads: Threads<'_>,
    ) -> Result<BatchLoss, NetError> {
        let _ = (images, labels, threads);
        todo!("the reverse pass")
    }

    /// The outputs of the last pass, in NCHW order: `batch` times the output of one image.
    pub fn output(&self) -> &[f32] {
        todo!("the reverse pass")
    }

    /// The number of updates so far.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Sets the number of updates so far, which the random masks depend on, to resume training.
    pub fn set_step(&mut self, step: u64) {
        self.step = step;
    }

    /// The parameters and running statistics.
    pub fn weights(&self) -> WeightSet {
        todo!("the reverse pass")
    }

    /// Replaces the parameters and running statistics.
    ///
    /// # Errors
    /// Those of the source.
    pub fn set_weights(&mut self, weights: &dyn WeightSource, threads: Threads<'_>) -> Result<(), NetError> {
        let _ = (weights, threads);
        todo!("the reverse pass")
    }

    /// Figures of the activations of the last step, if the options ask for them.
    pub fn activations(&self) -> impl Iterator<Item = ActivationFigures<'_>> {
        std::iter::empty()
    }
}
