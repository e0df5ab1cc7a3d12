//! [`ActivationFigures`]: how alive the units of a layer are.

use super::unit::channels;
use crate::graph::Graph;
use crate::layer::Layer;
use crate::run::lower::{Op, Work};
use crate::run::operand::Operand;
use kernels::Activation;

/// The part of the range of an activation that counts as its end.
const END: f32 = 0.02;

/// Figures of the activations of one layer, in the last step that computed it. A block that stochastic depth drops keeps those of
/// an earlier step.
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

/// What is measured of a layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    Dead,
    /// Outputs below the first or above the second number are saturated.
    Saturated(f32, f32),
    Plain,
}

/// The figures of a layer.
#[derive(Debug)]
pub(super) struct Row {
    name: String,
    kind: Kind,
    dead: Vec<bool>,
    share: f32,
    mean: f32,
    deviation: f32,
}

/// What is measured of an operation: layers with weights, and activations.
pub(super) fn kind(graph: &Graph, op: &Op) -> Option<Kind> {
    let Work::Layers(layers) = &op.work else { return None };
    let layer = &graph.node(layers[0].nodes[0]).layer;
    let activation = match (layers[0].activation, layer) {
        (Some((_, activation)), _) => activation,
        (None, Layer::Activation(activation)) => *activation,
        (None, Layer::Conv(_) | Layer::SparseConv(_) | Layer::Linear(_)) => Activation::None,
        _ => return None,
    };
    Some(match activation {
        Activation::Relu => Kind::Dead,
        Activation::Sigmoid => Kind::Saturated(END, 1.0 - END),
        Activation::Tanh => Kind::Saturated(2.0 * END - 1.0, 1.0 - 2.0 * END),
        _ => Kind::Plain,
    })
}

impl Row {
    pub(super) fn new(name: &str, kind: Kind, channels: usize) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            dead: vec![false; channels],
            share: 0.0,
            mean: 0.0,
            deviation: 0.0,
        }
    }

    /// Measures a tensor.
    pub(super) fn measure(&mut self, operand: &Operand, data: &[f32]) {
        let (mut sum, mut squares, mut count, mut saturated) = (0.0, 0.0, 0u64, 0u64);
        let (low, high) = match self.kind {
            Kind::Saturated(low, high) => (low, high),
            Kind::Dead | Kind::Plain => (f32::NEG_INFINITY, f32::INFINITY),
        };
        self.dead.fill(true);
        let dead = &mut self.dead;
        channels(operand, data, |c, elements| {
            for x in elements {
                let wide = f64::from(*x);
                (sum, squares, count) = (sum + wide, squares + wide * wide, count + 1);
                saturated += u64::from(*x < low || *x > high);
                dead[c] &= *x == 0.0;
            }
        });
        let count = count.max(1) as f64;
        let mean: f64 = sum / count;
        (self.mean, self.deviation) = (mean as f32, (squares / count - mean * mean).max(0.0).sqrt() as f32);
        self.share = match self.kind {
            Kind::Saturated(..) => (saturated as f64 / count) as f32,
            Kind::Dead => {
                self.dead.iter().filter(|dead| **dead).count() as f32 / self.dead.len().max(1) as f32
            }
            Kind::Plain => 0.0,
        };
    }

    pub(super) fn figures(&self) -> ActivationFigures<'_> {
        let Self { name, mean, deviation, share, .. } = self;
        let of = |kind: bool| kind.then_some(*share);
        ActivationFigures {
            name,
            dead: of(self.kind == Kind::Dead),
            saturated: of(matches!(self.kind, Kind::Saturated(..))),
            mean: *mean,
            deviation: *deviation,
        }
    }
}
