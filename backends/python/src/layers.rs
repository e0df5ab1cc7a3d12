//! Pooling, which PyTorch computes much more slowly than a convolution.

use crate::array::Tensor;
use crate::plan::Window;
use crate::program::Pool;
use crate::{error, pools};
use kernels::{Layout, Ops, PoolKind, Size2};
use pyo3::prelude::*;

/// Max or average pooling of `x`, N x C x H x W. Without a window it is global.
#[pyfunction]
#[pyo3(signature = (x, kind, window, steps, ceil_mode, threads))]
pub(crate) fn pool<'py>(
    x: &Bound<'py, PyAny>,
    kind: &str,
    window: Option<(usize, usize)>,
    steps: Window,
    ceil_mode: bool,
    threads: usize,
) -> PyResult<Bound<'py, PyAny>> {
    let kind = kind.parse::<PoolKind>().map_err(error::conv)?;
    let pool = Pool { kind, window: window.map(|(h, w)| Size2::new(h, w)), steps, ceil_mode };
    let threads = pools::threads(threads)?;
    let x = Tensor::input("x", x, Layout::Nchw)?;
    let desc = pool.describe(x.shape(), x.layout()).map_err(error::conv)?;
    let mut output = Tensor::new(x.py(), desc.output(), x.layout())?;
    let (input, out) = (x.as_ref().map_err(error::conv)?, output.as_out().map_err(error::conv)?);
    x.py().detach(|| Ops::new(None)?.pool(&desc, input, out, threads)).map_err(error::conv)?;
    Ok(output.into_array().into_any())
}
