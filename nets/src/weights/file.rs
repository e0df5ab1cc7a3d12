//! Weights in safetensors files. The tensors must match the graph exactly; errors name the tensor.

use super::statistics::{DEVIATION, InputStatistics, MEAN};
use super::tensors::{parsed, read_tensor, read_within, serialized};
use super::{Tensor, WeightSet, checked_bytes};
use crate::error::{NetError, WeightsError};
use crate::graph::Graph;
use safetensors::SafeTensors;
use std::path::Path;

/// Maximum bytes of a file's header and unused data, in addition to the network's tensors.
const HEADER_ROOM: u64 = 16 << 20;
/// PyTorch stores a count of training batches for each batch normalisation. Inference does not use it.
const IGNORED: &str = ".num_batches_tracked";

impl WeightSet {
    /// Reads the weights of `graph` from a safetensors file.
    ///
    /// # Errors
    /// - [`NetError::Io`] if the file cannot be read.
    /// - [`NetError::TooLarge`] if the file or the network's weights are too large.
    /// - [`NetError::Weights`] if the file is damaged or does not match the graph.
    pub fn load(graph: &Graph, path: &Path) -> Result<Self, NetError> {
        Self::from_safetensors(graph, &read(graph, path)?, &path.display().to_string())
    }

    /// Reads the weights of `graph` and, if the file has them, the statistics of the inputs that they were trained on.
    ///
    /// # Errors
    /// As [`load`](Self::load), and [`NetError::Weights`] if the statistics are not for inputs of `graph`.
    pub fn load_with_statistics(
        graph: &Graph,
        path: &Path,
    ) -> Result<(Self, Option<InputStatistics>), NetError> {
        let (bytes, origin) = (read(graph, path)?, path.display().to_string());
        let file = parsed(&bytes, &origin)?;
        let channels = graph.input().channels();
        let pixels = graph.input().len()? / channels.max(1);
        let statistics = InputStatistics::of_file(&file, channels, pixels, &origin)?;
        Ok((Self::of_file(graph, &file, &origin)?, statistics))
    }

    /// Reads the weights of `graph` from the bytes of a safetensors file. Errors call the source `origin`.
    ///
    /// # Errors
    /// - [`NetError::Weights`] if the bytes are truncated or of another format, or if a tensor is missing,
    ///   unknown, or of another shape or element type.
    /// - [`NetError::TooLarge`] if the network's weights are too large.
    pub fn from_safetensors(graph: &Graph, bytes: &[u8], origin: &str) -> Result<Self, NetError> {
        checked_bytes(graph)?;
        Self::of_file(graph, &parsed(bytes, origin)?, origin)
    }

    fn of_file(graph: &Graph, file: &SafeTensors<'_>, origin: &str) -> Result<Self, NetError> {
        let tensors = graph.params().map(|(name, param)| {
            let data = read_tensor(file, origin, &name, &param)?;
            Ok((name, Tensor { dims: param.dims, data }))
        });
        let tensors = tensors.collect::<Result<_, WeightsError>>()?;
        let set = Self { network: graph.name().to_owned(), tensors };
        // Take the first in alphabetical order, so that the same file always gives the same message.
        let is_known = |name: &str| name.ends_with(IGNORED) || [MEAN, DEVIATION].contains(&name);
        let unknown = |name: &&str| set.get(name).is_none() && !is_known(name);
        if let Some(tensor) = file.names().into_iter().filter(unknown).min() {
            let (origin, tensor) = (origin.to_owned(), tensor.to_owned());
            return Err(WeightsError::Unknown { origin, tensor, network: set.network }.into());
        }
        Ok(set)
    }

    /// Serializes the weights as a safetensors file.
    pub fn to_safetensors(&self) -> Vec<u8> {
        self.to_safetensors_with(None)
    }

    /// Serializes the weights with the statistics of the inputs that they were trained on.
    pub fn to_safetensors_with(&self, statistics: Option<&InputStatistics>) -> Vec<u8> {
        let own: Vec<_> = statistics.into_iter().flat_map(InputStatistics::tensors).collect();
        let lens: Vec<[usize; 1]> = own.iter().map(|(_, data)| [data.len()]).collect();
        let own = own.iter().zip(&lens).map(|(&(name, data), len)| (name, &len[..], data));
        let tensors = self.iter().map(|(name, tensor)| (name, tensor.dims(), tensor.data())).chain(own);
        serialized(&tensors.collect::<Vec<_>>(), &[], None)
    }

    /// Writes the weights to a safetensors file.
    ///
    /// # Errors
    /// [`NetError::Io`] if the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), NetError> {
        write(path, &self.to_safetensors())
    }
}

/// Serializes tensors as a safetensors file. Each tensor has a name, extents and elements.
///
/// # Panics
/// If the extents of a tensor do not match its number of elements.
pub fn to_safetensors(tensors: &[(&str, &[usize], &[f32])]) -> Vec<u8> {
    serialized(tensors, &[], None)
}

/// Writes `bytes` to a file.
///
/// # Errors
/// [`NetError::Io`] if the file cannot be written.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), NetError> {
    std::fs::write(path, bytes).map_err(|cause| NetError::Io {
        action: "write",
        path: path.to_owned(),
        cause,
    })
}

/// Reads a file that has the weights of `graph`.
fn read(graph: &Graph, path: &Path) -> Result<Vec<u8>, NetError> {
    let what = format!("weights of network `{}`", graph.name());
    read_within(path, checked_bytes(graph)? + HEADER_ROOM, &what)
}
