//! Weights in safetensors files: what does not fit the graph exactly is an error that names the tensor.

use super::{Tensor, WeightSet, checked_bytes};
use crate::error::{NetError, WeightsError};
use crate::graph::Graph;
use crate::layer::Param;
use safetensors::tensor::{Metadata, TensorView};
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Bytes that the header of a file may have beyond the tensors of the network.
const HEADER_ROOM: u64 = 16 << 20;
/// PyTorch counts training batches beside each batch normalisation; nothing is computed from that.
const IGNORED: &str = ".num_batches_tracked";

impl WeightSet {
    /// Reads the weights of `graph` from a safetensors file.
    ///
    /// # Errors
    /// [`NetError::Io`], [`NetError::TooLarge`], or [`NetError::Weights`] for everything that does not fit.
    pub fn load(graph: &Graph, path: &Path) -> Result<Self, NetError> {
        let io = |cause| NetError::Io { action: "read", path: path.to_owned(), cause };
        let limit = checked_bytes(graph)? + HEADER_ROOM;
        let mut bytes = Vec::new();
        // Reads one byte too many at most, whatever the file system says of the length.
        File::open(path).map_err(io)?.take(limit + 1).read_to_end(&mut bytes).map_err(io)?;
        if bytes.len() as u64 > limit {
            let needed = std::fs::metadata(path).map_or(u64::MAX, |file| file.len());
            let what = format!("{}: weights of network `{}`", path.display(), graph.name());
            return Err(NetError::TooLarge { what, limit, needed });
        }
        Self::from_safetensors(graph, &bytes, &path.display().to_string())
    }

    /// Reads the weights of `graph` from the bytes of a safetensors file; `origin` names them in errors.
    ///
    /// # Errors
    /// [`NetError::Weights`]: no such file format, truncated, a tensor missing, unknown, or of another shape or type.
    pub fn from_safetensors(graph: &Graph, bytes: &[u8], origin: &str) -> Result<Self, NetError> {
        checked_bytes(graph)?;
        let file = SafeTensors::deserialize(bytes).map_err(|error| format_error(bytes, origin, &error))?;
        let tensors = graph.params().map(|(name, param)| {
            let data = read_tensor(&file, origin, &name, &param)?;
            Ok((name, Tensor { dims: param.dims, data }))
        });
        let tensors = tensors.collect::<Result<_, WeightsError>>()?;
        let set = Self { network: graph.name().to_owned(), tensors };
        // In the order of the alphabet, so that the same file gives the same message every time.
        let unknown = |name: &&str| set.get(name).is_none() && !name.ends_with(IGNORED);
        if let Some(tensor) = file.names().into_iter().filter(unknown).min() {
            let (origin, tensor) = (origin.to_owned(), tensor.to_owned());
            return Err(WeightsError::Unknown { origin, tensor, network: set.network }.into());
        }
        Ok(set)
    }

    /// The bytes of a safetensors file.
    pub fn to_safetensors(&self) -> Vec<u8> {
        let tensors = self.iter().map(|(name, tensor)| (name, tensor.dims(), tensor.data()));
        to_safetensors(&tensors.collect::<Vec<_>>())
    }

    /// Writes a safetensors file.
    ///
    /// # Errors
    /// [`NetError::Io`].
    pub fn save(&self, path: &Path) -> Result<(), NetError> {
        write(path, &self.to_safetensors())
    }
}

/// The bytes of a safetensors file with these tensors: name, extents, numbers.
///
/// # Panics
/// If the extents are not those of the numbers.
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

/// Writes a whole file.
///
/// # Errors
/// [`NetError::Io`].
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

/// A truncated file says how much is missing; any other damage, what the reader found.
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
            let reason = format!("{} bytes in which no header of that format fits", bytes.len());
            WeightsError::Format { origin, reason }
        }
        _ => WeightsError::Format { origin, reason: error.to_string() },
    }
}

/// The length of the file by its own header: 8 bytes of header length, the header, the tensors.
fn expected_len(bytes: &[u8]) -> Option<u64> {
    let (&header_len, rest) = bytes.split_first_chunk()?;
    let header_len = u64::from_le_bytes(header_len);
    let header = rest.get(..usize::try_from(header_len).ok()?)?;
    let tensors: Metadata = serde_json::from_slice(header).ok()?;
    8u64.checked_add(header_len)?.checked_add(tensors.data_len() as u64)
}
