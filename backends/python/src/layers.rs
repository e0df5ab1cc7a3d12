//! The layers between convolutions, for activations in blocks of 16 channels.
//!
//! `convkernels.torch` keeps activations in blocks between two convolutions. PyTorch has no layers for them.

use crate::activation::{self, Named};
use crate::array::Tensor;
use crate::plan::Window;
use crate::{error, pools};
use kernels::{ConvError, Layout, Ops, PoolDesc, PoolKind, Shape4, Size2};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Max or average pooling of `x`, which has `channels` channels. Without a window it is global.
#[pyfunction]
#[pyo3(signature = (x, channels, kind, window, steps, ceil_mode, threads))]
pub(crate) fn pool<'py>(
    x: &Bound<'py, PyAny>,
    channels: usize,
    kind: &str,
    window: Option<(usize, usize)>,
    steps: Window,
    ceil_mode: bool,
    threads: usize,
) -> PyResult<Bound<'py, PyAny>> {
    let kind = kind.parse::<PoolKind>().map_err(error::conv)?;
    let describe = |input: Shape4, layout: Layout| match window {
        None => PoolDesc::global(input, kind, layout),
        Some((h, w)) => PoolDesc::builder(input, Size2::new(h, w), kind)
            .stride(steps.stride())
            .pad(steps.pad())
            .dilation(steps.dilation())
            .ceil_mode(ceil_mode)
            .layout(layout)
            .build(),
    };
    let threads = pools::threads(threads)?;
    let x = Tensor::input("x", x, channels, Layout::Nchw)?;
    let desc = describe(x.shape(), x.layout()).map_err(error::conv)?;
    let mut output = Tensor::new(x.py(), desc.output(), x.layout())?;
    let (input, out) = (x.as_ref().map_err(error::conv)?, output.as_out().map_err(error::conv)?);
    x.py().detach(|| Ops::new(None)?.pool(&desc, input, out, threads)).map_err(error::conv)?;
    Ok(output.into_array().into_any())
}

/// `activation(x + y)`, for two arrays of the same shape with `channels` channels.
#[pyfunction]
#[pyo3(signature = (x, y, channels, activation, threads))]
pub(crate) fn add<'py>(
    x: &Bound<'py, PyAny>,
    y: &Bound<'py, PyAny>,
    channels: usize,
    activation: Option<Named>,
    threads: usize,
) -> PyResult<Bound<'py, PyAny>> {
    let activation = activation::parse(activation)?;
    let threads = pools::threads(threads)?;
    let x = Tensor::input("x", x, channels, Layout::Nchw)?;
    let y = Tensor::input("y", y, channels, x.layout())?;
    let mut output = copy(&x, x.layout(), threads)?;
    let (sum, addend) = (output.as_mut().map_err(error::conv)?, y.as_ref().map_err(error::conv)?);
    x.py().detach(|| Ops::new(None)?.add(addend, sum, activation, threads)).map_err(error::conv)?;
    Ok(output.into_array().into_any())
}

/// N x C x H x W in blocks of 16 channels.
#[pyfunction]
pub(crate) fn block<'py>(x: &Bound<'py, PyAny>, threads: usize) -> PyResult<Bound<'py, PyAny>> {
    let channels = x.getattr("shape")?.get_item(1)?.extract()?;
    reorder(x, channels, Layout::Nchw16c, threads)
}

/// Blocks of 16 channels as N x C x H x W.
#[pyfunction]
pub(crate) fn unblock<'py>(
    x: &Bound<'py, PyAny>,
    channels: usize,
    threads: usize,
) -> PyResult<Bound<'py, PyAny>> {
    reorder(x, channels, Layout::Nchw, threads)
}

fn reorder<'py>(
    x: &Bound<'py, PyAny>,
    channels: usize,
    layout: Layout,
    threads: usize,
) -> PyResult<Bound<'py, PyAny>> {
    let threads = pools::threads(threads)?;
    let x = Tensor::input("x", x, channels, Layout::Nchw)?;
    Ok(copy(&x, layout, threads)?.into_array().into_any())
}

fn copy<'py>(x: &Tensor<'py>, layout: Layout, threads: kernels::Threads<'_>) -> PyResult<Tensor<'py>> {
    if x.shape().is_empty() {
        let text = format!("x: expected at least one element, got shape {}", x.shape());
        return Err(PyValueError::new_err(text));
    }
    let mut output = Tensor::new(x.py(), x.shape(), layout)?;
    let (input, out) = (x.as_ref().map_err(error::conv)?, output.as_out().map_err(error::conv)?);
    x.py()
        .detach(|| -> Result<(), ConvError> { Ops::new(None)?.copy(input, out, threads) })
        .map_err(error::conv)?;
    Ok(output)
}
