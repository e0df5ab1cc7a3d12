//! Reading and writing the tensors of safetensors files. Errors name the file and the tensor.

use crate::error::{NetError, WeightsError};
use crate::layer::Param;
use safetensors::tensor::{Metadata, TensorView};
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// A text in a safetensors file: a tensor of bytes. Metadata are for short texts, because headers have a limit.
pub(crate) type NamedText<'a> = (&'a str, &'a str);

/// Serializes tensors as a safetensors file. Each tensor has a name, extents and elements.
///
/// # Panics
/// If the extents of a tensor do not match its number of elements.
pub(crate) fn serialized(
    tensors: &[(&str, &[usize], &[f32])],
    texts: &[NamedText<'_>],
    metadata: Option<HashMap<String, String>>,
) -> Vec<u8> {
    let view = |dtype, dims: &[usize], bytes| {
        TensorView::new(dtype, dims.to_vec(), bytes).expect("extents are those of the elements")
    };
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(_, _, data)| data.iter().flat_map(|number| number.to_le_bytes()).collect())
        .collect();
    let numbers = tensors.iter().zip(&bytes);
    let numbers = numbers.map(|(&(name, dims, _), bytes)| (name, view(Dtype::F32, dims, bytes)));
    let texts = texts.iter().map(|&(name, text)| (name, view(Dtype::U8, &[text.len()], text.as_bytes())));
    let views = numbers.chain(texts);
    safetensors::serialize(views, metadata).expect("headers of names and extents can be written")
}

/// The elements of a tensor of `f32`.
pub(crate) fn elements(view: &TensorView<'_>) -> Vec<f32> {
    let (numbers, _) = view.data().as_chunks();
    numbers.iter().map(|&number| f32::from_le_bytes(number)).collect()
}

/// Reads a file of at most `limit` bytes. An error says that it has `what`.
pub(crate) fn read_within(path: &Path, limit: u64, what: &str) -> Result<Vec<u8>, NetError> {
    let io = |cause| NetError::Io { action: "read", path: path.to_owned(), cause };
    let mut bytes = Vec::new();
    // Bounds the read independently of the length that the file system reports.
    File::open(path).map_err(io)?.take(limit + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > limit {
        // A device says that it has no bytes.
        let needed = std::fs::metadata(path).map_or(u64::MAX, |file| file.len()).max(bytes.len() as u64);
        let what = format!("{}: {what}", path.display());
        return Err(NetError::TooLarge { what, limit, needed });
    }
    Ok(bytes)
}

/// Reads a safetensors file, whose tensors are read later.
pub(crate) fn parsed<'a>(bytes: &'a [u8], origin: &str) -> Result<SafeTensors<'a>, WeightsError> {
    SafeTensors::deserialize(bytes).map_err(|error| format_error(bytes, origin, &error))
}

/// Reads the tensor `name`, which must have the extents of `param`.
pub(crate) fn read_tensor(
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
    Ok(elements(&view))
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
