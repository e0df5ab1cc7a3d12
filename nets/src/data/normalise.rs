//! [`Normalisation`]: zero mean and unit deviation, by the statistics of the training part.

use super::dataset::{Dataset, Frame};
use crate::error::NetError;
use crate::weights::InputStatistics;
use std::str::FromStr;

/// What is subtracted from pictures and what they are divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Normalise {
    /// Nothing: numbers from 0 to 1.
    None,
    /// The mean of each channel, and its standard deviation (as VGG; Simonyan and Zisserman 2015, section 2.1, who only
    /// subtract).
    #[default]
    Channel,
    /// The mean picture (as AlexNet; Krizhevsky et al. 2012, section 2), and the standard deviation of each channel around
    /// it.
    Image,
}

impl FromStr for Normalise {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            "channel" => Ok(Self::Channel),
            "image" => Ok(Self::Image),
            _ => Err(format!("expected none, channel or image, got `{text}`")),
        }
    }
}

impl Normalise {
    /// The name, as [`FromStr`] reads it.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Channel => "channel",
            Self::Image => "image",
        }
    }
}

/// Statistics of a training part, in the form in which they are applied.
#[derive(Debug, Clone, PartialEq)]
pub struct Normalisation {
    frame: Frame,
    statistics: Option<InputStatistics>,
}

/// A channel whose deviation is less is divided by 1: it is the same in all pictures.
const LEAST_DEVIATION: f64 = 1e-6;

impl Normalisation {
    /// Numbers from 0 to 1, unchanged.
    pub fn none(frame: Frame) -> Self {
        Self { frame, statistics: None }
    }

    /// The statistics that weights come with, or none.
    pub fn by(frame: Frame, statistics: Option<InputStatistics>) -> Self {
        Self { frame, statistics }
    }

    /// Reads every picture of a training part once.
    ///
    /// # Errors
    /// Those of [`Dataset::read`].
    pub fn of(training: &Dataset, frame: Frame, kind: Normalise) -> Result<Self, NetError> {
        if kind == Normalise::None {
            return Ok(Self::none(frame));
        }
        let mut picture = vec![0.0; frame.len()];
        let (mut sums, mut squares) = (vec![0.0f64; frame.len()], vec![0.0f64; frame.len()]);
        for index in 0..training.len() {
            training.read(index, frame, &mut picture)?;
            for ((sum, square), &number) in sums.iter_mut().zip(&mut squares).zip(&picture) {
                let number = f64::from(number);
                *sum += number;
                *square += number * number;
            }
        }
        let count = training.len().max(1) as f64;
        let pixel_means: Vec<f64> = sums.iter().map(|sum| sum / count).collect();
        let per_channel = |numbers: &[f64]| -> Vec<f64> {
            let means = numbers.chunks_exact(frame.pixels());
            means.map(|channel| channel.iter().sum::<f64>() / frame.pixels() as f64).collect()
        };
        let channel_means = per_channel(&pixel_means);
        let squares: Vec<f64> = squares.iter().map(|square| square / count).collect();
        let mean_squares = per_channel(&squares);
        let subtracted: Vec<f64> = match kind {
            Normalise::Image => per_channel(&pixel_means.iter().map(|mean| mean * mean).collect::<Vec<_>>()),
            _ => channel_means.iter().map(|mean| mean * mean).collect(),
        };
        let deviation = mean_squares.iter().zip(&subtracted).map(|(square, subtracted)| {
            let deviation = (square - subtracted).max(0.0).sqrt();
            if deviation < LEAST_DEVIATION { 1.0 } else { deviation as f32 }
        });
        let mean = if kind == Normalise::Image { &pixel_means } else { &channel_means };
        let mean = mean.iter().map(|&mean| mean as f32).collect();
        let statistics = InputStatistics::new(mean, deviation.collect());
        Ok(Self { frame, statistics: Some(statistics) })
    }

    /// The shape of the pictures.
    pub fn frame(&self) -> Frame {
        self.frame
    }

    /// The statistics, to be stored with the weights.
    pub fn statistics(&self) -> Option<&InputStatistics> {
        self.statistics.as_ref()
    }

    /// Normalises a picture in place.
    pub fn apply(&self, picture: &mut [f32]) {
        if let Some(statistics) = &self.statistics {
            statistics.apply(picture, self.frame.pixels());
        }
    }
}
