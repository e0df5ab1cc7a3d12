//! [`Importer`]: the state of an import, and the methods with which operators add to it.

use super::draft::{Draft, Recipe, Step};
use super::fold::Folder;
use super::input::Inputs;
use super::node::{Call, Outcome, unsupported};
use super::order::Wiring;
use super::proto::{GraphDef, ValueInfo};
use super::source::ModelSource;
use super::value::{Constant, Data, Tap, Value, checked_len};
use crate::error::{OnnxError, Place};
use crate::layer::{Layer, OPERANDS, Operand, Param, Role, TensorLayer, TensorOp};
use crate::shape::{Shape, TensorShape};
use kernels::Activation;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The state of an import.
pub(super) struct Importer<'a> {
    pub(super) source: &'a ModelSource,
    pub(super) graph: &'a GraphDef,
    pub(super) wiring: &'a Wiring<'a>,
    pub(super) draft: Draft,
    pub(super) opset: i64,
    pub(super) batch: usize,
    /// The model's name for the batch size, if it has one.
    pub(super) batch_name: Option<&'a str>,
    /// Whether the input has the extents for which the model states the shapes of its values.
    pub(super) as_written: bool,
    pub(super) folder: Folder,
    pub(super) values: HashMap<&'a str, Value>,
    pub(super) infos: HashMap<&'a str, &'a ValueInfo>,
    /// Products that an earlier layer already computes, by node, with the value of that layer.
    pub(super) gated: HashMap<usize, &'a str>,
    /// Warnings, each with the first node it concerns and the number of nodes.
    warnings: BTreeMap<String, (String, usize)>,
}

/// An output of the graph.
pub(super) struct Output<'a> {
    pub(super) name: &'a str,
    /// The step that computes it, if it depends on the input.
    pub(super) step: Option<usize>,
    /// Its extents, if they are known.
    pub(super) dims: Option<Vec<usize>>,
}

impl<'a> Importer<'a> {
    /// An importer with the tensors and the input of `graph`.
    pub(super) fn new(
        source: &'a ModelSource,
        graph: &'a GraphDef,
        wiring: &'a Wiring<'a>,
        opset: i64,
        inputs: Inputs<'a>,
    ) -> Result<Self, OnnxError> {
        let Inputs { list, batch, batch_name, as_written } = inputs;
        let mut importer = Self {
            source,
            graph,
            wiring,
            draft: Draft::default(),
            opset,
            batch,
            batch_name,
            as_written,
            folder: Folder::default(),
            values: HashMap::new(),
            infos: graph.values.iter().chain(&graph.outputs).map(|info| (info.name.as_str(), info)).collect(),
            gated: HashMap::new(),
            warnings: BTreeMap::new(),
        };
        for tensor in &graph.initializers {
            tensor.check(source)?;
            let constant = Constant::stored(Arc::new(tensor.clone()));
            if checked_len(&constant.dims).is_none() {
                return Err(tensor.fault(source, "expected extents that can be addressed"));
            }
            importer.values.insert(&tensor.name, Value::Constant(constant));
        }
        let several = list.len() > 1;
        for input in list {
            let Some(shape) = Shape::of(&input.dims, batch) else {
                let problem = format!(
                    "expected at most {} axes, each below 2^32, got {:?}",
                    TensorShape::MAX_RANK,
                    input.dims
                );
                return Err(source.error(Place::Value(input.name.to_owned()), problem));
            };
            // A single input has the name that the graphs of this library give it.
            let step = importer.draft.input(if several { input.name } else { "input" }, shape);
            let tap = Tap { step, dims: input.dims, kind: input.kind };
            importer.values.insert(input.name, Value::Tap(tap));
        }
        Ok(importer)
    }

    /// An input that is an activation with the batch as its first axis.
    pub(super) fn image<'c>(&self, call: &'c Call<'_>, index: usize) -> Outcome<&'c Tap> {
        let tap = call.tap(index)?;
        self.batch_first(tap).map(|()| tap)
    }

    pub(super) fn batch_first(&self, tap: &Tap) -> Outcome<()> {
        if tap.dims.len() < 2 || tap.dims[0] != self.batch {
            return unsupported(format!("an input of {:?}, whose first axis is not the batch", tap.dims));
        }
        Ok(())
    }

