//! Filters of images: `convolve2d` of SciPy and `filter2D` of OpenCV, computed by the crate for `ndarray`.

use crate::array::{Array, aligned, float32};
use crate::{error, pools};
use convkernels_ndarray::{Border, Error, Filter2d, FilterOptions, Mode, Threads};
use ndarray::{ArrayView, Dimension, Ix2, Ix3};
use numpy::{PyArray, PyArrayMethods, PyUntypedArrayMethods};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

/// What `filter` does at the border: its name, and the value of a constant one.
type NamedBorder = (String, f32);

/// Filters `image`, H x W or H x W x C, with `kernel`; see `convkernels.convolve2d` and `convkernels.filter2D`.
#[pyfunction]
#[pyo3(signature = (image, kernel, mode, border, anchor, flip, threads))]
pub(crate) fn filter<'py>(
    image: &Bound<'py, PyAny>,
    kernel: &Bound<'py, PyAny>,
    mode: &str,
    border: NamedBorder,
    anchor: Option<(usize, usize)>,
    flip: bool,
    threads: usize,
) -> PyResult<Bound<'py, PyAny>> {
    let py = image.py();
    let mut options =
        FilterOptions::default().mode(parse_mode(mode)?).border(parse_border(border)?).flip(flip);
    options.anchor = anchor;
    let threads = pools::pool_of(threads)?;
    if threads.is_some() {
        options = options.threads(Threads::Rayon);
    }
    let (image, kernel) = (aligned(float32("image", image)?)?, aligned(float32("kernel", kernel)?)?);
    let kernel = view::<Ix2>("kernel", &kernel)?;
    let run = |work: &mut (dyn FnMut() + Send)| match threads {
        Some(pool) => pool.install(work),
        None => work(),
    };
    if image.ndim() == 3 {
        let image = view::<Ix3>("image", &image)?;
        let mut result = None;
        py.detach(|| {
            run(&mut || result = Some(Filter2d::new(kernel, &options).and_then(|f| f.run_hwc(image))))
        });
        return finish(py, result);
    }
    let image = view::<Ix2>("image", &image)?;
    let mut result = None;
    py.detach(|| run(&mut || result = Some(Filter2d::new(kernel, &options).and_then(|f| f.run(image)))));
    finish(py, result)
}

fn finish<'py, D: Dimension>(
    py: Python<'py>,
    result: Option<Result<ndarray::Array<f32, D>, Error>>,
) -> PyResult<Bound<'py, PyAny>> {
    match result {
        Some(Ok(array)) => Ok(PyArray::from_owned_array(py, array).into_any()),
        Some(Err(Error::Conv(error))) => Err(error::conv(error)),
        Some(Err(error)) => Err(PyValueError::new_err(error.to_string())),
        None => {
            Err(PyRuntimeError::new_err("threads: expected a pool that runs its jobs, got one that does not"))
        }
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

fn parse_border((name, value): NamedBorder) -> PyResult<Border> {
    match name.as_str() {
        "constant" => Ok(Border::Constant(value)),
        "replicate" => Ok(Border::Replicate),
        "reflect" => Ok(Border::Reflect),
        "reflect_101" => Ok(Border::Reflect101),
        "wrap" => Ok(Border::Wrap),
        _ => Err(PyValueError::new_err(format!(
            "border: expected 'constant', 'replicate', 'reflect', 'reflect_101' or 'wrap', got '{name}'"
        ))),
    }
}
