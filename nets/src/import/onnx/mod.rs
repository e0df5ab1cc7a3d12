//! Imports ONNX models of PyTorch, TensorFlow and others, without loading their weights.
//!
//! A file is read message by message (`wire`, `proto`). Payloads are skipped, and only their positions are
//! kept. The nodes are sorted (`order`), and everything that depends only on shapes is computed (`fold`). A
//! function of `ops` turns every other operator into a layer of a `draft`. The draft becomes a checked
//! [`Graph`]. [`OnnxWeights::read`] later reads the weights from the file.
//!
//! ```no_run
//! use nets::import::onnx::{self, ImportOptions};
//!
//! let model = onnx::load("resnet18.onnx".as_ref(), &ImportOptions::default())?;
//! println!("{} parameters", model.count(1)?.params);
//! # Ok::<(), nets::NetError>(())
//! ```

mod array;
mod broadcast;
mod dims;
mod draft;
mod extents;
mod external;
mod fold;
mod importer;
mod input;
mod look;
mod node;
mod ops;
mod order;
mod pass;
mod plain;
mod proto;
mod source;
mod spatial;
mod tensor;
mod unknown;
mod value;
mod weights;
mod wire;

pub use crate::error::{OnnxError, Place};
pub use weights::{OnnxWeights, Surplus};

use crate::count::{NetCount, count_batch};
use crate::error::NetError;
use crate::graph::Graph;
use crate::shape::Shape;
use draft::Draft;
use importer::{Importer, Output};
use input::Inputs;
use order::Wiring;
use proto::{GraphDef, Model};
use source::ModelSource;
use std::collections::HashSet;
use std::path::Path;
use tensor::TensorDef;
use wire::Wire;

/// Opset versions that this import was written and tested for.
const OPSETS: std::ops::RangeInclusive<i64> = 8..=21;

/// Batch sizes for further imports of the model. If they lead to a different graph, the layers depend on the
/// batch. The numbers are prime and larger than the batch sizes that models usually state.
const PROBES: [usize; 2] = [127, 131];

/// Options of an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImportOptions {
    /// Whether an operator without a layer is an error instead of a warning.
    pub strict: bool,
    /// The shape of one input image. It replaces the shape in the model, or supplies it if the model has none.
    pub input: Option<Shape>,
    /// The batch size, if the model does not state one. At least 1.
    pub batch: usize,
    /// The number of axes of the data, including the batch. A model with another number is rejected.
    pub axes: Option<usize>,
}

impl Default for ImportOptions {
    /// Warnings instead of errors, the model's own input shape, and one image.
    fn default() -> Self {
        Self { strict: false, input: None, batch: 1, axes: None }
    }
}

impl ImportOptions {
    /// Sets whether an operator without a layer is an error.
    pub const fn strict(self, strict: bool) -> Self {
        Self { strict, ..self }
    }

    /// Sets the shape of one input image.
    pub const fn input(self, shape: Shape) -> Self {
        Self { input: Some(shape), ..self }
    }

    /// Sets the batch size for models that do not state one.
    pub const fn batch(self, batch: usize) -> Self {
        Self { batch, ..self }
    }

    /// Sets the number of axes of the data, including the batch.
    pub const fn axes(self, axes: usize) -> Self {
        Self { axes: Some(axes), ..self }
    }
}

/// The extents of the data for an input of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InputExtents<'a> {
    /// The name of the input; empty for the only one.
    pub name: &'a str,
    /// All extents, with the batch.
    pub dims: &'a [usize],
}

/// An imported model.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Imported {
    /// The graph. Its layers have the names of the model's nodes.
    pub graph: Graph,
    /// The weights, still in the model's file.
    pub weights: OnnxWeights,
    /// Elements that the graph counts more than once or that are not trained. [`count`](Self::count) excludes them.
    pub surplus: Vec<Surplus>,
    /// Warnings about parts that were not imported as they are, one line each.
    pub warnings: Vec<String>,
    /// The extents of the inputs and outputs, in the order of the graph's.
    pub extents: Extents,
}

/// The extents of a model's inputs and outputs in ONNX.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Extents {
    /// The name and the extents of each input.
    pub inputs: Vec<(String, Vec<usize>)>,
    /// The name and the extents of each output for these inputs, the main one first; `None` if unknown.
    pub outputs: Vec<(String, Option<Vec<usize>>)>,
    /// Extents of the first input, batch first.
    pub input: Vec<usize>,
    /// Extents of the main output for this input; `None` if unknown. The batch need not be the first extent.
    pub output: Option<Vec<usize>>,
}

