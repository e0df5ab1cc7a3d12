//! [`WeightSet`]: the trained numbers of a network, by name; seeded, or read from and written to safetensors.
//! [`WeightSource`]: where they come from, one tensor at a time, so that they need not all be in memory at once.

mod file;
mod init;

pub use file::{to_safetensors, write};
pub use init::{Init, SeededWeights};

use crate::count::count;
use crate::error::{NetError, WeightsError};
use crate::graph::Graph;
use crate::layer::Param;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Where the trained numbers of a network come from, one tensor at a time.
///
/// A network is compiled from these tensor by tensor, so a source that does not hold them all, such as an ONNX file or
/// seeded numbers, never has more than one layer's in memory beside those that are packed. `Sync`, for a network is compiled in
/// the pool that its layers are timed in.
pub trait WeightSource: Sync {
    /// The name of the network that the numbers are of.
    fn network(&self) -> &str;

    /// The numbers of the tensor `name` (`layer.weight`, `layer.bias`, ...), last extent fastest; `None` if there is no
    /// such tensor.
    ///
    /// # Errors
    /// Of the file that they are read from.
    fn tensor(&self, name: &str, param: &Param) -> Result<Option<Cow<'_, [f32]>>, NetError>;

    /// Writes the numbers of that tensor from `first` on to `numbers`; or `false`, and the whole tensor has to be asked for.
    /// The largest tensors of a network, most of it, need then not be in memory as a whole beside what is packed.
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
    /// All tensors of `graph` from `source`, in memory.
    ///
    /// # Errors
    /// Of the source; [`WeightsError::Missing`] for a tensor that it does not have.
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
