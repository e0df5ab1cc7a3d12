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
mod dims;
mod draft;
mod error;
mod external;
mod fold;
mod importer;
mod node;
mod ops;
mod order;
mod proto;
mod source;
mod tensor;
mod value;
mod weights;
mod wire;

pub use error::{OnnxError, Place};
pub use weights::{OnnxWeights, Surplus};

use crate::count::{NetCount, count_batch};
use crate::error::NetError;
use crate::graph::Graph;
use crate::shape::Shape;
use importer::Importer;
use proto::{Dim, GraphDef, Model, ValueInfo};
use source::Source;
use std::collections::HashSet;
use std::path::Path;
use wire::Wire;

/// Versions of the standard operators that this import was written and tested for.
const OPSETS: std::ops::RangeInclusive<i64> = 8..=21;

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
}

impl Default for ImportOptions {
    /// Warnings, the model's own input, one image.
    fn default() -> Self {
        Self { strict: false, input: None, batch: 1 }
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
    import(Source::open(path)?, &name, options)
}

/// Reads a model from memory; `origin` names it in errors. External data is nowhere: such a model can be counted.
///
/// # Errors
/// Those of [`load`].
pub fn load_bytes(bytes: &[u8], origin: &str, options: &ImportOptions) -> Result<Imported, NetError> {
    import(Source::memory(bytes, origin), origin, options)
}

fn import(source: Source, name: &str, options: &ImportOptions) -> Result<Imported, NetError> {
    if options.batch == 0 {
        let (expected, got) = ("at least 1".to_owned(), "0".to_owned());
        return Err(NetError::Option { option: "batch", expected, got });
    }
    let model = proto::model(&mut Wire::new(&source))?;
    let fault = |problem: String| NetError::from(source.error(Place::Model, problem));
    let Some(graph) = &model.graph else { return Err(fault("expected a graph, got none".to_owned())) };
    let opset = match model.opset {
        Some(opset @ 1..=1000) => opset,
        Some(opset) => return Err(fault(format!("expected an opset from 1 on, got {opset}"))),
        None => return Err(fault("expected the opset of the standard operators, got none".to_owned())),
    };
    let mut importer = Importer::new(&source, graph, opset, input(&source, graph, options)?)?;
    importer.run(options.strict)?;
    let mut notes = notes(&source, &model, opset);
    let imported = finish(importer, if name.is_empty() { "model" } else { name })?;
    let Finished { graph, draft, surplus, warnings } = imported;
    notes.extend(warnings);
    Ok(Imported { graph, weights: OnnxWeights::new(source.clone(), draft), surplus, warnings: notes })
}

/// An import that is done but for its weights.
struct Finished {
    graph: Graph,
    draft: draft::Draft,
    surplus: Vec<Surplus>,
    warnings: Vec<String>,
}

fn finish(importer: Importer<'_>, name: &str) -> Result<Finished, NetError> {
    if importer.graph.outputs.is_empty() {
        return Err(importer.fault("expected at least one output, got none"));
    }
    let none = |output: &str| {
        format!("expected an output that depends on the input, got `{output}`, which does not")
    };
    let source = importer.source;
    let (draft, outputs, mut warnings) = importer.finish();
    let mut steps = Vec::new();
    for &(output, step) in &outputs {
        let problem = || source.error(Place::Value(output.to_owned()), none(output));
        steps.push(step.ok_or_else(problem)?);
    }
    let (graph, main, unneeded) = draft.build(name, &steps)?;
    for (_, &(output, _)) in outputs.iter().enumerate().filter(|&(index, _)| index != main) {
        warnings
            .push(format!("output `{output}` is counted, but a forward pass gives `{}`", outputs[main].0));
    }
    if unneeded > 0 {
        warnings.push(format!("{unneeded} layers are left out: no output depends on them"));
    }
    let surplus = weights::surplus(&graph, &draft);
    for (tensor, times) in weights::shared(&surplus) {
        warnings.push(format!("tensor `{tensor}` is that of {times} other layers too and counted once"));
    }
    Ok(Finished { graph, draft, surplus, warnings })
}

/// What is to be said of the model before any node.
fn notes(source: &Source, model: &Model, opset: i64) -> Vec<String> {
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

/// The one input that is no initializer, and its extents with the batch first.
fn input<'a>(
    source: &Source,
    graph: &'a GraphDef,
    options: &ImportOptions,
) -> Result<(&'a str, Vec<usize>), NetError> {
    let stored: HashSet<&str> = graph.initializers.iter().map(|tensor| tensor.name.as_str()).collect();
    let inputs: Vec<&ValueInfo> =
        graph.inputs.iter().filter(|input| !stored.contains(input.name.as_str())).collect();
    let &[info] = inputs.as_slice() else {
        let names: Vec<&str> = inputs.iter().map(|input| input.name.as_str()).take(8).collect();
        let problem = format!("expected one input, got {} ({})", inputs.len(), names.join(", "));
        return Err(source.error(Place::Model, problem).into());
    };
    let fault = |problem: String| NetError::from(source.error(Place::Value(info.name.clone()), problem));
    let written = info.dims.as_deref().unwrap_or_default();
    let dims = match (options.input, written) {
        (None, []) => return Err(fault("expected extents, got none: give them with --input".to_owned())),
        (Some(shape), []) => batched(options.batch, shape.dims()),
        (Some(shape), [first, ..]) => batched(extent(first, true, options).map_err(&fault)?, shape.dims()),
        (None, written) => {
            let extents = written.iter().enumerate().map(|(axis, dim)| extent(dim, axis == 0, options));
            extents.collect::<Result<_, _>>().map_err(&fault)?
        }
    };
    let same_rank = written.is_empty() || written.len() == dims.len();
    let row =
        (written.len() == 3 && dims.len() == 4 && dims[2] == 1).then(|| vec![dims[0], dims[1], dims[3]]);
    let dims = match row {
        Some(row) => row,
        None if same_rank => dims,
        None => {
            return Err(fault(format!(
                "expected an input of {} axes with the batch, got {dims:?}",
                written.len()
            )));
        }
    };
    if dims.len() < 2 || value::checked_len(&dims).is_none_or(|len| len == 0) {
        return Err(fault(format!("expected a batch and extents that can be addressed, got {dims:?}")));
    }
    Ok((&info.name, dims))
}

fn batched(batch: usize, mut dims: Vec<usize>) -> Vec<usize> {
    dims.insert(0, batch);
    dims
}

/// One extent of the input, or why it is none.
fn extent(dim: &Dim, batch: bool, options: &ImportOptions) -> Result<usize, String> {
    match dim {
        Dim::Known(extent) => match usize::try_from(*extent) {
            Ok(extent @ 1..) => Ok(extent),
            _ => Err(format!("expected extents of at least 1, got {extent}")),
        },
        Dim::Symbol(_) if batch => Ok(options.batch),
        Dim::Symbol(name) => {
            let name = if name.is_empty() { "?" } else { name };
            Err(format!("expected a number as extent, got `{name}`: give the shape with --input"))
        }
    }
}
