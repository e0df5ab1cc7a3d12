//! The library's errors as Python exceptions, with the same words.

use kernels::ConvError;
use nets::NetError;
use pyo3::PyErr;
use pyo3::exceptions::{PyFileNotFoundError, PyMemoryError, PyOSError, PyValueError};
use std::io::ErrorKind;

/// `MemoryError` if the system refused memory, else `ValueError`.
pub(crate) fn conv(error: ConvError) -> PyErr {
    match error {
        ConvError::OutOfMemory { .. } => PyMemoryError::new_err(error.to_string()),
        _ => PyValueError::new_err(error.to_string()),
    }
}

/// `FileNotFoundError` or `OSError` for files, else `ValueError`.
pub(crate) fn net(error: NetError) -> PyErr {
    let text = error.to_string();
    match error {
        NetError::Io { cause, .. } if cause.kind() == ErrorKind::NotFound => {
            PyFileNotFoundError::new_err(text)
        }
        NetError::Io { .. } => PyOSError::new_err(text),
        NetError::Kernel(cause) => conv(cause),
        _ => PyValueError::new_err(text),
    }
}
