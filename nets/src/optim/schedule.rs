//! [`Schedule`]: the learning rate over time. [`LearningRate`]: a schedule with its warm-up and its state.

use super::text::{Fields, float};
use std::f64::consts::PI;
use std::fmt;
use std::str::FromStr;

/// The learning rate over time. `a` is the rate at the beginning, and `t` the time in epochs.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Schedule {
    /// `a`.
    Constant,
    /// `a factor^floor(t / every)`.
    Step {
        /// Epochs between two steps, at least 1e-3.
        every: f64,
        /// The factor of a step.
        factor: f64,
    },
    /// `a exp(-k t)`, with a whole number of epochs for `t`.
    Exponential {
        /// The decay `k` per epoch.
        decay: f64,
    },
    /// `a / (1 + k t)`, with a whole number of epochs for `t`.
    Inverse {
        /// The decay `k` per epoch.
        decay: f64,
    },
    /// SGDR (Loshchilov and Hutter 2017, eq. 5): half a cosine from `a` to `least a` in each period, after which it
    /// restarts. `t` includes the part of the current epoch.
    Cosine {
        /// Epochs of the first period, at least 1e-3; 0 for all epochs of the training.
        period: f64,
        /// The factor by which each period is longer than the last: 1, or at least 1.01.
        multiply: f64,
        /// The least rate, as a share of `a`.
        least: f64,
    },
    /// `a` times `factor` whenever the loss has not fallen for more than `patience` epochs.
    Plateau {
        /// The factor of a step.
        factor: f64,
        /// Epochs without a better loss that are tolerated.
        patience: u32,
    },
}

/// A loss counts as better if it is below the best by this share.
const BETTER: f64 = 1e-4;
/// The shortest period, in epochs. A training with more steps per epoch than 1000 still has one step in each period.
const LEAST_PERIOD: f64 = 1e-3;
/// The least factor by which a period is longer than the last, if it is not 1. The periods of a million epochs can then be
/// counted in thousands of additions.
const LEAST_MULTIPLY: f64 = 1.01;

impl Schedule {
    /// The names of [`FromStr`], for messages.
    pub const NAMES: &str = "constant, step[:EVERY[,FACTOR]], exponential[:K], inverse[:K], \
         cosine[:PERIOD[,MULTIPLY[,LEAST]]] or plateau[:FACTOR[,PATIENCE]]";

    /// The factor of the learning rate at time `t` of a training of `epochs` epochs. A plateau has no fixed factor: it
    /// is 1 here.
    pub fn factor(&self, t: f64, epochs: f64) -> f64 {
        match *self {
            Self::Constant | Self::Plateau { .. } => 1.0,
            Self::Step { every, factor } => factor.powf((t / every).floor()),
            Self::Exponential { decay } => (-decay * t.floor()).exp(),
            Self::Inverse { decay } => 1.0 / (1.0 + decay * t.floor()),
            Self::Cosine { period, multiply, least } => {
                let share = share_of_period(t, first_period(period, epochs), multiply);
                least + (1.0 - least) * (1.0 + (PI * share).cos()) / 2.0
            }
        }
    }

    /// Whether a period of a cosine ends at time `t`, and not before. Snapshots of a cyclic rate are taken there.
    pub fn ends_period(&self, t: f64, epochs: f64) -> bool {
        let Self::Cosine { period, multiply, .. } = *self else { return false };
        t > 0.0 && share_of_period(t, first_period(period, epochs), multiply) == 0.0
    }
}

/// Epochs of the first period of a cosine.
fn first_period(period: f64, epochs: f64) -> f64 {
    if period > 0.0 { period.max(LEAST_PERIOD) } else { epochs }
}

/// How much of its period has passed at time `t`, from 0 to below 1.
fn share_of_period(t: f64, period: f64, multiply: f64) -> f64 {
    if multiply == 1.0 {
        let periods = t / period;
        // A period such as 0.7 and the quotient are rounded, so that whole periods can be a little more or less.
        let is_whole = (periods - periods.round()).abs() <= 2.0 * f64::EPSILON * periods;
        return if is_whole { 0.0 } else { periods.fract() };
    }
    let (mut start, mut length) = (0.0, period);
    while t >= start + length {
        start += length;
        length *= multiply.max(LEAST_MULTIPLY);
    }
    (t - start) / length
}

