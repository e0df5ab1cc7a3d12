//! Exports a network with its weights as an ONNX file for other engines (IR version 8, opset 17).
//!
//! ```no_run
//! use nets::{Init, SeededWeights, export::onnx, zoo};
//!
//! let graph = zoo::find("resnet18")?.graph()?;
//! let weights = SeededWeights::new(&graph, Init::He, 1)?;
//! onnx::save(&graph, &weights, 1, "resnet18.onnx".as_ref())?;
//! # Ok::<(), nets::NetError>(())
//! ```

mod ops;
mod proto;

use crate::error::{LayerError, NetError};
use crate::graph::{Graph, Node};
use crate::layer::Param;
use crate::shape::Shape;
use crate::weights::WeightSource;
use proto::{Attribute, Message};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Maximum size of a protocol buffers message in bytes.
const LIMIT: u64 = (1 << 31) - 1;

/// Writes `graph` for `batch` images to an ONNX file, tensor by tensor.
///
/// Values have the names of their nodes, and tensors are called `node.weight`, `node.bias` and so on. Layers
/// that do nothing at inference are omitted.
///
/// # Errors
/// - [`NetError::Layer`] for a layer that ONNX has no operator for.
/// - [`NetError::Option`] if `batch` is 0.
/// - [`NetError::TooLarge`] if the file would have 2 GiB or more.
/// - [`NetError::Io`] if the file cannot be written.
/// - Those of `weights`.
pub fn save(graph: &Graph, weights: &dyn WeightSource, batch: usize, path: &Path) -> Result<(), NetError> {
    let io = |cause| NetError::Io { action: "write", path: path.to_owned(), cause };
    let model = Model::new(graph, batch)?;
    let mut file = BufWriter::new(File::create(path).map_err(io)?);
    model.write(weights, &mut file, &io)?;
    file.flush().map_err(io)
}

/// Returns the bytes of the file that [`save`] writes.
///
/// # Errors
/// As [`save`].
pub fn to_bytes(graph: &Graph, weights: &dyn WeightSource, batch: usize) -> Result<Vec<u8>, NetError> {
    let io = |cause| NetError::Io { action: "write", path: "memory".into(), cause };
    let mut bytes = Vec::new();
    Model::new(graph, batch)?.write(weights, &mut bytes, &io)?;
    Ok(bytes)
}

/// A tensor that an operator reads.
#[derive(Debug)]
struct Tensor {
    name: String,
    dims: Vec<usize>,
    data: Data,
}

#[derive(Debug)]
enum Data {
    /// The parameter of the same name.
    Trained(Param),
    Float(f32),
    Ints(Vec<usize>),
}

impl Tensor {
    fn bytes(&self) -> u64 {
        match &self.data {
            Data::Trained(param) => param.len().unwrap_or(u64::MAX).saturating_mul(4),
            Data::Float(_) => 4,
            Data::Ints(values) => 8 * values.len() as u64,
        }
    }

    /// Its message without the elements at the end.
    fn head(&self) -> Vec<u8> {
        let dtype = if matches!(self.data, Data::Ints(_)) { proto::INT64 } else { proto::FLOAT };
        proto::tensor(&self.name, &self.dims, dtype, self.bytes()).into_bytes()
    }
}

/// Operators and tensors in the order of the graph.
#[derive(Debug, Default)]
struct Draft {
    nodes: Vec<Message>,
    tensors: Vec<Tensor>,
    /// The name of the value of each node.
    values: Vec<String>,
}

impl Draft {
    fn name_value(&mut self, name: String) {
        self.values.push(name);
    }

    /// Gives `node` the value of its input.
    fn alias(&mut self, node: &Node) {
        self.values.push(self.values[node.inputs[0].index()].clone());
    }

    /// Adds an operator that reads the inputs of `node`, then `more`.
    fn node(&mut self, op: &str, node: &Node, more: &[String], attributes: &[(&str, Attribute)]) {
        let inputs = node.inputs.iter().map(|input| &self.values[input.index()]).chain(more);
        let inputs: Vec<&str> = inputs.map(String::as_str).collect();
        self.nodes.push(proto::node(op, &inputs, &node.name, attributes));
        self.values.push(node.name.clone());
    }

    /// Adds an operator on the first input of `node`. The node's own operator reads its result.
    fn before(&mut self, op: &str, node: &Node, suffix: &str) -> String {
        let name = format!("{}.{suffix}", node.name);
        let input = self.values[node.inputs[0].index()].as_str();
        self.nodes.push(proto::node(op, &[input], &name, &[]));
        name
    }

    fn tensor(&mut self, node: &Node, suffix: &str, dims: Vec<usize>, data: Data) -> String {
        let name = format!("{}.{suffix}", node.name);
        self.tensors.push(Tensor { name: name.clone(), dims, data });
        name
    }

    /// Adds the parameter tensors of a layer.
    fn params(&mut self, node: &Node, shapes: &[Shape]) -> Vec<String> {
        let params = node.layer.params(shapes).into_iter();
        params.map(|param| self.tensor(node, param.name, param.dims.clone(), Data::Trained(param))).collect()
    }

