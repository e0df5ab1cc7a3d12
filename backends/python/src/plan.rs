//! `Plan`: a convolution with packed weights for inputs of any batch and image size.

use crate::activation::{self, Named};
use crate::array::{Tensor, contiguous, elements, float32};
use crate::cache::{self, Cache, Key};
use crate::{error, pools};
use kernels::{
    Activation, ConvDesc, ConvError, ConvIo, ConvPlan, EpilogueSpec, Filter, FilterShape, Layout, Numerics,
    Pad2, PlanOptions, Shape4, Size2, Weights,
};
use numpy::PyUntypedArrayMethods;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::sync::Arc;

/// Where the window of a convolution goes: stride, padding (top, bottom, left, right) and dilation.
#[derive(FromPyObject)]
pub(crate) struct Window {
    stride: (usize, usize),
    padding: (usize, usize, usize, usize),
    dilation: (usize, usize),
}

impl Window {
    pub(crate) fn stride(&self) -> Size2 {
        Size2::new(self.stride.0, self.stride.1)
    }

    pub(crate) fn pad(&self) -> Pad2 {
        let (top, bottom, left, right) = self.padding;
        Pad2 { top, bottom, left, right }
    }

    pub(crate) fn dilation(&self) -> Size2 {
        Size2::new(self.dilation.0, self.dilation.1)
    }
}

/// See `convkernels.ConvPlan`, which checks arguments and accepts tensors of PyTorch as well.
///
/// The weights are borrowed: their arrays must not be written while the plan lives. `ConvPlan` passes a copy.
#[pyclass(frozen, module = "convkernels._convkernels")]
pub(crate) struct Plan {
    /// Borrows from `_borrowed`, and is dropped first.
    filter: Filter<'static>,
    window: Window,
    epilogue: EpilogueSpec,
    options: PlanOptions,
    cache: Cache,
    _borrowed: Vec<Py<PyAny>>,
}

