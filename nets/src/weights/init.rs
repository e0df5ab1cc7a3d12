//! Random weights that are the same on every machine.

use super::{WeightSet, WeightSource, checked_bytes};
use crate::error::NetError;
use crate::graph::Graph;
use crate::layer::{Param, Role};
use rand_pcg::Pcg64;
use rand_pcg::rand_core::Rng;
use std::borrow::Cow;
use std::collections::HashMap;

/// How far from zero random weights are. Both draw from a uniform distribution, which needs no transcendental
/// function and is therefore the same to the bit everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Init {
    /// Variance `2 / fan_in`, for networks of rectifiers (He et al. 2015, eq. 10).
    #[default]
    He,
    /// Variance `2 / (fan_in + fan_out)`, for tanh and sigmoid (Glorot and Bengio 2010, eq. 16).
    Xavier,
}

impl Init {
    /// Half the width of the uniform distribution: its variance is a third of this squared.
    fn bound(self, fan_in: f64, fan_out: f64) -> f32 {
        let variance = match self {
            Self::He => 2.0 / fan_in,
            Self::Xavier => 2.0 / (fan_in + fan_out),
        };
        (3.0 * variance).sqrt() as f32
    }
}

/// Random weights that are made when they are asked for: zero biases and means, scales and variances of 1, slopes of
/// 0.25, codes of -1 and 1. The same seed gives the same numbers on every machine.
#[derive(Debug, Clone)]
pub struct SeededWeights {
    network: String,
    init: Init,
    seed: u64,
    /// One stream per tensor: none depends on the sizes of those before it.
    streams: HashMap<String, u128>,
}

impl SeededWeights {
    /// Those of `graph`.
    ///
    /// # Errors
    /// [`NetError::TooLarge`] beyond [`MEMORY_LIMIT`](super::MEMORY_LIMIT).
    pub fn new(graph: &Graph, init: Init, seed: u64) -> Result<Self, NetError> {
        checked_bytes(graph)?;
        let streams = graph.params().map(|(name, _)| name).zip(0..).collect();
        Ok(Self { network: graph.name().to_owned(), init, seed, streams })
    }

    fn numbers(&self, stream: u128, param: &Param) -> Vec<f32> {
        let mut random = Pcg64::new(self.seed.into(), stream);
        let len = param.dims.iter().product();
        match param.role {
            Role::Weight { fan_in, fan_out } => {
                let bound = self.init.bound(fan_in, fan_out);
                (0..len).map(|_| bound * signed_unit(random.next_u32())).collect()
            }
            Role::Bias | Role::Shift | Role::RunningMean => vec![0.0; len],
            Role::Scale | Role::RunningVar => vec![1.0; len],
            Role::Slope => vec![0.25; len],
            Role::Fixed => (0..len).map(|_| signed_unit(random.next_u32()).signum()).collect(),
        }
    }
}

impl WeightSource for SeededWeights {
    fn network(&self) -> &str {
        &self.network
    }

    fn tensor(&self, name: &str, param: &Param) -> Result<Option<Cow<'_, [f32]>>, NetError> {
        Ok(self.streams.get(name).map(|&stream| self.numbers(stream, param).into()))
    }
}

impl WeightSet {
    /// The numbers of [`SeededWeights`], all of them in memory.
    ///
    /// # Errors
    /// [`NetError::TooLarge`] beyond [`MEMORY_LIMIT`](super::MEMORY_LIMIT), before anything is allocated.
    pub fn seeded(graph: &Graph, init: Init, seed: u64) -> Result<Self, NetError> {
        Self::from_source(graph, &SeededWeights::new(graph, init, seed)?)
    }
}

/// The upper 24 bits, all that an `f32` holds, as a number in `[-1, 1)`.
fn signed_unit(bits: u32) -> f32 {
    (bits >> 8) as f32 / (1u32 << 23) as f32 - 1.0
}
