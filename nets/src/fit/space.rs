//! [`Space`]: values of hyperparameters to try.

use super::recipe::Recipe;
use crate::data::{Purpose, Random};
use std::fmt;
use std::str::FromStr;

/// A hyperparameter and its range.
#[derive(Debug, Clone, PartialEq)]
pub struct Range {
    /// The name of the option.
    pub name: String,
    /// The least value.
    pub low: f64,
    /// The largest value.
    pub high: f64,
    /// Whether equal ratios are equally likely: `10^u`, where `u` is uniform. The only choice for learning rates and
    /// penalties, whose useful values span orders of magnitude.
    pub is_log: bool,
}

/// The hyperparameters to try.
#[derive(Debug, Clone, PartialEq)]
pub struct Space(pub Vec<Range>);

/// One value for each hyperparameter of a space, in its order.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial(pub Vec<f64>);

/// Options that can be searched, whether on a logarithmic scale, and what their values must be below.
const OPTIONS: [(&str, bool, f64); 6] = [
    ("lr", true, MOST),
    ("l1", true, MOST),
    ("l2", true, MOST),
    ("warm-up", false, MOST),
    ("dropout", false, 1.0),
    ("drop-connect", false, 1.0),
];

/// More than any useful value. It fits `f32`.
const MOST: f64 = 1e30;

/// By how much a range shrinks around the best value.
const SHRINK: f64 = 1.0 / 3.0;

impl FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names: Vec<&str> = OPTIONS.iter().map(|&(name, ..)| name).collect();
        let wrong = || {
            let names = names.join(", ");
            format!("expected OPTION=LOW..HIGH, as in lr=1e-4..1e-1, with an option of {names}, got `{text}`")
        };
        let (name, range) = text.split_once('=').ok_or_else(wrong)?;
        let (low, high) = range.split_once("..").ok_or_else(wrong)?;
        let &(_, is_log, end) = OPTIONS.iter().find(|&&(option, ..)| option == name).ok_or_else(wrong)?;
        let (Ok(low), Ok(high)) = (low.parse::<f64>(), high.parse::<f64>()) else { return Err(wrong()) };
        let fits = low < high && if is_log { low > 0.0 } else { low >= 0.0 };
        if fits && high >= end {
            return Err(format!("{name}: expected values below {end}, got `{text}`"));
        }
        if fits { Ok(Self { name: name.to_owned(), low, high, is_log }) } else { Err(wrong()) }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={:e}..{:e}", self.name, self.low, self.high)
    }
}

impl Range {
    /// The value at a share of the range.
    fn at(&self, share: f64) -> f64 {
        match self.is_log {
            true => 10f64.powf(self.low.log10() + share * (self.high.log10() - self.low.log10())),
            false => self.low + share * (self.high - self.low),
        }
    }

    /// A third of the range around a value, moved so that it stays within.
    fn around(&self, value: f64) -> Self {
        let place = |value: f64| if self.is_log { value.log10() } else { value };
        let (low, high) = (place(self.low), place(self.high));
        let width = (high - low) * SHRINK;
        let start = (place(value) - width / 2.0).clamp(low, high - width);
        let back = |place: f64| if self.is_log { 10f64.powf(place) } else { place };
        Self { low: back(start), high: back(start + width), ..self.clone() }
    }
}

impl Space {
    /// Random trials. Trial `index` is the same however many there are.
    pub fn random(&self, seed: u64, round: u64, index: u64) -> Trial {
        let mut random = Random::new(seed, Purpose::Search, round, index);
        Trial(self.0.iter().map(|range| range.at(random.unit64())).collect())
    }

    /// All combinations of `steps` values of each hyperparameter, from end to end.
    pub fn grid(&self, steps: usize) -> Vec<Trial> {
        let mut trials = vec![Trial(Vec::new())];
        for range in &self.0 {
            let share = |step: usize| if steps > 1 { step as f64 / (steps - 1) as f64 } else { 0.5 };
            let values: Vec<f64> = (0..steps).map(|step| range.at(share(step))).collect();
            let longer = |trial: &Trial| {
                let with = |&value: &f64| Trial(trial.0.iter().copied().chain([value]).collect());
                values.iter().map(with).collect::<Vec<_>>()
            };
            trials = trials.iter().flat_map(longer).collect();
        }
        trials
    }

    /// The finer space around a trial.
    #[must_use]
    pub fn around(&self, best: &Trial) -> Self {
        Self(self.0.iter().zip(&best.0).map(|(range, &value)| range.around(value)).collect())
    }

    /// Puts the values of a trial into a recipe.
    pub fn apply(&self, trial: &Trial, recipe: &mut Recipe) {
        for (range, &value) in self.0.iter().zip(&trial.0) {
            match range.name.as_str() {
                "lr" => recipe.rate = value,
                "l1" => recipe.penalty.l1 = value as f32,
                "l2" => recipe.penalty.l2 = value as f32,
                "warm-up" => recipe.warm_up = value,
                "dropout" => recipe.dropout = value as f32,
                _ => recipe.drop_connect = value as f32,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space() -> Space {
        Space(["lr=1e-4..1e-1", "dropout=0..0.6"].iter().map(|text| text.parse().unwrap()).collect())
    }

    #[test]
    fn random_rates_are_uniform_in_their_logarithm() {
        let rates: Vec<f64> = (0..3000).map(|index| space().random(1, 0, index).0[0]).collect();
        for decade in [1e-4, 1e-3, 1e-2] {
            let count = rates.iter().filter(|&&rate| (decade..10.0 * decade).contains(&rate)).count();
            // 1000 each, with a standard deviation of 26.
            assert!((880..1120).contains(&count), "{decade}: {count}");
        }
        assert_eq!(space().random(1, 0, 5), space().random(1, 0, 5));
        assert_ne!(space().random(1, 0, 5), space().random(1, 1, 5));
    }

    #[test]
    fn a_grid_has_every_combination() {
        let trials = space().grid(4);
        assert_eq!(trials.len(), 16);
        let rates: Vec<f64> = trials.iter().step_by(4).map(|trial| trial.0[0]).collect();
        for (rate, expected) in rates.iter().zip([1e-4, 1e-3, 1e-2, 1e-1]) {
            assert!((rate / expected - 1.0).abs() < 1e-9, "{rates:?}");
        }
        assert_eq!(space().grid(1)[0].0[1], 0.3);
    }

    #[test]
    fn a_finer_space_is_within_the_coarse_one() {
        let fine = space().around(&Trial(vec![1e-2, 0.6]));
        let [rate, dropout] = &fine.0[..] else { panic!("two ranges") };
        assert!((rate.high / rate.low - 10.0).abs() < 1e-6 && rate.low < 1e-2 && rate.high > 1e-2, "{rate}");
        assert!((dropout.low - 0.4).abs() < 1e-9 && (dropout.high - 0.6).abs() < 1e-9, "{dropout}");
    }

    #[test]
    fn trials_change_recipes() {
        let mut recipe = Recipe::default();
        space().apply(&Trial(vec![0.5, 0.25]), &mut recipe);
        assert_eq!((recipe.rate, recipe.dropout), (0.5, 0.25));
        for text in ["lr", "lr=1..0", "lr=0..1", "depth=1..2", "l2=a..b", "dropout=-1..1"] {
            assert!(text.parse::<Range>().unwrap_err().contains("expected OPTION=LOW..HIGH"), "{text}");
        }
        // A grid has both ends, and no layer can drop everything.
        let all = "dropout=0..1".parse::<Range>().unwrap_err();
        assert_eq!(all, "dropout: expected values below 1, got `dropout=0..1`");
    }
}