#[pymethods]
impl Plan {
    #[new]
    #[pyo3(signature = (weight, per_channel, window, groups, activation, numerics))]
    fn new(
        weight: &Bound<'_, PyAny>,
        per_channel: (Option<Bound<'_, PyAny>>, Option<Bound<'_, PyAny>>),
        window: Window,
        groups: usize,
        activation: Option<Named>,
        numerics: &str,
    ) -> PyResult<Self> {
        let mut borrowed = Vec::new();
        let mut borrow = |what: &str, object: &Bound<'_, PyAny>| -> PyResult<(&'static [f32], Vec<usize>)> {
            let array = contiguous(float32(what, object)?)?;
            let slice = elements(&array);
            // SAFETY: the plan keeps a reference to the array in `_borrowed` until after the filter is dropped,
            // so its memory outlives the slice. The rule of this class is that nobody writes to it.
            let slice = unsafe { std::slice::from_raw_parts(slice.as_ptr(), slice.len()) };
            let shape = array.shape().to_vec();
            borrowed.push(array.into_any().unbind());
            Ok((slice, shape))
        };
        let (filter, shape) = borrow("weight", weight)?;
        let [o, i, kh, kw] = shape[..] else {
            let text = format!("weight: expected 4 dimensions (O, I, KH, KW), got shape {shape:?}");
            return Err(PyValueError::new_err(text));
        };
        let (bias, slope) = per_channel;
        let bias = bias.map(|bias| borrow("bias", &bias)).transpose()?.map(|(bias, _)| bias);
        let slope = slope.map(|slope| borrow("slopes", &slope)).transpose()?.map(|(slope, _)| slope);
        let shape = FilterShape::new(o, i, Size2::new(kh, kw)).groups(groups);
        let filter = Filter::new(shape, Weights { filter, bias, slope }).map_err(error::conv)?;
        let activation = activation::parse(activation)?;
        if (activation == Activation::PRelu) != slope.is_some() {
            let planned = activation == Activation::PRelu;
            return Err(error::conv(ConvError::EpilogueMismatch { what: "PReLU slopes", planned }));
        }
        let numerics = numerics.parse::<Numerics>().map_err(error::conv)?;
        let plan = Self {
            epilogue: EpilogueSpec { bias: bias.is_some(), residual: false, activation },
            filter,
            window,
            options: PlanOptions::default().numerics(numerics),
            cache: Cache::default(),
            _borrowed: borrowed,
        };
        plan.check_parameters().map_err(error::conv)?;
        Ok(plan)
    }

    /// Convolves `x`; see `convkernels.ConvPlan.__call__`.
    #[pyo3(signature = (x, out, residual, threads))]
    fn run<'py>(
        &self,
        x: &Bound<'py, PyAny>,
        out: Option<&Bound<'py, PyAny>>,
        residual: Option<&Bound<'py, PyAny>>,
        threads: usize,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = x.py();
        let threads = pools::threads(threads)?;
        let x = Tensor::input("x", x, Layout::Nchw)?;
        let output_layout = x.layout();
        let (input, layout) = (x.shape(), x.layout());
        let key =
            Key { input, layout, output_layout, residual: residual.is_some(), threads: threads.count() };
        let plan = py.detach(|| self.plan(key)).map_err(error::conv)?;
        let shape = plan.desc().output();
        let read = |residual| Tensor::input("residual", residual, output_layout)?.in_layout(output_layout);
        let residual = residual.map(read).transpose()?;
        let mut output = match out {
            Some(out) => Tensor::output(out, shape, output_layout)?,
            None => Tensor::new(py, shape, output_layout)?,
        };
        output.check_apart("x", &x)?;
        residual.iter().try_for_each(|residual| output.check_apart("residual", residual))?;
        let mut io = ConvIo::new(x.as_ref().map_err(error::conv)?, output.as_out().map_err(error::conv)?);
        if let Some(residual) = &residual {
            io = io.residual(residual.as_ref().map_err(error::conv)?);
        }
        let threads = pools::for_work(threads, plan.desc().cost().macs);
        py.detach(|| cache::run(&plan, io, threads)).map_err(error::conv)?;
        Ok(output.into_array().into_any())
    }

    /// The plan for inputs of `shape` in NCHW, and why it was chosen.
    fn explain(
        &self,
        py: Python<'_>,
        shape: (usize, usize, usize, usize),
        threads: usize,
    ) -> PyResult<String> {
        let (n, c, h, w) = shape;
        pools::check(threads)?;
        let (input, layout) = (Shape4::new(n, c, h, w), Layout::Nchw);
        let key = Key { input, layout, output_layout: layout, residual: false, threads };
        let plan = py.detach(|| self.plan(key)).map_err(error::conv)?;
        Ok(plan.explain().to_string())
    }

    /// The extents of the output for inputs of `shape`.
    fn output_shape(&self, shape: (usize, usize, usize, usize)) -> PyResult<(usize, usize, usize, usize)> {
        let (n, c, h, w) = shape;
        let layouts = [Layout::Nchw; 2];
        let desc = self.describe(Shape4::new(n, c, h, w), layouts, false).map_err(error::conv)?;
        let Shape4 { n, c, h, w } = desc.output();
        Ok((n, c, h, w))
    }

    /// Bytes of the weights in all packed forms.
    #[getter]
    fn packed_bytes(&self) -> usize {
        self.filter.packed_bytes()
    }

    /// Number of plans for shapes that are kept.
    #[getter]
    fn planned(&self) -> usize {
        self.cache.len()
    }
}

impl Plan {
    fn describe(&self, input: Shape4, layouts: [Layout; 2], residual: bool) -> Result<ConvDesc, ConvError> {
        let shape = self.filter.shape();
        if input.c != shape.input_channels() && !input.is_empty() {
            let expected = format!("{} (the input channels of the weights)", shape.input_channels());
            let got = input.c.to_string();
            return Err(ConvError::InvalidField { field: "input.c", expected, got });
        }
        ConvDesc::builder(input, shape.out_channels, shape.kernel)
            .stride(self.window.stride())
            .pad(self.window.pad())
            .dilation(self.window.dilation())
            .groups(shape.groups)
            .layout(layouts[0])
            .output_layout(layouts[1])
            .epilogue(EpilogueSpec { residual, ..self.epilogue })
            .build()
    }

    /// Checks what does not depend on the input, with the smallest image that the kernel fits.
    fn check_parameters(&self) -> Result<(), ConvError> {
        let shape = self.filter.shape();
        let input = Shape4::new(1, shape.input_channels(), shape.kernel.h, shape.kernel.w);
        match self.describe(input, [Layout::Nchw; 2], false) {
            Ok(_) | Err(ConvError::EmptyOutput { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The plan for inputs of `key`, from the cache or newly made.
    pub(crate) fn plan(&self, key: Key) -> Result<Arc<ConvPlan>, ConvError> {
        self.cache.get(key, || {
            let desc = self.describe(key.input, [key.layout, key.output_layout], key.residual)?;
            ConvPlan::new(&desc, &self.filter, &self.options.max_threads(key.threads))
        })
    }
}
