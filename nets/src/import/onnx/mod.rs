//! ONNX: models of PyTorch, TensorFlow and others, read without loading their weights.
//!
//! A file is walked message by message (`wire`, `proto`); payloads are skipped and their places kept. The nodes
//! are put in order (`order`); what depends on shapes alone is computed (`fold`); every other operator becomes a
//! layer of a `draft` by a function of `ops`; the draft becomes a checked [`Graph`]. The numbers are read from
//! the file when [`OnnxWeights::read`] is called.
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
mod proto;
mod source;
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
use input::Input;
use proto::Model;
use source::ModelSource;
use std::path::Path;
use wire::Wire;

/// Versions of the standard operators that this import was written and tested for.
const OPSETS: std::ops::RangeInclusive<i64> = 8..=21;

/// Batches for which a model is imported once more: if another graph comes of it, the layers depend on the batch. They
/// are prime, and larger than what models write where they mean one image or a few.
const PROBES: [usize; 2] = [127, 131];

/// How a model is imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImportOptions {
    /// Whether an operator without a layer is an error rather than a warning.
    pub strict: bool,
    /// The shape of one input image, where the model does not say or another one is wanted.
    pub input: Option<Shape>,
    /// Images at a time, where the model does not say. At least 1.
    pub batch: usize,
    /// How many axes the data has, the batch included; a model of another number is refused.
    pub axes: Option<usize>,
}

impl Default for ImportOptions {
    /// Warnings, the model's own input, one image.
    fn default() -> Self {
        Self { strict: false, input: None, batch: 1, axes: None }
    }
}

impl ImportOptions {
    /// With errors instead of warnings.
    pub const fn strict(self, strict: bool) -> Self {
        Self { strict, ..self }
    }

    /// With an input of this shape.
    pub const fn input(self, shape: Shape) -> Self {
        Self { input: Some(shape), ..self }
    }

    /// With `batch` images, where the model does not say.
    pub const fn batch(self, batch: usize) -> Self {
        Self { batch, ..self }
    }

    /// For data of so many axes, the batch included.
    pub const fn axes(self, axes: usize) -> Self {
        Self { axes: Some(axes), ..self }
    }
}

/// A model as a network.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Imported {
    /// Its layers, named as its nodes.
    pub graph: Graph,
    /// Where its trained numbers are.
    pub weights: OnnxWeights,
    /// Numbers that the graph counts more than once or that are not trained; [`count`](Self::count) leaves them out.
    pub surplus: Vec<Surplus>,
    /// What was not imported as it is, each in one line.
    pub warnings: Vec<String>,
    /// The extents of input and output.
    pub extents: Extents,
}

/// The extents of what a model reads and gives, as ONNX sees them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Extents {
    /// Those of the input, the batch first.
    pub input: Vec<usize>,
    /// Those of the output for such an input, `None` if they are not known. The batch need not be the first.
    pub output: Option<Vec<usize>>,
    /// Whether the batch is the first, and the others are the same for every batch.
    batched: bool,
}

impl Extents {
    /// The extents of the output for another number of images, `None` if they are not known.
    pub fn output_for(&self, batch: usize) -> Option<Vec<usize>> {
        let output = self.output.as_ref()?;
        match self.input[0] == batch {
            true => Some(output.clone()),
            false => self.batched.then(|| [&[batch], &output[1..]].concat()),
        }
    }
}

impl Imported {
    /// Counts every layer for `batch` images, each trained number of the model once. A tensor that several nodes read
    /// is one; a tensor that reaches a node through an `Identity` is another, as PyTorch means it.
    ///
    /// # Errors
    /// [`NetError::CountOverflow`] if a number does not fit 64 bits.
    pub fn count(&self, batch: u64) -> Result<NetCount, NetError> {
        let mut count = count_batch(&self.graph, batch)?;
        weights::leave_out(&mut count, &self.graph, &self.surplus);
        Ok(count)
    }
}

