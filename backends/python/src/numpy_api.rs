//! The few functions of NumPy that the module calls through the interpreter.

use numpy::PyArrayDyn;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

static EMPTY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static ZEROS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static ARRAY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static FLOAT32: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// An array whose memory is not initialised.
///
/// # Errors
/// NumPy's own: `MemoryError`, or `ValueError` if the size overflows.
pub(crate) fn empty<'py>(py: Python<'py>, shape: &[usize]) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
    let array =
        EMPTY.import(py, "numpy", "empty")?.call1((shape, FLOAT32.import(py, "numpy", "float32")?))?;
    Ok(array.cast_into()?)
}

/// An array of zeros in C order. The system provides large ones without writing them.
///
/// # Errors
/// As [`empty`].
pub(crate) fn zeros<'py>(py: Python<'py>, shape: &[usize]) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
    let array =
        ZEROS.import(py, "numpy", "zeros")?.call1((shape, FLOAT32.import(py, "numpy", "float32")?))?;
    Ok(array.cast_into()?)
}

/// A copy in C order, aligned.
pub(crate) fn c_copy<'py>(array: &Bound<'py, PyArrayDyn<f32>>) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
    let py = array.py();
    let kwargs = pyo3::types::PyDict::new(py);
    kwargs.set_item("copy", true)?;
    kwargs.set_item("order", "C")?;
    Ok(ARRAY.import(py, "numpy", "array")?.call((array,), Some(&kwargs))?.cast_into()?)
}
