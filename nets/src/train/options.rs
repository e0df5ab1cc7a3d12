//! [`TrainOptions`].

use super::form::Parametrization;
use super::loss::Loss;
use crate::error::NetError;
use crate::weights::MEMORY_LIMIT;
use kernels::{Isa, Layout};
use std::str::FromStr;

/// What the reverse pass computes again instead of keeping it from the forward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Recompute {
    /// Nothing: the most memory and the least time.
    #[default]
    Nothing,
    /// The outputs of cheap layers, such as normalisations, activations and pooling, from inputs that are kept.
    Cheap,
    /// Also all layers inside the branches of residual blocks, from the inputs of the blocks (Chen et al. 2016). This takes another
    /// forward pass of their convolutions.
    Blocks,
}

/// Reads `nothing`, `cheap` or `blocks`.
impl FromStr for Recompute {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "nothing" => Ok(Self::Nothing),
            "cheap" => Ok(Self::Cheap),
            "blocks" => Ok(Self::Blocks),
            _ => Err(format!("expected nothing, cheap or blocks, got `{text}`")),
        }
    }
}

/// Options for a network that trains.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TrainOptions {
    /// Images per call of [`TrainNet::gradients`](super::TrainNet::gradients). At least 1.
    pub batch: usize,
    /// Batches whose gradients are averaged before an update. At least 1.
    pub accumulate: usize,
    /// The loss.
    pub loss: Loss,
    /// The instruction set; `None` for the best one of this machine.
    pub isa: Option<Isa>,
    /// Maximum number of threads of a step. At least 1.
    pub max_threads: usize,
    /// The layout of feature maps; `None` for the one that suits the network.
    pub layout: Option<Layout>,
    /// The seed of the masks of dropout and of the branches that stochastic depth drops.
    pub seed: u64,
    /// The share of elements that each dropout layer sets to zero, from 0 to below 1.
    pub dropout: f32,
    /// The share of weights of fully connected layers that DropConnect sets to zero (Wan et al. 2013), from 0 to below 1.
    /// The layer that computes the output of the network is excepted.
    pub drop_connect: f32,
    /// The probability that the last residual branch is kept. Earlier ones are kept more often, linearly (Huang et al.
    /// 2016, eq. 4). 1 keeps all.
    pub survival: f32,
    /// The weight of the losses of side classifiers: nodes that no layer reads and that have as many outputs as the
    /// network (Szegedy et al. 2014, section 5).
    pub side_weight: f32,
    /// The part of a batch in the running averages of batch normalisation.
    pub momentum: f32,
    /// How filters and matrices are computed from what is trained.
    pub parametrization: Parametrization,
    /// Names of parameters that are not trained. No gradient is computed for them.
    pub frozen: Vec<String>,
    /// Whether [`TrainNet::activations`](super::TrainNet::activations) has figures. They cost a pass over the activations.
    pub figures: bool,
    /// What the reverse pass computes again, to save memory. It changes no bit.
    pub recompute: Recompute,
    /// Maximum bytes of activations and gradients.
    pub memory_limit: u64,
}

impl Default for TrainOptions {
    /// Batches of 32, softmax with cross-entropy, dropout of one half, and one thread per core of the machine.
    fn default() -> Self {
        Self {
            batch: 32,
            accumulate: 1,
            loss: Loss::CrossEntropy,
            isa: None,
            max_threads: num_cpus::get_physical().max(1),
            layout: None,
            seed: 0,
            dropout: 0.5,
            drop_connect: 0.0,
            survival: 1.0,
            side_weight: 0.3,
            momentum: 0.1,
            parametrization: Parametrization::Plain,
            frozen: Vec::new(),
            figures: false,
            recompute: Recompute::Nothing,
            memory_limit: MEMORY_LIMIT,
        }
    }
}

impl TrainOptions {
    pub(super) fn check(&self) -> Result<(), NetError> {
        let wrong = |option, expected: &str, got: String| {
            Err(NetError::Option { option, expected: expected.to_owned(), got })
        };
        for (option, value) in
            [("batch", self.batch), ("threads", self.max_threads), ("accumulate", self.accumulate)]
        {
            if value == 0 {
                return wrong(option, "at least 1", value.to_string());
            }
        }
        for (option, value) in [("dropout", self.dropout), ("drop_connect", self.drop_connect)] {
            if !(0.0..1.0).contains(&value) {
                return wrong(option, "a number from 0 to below 1", value.to_string());
            }
        }
        for (option, value) in [("survival", self.survival), ("momentum", self.momentum)] {
            if !(0.0..=1.0).contains(&value) {
                return wrong(option, "a number from 0 to 1", value.to_string());
            }
        }
        if !(self.side_weight.is_finite() && self.side_weight >= 0.0) {
            return wrong("side_weight", "a finite number, at least 0", self.side_weight.to_string());
        }
        match self.layout {
            Some(layout) if ![Layout::Nchw, Layout::Nchw16c].contains(&layout) => {
                wrong("layout", &format!("{} or {}", Layout::Nchw, Layout::Nchw16c), layout.to_string())
            }
            _ => Ok(()),
        }
    }

    /// Sets the number of images per batch.
    pub fn batch(self, batch: usize) -> Self {
        Self { batch, ..self }
    }

    /// Sets the number of batches whose gradients are averaged.
    pub fn accumulate(self, accumulate: usize) -> Self {
        Self { accumulate, ..self }
    }

    /// Sets the loss.
    pub fn loss(self, loss: Loss) -> Self {
        Self { loss, ..self }
    }

    /// Sets the instruction set.
    pub fn isa(self, isa: Isa) -> Self {
        Self { isa: Some(isa), ..self }
    }

    /// Sets the maximum number of threads.
    pub fn max_threads(self, max_threads: usize) -> Self {
        Self { max_threads, ..self }
    }

    /// Sets the layout of feature maps.
    pub fn layout(self, layout: Layout) -> Self {
        Self { layout: Some(layout), ..self }
    }

    /// Sets the seed of what is random in a step.
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Sets the share of elements that dropout sets to zero.
    pub fn dropout(self, dropout: f32) -> Self {
        Self { dropout, ..self }
    }

    /// Sets the share of weights that DropConnect sets to zero.
    pub fn drop_connect(self, drop_connect: f32) -> Self {
        Self { drop_connect, ..self }
    }

    /// Sets the probability that the last residual branch is kept.
    pub fn survival(self, survival: f32) -> Self {
        Self { survival, ..self }
    }

    /// Sets the weight of the losses of side classifiers.
    pub fn side_weight(self, side_weight: f32) -> Self {
        Self { side_weight, ..self }
    }

    /// Sets how filters and matrices are computed from what is trained.
    pub fn parametrization(self, parametrization: Parametrization) -> Self {
        Self { parametrization, ..self }
    }

    /// Sets the parameters that are not trained.
    pub fn frozen(self, frozen: Vec<String>) -> Self {
        Self { frozen, ..self }
    }

    /// Sets whether there are figures of activations.
    pub fn figures(self, figures: bool) -> Self {
        Self { figures, ..self }
    }

    /// Sets what the reverse pass computes again.
    pub fn recompute(self, recompute: Recompute) -> Self {
        Self { recompute, ..self }
    }

    /// Sets the part of a batch in the running averages.
    pub fn momentum(self, momentum: f32) -> Self {
        Self { momentum, ..self }
    }

    /// Sets the maximum bytes of activations and gradients.
    pub fn memory_limit(self, memory_limit: u64) -> Self {
        Self { memory_limit, ..self }
    }
}