impl Imported {
    /// Counts every layer for `batch` images, and each parameter of the model once.
    ///
    /// A tensor that several nodes read directly counts once. A tensor that reaches a node through an
    /// `Identity` counts separately, because PyTorch exports separate parameters of equal value in this way.
    ///
    /// # Errors
    /// [`NetError::CountOverflow`] if a count overflows 64 bits.
    pub fn count(&self, batch: u64) -> Result<NetCount, NetError> {
        let mut count = count_batch(&self.graph, batch)?;
        weights::leave_out(&mut count, &self.graph, &self.surplus);
        Ok(count)
    }
}

/// Reads a model from a file. The memory needed does not depend on the size of its weights.
///
/// # Errors
/// - [`NetError::Io`] if the file cannot be read.
/// - [`NetError::Onnx`] if the model is wrong or unsupported; it names the byte, tensor or node.
/// - [`NetError::Option`] if an option is invalid.
pub fn load(path: &Path, options: &ImportOptions) -> Result<Imported, NetError> {
    load_for(path, options, &[])
}

/// [`load`] for data of these extents. Inputs that are not named have the extents of the model and the options.
///
/// # Errors
/// Those of [`load`]; [`NetError::Onnx`] also names an input whose data does not fit.
pub fn load_for(
    path: &Path,
    options: &ImportOptions,
    data: &[InputExtents<'_>],
) -> Result<Imported, NetError> {
    let name = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    import(ModelSource::open(path)?, &name, options, data)
}

/// Reads a model from memory. Errors call it `origin`. If it has external data, the model can be counted but not run.
///
/// # Errors
/// Those of [`load`].
pub fn load_bytes(bytes: &[u8], origin: &str, options: &ImportOptions) -> Result<Imported, NetError> {
    import(ModelSource::memory(bytes, origin), origin, options, &[])
}

/// [`load_bytes`] for data of these extents.
///
/// # Errors
/// Those of [`load_for`].
pub fn load_bytes_for(
    bytes: &[u8],
    origin: &str,
    options: &ImportOptions,
    data: &[InputExtents<'_>],
) -> Result<Imported, NetError> {
    import(ModelSource::memory(bytes, origin), origin, options, data)
}

fn import(
    source: ModelSource,
    name: &str,
    options: &ImportOptions,
    data: &[InputExtents<'_>],
) -> Result<Imported, NetError> {
    if options.batch == 0 {
        let (expected, got) = ("at least 1".to_owned(), "0".to_owned());
        return Err(NetError::Option { option: "batch", expected, got });
    }
    let model = match proto::model(&mut Wire::new(&source)) {
        Err(error) => return Err(not_a_model(&source, error)?.into()),
        Ok(model) => model,
    };
    let fault = |problem: &str| source.error(Place::Model, problem);
    let Some(graph) = &model.graph else {
        return Err(not_a_model(&source, fault("expected a graph, got none"))?.into());
    };
    let opset = match model.opset {
        Some(opset @ 1..=1000) => opset,
        Some(opset) => return Err(fault(&format!("expected an opset from 1 on, got {opset}")).into()),
        None => return Err(fault("expected the opset of the standard operators, got none").into()),
    };
    let inputs = Inputs::of(&source, graph, options, data)?;
    let given: Vec<(String, Vec<usize>)> =
        inputs.list.iter().map(|input| (input.name.to_owned(), input.dims.clone())).collect();
    let batch = inputs.batch;
    let other = if batch == PROBES[0] { PROBES[1] } else { PROBES[0] };
    let wiring = Wiring::new(graph, &source)?;
    let imported = |inputs: Inputs<'_>| -> Result<Nodes, OnnxError> {
        let mut importer = Importer::new(&source, graph, &wiring, opset, inputs)?;
        importer.run(options.strict)?;
        Nodes::of(importer)
    };
    let probe = inputs.with_batch(other);
    let mut nodes = imported(inputs)?;
    let probed = probe.and_then(|probe| imported(probe).ok()).filter(|probed| probed.steps == nodes.steps);
    let probed = probed.and_then(|probed| {
        let draft = nodes.draft.unify(&probed.draft, (batch, other))?;
        nodes.draft = draft;
        Some(probed)
    });
    let mut notes = notes(&source, &model, opset);
    notes.extend(unread(graph));
    let (graph, main) = nodes.graph(name, probed.is_none().then_some(batch), &mut notes)?;
    let surplus = weights::surplus(&graph, &nodes.draft);
    for (tensor, times) in weights::shared(&surplus) {
        notes.push(format!("tensor `{tensor}` is shared with {times} other layer(s) and counted once"));
    }
    let output = nodes.outputs[main].1.clone();
    let mut outputs = nodes.outputs;
    let main = outputs.remove(main);
    outputs.insert(0, main);
    let extents = Extents { input: given[0].1.clone(), inputs: given, outputs, output };
    let weights = OnnxWeights::new(source.clone(), nodes.draft);
    Ok(Imported { graph, weights, surplus, warnings: notes, extents })
}

/// The error for a file without a readable graph: `detail`, or a message that names the type of the file if
/// it is not ONNX.
fn not_a_model(source: &ModelSource, detail: OnnxError) -> Result<OnnxError, OnnxError> {
    let OnnxError::Model { place, problem, .. } = &detail else { return Ok(detail) };
    Ok(match look::other_kind(source)? {
        Some(kind) => {
            source.error(Place::Model, format!("expected an ONNX file, got {kind} ({place}: {problem})"))
        }
        None => detail,
    })
}

/// All nodes, imported for one batch size.
struct Nodes {
    draft: Draft,
    /// The step of each output.
    steps: Vec<usize>,
    /// The name and the extents of each output.
    outputs: Vec<(String, Option<Vec<usize>>)>,
    warnings: Vec<String>,
}

impl Nodes {
    fn of(importer: Importer<'_>) -> Result<Self, OnnxError> {
        if importer.graph.outputs.is_empty() {
            return Err(importer.fault("expected at least one output, got none"));
        }
        let source = importer.source;
        let (draft, found, warnings) = importer.finish();
        let (mut steps, mut outputs) = (Vec::new(), Vec::new());
        for Output { name, step, dims } in found {
            let problem =
                || format!("expected an output that depends on the input, got `{name}`, which does not");
            steps.push(step.ok_or_else(|| source.error(Place::Value(name.to_owned()), problem()))?);
            outputs.push((name.to_owned(), dims));
        }
        Ok(Self { draft, steps, outputs, warnings })
    }

    /// The checked graph, and the index of its output among the outputs.
    fn graph(
        &self,
        name: &str,
        batch: Option<usize>,
        notes: &mut Vec<String>,
    ) -> Result<(Graph, usize), NetError> {
        let name = if name.is_empty() { "model" } else { name };
        let (graph, main, unneeded) = self.draft.build(name, &self.steps, batch)?;
        notes.extend(self.warnings.iter().cloned());
        if unneeded > 0 {
            notes.push(format!("{unneeded} layers are omitted: no output depends on them"));
        }
        Ok((graph, main))
    }
}

/// A warning about the tensors that no node reads and no output returns. They are not counted.
fn unread(graph: &GraphDef) -> Option<String> {
    // The branches of control flow can read tensors of the graph around them.
    if graph.nodes.iter().any(|node| ["If", "Loop", "Scan"].contains(&node.op.as_str())) {
        return None;
    }
    let nodes = graph.nodes.iter().flat_map(|node| &node.inputs);
    let read: HashSet<&str> =
        nodes.chain(graph.outputs.iter().map(|output| &output.name)).map(String::as_str).collect();
    let unread = || graph.initializers.iter().filter(|tensor| !read.contains(tensor.name.as_str()));
    let numbers = unread().filter_map(TensorDef::elements).fold(0u64, u64::saturating_add);
    let names: Vec<String> = unread().map(|tensor| format!("`{}`", tensor.name)).collect();
    let more = if names.len() > 8 { ", ..." } else { "" };
    let listed = names.iter().take(8).cloned().collect::<Vec<_>>().join(", ");
    (!names.is_empty())
        .then(|| format!("{} tensors of {numbers} numbers are read by no node: {listed}{more}", names.len()))
}

/// Warnings about the whole model, before any node.
fn notes(source: &ModelSource, model: &Model, opset: i64) -> Vec<String> {
    let mut notes = Vec::new();
    if !OPSETS.contains(&opset) {
        let (first, last) = (OPSETS.start(), OPSETS.end());
        notes.push(format!("{}: opset {opset} is read as one of {first} to {last}", source.origin));
    }
    if model.functions > 0 {
        notes.push(format!("{} functions of the model are not expanded", model.functions));
    }
    let sparse = model.graph.as_ref().map_or(0, |graph| graph.sparse.len());
    if sparse > 0 {
        notes.push(format!("{sparse} sparse tensors are not read"));
    }
    notes
}
