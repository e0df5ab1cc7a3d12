//! The options that make a recipe, for all commands that train.

use clap::Args;
use nets::Init;
use nets::data::{Augment, Normalise};
use nets::fit::{Method, Pattern, Recipe, Scale};
use nets::optim::{Penalty, Schedule};
use nets::train::{Loss, Parametrization};

/// The options of a recipe. Each has a default that suits the network.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Recipe")]
pub(crate) struct RecipeArgs {
    /// Passes over the training part [default: 30 on digits, else 10]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    epochs: Option<u64>,
    /// Pictures per step [default: 64]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    batch: Option<u32>,
    /// sgd, momentum[:M], nesterov[:M], look-ahead[:M], adagrad, rmsprop[:DECAY], adam[:B1,B2], adam-uncorrected,
    /// adamw[:DECAY], or lbfgs[:HISTORY] with full batches [default: adam]
    #[arg(long, value_name = "RULE")]
    optimizer: Option<Method>,
    /// Learning rate at the beginning [default: what usually suits the optimiser, or 4e-3 for digits with adam]
    #[arg(long, value_name = "RATE", value_parser = positive, allow_negative_numbers = true)]
    lr: Option<f64>,
    /// constant, step[:EVERY[,FACTOR]], exponential[:K], inverse[:K], cosine[:PERIOD[,MULTIPLY[,LEAST]]] or
    /// plateau[:FACTOR[,PATIENCE]], all in epochs [default: cosine, one period]
    #[arg(long, value_name = "SCHEDULE")]
    schedule: Option<Schedule>,
    /// Epochs in which the learning rate rises linearly [default: 0, or 1 on digits]
    #[arg(long, value_name = "EPOCHS", value_parser = not_negative)]
    warm_up: Option<f64>,
    /// Strength of the L1 penalty on weights [default: 0]
    #[arg(long, value_name = "STRENGTH", value_parser = not_negative, allow_negative_numbers = true)]
    l1: Option<f64>,
    /// Strength of the L2 penalty on weights [default: 0]
    #[arg(long, value_name = "STRENGTH", value_parser = not_negative, allow_negative_numbers = true)]
    l2: Option<f64>,
    /// Share of elements that dropout layers set to zero [default: 0.5]
    #[arg(long, value_name = "SHARE", value_parser = share)]
    dropout: Option<f32>,
    /// Share of weights of fully connected layers that DropConnect sets to zero [default: 0]
    #[arg(long, value_name = "SHARE", value_parser = share)]
    drop_connect: Option<f32>,
    /// Probability that the last residual branch is kept (stochastic depth) [default: 1]
    #[arg(long, value_name = "SHARE", value_parser = survival)]
    survival: Option<f32>,
    /// How weights are computed from what is trained: plain, weight-norm or weight-standard [default: plain]
    #[arg(long, value_name = "KIND")]
    parametrization: Option<Parametrization>,
    /// Random changes of pictures: none, or a list of flip, crop=PIXELS, scale=SHARE, rotate=DEGREES, shear=SHARE,
    /// jitter=SHARE and cut-out=PIXELS [default: none, or for digits small changes without flips]
    #[arg(long, value_name = "LIST")]
    augment: Option<Augment>,
    /// What is subtracted from pictures, and by whose deviation they are divided: none, channel or image [default:
    /// channel]
    #[arg(long, value_name = "KIND")]
    normalise: Option<Normalise>,
    /// Initial weights: he, xavier, he-normal, xavier-normal, zero, normal-0.01 or normal-1 [default: he, or xavier for
    /// lenet5]
    #[arg(long, value_name = "INIT")]
    init: Option<Init>,
    /// softmax (cross-entropy) or hinge[:MARGIN] [default: softmax]
    #[arg(long, value_name = "LOSS")]
    loss: Option<Loss>,
    /// Parameters that are not trained, as in `c1.*`
    #[arg(long, value_name = "PATTERN", num_args = 1..)]
    freeze: Vec<Pattern>,
    /// Factors of the learning rate, as in `*=0.1 output.*=1`; the last pattern that fits decides
    #[arg(long, value_name = "PATTERN=FACTOR", num_args = 1..)]
    lr_scale: Vec<Scale>,
    /// Train towards the average of the weights with this decay; 1 is the plain mean of all steps
    #[arg(long, value_name = "DECAY", value_parser = decay)]
    average: Option<f64>,
    /// Seed of everything random [default: 0]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

/// The recipe for a network on some data, where the options do not say otherwise.
pub(crate) fn usual(network: &str, data: &str) -> Recipe {
    let mut recipe = Recipe::default();
    if ["lenet5", "lenet5-1998", "lenet5-sigmoid"].contains(&network) {
        recipe.init = Init::Xavier;
    }
    if data == "digits" {
        recipe.augment = Augment::DIGITS;
        (recipe.epochs, recipe.warm_up, recipe.rate) = (30, 1.0, 4e-3);
    }
    recipe
}

impl RecipeArgs {
    /// `base` with the options that were given.
    pub(crate) fn recipe(&self, base: Recipe) -> Recipe {
        let method = self.optimizer.unwrap_or(base.method);
        let usual_rate = match method {
            Method::Steps(rule) if Some(method) == self.optimizer => rule.usual_rate(),
            Method::Steps(_) => base.rate,
            Method::Lbfgs { .. } => 1.0,
        };
        let is_full = matches!(method, Method::Lbfgs { .. });
        let augment = if is_full { Augment::default() } else { base.augment };
        let strength = |given: Option<f64>, base: f32| given.map_or(base, |given| given as f32);
        let mut recipe = base.clone();
        recipe.epochs = self.epochs.unwrap_or(base.epochs);
        recipe.batch = self.batch.map_or(base.batch, |batch| batch as usize);
        recipe.method = method;
        recipe.rate = self.lr.unwrap_or(usual_rate);
        // L-BFGS finds its own lengths of steps.
        let schedule = if is_full { Schedule::Constant } else { base.schedule };
        recipe.schedule = self.schedule.unwrap_or(schedule);
        recipe.warm_up = self.warm_up.unwrap_or(if is_full { 0.0 } else { base.warm_up });
        recipe.penalty =
            Penalty { l1: strength(self.l1, base.penalty.l1), l2: strength(self.l2, base.penalty.l2) };
        recipe.dropout = self.dropout.unwrap_or(base.dropout);
        recipe.drop_connect = self.drop_connect.unwrap_or(base.drop_connect);
        recipe.survival = self.survival.unwrap_or(base.survival);
        recipe.parametrization = self.parametrization.unwrap_or(base.parametrization);
        recipe.augment = self.augment.unwrap_or(augment);
        recipe.normalise = self.normalise.unwrap_or(base.normalise);
        recipe.init = self.init.unwrap_or(base.init);
        recipe.loss = self.loss.unwrap_or(base.loss);
        recipe.freeze.clone_from(&self.freeze);
        recipe.scales.clone_from(&self.lr_scale);
        recipe.average = self.average.or(base.average);
        recipe.seed = self.seed.unwrap_or(base.seed);
        recipe
    }
}

fn number(text: &str, expected: &str, fits: impl Fn(f64) -> bool) -> Result<f64, String> {
    let number = text.parse().ok().filter(|&number: &f64| number.is_finite() && fits(number));
    number.ok_or_else(|| format!("expected {expected}, got {text}"))
}

fn positive(text: &str) -> Result<f64, String> {
    number(text, "a number above 0", |number| number > 0.0)
}

pub(super) fn not_negative(text: &str) -> Result<f64, String> {
    number(text, "a number of at least 0", |number| number >= 0.0)
}

fn share(text: &str) -> Result<f32, String> {
    number(text, "a number from 0 to below 1", |number| (0.0..1.0).contains(&number))
        .map(|number| number as f32)
}

fn survival(text: &str) -> Result<f32, String> {
    number(text, "a number above 0 and at most 1", |number| number > 0.0 && number <= 1.0)
        .map(|number| number as f32)
}

fn decay(text: &str) -> Result<f64, String> {
    number(text, "a number above 0 and at most 1", |number| number > 0.0 && number <= 1.0)
}
