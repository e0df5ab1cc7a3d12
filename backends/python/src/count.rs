//! The calculator of the crate `nets`.

use crate::error;
use nets::import::onnx::{self, ImportOptions};
use nets::{Graph, LayerCount, NetCount, NetError, Shape, zoo};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use std::path::Path;

/// Counts a network of the zoo, or an ONNX file if `name` ends in `.onnx`; see `convkernels.count`.
#[pyfunction]
#[pyo3(signature = (name, input, batch))]
pub(crate) fn count<'py>(
    py: Python<'py>,
    name: &str,
    input: Option<Vec<usize>>,
    batch: u64,
) -> PyResult<Bound<'py, PyDict>> {
    if batch == 0 {
        return Err(PyValueError::new_err("batch: expected at least 1, got 0"));
    }
    let (graph, count) = py.detach(|| counted(name, input, batch)).map_err(error::net)?;
    let dict = PyDict::new(py);
    dict.set_item("name", graph.name())?;
    dict.set_item("batch", count.batch)?;
    dict.set_item("params", count.params)?;
    dict.set_item("untrained", count.untrained)?;
    dict.set_item("macs", count.macs)?;
    dict.set_item("other_ops", count.other_ops)?;
    dict.set_item("activation_bytes", count.activation_bytes)?;
    dict.set_item("peak_activation_bytes", count.peak_activation_bytes)?;
    dict.set_item("unknown_layers", count.unknown_layers)?;
    let layers = count.layers.iter().map(|layer| row(py, layer)).collect::<PyResult<Vec<_>>>()?;
    dict.set_item("layers", PyList::new(py, layers)?)?;
    Ok(dict)
}

fn row<'py>(py: Python<'py>, layer: &LayerCount) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("name", &layer.name)?;
    dict.set_item("op", &layer.op)?;
    dict.set_item("inputs", layer.inputs.iter().map(|shape| shape.dims()).collect::<Vec<_>>())?;
    dict.set_item("output", layer.output.dims())?;
    dict.set_item("params", layer.params)?;
    dict.set_item("untrained", layer.untrained)?;
    dict.set_item("macs", layer.macs)?;
    dict.set_item("other_ops", layer.other_ops)?;
    dict.set_item("activation_bytes", layer.activation_bytes)?;
    dict.set_item("moved_bytes", layer.moved_bytes)?;
    Ok(dict)
}

fn counted(name: &str, input: Option<Vec<usize>>, batch: u64) -> Result<(Graph, NetCount), NetError> {
    let input = input.map(|dims| shape(&dims)).transpose()?;
    let path = Path::new(name);
    let is_file = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("onnx"));
    match zoo::find(name) {
        Ok(entry) if !is_file => {
            let graph = entry.graph_for(input.unwrap_or(entry.input))?;
            let count = nets::count_batch(&graph, batch)?;
            Ok((graph, count))
        }
        Err(error) if !is_file && !path.exists() => Err(error),
        _ => {
            let mut options = ImportOptions::default().batch(usize::try_from(batch).unwrap_or(usize::MAX));
            options.input = input;
            let imported = onnx::load(path, &options)?;
            let count = imported.count(batch)?;
            Ok((imported.graph, count))
        }
    }
}

fn shape(dims: &[usize]) -> Result<Shape, NetError> {
    match *dims {
        [c, h, w] if c > 0 && h > 0 && w > 0 => Ok(Shape::map(c, h, w)),
        [len] if len > 0 => Ok(Shape::vector(len)),
        _ => Err(NetError::Option {
            option: "input",
            expected: "(channels, rows, columns) or (length,), each at least 1".to_owned(),
            got: format!("{dims:?}"),
        }),
    }
}