/// Reads a model from a file. Memory does not grow with its weights.
///
/// # Errors
/// [`NetError::Io`], [`NetError::Onnx`] that names the byte, tensor or node that is wrong, [`NetError::Option`].
pub fn load(path: &Path, options: &ImportOptions) -> Result<Imported, NetError> {
    let name = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    import(ModelSource::open(path)?, &name, options)
}

/// Reads a model from memory; `origin` names it in errors. External data is nowhere: such a model can be counted.
///
/// # Errors
/// Those of [`load`].
pub fn load_bytes(bytes: &[u8], origin: &str, options: &ImportOptions) -> Result<Imported, NetError> {
    import(ModelSource::memory(bytes, origin), origin, options)
}

fn import(source: ModelSource, name: &str, options: &ImportOptions) -> Result<Imported, NetError> {
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
    let input = Input::of(&source, graph, options)?;
    let probe = input.with_batch(if input.dims[0] == PROBES[0] { PROBES[1] } else { PROBES[0] });
    let imported = |input: Input<'_>| -> Result<Nodes, OnnxError> {
        let mut importer = Importer::new(&source, graph, opset, input)?;
        importer.run(options.strict)?;
        Nodes::of(importer)
    };
    let nodes = imported(input.clone())?;
    let other = probe.dims[0];
    let probed =
        imported(probe).ok().filter(|probed| probed.draft == nodes.draft && probed.steps == nodes.steps);
    let mut notes = notes(&source, &model, opset);
    let (graph, main) = nodes.graph(name, probed.is_none().then_some(input.dims[0]), &mut notes)?;
    let surplus = weights::surplus(&graph, &nodes.draft);
    for (tensor, times) in weights::shared(&surplus) {
        notes.push(format!("tensor `{tensor}` is that of {times} other layers too and counted once"));
    }
    let output = nodes.outputs[main].1.clone();
    let rest = |output: Option<&Vec<usize>>, batch: usize| Some(output?.strip_prefix(&[batch])?.to_vec());
    let each = rest(output.as_ref(), input.dims[0]);
    let batched = each.is_some()
        && each == rest(probed.and_then(|mut nodes| nodes.outputs.swap_remove(main).1).as_ref(), other);
    let extents = Extents { input: input.dims, output, batched };
    let weights = OnnxWeights::new(source.clone(), nodes.draft);
    Ok(Imported { graph, weights, surplus, warnings: notes, extents })
}

/// What is wrong with a file without a graph that can be read: `detail`, or first of all that it is no ONNX file.
fn not_a_model(source: &ModelSource, detail: OnnxError) -> Result<OnnxError, OnnxError> {
    let OnnxError::Model { place, problem, .. } = &detail else { return Ok(detail) };
    Ok(match look::other_kind(source)? {
        Some(kind) => {
            source.error(Place::Model, format!("expected an ONNX file, got {kind} ({place}: {problem})"))
        }
        None => detail,
    })
}

/// All nodes, imported for one batch.
struct Nodes {
    draft: Draft,
    /// The step of each output.
    steps: Vec<usize>,
    /// The name of each output, and its extents.
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

    /// The checked graph, and which of the outputs is the network's.
    fn graph(
        &self,
        name: &str,
        batch: Option<usize>,
        notes: &mut Vec<String>,
    ) -> Result<(Graph, usize), NetError> {
        let name = if name.is_empty() { "model" } else { name };
        let (graph, main, unneeded) = self.draft.build(name, &self.steps, batch)?;
        notes.extend(self.warnings.iter().cloned());
        for (_, (output, _)) in self.outputs.iter().enumerate().filter(|&(index, _)| index != main) {
            let given = &self.outputs[main].0;
            notes.push(format!("output `{output}` is counted, but a forward pass gives `{given}`"));
        }
        if unneeded > 0 {
            notes.push(format!("{unneeded} layers are left out: no output depends on them"));
        }
        Ok((graph, main))
    }
}

/// What is to be said of the model before any node.
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
