//! Random weights that are identical on every machine.

use super::{WeightSet, WeightSource, checked_bytes};
use crate::error::NetError;
use crate::graph::Graph;
use crate::layer::{Param, Role};
use rand_pcg::Pcg64;
use rand_pcg::rand_core::Rng;
use std::borrow::Cow;
use std::collections::HashMap;

/// The distribution of random weights. Both variants are uniform distributions. They need no transcendental
/// function, so the weights are the same to the bit on every machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Init {
    /// Variance `2 / fan_in`, for networks with rectifiers (He et al. 2015, eq. 10).
    #[default]
    He,
    /// Variance `2 / (fan_in + fan_out)`, for tanh and sigmoid (Glorot and Bengio 2010, eq. 16).
    Xavier,
}

impl Init {
    /// Half the width of the uniform distribution. Its variance is a third of the square of this.
    fn bound(self, fan_in: f64, fan_out: f64) -> f32 {
        let variance = match self {
            Self::He => 2.0 / fan_in,
            Self::Xavier => 2.0 / (fan_in + fan_out),
        };
        (3.0 * variance).sqrt() as f32
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
