//! Filters of images: `convolve2d` of SciPy and `filter2D` of OpenCV, computed by the crate for `ndarray`.

use crate::array::{Array, aligned, contiguous, float32};
use crate::prepared::prepared;
use crate::{error, pools};
use convkernels_ndarray::{Border, Error, FilterOptions, Mode, Threads};
use ndarray::{ArrayView, Dimension, Ix2, Ix3};
use numpy::{PyArray, PyArrayMethods, PyUntypedArrayMethods};
use pyo3::exceptions::{PyMemoryError, PyValueError};
use pyo3::prelude::*;
use rayon::ThreadPool;

/// How a kernel is applied: `convkernels._images.Rule`.
#[derive(FromPyObject)]
pub(crate) struct Rule {
    mode: String,
    /// The name of the border, and the value of a constant one.
    border: (String, f32),
    /// Row and column.
    anchor: Option<(usize, usize)>,
    flip: bool,
    /// Whether a kernel that is a column times a row is applied as two passes.
    separable: bool,
}

/// Filters `image`, H x W or H x W x C, with `kernel`; see `convkernels.convolve2d` and `convkernels.filter2D`.
#[pyfunction]
pub(crate) fn filter<'py>(
    image: &Bound<'py, PyAny>,
    kernel: &Bound<'py, PyAny>,
    rule: Rule,
    threads: usize,
) -> PyResult<Bound<'py, PyAny>> {
    let py = image.py();
    let mut options = FilterOptions::default();
    options = options.mode(parse_mode(&rule.mode)?).border(parse_border(&rule.border)?).flip(rule.flip);
    options = options.separable(rule.separable);
    options.anchor = rule.anchor;
    // A kernel that is broadcast to a huge one fails here, where NumPy copies it.
    let (image, kernel) = (aligned(float32("image", image)?)?, contiguous(float32("kernel", kernel)?)?);
    check_memory(kernel.len())?;
    let macs = image.len().saturating_mul(kernel.len()) as u64;
    let pool = pools::pool_of(threads)?.filter(|_| pools::is_worth_waking(macs));
    if pool.is_some() {
        options = options.threads(Threads::Rayon);
    }
    let kernel = view::<Ix2>("kernel", &kernel)?;
    if image.ndim() == 3 {
        let image = view::<Ix3>("image", &image)?;
        let result = py.detach(|| within(pool, || prepared(kernel, &options)?.run_hwc(image)));
        return finish(py, result);
    }
    let image = view::<Ix2>("image", &image)?;
    let result = py.detach(|| within(pool, || prepared(kernel, &options)?.run(image)));
    finish(py, result)
}

/// Preparing a kernel takes memory whose failure would end the process: some copies in double precision. Asks
/// the system for as much before.
///
/// # Errors
/// `MemoryError`.
fn check_memory(elements: usize) -> PyResult<()> {
    const COPIES: usize = 4;
    let asked = Vec::<[f64; COPIES]>::new().try_reserve_exact(elements);
    asked.map_err(|_| {
        PyMemoryError::new_err(format!("kernel: expected memory for {elements} elements, got none"))
    })
}

/// Calls `work` on a thread of the pool, or here without one.
fn within<R: Send>(pool: Option<&ThreadPool>, work: impl FnOnce() -> R + Send) -> R {
    match pool {
        Some(pool) => pool.install(work),
        None => work(),
    }
}

fn finish<'py, D: Dimension>(
    py: Python<'py>,
    result: Result<ndarray::Array<f32, D>, Error>,
) -> PyResult<Bound<'py, PyAny>> {
    match result {
        Ok(array) => Ok(PyArray::from_owned_array(py, array).into_any()),
        Err(Error::Conv(error)) => Err(error::conv(error)),
        Err(error) => Err(PyValueError::new_err(error.to_string())),
    }
}

/// The array with `D` dimensions and any strides.
fn view<'a, D: Dimension>(what: &str, array: &'a Array<'_>) -> PyResult<ArrayView<'a, f32, D>> {
    // SAFETY: the array is aligned, and it lives while the view borrows it. That nobody writes to it meanwhile is
    // the rule of the module's documentation.
    let view = unsafe { array.as_array() };
    view.into_dimensionality::<D>().map_err(|_| {
        let expected = D::NDIM.unwrap_or(0);
        PyValueError::new_err(format!(
            "{what}: expected {expected} dimensions, got shape {:?}",
            array.shape()
        ))
    })
}

fn parse_mode(name: &str) -> PyResult<Mode> {
    match name {
        "full" => Ok(Mode::Full),
        "same" => Ok(Mode::Same),
        "valid" => Ok(Mode::Valid),
        _ => Err(PyValueError::new_err(format!("mode: expected 'full', 'same' or 'valid', got '{name}'"))),
    }
}

fn parse_border((name, value): &(String, f32)) -> PyResult<Border> {
    match name.as_str() {
        "constant" => Ok(Border::Constant(*value)),
        "replicate" => Ok(Border::Replicate),
        "reflect" => Ok(Border::Reflect),
        "reflect_101" => Ok(Border::Reflect101),
        "wrap" => Ok(Border::Wrap),
        _ => Err(PyValueError::new_err(format!(
            "border: expected 'constant', 'replicate', 'reflect', 'reflect_101' or 'wrap', got '{name}'"
        ))),
    }
}
