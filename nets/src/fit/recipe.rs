//! [`Recipe`]: everything that decides the result of a training, besides the data and the network.

use super::pattern::Pattern;
use super::values::{Values, get, list};
use crate::data::{Augment, Normalise};
use crate::optim::{LearningRate, Penalty, Rule, Schedule};
use crate::train::{Loss, Parametrization};
use crate::weights::Init;
use std::fmt;
use std::str::FromStr;

/// How weights are optimised.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Method {
    /// A step for each batch.
    Steps(Rule),
    /// L-BFGS: a step for each epoch, with the gradient of all batches. Dropout and augmentation would make the loss a
    /// different function in each evaluation, so a recipe must not ask for them.
    Lbfgs {
        /// Steps to remember.
        history: usize,
    },
}

/// Everything that decides the result of a training, besides the data and the network.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// Passes over the training part.
    pub epochs: u64,
    /// Pictures per step.
    pub batch: usize,
    /// The optimiser.
    pub method: Method,
    /// The learning rate at the beginning.
    pub rate: f64,
    /// The learning rate over time.
    pub schedule: Schedule,
    /// Epochs in which the learning rate rises from nearly 0.
    pub warm_up: f64,
    /// What large weights cost.
    pub penalty: Penalty,
    /// The share of elements that dropout layers set to zero.
    pub dropout: f32,
    /// The share of weights of fully connected layers that are set to zero.
    pub drop_connect: f32,
    /// The probability that the last residual branch is kept.
    pub survival: f32,
    /// How filters and matrices are computed from what is trained.
    pub parametrization: Parametrization,
    /// Random changes of pictures.
    pub augment: Augment,
    /// What is subtracted from pictures.
    pub normalise: Normalise,
    /// The distribution of the initial weights, unless there are weights to start from.
    pub init: Init,
    /// How wrong an answer is.
    pub loss: Loss,
    /// Parameters that are not trained.
    pub freeze: Vec<Pattern>,
    /// Factors of the learning rate. The last pattern that fits a name decides.
    pub scales: Vec<Scale>,
    /// The decay of the average of the weights, which is the result; `None` for the last weights.
    pub average: Option<f64>,
    /// The seed of everything random.
    pub seed: u64,
}

/// A factor of the learning rate for some parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Scale {
    /// The parameters.
    pub pattern: Pattern,
    /// The factor.
    pub factor: f64,
}

impl Default for Recipe {
    /// Ten epochs of Adam in batches of 64, with half a cosine as schedule.
    fn default() -> Self {
        Self {
            epochs: 10,
            batch: 64,
            method: Method::Steps(Rule::adam()),
            rate: Rule::adam().usual_rate(),
            schedule: Schedule::Cosine { period: 0.0, multiply: 1.0, least: 0.0 },
            warm_up: 0.0,
            penalty: Penalty::default(),
            dropout: 0.5,
            drop_connect: 0.0,
            survival: 1.0,
            parametrization: Parametrization::default(),
            augment: Augment::default(),
            normalise: Normalise::default(),
            init: Init::default(),
            loss: Loss::default(),
            freeze: Vec::new(),
            scales: Vec::new(),
            average: None,
            seed: 0,
        }
    }
}

impl Recipe {
    /// The learning rate with its schedule.
    pub fn learning_rate(&self) -> LearningRate {
        LearningRate::new(self.rate, self.schedule, self.epochs as f64).warm_up(self.warm_up)
    }

    /// The factor of the learning rate of a parameter.
    pub fn scale(&self, name: &str) -> f64 {
        self.scales.iter().rev().find(|scale| scale.pattern.fits(name)).map_or(1.0, |scale| scale.factor)
    }

    /// Whether a parameter is not trained.
    pub fn is_frozen(&self, name: &str) -> bool {
        self.freeze.iter().any(|pattern| pattern.fits(name))
    }

