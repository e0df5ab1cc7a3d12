//! What a training reports.

use serde::{Deserialize, Serialize};

/// Figures of one step.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct StepReport {
    /// The epoch, from 0.
    pub epoch: u64,
    /// The step in the epoch, from 0, and steps per epoch.
    pub batch: (u64, u64),
    /// The learning rate.
    pub rate: f64,
    /// The mean loss of the batch.
    pub loss: f64,
    /// The share of right answers in the batch.
    pub accuracy: f64,
}

/// Figures of one epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EpochReport {
    /// The epoch, from 1.
    pub epoch: u64,
    /// Steps so far.
    pub step: u64,
    /// The learning rate in the middle of the epoch.
    pub rate: f64,
    /// The mean loss of the epoch's steps, with dropout and augmentation, while the weights change.
    pub training_loss: f64,
    /// The share of right answers in these steps.
    pub training_accuracy: f64,
    /// The mean loss of the validation part, at the end of the epoch.
    pub validation_loss: f64,
    /// The share of right answers in the validation part.
    pub validation_accuracy: f64,
    /// Pictures trained on per second.
    pub images_per_second: f64,
    /// Seconds of all steps so far.
    pub seconds: f64,
    /// Whether a period of a cyclic learning rate has ended.
    pub ends_period: bool,
    /// The size of the step in the middle of the epoch divided by the size of the weights, for each filter and matrix. Near
    /// 1e-3 is usual.
    pub ratios: Vec<(String, f64)>,
    /// Activations in the last step.
    pub layers: Vec<LayerFigures>,
}

/// Figures of the activations of a layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerFigures {
    /// The layer.
    pub name: String,
    /// The share of channels that are zero for the whole batch, if it is a ReLU.
    pub dead: Option<f32>,
    /// The share of outputs near an end of the range, if it is a sigmoid or tanh.
    pub saturated: Option<f32>,
    /// The mean.
    pub mean: f32,
    /// The standard deviation.
    pub deviation: f32,
}

/// What [`Trainer::advance`](super::Trainer::advance) did.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A step.
    Step(StepReport),
    /// The measurement at the end of an epoch.
    Epoch(EpochReport),
}