impl FromStr for Schedule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut fields = Fields::new(text, Self::NAMES)?;
        let epochs = LEAST_PERIOD..1e6;
        let factor = f64::MIN_POSITIVE..1.0;
        let schedule = match fields.name {
            "constant" => Self::Constant,
            "step" => Self::Step {
                every: fields.number("number of epochs", 10.0, &epochs)?,
                factor: fields.number("factor", 0.1, &factor)?,
            },
            "exponential" => Self::Exponential { decay: fields.number("decay", 0.1, &(0.0..1e3))? },
            "inverse" => Self::Inverse { decay: fields.number("decay", 0.1, &(0.0..1e3))? },
            "cosine" => Self::Cosine {
                period: fields.number_or("number of epochs", 0.0, &epochs)?,
                multiply: fields.number_or("factor", 1.0, &(LEAST_MULTIPLY..100.0))?,
                least: fields.number("least share", 0.0, &(0.0..1.0))?,
            },
            "plateau" => Self::Plateau {
                factor: fields.number("factor", 0.1, &factor)?,
                patience: fields.number("patience", 2, &(0..10_000))?,
            },
            _ => return Err(fields.unknown()),
        };
        fields.end()?;
        Ok(schedule)
    }
}

/// The text that [`FromStr`] reads back to the same bits.
impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Constant => f.write_str("constant"),
            Self::Step { every, factor } => write!(f, "step:{},{}", float(every), float(factor)),
            Self::Exponential { decay } => write!(f, "exponential:{}", float(decay)),
            Self::Inverse { decay } => write!(f, "inverse:{}", float(decay)),
            Self::Cosine { period, multiply, least } => {
                write!(f, "cosine:{},{},{}", float(period), float(multiply), float(least))
            }
            Self::Plateau { factor, patience } => write!(f, "plateau:{},{patience}", float(factor)),
        }
    }
}

/// A learning rate with its schedule, its warm-up and its state.
#[derive(Debug, Clone, PartialEq)]
pub struct LearningRate {
    /// The rate at the beginning, after the warm-up.
    pub base: f64,
    /// The schedule.
    pub schedule: Schedule,
    /// Epochs in which the rate rises linearly from nearly 0.
    pub warm_up: f64,
    /// Epochs of the training.
    pub epochs: f64,
    plateau: PlateauState,
}

/// What a schedule of plateaus remembers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlateauState {
    /// The factor of the rate now.
    pub factor: f64,
    /// The lowest loss.
    pub best: f64,
    /// Epochs since the lowest loss or the last step.
    pub bad: u32,
}

impl Default for PlateauState {
    fn default() -> Self {
        Self { factor: 1.0, best: f64::INFINITY, bad: 0 }
    }
}

impl LearningRate {
    /// A rate without warm-up.
    pub fn new(base: f64, schedule: Schedule, epochs: f64) -> Self {
        Self { base, schedule, warm_up: 0.0, epochs, plateau: PlateauState::default() }
    }

    /// Sets the epochs of warm-up.
    #[must_use]
    pub fn warm_up(self, warm_up: f64) -> Self {
        Self { warm_up, ..self }
    }

    /// The rate of step `step`, counted from 0, with `per_epoch` steps per epoch. The warm-up multiplies the schedule: the
    /// first step has a rate, and the last step of the warm-up has all of it.
    pub fn at(&self, step: u64, per_epoch: u64) -> f64 {
        let per_epoch = per_epoch.max(1) as f64;
        let warm_up = (self.warm_up * per_epoch).round();
        let warm = ((step + 1) as f64 / warm_up.max(1.0)).min(1.0);
        self.base * warm * self.plateau.factor * self.schedule.factor(step as f64 / per_epoch, self.epochs)
    }