    /// Adds the parameter tensors of a layer with trailing extents of 1, so that they broadcast over pixels.
    fn per_channel(&mut self, node: &Node, shapes: &[Shape]) -> Vec<String> {
        let params = node.layer.params(shapes).into_iter();
        let axes = shapes.first().map_or(0, |shape| shape.dims().len() - 1);
        let dims = |param: &Param| param.dims.iter().copied().chain(std::iter::repeat_n(1, axes)).collect();
        params.map(|param| self.tensor(node, param.name, dims(&param), Data::Trained(param))).collect()
    }

    fn float(&mut self, node: &Node, suffix: &str, value: f32) -> String {
        self.tensor(node, suffix, Vec::new(), Data::Float(value))
    }

    fn ints(&mut self, node: &Node, suffix: &str, values: &[usize]) -> String {
        self.tensor(node, suffix, vec![values.len()], Data::Ints(values.to_vec()))
    }
}

/// The file without the values of parameters.
struct Model {
    /// Everything before the tensors.
    start: Vec<u8>,
    tensors: Vec<Tensor>,
}

impl Model {
    fn new(graph: &Graph, batch: usize) -> Result<Self, NetError> {
        if batch == 0 {
            let (expected, got) = ("at least 1".to_owned(), "0".to_owned());
            return Err(NetError::Option { option: "batch", expected, got });
        }
        let mut draft = Draft::default();
        for node in graph.nodes() {
            ops::layer(&mut draft, graph, node).map_err(|problem| NetError::layer(&node.name, problem))?;
        }
        let batched = |shape: Shape| [batch].into_iter().chain(shape.dims()).collect::<Vec<_>>();
        let output = &draft.values[graph.output_id().index()];
        let inside = draft.nodes.iter().fold(Message::default(), |graph, node| graph.message(1, node));
        let inside = inside
            .text(2, graph.name())
            .message(11, &proto::value(&draft.values[0], &batched(graph.input())))
            .message(12, &proto::value(output, &batched(graph.output())))
            .into_bytes();
        let tensors = draft.tensors.iter().map(|tensor| framed(tensor).1);
        let len = tensors.fold(inside.len() as u64, u64::saturating_add);
        if len > LIMIT {
            let what = format!("ONNX file of network `{}`", graph.name());
            return Err(NetError::TooLarge { what, limit: LIMIT, needed: len });
        }
        let opset = Message::default().text(1, "").int(2, 17);
        let head = Message::default().int(1, 8).text(2, "nets").message(8, &opset).opened(7, len);
        Ok(Self { start: [head.into_bytes(), inside].concat(), tensors: draft.tensors })
    }

    fn write(
        &self,
        weights: &dyn WeightSource,
        to: &mut dyn Write,
        io: &dyn Fn(io::Error) -> NetError,
    ) -> Result<(), NetError> {
        to.write_all(&self.start).map_err(io)?;
        for tensor in &self.tensors {
            to.write_all(&framed(tensor).0).map_err(io)?;
            match &tensor.data {
                Data::Float(value) => to.write_all(&value.to_le_bytes()).map_err(io)?,
                Data::Ints(values) => {
                    let bytes: Vec<u8> =
                        values.iter().flat_map(|&value| (value as u64).to_le_bytes()).collect();
                    to.write_all(&bytes).map_err(io)?;
                }
                Data::Trained(param) => {
                    trained(&tensor.name, param, weights, &mut |bytes| to.write_all(bytes).map_err(io))?
                }
            }
        }
        Ok(())
    }
}

/// The head of a tensor as a field of the graph, and the length of the whole field in bytes.
fn framed(tensor: &Tensor) -> (Vec<u8>, u64) {
    let (head, numbers) = (tensor.head(), tensor.bytes());
    let len = (head.len() as u64).saturating_add(numbers);
    let frame = [Message::default().opened(5, len).into_bytes(), head].concat();
    let all = (frame.len() as u64).saturating_add(numbers);
    (frame, all)
}

/// Passes the bytes of a parameter to `write`, exactly as many as its extents require.
fn trained(
    name: &str,
    param: &Param,
    weights: &dyn WeightSource,
    write: &mut dyn FnMut(&[u8]) -> Result<(), NetError>,
) -> Result<(), NetError> {
    let numbers = weights.tensor(name, param)?;
    let numbers = numbers.filter(|numbers| Some(numbers.len() as u64) == param.len());
    let Some(numbers) = numbers else {
        let (tensor, network) = (name.to_owned(), weights.network().to_owned());
        let layer = name.strip_suffix(param.name).map_or(name, |layer| layer.trim_end_matches('.'));
        return Err(NetError::layer(layer, LayerError::NoWeights { tensor, network }));
    };
    let mut bytes = Vec::new();
    numbers.chunks(1 << 14).try_for_each(|numbers| {
        bytes.clear();
        bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        write(&bytes)
    })
}
