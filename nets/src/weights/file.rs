//! Weights in safetensors files. The tensors must match the graph exactly; errors name the tensor.

use super::statistics::{DEVIATION, InputStatistics, MEAN};
use super::{Tensor, WeightSet, checked_bytes};
use crate::error::{NetError, WeightsError};
use crate::graph::Graph;
use crate::layer::Param;
use safetensors::tensor::{Metadata, TensorView};
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use std::fs::File;
use std::io::Read;
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
        let io = |cause| NetError::Io { action: "read", path: path.to_owned(), cause };
        let limit = checked_bytes(graph)? + HEADER_ROOM;
        let mut bytes = Vec::new();
        // Bounds the read independently of the length that the file system reports.
        File::open(path).map_err(io)?.take(limit + 1).read_to_end(&mut bytes).map_err(io)?;
        if bytes.len() as u64 > limit {
            let needed = std::fs::metadata(path).map_or(u64::MAX, |file| file.len());
            let what = format!("{}: weights of network `{}`", path.display(), graph.name());
            return Err(NetError::TooLarge { what, limit, needed });
        }
        Self::from_safetensors(graph, &bytes, &path.display().to_string())
    }

    /// Reads the weights of `graph` from the bytes of a safetensors file. Errors call the source `origin`.
    ///
    /// # Errors
    /// - [`NetError::Weights`] if the bytes are truncated or of another format, or if a tensor is missing,
    ///   unknown, or of another shape or element type.
    /// - [`NetError::TooLarge`] if the network's weights are too large.
    pub fn from_safetensors(graph: &Graph, bytes: &[u8], origin: &str) -> Result<Self, NetError> {
        checked_bytes(graph)?;
        let file = SafeTensors::deserialize(bytes).map_err(|error| format_error(bytes, origin, &error))?;
        let tensors = graph.params().map(|(name, param)| {
            let data = read_tensor(&file, origin, &name, &param)?;
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
        let own = statistics.map(|statistics| {
            [(MEAN, Tensor::vector(statistics.mean())), (DEVIATION, Tensor::vector(statistics.deviation()))]
        });
        let own = own.as_ref().into_iter().flatten().map(|(name, tensor)| (*name, tensor));
        let tensors = self.iter().chain(own).map(|(name, tensor)| (name, tensor.dims(), tensor.data()));
        to_safetensors(&tensors.collect::<Vec<_>>())
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
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(_, _, data)| data.iter().flat_map(|number| number.to_le_bytes()).collect())
        .collect();
    let views = tensors.iter().zip(&bytes).map(|(&(name, dims, _), bytes)| {
        (name, TensorView::new(Dtype::F32, dims.to_vec(), bytes).expect("extents are those of the numbers"))
    });
    safetensors::serialize(views, None).expect("headers of names and extents can be written")
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

fn read_tensor(
    file: &SafeTensors<'_>,
    origin: &str,
    name: &str,
    param: &Param,
) -> Result<Vec<f32>, WeightsError> {
    let (origin, tensor) = (origin.to_owned(), name.to_owned());
    let Ok(view) = file.tensor(name) else {
        return Err(WeightsError::Missing { origin, tensor, expected: param.dims.clone() });
    };
    if view.dtype() != Dtype::F32 {
        return Err(WeightsError::Dtype { origin, tensor, got: format!("{:?}", view.dtype()) });
    }
    if view.shape() != param.dims {
        let (expected, got) = (param.dims.clone(), view.shape().to_vec());
        return Err(WeightsError::Shape { origin, tensor, expected, got });
    }
    let (numbers, _) = view.data().as_chunks();
    Ok(numbers.iter().map(|&number| f32::from_le_bytes(number)).collect())
}

/// Reports how many bytes are missing from a truncated file, or else the message of the reader.
fn format_error(bytes: &[u8], origin: &str, error: &SafeTensorError) -> WeightsError {
    let origin = origin.to_owned();
    match error {
        SafeTensorError::MetadataIncompleteBuffer => match expected_len(bytes) {
            Some(expected) => WeightsError::FileLen { origin, expected, got: bytes.len() as u64 },
            None => WeightsError::Format { origin, reason: error.to_string() },
        },
        SafeTensorError::HeaderTooSmall => WeightsError::Format {
            origin,
            reason: format!("{} bytes, fewer than its shortest header", bytes.len()),
        },
        SafeTensorError::HeaderTooLarge | SafeTensorError::InvalidHeaderLength => {
            let reason = format!("{} bytes with a header that is too long", bytes.len());
            WeightsError::Format { origin, reason }
        }
        _ => WeightsError::Format { origin, reason: error.to_string() },
    }
}

/// The length of the file by its own header: 8 bytes for the header length, the header, and the tensors.
fn expected_len(bytes: &[u8]) -> Option<u64> {
    let (&header_len, rest) = bytes.split_first_chunk()?;
    let header_len = u64::from_le_bytes(header_len);
    let header = rest.get(..usize::try_from(header_len).ok()?)?;
    let tensors: Metadata = serde_json::from_slice(header).ok()?;
    8u64.checked_add(header_len)?.checked_add(tensors.data_len() as u64)
}