    /// Reports the loss at the end of an epoch. Only plateaus use it.
    pub fn end_epoch(&mut self, loss: f64) {
        let Schedule::Plateau { factor, patience } = self.schedule else { return };
        let state = &mut self.plateau;
        if loss < state.best * (1.0 - BETTER) {
            (state.best, state.bad) = (loss, 0);
        } else {
            state.bad += 1;
        }
        if state.bad > patience {
            (state.factor, state.bad) = (state.factor * factor, 0);
        }
    }

    /// The state, to be saved.
    pub fn state(&self) -> PlateauState {
        self.plateau
    }

    /// Continues from a saved state.
    pub fn restore(&mut self, state: PlateauState) {
        self.plateau = state;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_back() {
        for text in [
            "constant",
            "step:3.0,0.5",
            "exponential:0.1",
            "inverse:0.25",
            "cosine:5.0,2.0,0.01",
            "plateau:0.5,3",
        ] {
            assert_eq!(text.parse::<Schedule>().unwrap().to_string(), text);
        }
        assert_eq!("step".parse(), Ok(Schedule::Step { every: 10.0, factor: 0.1 }));
        for text in ["", "stairs", "step:0", "step:1,2", "cosine:5,0.5", "constant:1", "plateau:0.1,-1"] {
            let error = text.parse::<Schedule>().unwrap_err();
            assert!(error.contains("expected"), "{text}: {error}");
        }
    }

    #[test]
    fn warm_up_rises_to_all_of_the_rate() {
        let rate = LearningRate::new(0.8, Schedule::Constant, 4.0).warm_up(2.0);
        let rates: Vec<f64> = (0..6).map(|step| rate.at(step, 2)).collect();
        for (rate, expected) in rates.iter().zip([0.2, 0.4, 0.6, 0.8, 0.8, 0.8]) {
            assert!((rate - expected).abs() < 1e-12, "{rates:?}");
        }
    }

    #[test]
    fn periods_end_where_the_rate_restarts() {
        let schedule = Schedule::Cosine { period: 2.0, multiply: 2.0, least: 0.0 };
        let ends: Vec<i32> = (1..=14).filter(|&t| schedule.ends_period(t.into(), 14.0)).collect();
        assert_eq!(ends, [2, 6, 14]);
        assert_eq!(schedule.factor(2.0, 14.0), 1.0);
        assert!(!Schedule::Constant.ends_period(1.0, 1.0));
        assert!("cosine".parse::<Schedule>().unwrap().ends_period(14.0, 14.0));
    }

    #[test]
    fn a_period_ends_exactly_where_its_share_is_zero() {
        for text in ["cosine:0.1", "cosine:0.3", "cosine:0.7", "cosine:1.5,1.5", "cosine:0.1,1.01"] {
            let schedule: Schedule = text.parse().unwrap();
            for t in (1..400).map(f64::from) {
                let restarts = schedule.factor(t, 400.0) == 1.0;
                assert_eq!(schedule.ends_period(t, 400.0), restarts, "{text} {t}");
            }
        }
        // A tenth is no binary number, so sums of tenths miss whole numbers.
        assert!("cosine:0.1".parse::<Schedule>().unwrap().ends_period(1.0, 10.0));
    }

    #[test]
    fn tiny_periods_are_refused_and_do_not_hang() {
        for text in ["cosine:1e-20", "step:1e-20", "cosine:9e-4,2", "cosine:5,1.001"] {
            assert!(text.parse::<Schedule>().unwrap_err().contains("expected a "), "{text}");
        }
        assert_eq!(
            "cosine:1e-20".parse::<Schedule>().unwrap_err(),
            "cosine: expected a number of epochs of 0, or from 0.001 to below 1000000.0, got `1e-20`"
        );
        for multiply in [1.0, 1.0 + f64::EPSILON, 2.0] {
            let tiny = Schedule::Cosine { period: 1e-20, multiply, least: 0.5 };
            assert!((0.5..=1.0).contains(&tiny.factor(1e5 + 0.3, 1e6)));
            tiny.ends_period(1e5 + 0.3, 1e6);
        }
    }
}