    pub(super) fn to_values(&self) -> Values {
        let join = |parts: Vec<String>| parts.join(" ");
        let values = [
            ("epochs", self.epochs.to_string()),
            ("batch", self.batch.to_string()),
            ("optimizer", self.method.to_string()),
            ("lr", format!("{:?}", self.rate)),
            ("schedule", self.schedule.to_string()),
            ("warm-up", format!("{:?}", self.warm_up)),
            ("l1", format!("{:?}", self.penalty.l1)),
            ("l2", format!("{:?}", self.penalty.l2)),
            ("dropout", format!("{:?}", self.dropout)),
            ("drop-connect", format!("{:?}", self.drop_connect)),
            ("survival", format!("{:?}", self.survival)),
            ("parametrization", self.parametrization.to_string()),
            ("augment", self.augment.to_string()),
            ("normalise", self.normalise.name().to_owned()),
            ("init", self.init.name().to_owned()),
            ("loss", self.loss.to_string()),
            ("freeze", join(self.freeze.iter().map(Pattern::to_string).collect())),
            ("lr-scale", join(self.scales.iter().map(Scale::to_string).collect())),
            ("average", self.average.map_or(String::new(), |decay| format!("{decay:?}"))),
            ("seed", self.seed.to_string()),
        ];
        values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    pub(super) fn from_values(values: &Values) -> Result<Self, String> {
        Ok(Self {
            epochs: get(values, "epochs")?,
            batch: get(values, "batch")?,
            method: get(values, "optimizer")?,
            rate: get(values, "lr")?,
            schedule: get(values, "schedule")?,
            warm_up: get(values, "warm-up")?,
            penalty: Penalty { l1: get(values, "l1")?, l2: get(values, "l2")? },
            dropout: get(values, "dropout")?,
            drop_connect: get(values, "drop-connect")?,
            survival: get(values, "survival")?,
            parametrization: get(values, "parametrization")?,
            augment: get(values, "augment")?,
            normalise: get(values, "normalise")?,
            init: get(values, "init")?,
            loss: get(values, "loss")?,
            freeze: list(values, "freeze")?,
            scales: list(values, "lr-scale")?,
            average: list(values, "average")?.pop(),
            seed: get(values, "seed")?,
        })
    }
}

/// All options with their values, as in `epochs=10 batch=64`.
impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = self.to_values();
        let options = values.iter().map(|(name, value)| format!("{name}={}", value.replace(' ', "+")));
        f.write_str(&options.collect::<Vec<_>>().join(" "))
    }
}

impl FromStr for Method {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let history = match text.split_once(':') {
            None if text == "lbfgs" => Some(10),
            Some(("lbfgs", history)) => history.parse().ok().filter(|history| (1..=1000).contains(history)),
            _ => {
                return text
                    .parse()
                    .map(Self::Steps)
                    .map_err(|error: String| format!("{error}; or lbfgs[:HISTORY]"));
            }
        };
        let history = history.ok_or_else(|| format!("expected a history from 1 to 1000, got `{text}`"))?;
        Ok(Self::Lbfgs { history })
    }
}

/// The text that [`FromStr`] reads back.
impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Steps(rule) => rule.fmt(f),
            Self::Lbfgs { history } => write!(f, "lbfgs:{history}"),
        }
    }
}

impl FromStr for Scale {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected PATTERN=FACTOR, as in *=0.1, got `{text}`");
        let (pattern, factor) = text.rsplit_once('=').ok_or_else(wrong)?;
        let factor = factor.parse().ok().filter(|factor: &f64| *factor >= 0.0 && factor.is_finite());
        let Ok(pattern) = pattern.parse();
        Ok(Self { pattern, factor: factor.ok_or_else(wrong)? })
    }
}

/// The text that [`FromStr`] reads back to the same bits.
impl fmt::Display for Scale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={:?}", self.pattern, self.factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipes_are_read_back() {
        let odd = Recipe {
            epochs: 3,
            method: "adamw:0.03".parse().unwrap(),
            rate: 0.1 + 0.2,
            schedule: "cosine:2,2,0.1".parse().unwrap(),
            penalty: Penalty { l1: 1e-5, l2: 0.1 },
            parametrization: Parametrization::WeightNorm,
            augment: "flip,crop=3".parse().unwrap(),
            loss: Loss::Hinge { margin: 0.7 },
            freeze: vec!["c1.*".parse().unwrap(), "*.bias".parse().unwrap()],
            scales: vec!["*=0.1".parse().unwrap(), "output.*=1".parse().unwrap()],
            average: Some(0.998),
            seed: u64::MAX,
            ..Recipe::default()
        };
        let full_batch = Recipe { method: "lbfgs".parse().unwrap(), ..Recipe::default() };
        for recipe in [Recipe::default(), odd, full_batch] {
            assert_eq!(Recipe::from_values(&recipe.to_values()).unwrap(), recipe);
        }
        let mut values = Recipe::default().to_values();
        values.insert("batch".to_owned(), "many".to_owned());
        assert_eq!(Recipe::from_values(&values).unwrap_err(), "`batch` as `many`");
        values.remove("batch");
        assert_eq!(Recipe::from_values(&values).unwrap_err(), "no `batch`");
    }

    #[test]
    fn the_last_scale_that_fits_decides() {
        let scales = vec!["*=0.1".parse().unwrap(), "output.*=1".parse().unwrap()];
        let recipe = Recipe { scales, ..Recipe::default() };
        assert_eq!((recipe.scale("c1.weight"), recipe.scale("output.bias")), (0.1, 1.0));
        assert_eq!(Recipe::default().scale("c1.weight"), 1.0);
    }

    #[test]
    fn wrong_texts_say_what_is_right() {
        assert!(
            "lbfgs:0".parse::<Method>().is_err() && "sgdd".parse::<Method>().unwrap_err().contains("lbfgs")
        );
        assert!("c1".parse::<Scale>().is_err() && "c1=-1".parse::<Scale>().is_err());
    }
}
