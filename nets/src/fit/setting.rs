//! [`Setting`]: what a training works on. [`Hardware`]: what it runs on.

use super::recipe::{Method, Recipe};
use crate::data::{Frame, Normalisation, Parts};
use crate::error::NetError;
use crate::graph::Graph;
use crate::optim::Rule;
use crate::train::{Parametrization, Recompute, TrainOptions};
use kernels::Isa;

/// What a training runs on. It does not decide the result, except that instruction sets round differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hardware {
    /// The instruction set; `None` for the best one of this machine.
    pub isa: Option<Isa>,
    /// Maximum number of threads of a step, at least 1.
    pub max_threads: usize,
    /// Whether activations are measured. They cost a pass in each step.
    pub figures: bool,
    /// What the reverse pass computes again, to save memory.
    pub recompute: Recompute,
}

/// What a training works on, besides its recipe and its weights.
#[derive(Debug, Clone, Copy)]
pub struct Setting<'a> {
    /// The network.
    pub graph: &'a Graph,
    /// The pictures.
    pub parts: &'a Parts,
    /// The name of the data, for checkpoints.
    pub data: &'a str,
    /// What it runs on.
    pub hardware: Hardware,
}

impl Setting<'_> {
    /// The shape in which the network reads pictures.
    ///
    /// # Errors
    /// [`NetError::Data`] unless the network reads maps of 1 or 3 channels.
    pub fn frame(&self) -> Result<Frame, NetError> {
        Frame::of(self.graph.name(), self.graph.input())
    }

    /// How the recipe normalises the pictures of the training part, each of which is read once for it. It is the same for all
    /// trainings on these pictures.
    ///
    /// # Errors
    /// Those of [`frame`](Self::frame) and of reading the pictures.
    pub fn normalisation(&self, recipe: &Recipe) -> Result<Normalisation, NetError> {
        Normalisation::of(&self.parts.training, self.frame()?, recipe.normalise)
    }

    /// The options with which the recipe compiles the network.
    pub fn options(&self, recipe: &Recipe) -> TrainOptions {
        let Self { graph, hardware, .. } = self;
        let frozen = graph.params().map(|(name, _)| name).filter(|name| recipe.is_frozen(name)).collect();
        let mut options = TrainOptions::default()
            .batch(recipe.batch)
            .loss(recipe.loss)
            .max_threads(hardware.max_threads.max(1))
            .seed(recipe.seed)
            .dropout(if recipe.has_full_batches() { 0.0 } else { recipe.dropout })
            .drop_connect(recipe.drop_connect)
            .survival(recipe.survival)
            .parametrization(recipe.parametrization)
            .frozen(frozen)
            .figures(hardware.figures)
            .recompute(hardware.recompute);
        options.isa = hardware.isa;
        options
    }

    /// Checks that the network can be trained on the pictures by the recipe.
    ///
    /// # Errors
    /// [`NetError::Data`] if the data do not fit the network, and [`NetError::Option`] if the recipe is not usable.
    pub(super) fn check(&self, recipe: &Recipe) -> Result<(), NetError> {
        recipe.check()?;
        let (frame, classes) = (self.frame()?, self.graph.output().len()?);
        for part in [&self.parts.training, &self.parts.validation] {
            part.check(self.graph.name(), classes, frame)?;
        }
        self.check_names(recipe)?;
        let pictures = self.parts.training.len();
        if recipe.batch > pictures {
            let expected = format!("1 to {pictures}, the pictures to train on");
            return Err(NetError::Option { option: "batch", expected, got: recipe.batch.to_string() });
        }
        Ok(())
    }
}

impl Setting<'_> {
    /// Checks that every pattern fits a parameter, because a wrong one would silently do nothing, and that something is trained.
    fn check_names(&self, recipe: &Recipe) -> Result<(), NetError> {
        let names: Vec<String> = self.graph.params().map(|(name, _)| name).collect();
        let scales = recipe.scales.iter().map(|scale| ("lr-scale", &scale.pattern));
        let mut patterns = recipe.freeze.iter().map(|pattern| ("freeze", pattern)).chain(scales);
        let unknown = patterns.find(|(_, pattern)| !names.iter().any(|name| pattern.fits(name)));
        let network = self.graph.name();
        if let Some((option, pattern)) = unknown {
            let expected = format!("names of parameters of network `{network}`");
            return Err(NetError::Option { option, expected, got: format!("`{pattern}`") });
        }
        let mut trained = self.graph.params().filter(|(_, param)| param.role.is_trained());
        if trained.all(|(name, _)| recipe.is_frozen(&name)) {
            let expected = format!("that a parameter of network `{network}` is trained");
            return Err(NetError::Option { option: "freeze", expected, got: "all of them".to_owned() });
        }
        Ok(())
    }
}

impl Recipe {
    /// Whether each step has the gradient of all pictures.
    pub fn has_full_batches(&self) -> bool {
        matches!(self.method, Method::Lbfgs { .. })
    }

    /// Checks what does not depend on the data. [`TrainOptions`] check the rest.
    fn check(&self) -> Result<(), NetError> {
        let wrong = |option, expected: &str, got: String| {
            Err(NetError::Option { option, expected: expected.to_owned(), got })
        };
        if self.batch == 0 {
            return wrong("batch", "at least 1", self.batch.to_string());
        }
        if !(self.rate > 0.0 && self.rate.is_finite()) {
            return wrong("lr", "a finite number above 0", self.rate.to_string());
        }
        let strengths =
            [("warm-up", self.warm_up), ("l1", self.penalty.l1.into()), ("l2", self.penalty.l2.into())];
        for (option, value) in strengths {
            if !(value >= 0.0 && value.is_finite()) {
                return wrong(option, "a finite number, at least 0", value.to_string());
            }
        }
        if let Some(decay) = self.average.filter(|&decay| !(decay > 0.0 && decay <= 1.0)) {
            return wrong("average", "a number above 0 and at most 1", decay.to_string());
        }
        if let (Some(decay), Method::Steps(Rule::LookAhead { .. })) = (self.average, self.method) {
            let expected = "an optimiser other than look-ahead, whose weights are not those of the network";
            return wrong("average", expected, decay.to_string());
        }
        if let (Some(decay), true) = (self.average, self.parametrization != Parametrization::Plain) {
            let expected = "plain weights, since an average of their vectors is no average of the weights";
            return wrong("average", expected, decay.to_string());
        }
        let is_random = !self.augment.is_none() || self.drop_connect > 0.0 || self.survival < 1.0;
        if self.has_full_batches() && is_random {
            let expected = "no augmentation, DropConnect and stochastic depth with lbfgs";
            return wrong("optimizer", expected, "a random loss".to_owned());
        }
        Ok(())
    }
}
