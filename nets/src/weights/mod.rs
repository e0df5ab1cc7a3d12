//! [`WeightSet`]: the trained numbers of a network, by name; seeded, or read from and written to safetensors.

mod file;
mod init;

pub use file::{to_safetensors, write};
pub use init::Init;

use crate::count::count;
use crate::error::NetError;
use crate::graph::Graph;
use crate::layer::Param;
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

impl WeightSet {
    /// What `read` gives for every tensor of `graph`, in its order.
    pub(crate) fn from_params(
        graph: &Graph,
        mut read: impl FnMut(&str, &Param) -> Result<Vec<f32>, NetError>,
    ) -> Result<Self, NetError> {
        checked_bytes(graph)?;
        let tensors = graph.params().map(|(name, param)| {
            let data = read(&name, &param)?;
            Ok((name, Tensor { dims: param.dims, data }))
        });
        let tensors = tensors.collect::<Result<_, NetError>>()?;
        Ok(Self { network: graph.name().to_owned(), tensors })
    }
}

/// Bytes of the weights of `graph`, checked before anything is allocated for them.
fn checked_bytes(graph: &Graph) -> Result<u64, NetError> {
    let count = count(graph)?;
    let needed = count.params.saturating_add(count.untrained).saturating_mul(size_of::<f32>() as u64);
    if needed > MEMORY_LIMIT {
        let what = format!("weights of network `{}`", graph.name());
        return Err(NetError::TooLarge { what, limit: MEMORY_LIMIT, needed });
    }
    Ok(needed)
}
