//! `Program`: some layers of a network, run in one call.
//!
//! Between its layers a program keeps activations in blocks of 16 channels and in memory that it uses again for the
//! next run. The threads of a pool stay awake from the first layer to the last.

use crate::activation::{self, Named};
use crate::array::Tensor;
use crate::compile::{self, Inputs};
use crate::compiled::Compiled;
use crate::plan::{Plan, Window};
use crate::{error, pools};
use kernels::{Activation, ConvError, Layout, PoolKind, Size2};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::sync::{Arc, Mutex, PoisonError};

/// Shapes of the inputs whose compiled form a program keeps.
const COMPILED: usize = 8;

/// A layer as Python describes it: `convkernels._torch_segments.Step`.
#[derive(FromPyObject)]
struct Described {
    kind: String,
    inputs: Vec<usize>,
    plan: Option<Py<Plan>>,
    pool: Option<DescribedPool>,
    activation: Option<Named>,
}

/// The kind of a pooling, its window (`None` if it is global), its steps, and whether a clipped window counts.
type DescribedPool = (String, Option<(usize, usize)>, Window, bool);

/// A layer, and the values that it reads. Value `i` is input `i` of the program, or the result of layer
/// `i - inputs`.
pub(crate) struct Layer {
    pub(crate) kind: Kind,
    pub(crate) inputs: Vec<usize>,
}

/// What a layer computes.
pub(crate) enum Kind {
    /// A convolution of the first value, to which the second one is added if there is one.
    Conv(Py<Plan>),
    Pool(Pool),
    /// The sum of two values, then the activation.
    Add(Activation),
    Activate(Activation),
    /// The channels of all values, one after another.
    Concat,
}

/// A pooling of images of any size.
pub(crate) struct Pool {
    pub(crate) kind: PoolKind,
    pub(crate) window: Option<Size2>,
    pub(crate) steps: Window,
    pub(crate) ceil_mode: bool,
}

/// Some layers of a network. `inputs` is the number of its inputs, `outputs` the values that it returns.
#[pyclass(frozen, module = "convkernels._convkernels")]
pub(crate) struct Program {
    inputs: usize,
    layers: Vec<Layer>,
    outputs: Vec<usize>,
    compiled: Mutex<Vec<(Inputs, Kept)>>,
}

/// The compiled layers, or why they do not fit the inputs, so that the next call need not find out again.
type Kept = Result<Arc<Compiled>, ConvError>;

#[pymethods]
impl Program {
    #[new]
    fn new(inputs: usize, layers: Vec<Described>, outputs: Vec<usize>) -> PyResult<Self> {
        let mut checked = Vec::new();
        for layer in layers {
            check_values(&layer.inputs, inputs + checked.len())?;
            checked.push(layer.checked()?);
        }
        check_values(&outputs, inputs + checked.len())?;
        if let Some(output) = outputs.iter().find(|&&output| output < inputs) {
            return Err(PyValueError::new_err(format!(
                "outputs: expected results of layers, got input {output}"
            )));
        }
        Ok(Self { inputs, layers: checked, outputs, compiled: Mutex::default() })
    }

    /// Runs the layers. The outputs have the layout of the first input.
    fn run<'py>(
        &self,
        py: Python<'py>,
        inputs: Vec<Bound<'py, PyAny>>,
        threads: usize,
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        if inputs.len() != self.inputs {
            let text = format!("inputs: expected {}, got {}", self.inputs, inputs.len());
            return Err(PyValueError::new_err(text));
        }
        let threads = pools::threads(threads)?;
        let inputs = inputs
            .iter()
            .map(|input| Tensor::input("x", input, Layout::Nchw))
            .collect::<PyResult<Vec<_>>>()?;
        let key = Inputs {
            values: inputs.iter().map(|input| (input.shape(), input.layout())).collect(),
            threads: threads.count(),
        };
        let compiled = py.detach(|| self.compiled(key)).map_err(error::conv)?;
        let layout = inputs.first().map_or(Layout::Nchw, Tensor::layout);
        let shapes = compiled.outputs();
        let mut outputs = shapes.map(|shape| Tensor::new(py, shape, layout)).collect::<PyResult<Vec<_>>>()?;
        let read = inputs.iter().map(Tensor::as_ref).collect::<Result<Vec<_>, _>>().map_err(error::conv)?;
        let written =
            outputs.iter_mut().map(Tensor::as_out).collect::<Result<Vec<_>, _>>().map_err(error::conv)?;
        py.detach(|| compiled.run(&read, written, threads)).map_err(error::conv)?;
        Ok(outputs.into_iter().map(|output| output.into_array().into_any()).collect())
    }
}

impl Program {
    /// The compiled form for these inputs. The least recently used one comes first.
    fn compiled(&self, key: Inputs) -> Kept {
        {
            let mut kept = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(index) = kept.iter().position(|(other, _)| *other == key) {
                kept[index..].rotate_left(1);
                if let Some((_, compiled)) = kept.last() {
                    return compiled.clone();
                }
            }
        }
        let compiled = compile::compile(&self.layers, &self.outputs, &key).map(Arc::new);
        let mut kept = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= COMPILED {
            drop(kept.remove(0));
        }
        // Another time there can be memory.
        if !matches!(compiled, Err(ConvError::OutOfMemory { .. })) {
            kept.push((key, compiled.clone()));
        }
        compiled
    }
}

impl Described {
    fn checked(self) -> PyResult<Layer> {
        let count = self.inputs.len();
        let kind = match (self.kind.as_str(), self.plan, self.pool) {
            ("conv", Some(plan), None) if count == 1 || count == 2 => Kind::Conv(plan),
            ("pool", None, Some((kind, window, steps, ceil_mode))) if count == 1 => Kind::Pool(Pool {
                kind: kind.parse().map_err(error::conv)?,
                window: window.map(|(h, w)| Size2::new(h, w)),
                steps,
                ceil_mode,
            }),
            ("add", None, None) if count == 2 => Kind::Add(activation::parse(self.activation)?),
            ("activate", None, None) if count == 1 => Kind::Activate(activation::parse(self.activation)?),
            ("concat", None, None) if count > 0 => Kind::Concat,
            (kind, ..) => {
                let text =
                    format!("layer: expected a known kind with its parts, got '{kind}' of {count} values");
                return Err(PyValueError::new_err(text));
            }
        };
        Ok(Layer { kind, inputs: self.inputs })
    }
}

fn check_values(values: &[usize], known: usize) -> PyResult<()> {
    match values.iter().find(|&&value| value >= known) {
        Some(value) => {
            Err(PyValueError::new_err(format!("layer: expected one of {known} values, got number {value}")))
        }
        None => Ok(()),
    }
}
