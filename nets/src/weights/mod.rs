//! [`WeightSet`]: the parameters of a network by name, seeded or stored as safetensors. [`WeightSource`]: a source that
//! provides them one tensor at a time.

mod file;
mod init;
mod statistics;
mod tensors;

pub use file::{to_safetensors, write};
pub use init::{Init, SeededWeights};
pub use statistics::InputStatistics;
#[cfg(feature = "train")]
pub(crate) use tensors::{elements, parsed, read_tensor, read_within, serialized};

use crate::count::count;
use crate::error::{NetError, WeightsError};
use crate::graph::Graph;
use crate::layer::Param;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// A source of a network's parameters, one tensor at a time.
///
/// A network is compiled tensor by tensor. A source that does not hold all tensors, such as an ONNX file or a
/// random generator, therefore keeps only one layer's parameters in memory besides the packed ones. Sources
/// are `Sync` because compilation runs in the thread pool that times the layers.
pub trait WeightSource: Sync {
    /// The name of the network.
    fn network(&self) -> &str;

    /// The elements of the tensor `name` (`layer.weight`, `layer.bias` and so on), last extent fastest.
    /// Returns `None` if there is no such tensor.
    ///
    /// # Errors
    /// Those of the file that the source reads.
    fn tensor(&self, name: &str, param: &Param) -> Result<Option<Cow<'_, [f32]>>, NetError>;

    /// Writes the elements of a tensor from index `first` on to `numbers`.
    ///
    /// Returns `false` if the source does not support this; callers then use [`tensor`](Self::tensor). With
    /// it, the largest tensors of a network never need to be in memory as a whole.
    ///
    /// # Errors
    /// As [`tensor`](Self::tensor).
    fn part(&self, name: &str, param: &Param, first: usize, numbers: &mut [f32]) -> Result<bool, NetError> {
        let _ = (name, param, first, numbers);
        Ok(false)
    }
}

impl WeightSource for WeightSet {
    fn network(&self) -> &str {
        &self.network
    }

    fn tensor(&self, name: &str, _: &Param) -> Result<Option<Cow<'_, [f32]>>, NetError> {
        Ok(self.get(name).map(|tensor| tensor.data().into()))
    }

    fn part(&self, name: &str, _: &Param, first: usize, numbers: &mut [f32]) -> Result<bool, NetError> {
        let range = first..first.saturating_add(numbers.len());
        let stored = self.get(name).and_then(|tensor| tensor.data().get(range));
        stored.inspect(|stored| numbers.copy_from_slice(stored));
        Ok(stored.is_some())
    }
}

/// Default limit in bytes for weights and for activations.
pub const MEMORY_LIMIT: u64 = 4 << 30;

/// A tensor with its extents.
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

    /// The elements, last extent fastest.
    pub fn data(&self) -> &[f32] {
        &self.data
    }
}

/// The parameters of one network: exactly the tensors of its graph, in their shapes.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightSet {
    network: String,
    tensors: BTreeMap<String, Tensor>,
}

impl WeightSet {
    /// The tensor of this name (`layer.weight`, `layer.bias` and so on), if there is one.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// The name of the network.
    pub fn network(&self) -> &str {
        &self.network
    }

    /// Every tensor with its name, in alphabetical order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Tensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }
}

impl WeightSet {
    /// The set of these tensors: names, extents and elements.
    pub(crate) fn from_tensors(
        network: &str,
        tensors: impl Iterator<Item = (String, Vec<usize>, Vec<f32>)>,
    ) -> Self {
        let tensors = tensors.map(|(name, dims, data)| (name, Tensor { dims, data })).collect();
        Self { network: network.to_owned(), tensors }
    }

    /// Loads all tensors of `graph` from `source` into memory.
    ///
    /// # Errors
    /// - Those of the source.
    /// - [`WeightsError::Missing`] for a tensor that the source does not have.
    pub fn from_source(graph: &Graph, source: &dyn WeightSource) -> Result<Self, NetError> {
        Self::from_params(graph, |name, param| {
            let tensor = source.tensor(name, param)?.map(Cow::into_owned);
            let missing = || {
                let (origin, tensor) = (source.network().to_owned(), name.to_owned());
                WeightsError::Missing { origin, tensor, expected: param.dims.clone() }
            };
            tensor.ok_or_else(|| missing().into())
        })
    }

    /// Calls `read` for every tensor of `graph`, in the graph's order.
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

/// The bytes of the weights of `graph`, checked against the limit before anything is allocated.
fn checked_bytes(graph: &Graph) -> Result<u64, NetError> {
    let count = count(graph)?;
    let needed = count.params.saturating_add(count.untrained).saturating_mul(size_of::<f32>() as u64);
    if needed > MEMORY_LIMIT {
        let what = format!("weights of network `{}`", graph.name());
        return Err(NetError::TooLarge { what, limit: MEMORY_LIMIT, needed });
    }
    Ok(needed)
}
