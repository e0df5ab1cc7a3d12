//! The gradients of a convolution, and the transposed convolution.
//!
//! All three describe one convolution from a *large* tensor to a *small* one. The gradient of the large tensor, and the
//! transposed convolution, read the small tensor and write the large one.

use crate::array::{Array, Tensor, contiguous, elements, float32};
use crate::cache;
use crate::plan::Window;
use crate::{error, numpy_api, pools};
use kernels::{
    BackwardData, BackwardDataIo, BackwardWeights, BackwardWeightsIo, ConvDesc, ConvError, ConvIo, DataSpec,
    EpilogueSpec, Layout, PlanOptions, Shape4, Size2, Threads, TransposedDesc, TransposedPlan, Weights,
    WeightsSpec,
};
use numpy::{PyArrayMethods, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Extents of a tensor or of a filter.
type Extents = (usize, usize, usize, usize);

/// What all calls have: the window, the number of groups and the number of threads.
type Common = (Window, usize, usize);

/// The filter of a call, in C order.
struct Kernel<'py> {
    array: Array<'py>,
    /// `(small.c, large.c / groups, KH, KW)`.
    extents: [usize; 4],
}

impl<'py> Kernel<'py> {
    fn new(weight: &Bound<'py, PyAny>) -> PyResult<Self> {
        let array = contiguous(float32("weight", weight)?)?;
        let [o, i, kh, kw] = *array.shape() else {
            let text = format!("weight: expected 4 dimensions, got shape {:?}", array.shape());
            return Err(PyValueError::new_err(text));
        };
        Ok(Self { array, extents: [o, i, kh, kw] })
    }
}

/// The convolution whose gradient is computed.
fn describe(
    large: Shape4,
    [out_channels, per_group, kh, kw]: [usize; 4],
    window: &Window,
    groups: usize,
    layout: Layout,
) -> Result<ConvDesc, ConvError> {
    let desc = ConvDesc::builder(large, out_channels, Size2::new(kh, kw))
        .stride(window.stride())
        .pad(window.pad())
        .dilation(window.dilation())
        .groups(groups)
        .layout(layout)
        .build()?;
    let expected = large.c / groups;
    if per_group != expected {
        let expected = format!("{expected} (the input channels of a group)");
        return Err(ConvError::InvalidField {
            field: "weight.shape[1]",
            expected,
            got: per_group.to_string(),
        });
    }
    Ok(desc)
}

/// The threads of a call, for this much work.
fn for_work(threads: Threads<'static>, macs: u64) -> (PlanOptions, Threads<'static>) {
    (PlanOptions::default().threads(&threads), pools::for_work(threads, macs))
}

/// The gradient of the input of a convolution, of shape `size`, from the gradient of its output.
#[pyfunction]
pub(crate) fn input_gradient<'py>(
    gradient: &Bound<'py, PyAny>,
    weight: &Bound<'py, PyAny>,
    size: Extents,
    common: Common,
) -> PyResult<Bound<'py, PyAny>> {
    let py = gradient.py();
    let (window, groups, threads) = common;
    let threads = pools::threads(threads)?;
    let gradient = Tensor::input("gradient", gradient, Layout::Nchw)?;
    let kernel = Kernel::new(weight)?;
    let (n, c, h, w) = size;
    let desc = describe(Shape4::new(n, c, h, w), kernel.extents, &window, groups, gradient.layout())
        .map_err(error::conv)?;
    let mut output = Tensor::zeros(py, desc.input(), desc.layout())?;
    let filter = elements(&kernel.array);
    let io =
        BackwardDataIo::new(gradient.as_ref().map_err(error::conv)?, output.as_mut().map_err(error::conv)?);
    let (options, threads) = for_work(threads, desc.cost().macs);
    py.detach(|| {
        let plan = BackwardData::new(&desc, filter, DataSpec::default(), &options)?;
        cache::with_workspace(plan.workspace_req(), |workspace| plan.run(io, workspace, threads))
    })
    .map_err(error::conv)?;
    Ok(output.into_array().into_any())
}

