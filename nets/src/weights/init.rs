//! Random weights that are identical on every machine.

use super::{WeightSet, WeightSource, checked_bytes};
use crate::error::NetError;
use crate::graph::Graph;
use crate::layer::{Param, Role};
use rand_pcg::Pcg64;
use rand_pcg::rand_core::Rng;
use std::borrow::Cow;
use std::collections::HashMap;
use std::f64::consts::TAU;
use std::str::FromStr;

/// The distribution of random weights. The functions that the normal distributions need are computed in software, so the
/// weights are the same to the bit on every machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Init {
    /// Uniform with variance `2 / fan_in`, for networks with rectifiers (He et al. 2015, eq. 10).
    #[default]
    He,
    /// Uniform with variance `2 / (fan_in + fan_out)`, for tanh and sigmoid (Glorot and Bengio 2010, eq. 16).
    Xavier,
    /// Normal with the variance of [`He`](Self::He).
    HeNormal,
    /// Normal with the variance of [`Xavier`](Self::Xavier).
    XavierNormal,
    /// All weights 0. All units of a layer then compute the same and get the same gradient, so nothing is learned.
    Zero,
    /// Normal with standard deviation 0.01. In deep networks, activations and gradients vanish.
    SmallNormal,
    /// Normal with standard deviation 1. Sigmoid and tanh saturate.
    UnitNormal,
}

impl Init {
    /// All distributions with their names.
    pub const ALL: [(&'static str, Self); 7] = [
        ("he", Self::He),
        ("xavier", Self::Xavier),
        ("he-normal", Self::HeNormal),
        ("xavier-normal", Self::XavierNormal),
        ("zero", Self::Zero),
        ("normal-0.01", Self::SmallNormal),
        ("normal-1", Self::UnitNormal),
    ];

    /// The name, as [`FromStr`] reads it.
    pub fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|&(_, init)| init == self).map_or("", |(name, _)| name)
    }

    /// The standard deviation of the weights of a layer.
    pub fn deviation(self, fan_in: f64, fan_out: f64) -> f64 {
        self.variance(fan_in, fan_out).sqrt()
    }

    fn variance(self, fan_in: f64, fan_out: f64) -> f64 {
        match self {
            Self::He | Self::HeNormal => 2.0 / fan_in,
            Self::Xavier | Self::XavierNormal => 2.0 / (fan_in + fan_out),
            Self::Zero => 0.0,
            Self::SmallNormal => 1e-4,
            Self::UnitNormal => 1.0,
        }
    }

    fn is_normal(self) -> bool {
        matches!(self, Self::HeNormal | Self::XavierNormal | Self::SmallNormal | Self::UnitNormal)
    }

    /// Half the width of the uniform distribution. Its variance is a third of the square of this.
    fn bound(self, fan_in: f64, fan_out: f64) -> f32 {
        (3.0 * self.variance(fan_in, fan_out)).sqrt() as f32
    }
}

impl FromStr for Init {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|&(name, _)| name == text).map(|(_, init)| init).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|&(name, _)| name).collect();
            format!("expected one of {}, got `{text}`", names.join(", "))
        })
    }
}

/// Random weights that are generated on demand, reproducible by seed on every machine.
///
/// Biases and means are 0, scales and variances 1, slopes 0.25, and codes -1 or 1.
#[derive(Debug, Clone)]
pub struct SeededWeights {
    network: String,
    init: Init,
    seed: u64,
    /// One random stream per tensor, so that no tensor depends on the sizes of others.
    streams: HashMap<String, u128>,
}

impl SeededWeights {
    /// Random weights for `graph`.
    ///
    /// # Errors
    /// [`NetError::TooLarge`] if the weights exceed [`MEMORY_LIMIT`](super::MEMORY_LIMIT).
    pub fn new(graph: &Graph, init: Init, seed: u64) -> Result<Self, NetError> {
        checked_bytes(graph)?;
        let streams = graph.params().map(|(name, _)| name).zip(0..).collect();
        Ok(Self { network: graph.name().to_owned(), init, seed, streams })
    }

    /// Writes the elements of a tensor from index `first` on.
    fn fill(&self, stream: u128, param: &Param, first: usize, numbers: &mut [f32]) {
        let mut random = Pcg64::new(self.seed.into(), stream);
        if let Role::Weight { fan_in, fan_out } = param.role
            && self.init.is_normal()
        {
            random.advance(2 * first as u128);
            let deviation = self.init.deviation(fan_in, fan_out);
            return numbers.fill_with(|| (deviation * normal(&mut random)) as f32);
        }
        random.advance(first as u128);
        let mut unit = || signed_unit(random.next_u32());
        match param.role {
            Role::Weight { fan_in, fan_out } => {
                let bound = self.init.bound(fan_in, fan_out);
                numbers.fill_with(|| bound * unit());
            }
            Role::Bias | Role::Shift | Role::RunningMean => numbers.fill(0.0),
            Role::Scale | Role::RunningVar => numbers.fill(1.0),
            Role::Slope => numbers.fill(0.25),
            Role::Fixed => numbers.fill_with(|| unit().signum()),
        }
    }
}

impl WeightSource for SeededWeights {
    fn network(&self) -> &str {
        &self.network
    }

    fn tensor(&self, name: &str, param: &Param) -> Result<Option<Cow<'_, [f32]>>, NetError> {
        let Some(&stream) = self.streams.get(name) else { return Ok(None) };
        let mut numbers = vec![0.0; param.dims.iter().product()];
        self.fill(stream, param, 0, &mut numbers);
        Ok(Some(numbers.into()))
    }

    fn part(&self, name: &str, param: &Param, first: usize, numbers: &mut [f32]) -> Result<bool, NetError> {
        let Some(&stream) = self.streams.get(name) else { return Ok(false) };
        self.fill(stream, param, first, numbers);
        Ok(true)
    }
}

impl WeightSet {
    /// Generates all of [`SeededWeights`] in memory.
    ///
    /// # Errors
    /// [`NetError::TooLarge`] if the weights exceed [`MEMORY_LIMIT`](super::MEMORY_LIMIT). Nothing is allocated then.
    pub fn seeded(graph: &Graph, init: Init, seed: u64) -> Result<Self, NetError> {
        Self::from_source(graph, &SeededWeights::new(graph, init, seed)?)
    }
}

/// Converts the upper 24 bits, the precision of `f32`, to a number in `[-1, 1)`.
fn signed_unit(bits: u32) -> f32 {
    (bits >> 8) as f32 / (1u32 << 23) as f32 - 1.0
}

/// A number of the standard normal distribution, from exactly two random numbers, so that a stream can be entered at any
/// element (Box and Muller 1958).
fn normal(random: &mut Pcg64) -> f64 {
    let mut unit = || (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
    // Not 0, whose logarithm is infinite.
    let radius = (-2.0 * libm::log(1.0 - unit())).sqrt();
    radius * libm::cos(TAU * unit())
}
