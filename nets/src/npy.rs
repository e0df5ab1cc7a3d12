//! Tensors in NumPy's `.npy` files.

use crate::error::NetError;
use npyz::{NpyFile, Order, WriterBuilder};
use std::fs;
use std::io::Cursor;
use std::path::Path;

/// Reads an `f32` tensor. Returns its extents, outermost first, and its elements.
///
/// # Errors
/// - [`NetError::Io`] if the file cannot be read.
/// - [`NetError::Npy`] for another format or element type, Fortran order or a truncated file.
pub fn read(path: &Path) -> Result<(Vec<usize>, Vec<f32>), NetError> {
    let bytes =
        fs::read(path).map_err(|cause| NetError::Io { action: "read", path: path.to_owned(), cause })?;
    let fault = |reason: String| NetError::Npy { origin: path.display().to_string(), reason };
    let (len, mut rest) = (bytes.len(), Cursor::new(bytes));
    let file = NpyFile::new(&mut rest).map_err(|error| fault(error.to_string()))?;
    if file.order() != Order::C {
        return Err(fault("Fortran order".to_owned()));
    }
    let dims = file.shape().iter().map(|&extent| usize::try_from(extent).ok()).collect::<Option<Vec<_>>>();
    let elements =
        |dims: &Vec<usize>| dims.iter().try_fold(4usize, |bytes, &extent| bytes.checked_mul(extent));
    // Reject extents that exceed the file before anything is read or allocated.
    let dims = dims.filter(|dims| elements(dims).is_some_and(|bytes| bytes <= len));
    let dims = dims.ok_or_else(|| fault(format!("extents larger than its {len} bytes")))?;
    let numbers = file.into_vec::<f32>().map_err(|error| fault(error.to_string()))?;
    Ok((dims, numbers))
}

/// Writes a tensor with extents `dims`, outermost first.
///
/// # Errors
/// [`NetError::Io`] if the file cannot be written.
pub fn write(path: &Path, dims: &[usize], numbers: &[f32]) -> Result<(), NetError> {
    let io = |cause| NetError::Io { action: "write", path: path.to_owned(), cause };
    let shape: Vec<u64> = dims.iter().map(|&extent| extent as u64).collect();
    let mut bytes = Vec::new();
    let options = npyz::WriteOptions::<f32>::new().default_dtype().shape(&shape);
    let mut writer = options.writer(&mut bytes).begin_nd().map_err(io)?;
    writer.extend(numbers.iter().copied()).map_err(io)?;
    writer.finish().map_err(io)?;
    crate::weights::write(path, &bytes)
}