    /// Appends a layer. `None` stands for tensors that it does not have.
    pub(super) fn layer(
        &mut self,
        call: &Call<'_>,
        layer: Layer,
        inputs: &[&Tap],
        tensors: &[(&'static str, Option<&Constant>)],
    ) -> Outcome<Tap> {
        let tensors = tensors.iter().filter_map(|&(name, constant)| Some((name, Recipe::from(constant?))));
        self.layer_of(call, layer, inputs, tensors.collect())
    }

    /// Appends a layer. Its output has the extents of the first input, except for channels and image.
    pub(super) fn layer_of(
        &mut self,
        call: &Call<'_>,
        layer: Layer,
        inputs: &[&Tap],
        tensors: Vec<(&'static str, Recipe)>,
    ) -> Outcome<Tap> {
        let step = self.push(call, layer, inputs.iter().map(|tap| tap.step).collect(), tensors)?;
        let mut dims = inputs[0].dims.clone();
        let output = self.draft.steps[step].output;
        if output != self.draft.steps[inputs[0].step].output {
            dims[1] = output.channels();
            match (&mut dims[2..], output.batched(1)) {
                ([w], shape) => *w = shape.w,
                ([h, w], shape) => (*h, *w) = (shape.h, shape.w),
                _ => {}
            }
        }
        Ok(Tap { step, dims, kind: inputs[0].kind })
    }

    /// Appends a layer that keeps the extents.
    pub(super) fn same(&mut self, call: &Call<'_>, layer: Layer, tap: &Tap) -> Outcome<Tap> {
        let step = self.push(call, layer, vec![tap.step], Vec::new())?;
        Ok(Tap { step, ..tap.clone() })
    }

    /// The same elements with other extents. It adds a layer only if the shape changes for layers.
    pub(super) fn view(&mut self, call: &Call<'_>, tap: &Tap, dims: Vec<usize>) -> Outcome<Tap> {
        let shape = container(&dims, self.batch);
        if shape == self.draft.steps[tap.step].output {
            return Ok(Tap { dims, ..tap.clone() });
        }
        let layer = match (self.draft.steps[tap.step].output, shape) {
            (_, Shape::Unknown) => return unsupported(format!("{dims:?}, which is no map and no vector")),
            // Only this view knows the batch of both sides.
            (Shape::Tensor(_), _) => reshape(shape),
            (_, Shape::Vector { .. }) => Layer::Flatten,
            _ => Layer::Reshape(shape),
        };
        let step = self.push(call, layer, vec![tap.step], Vec::new())?;
        Ok(Tap { step, dims, kind: tap.kind })
    }

    /// The same node with inputs that are maps and vectors, as layers read them.
    pub(super) fn contained(&mut self, call: &Call<'a>) -> Outcome<Call<'a>> {
        let mut inputs = Vec::with_capacity(call.inputs.len());
        for input in &call.inputs {
            inputs.push(match input {
                Some(Value::Tap(tap)) => Some(Value::Tap(self.container_of(tap)?)),
                other => other.clone(),
            });
        }
        let &Call { def, opset, source, .. } = call;
        Ok(Call { def, inputs, opset, source, name: call.name.clone() })
    }

    fn container_of(&mut self, tap: &Tap) -> Outcome<Tap> {
        let shape = container(&tap.dims, self.batch);
        let step = &self.draft.steps[tap.step];
        if shape == Shape::Unknown || shape == step.output || !matches!(step.output, Shape::Tensor(_)) {
            return Ok(tap.clone());
        }
        self.seen_as(tap, shape)
    }

    /// The value of `tap` in a step whose output has exactly its extents.
    pub(super) fn exact(&mut self, tap: &Tap) -> Outcome<Tap> {
        match Shape::of(&tap.dims, self.batch) {
            None => unsupported(format!("{:?}, more than {} axes", tap.dims, TensorShape::MAX_RANK)),
            Some(shape) if shape == self.draft.steps[tap.step].output => Ok(tap.clone()),
            Some(shape) => self.seen_as(tap, shape),
        }
    }

    /// A view of another shape, once for each step.
    fn seen_as(&mut self, tap: &Tap, shape: Shape) -> Outcome<Tap> {
        let is_view = |step: &Step| step.inputs == [tap.step] && step.layer == reshape(shape);
        if let Some(step) = self.draft.steps.iter().skip(tap.step + 1).position(is_view) {
            return Ok(Tap { step: tap.step + 1 + step, ..tap.clone() });
        }
        let step = &self.draft.steps[tap.step];
        let (name, value) = (format!("{}.view", step.name), step.value.clone());
        let (layer, inputs, tensors) = (reshape(shape), vec![tap.step], Vec::new());
        let step = self.draft.push(Step { name, layer, inputs, output: shape, value, tensors })?;
        Ok(Tap { step, ..tap.clone() })
    }

    pub(super) fn push(
        &mut self,
        call: &Call<'_>,
        layer: Layer,
        inputs: Vec<usize>,
        tensors: Vec<(&'static str, Recipe)>,
    ) -> Outcome<usize> {
        let value = call.def.outputs.first().cloned().unwrap_or_default();
        let (name, output) = (call.name.clone(), Shape::vector(1));
        self.draft.push(Step { name, layer, inputs, output, value, tensors })
    }

    /// Whether a node reads a value, or it is an output of the graph.
    pub(super) fn is_read(&self, name: &str) -> bool {
        self.wiring.readers.contains_key(name) || self.wiring.outputs.contains(name)
    }

    /// Whether an output of a node is read.
    pub(super) fn reads(&self, call: &Call<'_>, output: usize) -> bool {
        call.def.outputs.get(output).is_some_and(|name| !name.is_empty() && self.is_read(name))
    }

    /// Rejects a node if its further outputs are read.
    pub(super) fn only_first(&self, call: &Call<'_>, what: &str) -> Outcome<()> {
        if call.def.outputs.iter().skip(1).any(|name| self.is_read(name)) {
            unsupported(format!("{what} as output"))
        } else {
            Ok(())
        }
    }

    /// The name of the value of `tap`, if this node is its only reader.
    pub(super) fn only_read_by(&self, call: &Call<'_>, tap: &Tap) -> Option<String> {
        let same = |input: &Option<Value>| matches!(input, Some(Value::Tap(other)) if other.step == tap.step);
        let name = &call.def.inputs[call.inputs.iter().position(same)?];
        self.wiring.sole_reader(name).map(|_| name.clone())
    }

    /// Returns `function` if the only reader of this node multiplies its output by its input. The product is
    /// then computed here.
    pub(super) fn gate(&mut self, call: &Call<'a>, function: Activation) -> Outcome<Option<Activation>> {
        let (Some(input), Some(output)) = (call.def.inputs.first(), call.def.outputs.first()) else {
            return Ok(None);
        };
        let Some(reader) = self.wiring.sole_reader(output) else { return Ok(None) };
        let product = &self.graph.nodes[reader];
        let other = product.inputs.iter().filter(|name| *name != output).collect::<Vec<_>>();
        if product.op != "Mul" || product.inputs.len() != 2 || other != [input] {
            return Ok(None);
        }
        self.gated.insert(reader, output);
        Ok(Some(function))
    }

    /// Adds a warning. Each text is reported once, with the first node it concerns.
    pub(super) fn warn(&mut self, text: &str, call: &Call<'_>) {
        let entry = self.warnings.entry(text.to_owned()).or_insert_with(|| (call.name.clone(), 0));
        entry.1 += 1;
    }

    /// The draft, the outputs of the graph, and the warnings.
    pub(super) fn finish(mut self) -> (Draft, Vec<Output<'a>>, Vec<String>) {
        for output in &self.graph.outputs {
            let tap = match self.values.get(output.name.as_str()).cloned() {
                Some(Value::Constant(constant)) => self.constant_output(&output.name, &constant).ok(),
                Some(Value::Tap(tap)) if matches!(self.draft.steps[tap.step].layer, Layer::Input(_)) => {
                    // A graph has at least one layer.
                    let shape = self.draft.steps[tap.step].output;
                    self.seen_as(&tap, shape).ok()
                }
                _ => None,
            };
            if let Some(tap) = tap {
                self.values.insert(&output.name, Value::Tap(tap));
            }
        }
        let outputs = self.graph.outputs.iter().map(|output| {
            let value = self.values.get(output.name.as_str());
            let (step, dims) = (value.and_then(Value::step), value.and_then(Value::dims));
            Output { name: &output.name, step, dims: dims.map(<[usize]>::to_vec) }
        });
        let warnings = self.warnings.into_iter().map(|(text, (node, count))| match count {
            1 => format!("node `{node}`: {text}"),
            _ => format!("node `{node}` and {} more: {text}", count - 1),
        });
        (self.draft, outputs.collect(), warnings.collect())
    }

    /// A layer without inputs, for an output that is constant.
    fn constant_output(&mut self, name: &str, constant: &Constant) -> Outcome<Tap> {
        let (dims, kind) = (constant.dims.clone(), constant.kind);
        let known = Shape::of(&dims, self.batch).filter(|shape| !shape.is_empty());
        let (Some(output), false) = (known, matches!(constant.data, Data::Opaque(_))) else {
            return unsupported("a constant as output");
        };
        let (param, op) = (OPERANDS[0], TensorOp::Expand);
        let params = vec![Param { name: param, dims: dims.clone(), role: Role::Fixed }];
        let layer = TensorLayer { op, operands: vec![Operand::Param(0)], params, output };
        let (layer, tensors) = (Layer::Tensor(Box::new(layer)), vec![(param, Recipe::from(constant))]);
        let (inputs, value) = (Vec::new(), name.to_owned());
        let step = self.draft.push(Step { name: name.to_owned(), layer, inputs, output, value, tensors })?;
        Ok(Tap { step, dims, kind })
    }

    /// An error that concerns the whole model.
    pub(super) fn fault(&self, problem: impl Into<String>) -> OnnxError {
        self.source.error(Place::Model, problem)
    }
}

/// A view of the only input in another shape.
fn reshape(output: Shape) -> Layer {
    let (op, operands, params) = (TensorOp::Reshape, vec![Operand::Input(0)], Vec::new());
    Layer::Tensor(Box::new(TensorLayer { op, operands, params, output }))
}

/// The shape of a tensor of these extents for layers. The batch is dropped, the first remaining axis is the
/// channels, and surplus axes are folded into the rows. Other extents become a vector if their elements divide
/// evenly among the images, else an unknown shape.
pub(super) fn container(dims: &[usize], batch: usize) -> Shape {
    match *dims {
        [n, len] if n == batch => Shape::vector(len),
        [n, c, w] if n == batch => Shape::map(c, 1, w),
        [n, c, ref rows @ .., w] if n == batch => Shape::map(c, rows.iter().product(), w),
        _ => match dims.iter().product::<usize>() {
            all if all > 0 && all.is_multiple_of(batch) => Shape::vector(all / batch),
            _ => Shape::Unknown,
        },
    }
}
