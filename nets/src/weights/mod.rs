//! [`WeightSet`]: the trained numbers of a network, by name; seeded, or read from and written to safetensors.

mod file;
mod init;

pub use file::{to_safetensors, write};
pub use init::Init;

use crate::count::count;
use crate::error::NetError;
use crate::graph::Graph;
use std::collections::BTreeMap;

/// Bytes of weights or activations that nothing in this crate goes beyond without being told to.
pub const MEMORY_LIMIT: u64 = 4 << 30;

/// Numbers with their extents, outermost first.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    dims: Vec<usize>,
    data: Vec<f32>,
}

impl Tensor {
    /// Extents, outermost first.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// The numbers, last extent fastest.
    pub fn data(&self) -> &[f32] {
        &self.data
    }
}

/// The trained tensors of one network: exactly those that its graph asks for, in their shapes.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightSet {
    network: String,
    tensors: BTreeMap<String, Tensor>,
}

impl WeightSet {
    /// The tensor `layer.weight`, `layer.bias`, ...
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// The name of the network that the weights are of.
    pub fn network(&self) -> &str {
        &self.network
    }

    /// Every tensor with its name, by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Tensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }
}

/// Bytes of the weights of `graph`, checked before anything is allocated for them.
fn checked_bytes(graph: &Graph) -> Result<u64, NetError> {
    let needed = count(graph)?.params.saturating_mul(size_of::<f32>() as u64);
    if needed > MEMORY_LIMIT {
        let what = format!("weights of network `{}`", graph.name());
        return Err(NetError::TooLarge { what, limit: MEMORY_LIMIT, needed });
    }
    Ok(needed)
}