/// The gradients of the weights of a convolution, of shape `size`, and with `bias` of its bias.
#[pyfunction]
pub(crate) fn weight_gradient<'py>(
    x: &Bound<'py, PyAny>,
    gradient: &Bound<'py, PyAny>,
    size: Extents,
    bias: bool,
    common: Common,
) -> PyResult<(Bound<'py, PyAny>, Option<Bound<'py, PyAny>>)> {
    let py = x.py();
    let (window, groups, threads) = common;
    let threads = pools::threads(threads)?;
    let gradient = Tensor::input("gradient", gradient, Layout::Nchw)?;
    let layout = gradient.layout();
    let x = Tensor::input("x", x, layout)?.in_layout(layout)?;
    let (o, i, kh, kw) = size;
    let desc = describe(x.shape(), [o, i, kh, kw], &window, groups, layout).map_err(error::conv)?;
    let mut of_weight = Flat::new(py, &[o, i, kh, kw])?;
    let mut of_bias = if bias { Some(Flat::new(py, &[o])?) } else { None };
    let spec = if bias { WeightsSpec::default().bias() } else { WeightsSpec::default() };
    let (options, threads) = for_work(threads, desc.cost().macs);
    let mut io = BackwardWeightsIo::new(
        x.as_ref().map_err(error::conv)?,
        gradient.as_ref().map_err(error::conv)?,
        of_weight.elements_mut(),
    );
    if let Some(bias) = &mut of_bias {
        io = io.bias(bias.elements_mut());
    }
    py.detach(|| {
        let plan = BackwardWeights::new(&desc, &spec, &options)?;
        cache::with_workspace(plan.workspace_req(), |workspace| plan.run(io, workspace, threads))
    })
    .map_err(error::conv)?;
    Ok((of_weight.into_array(), of_bias.map(Flat::into_array)))
}

/// The transposed convolution of `x` with a weight `(C, O / groups, KH, KW)`.
#[pyfunction]
#[pyo3(signature = (x, weight, bias, output_padding, common))]
pub(crate) fn transposed<'py>(
    x: &Bound<'py, PyAny>,
    weight: &Bound<'py, PyAny>,
    bias: Option<&Bound<'py, PyAny>>,
    output_padding: (usize, usize),
    common: Common,
) -> PyResult<Bound<'py, PyAny>> {
    let py = x.py();
    let (window, groups, threads) = common;
    let threads = pools::threads(threads)?;
    let x = Tensor::input("x", x, Layout::Nchw)?;
    let kernel = Kernel::new(weight)?;
    let bias = bias.map(|bias| contiguous(float32("bias", bias)?)).transpose()?;
    let desc = describe_transposed(&x, kernel.extents, &window, (output_padding, groups, bias.is_some()))
        .map_err(error::conv)?;
    let weights = Weights {
        filter: elements(&kernel.array),
        bias: bias.as_ref().map(|bias| elements(bias)),
        slope: None,
    };
    let mut output = Tensor::new(py, desc.output(), desc.layout())?;
    let io = ConvIo::new(x.as_ref().map_err(error::conv)?, output.as_out().map_err(error::conv)?);
    let pixels = (desc.input().n * desc.input().h * desc.input().w) as u64;
    let (options, threads) = for_work(threads, pixels.saturating_mul(desc.filter_len() as u64));
    py.detach(|| {
        let plan = TransposedPlan::new(&desc, weights, &options)?;
        cache::with_workspace(plan.workspace_req(), |workspace| plan.run(io, workspace, threads))
    })
    .map_err(error::conv)?;
    Ok(output.into_array().into_any())
}

fn describe_transposed(
    x: &Tensor<'_>,
    [channels, per_group, kh, kw]: [usize; 4],
    window: &Window,
    (output_padding, groups, bias): ((usize, usize), usize, bool),
) -> Result<TransposedDesc, ConvError> {
    let out_channels =
        per_group.checked_mul(groups).ok_or(ConvError::SizeOverflow { what: "output channels" })?;
    let desc = TransposedDesc::builder(x.shape(), out_channels, Size2::new(kh, kw))
        .stride(window.stride())
        .pad(window.pad())
        .output_pad(Size2::new(output_padding.0, output_padding.1))
        .dilation(window.dilation())
        .groups(groups)
        .layout(x.layout())
        .epilogue(EpilogueSpec { bias, ..EpilogueSpec::NONE })
        .build()?;
    if x.shape().c != channels {
        let expected = format!("{channels} (the input channels of the weights)");
        return Err(ConvError::InvalidField { field: "x.shape[1]", expected, got: x.shape().c.to_string() });
    }
    Ok(desc)
}

/// A new array of zeros in C order.
struct Flat<'py>(Array<'py>);

impl<'py> Flat<'py> {
    fn new(py: Python<'py>, shape: &[usize]) -> PyResult<Self> {
        numpy_api::zeros(py, shape).map(Self)
    }

    fn elements_mut(&mut self) -> &mut [f32] {
        // SAFETY: the array is new, in C order and aligned, its elements are zeros, and nobody else knows it.
        unsafe { std::slice::from_raw_parts_mut(self.0.data(), self.0.len()) }
    }

    fn into_array(self) -> Bound<'py, PyAny> {
        self.0.into_any()
    }
}
