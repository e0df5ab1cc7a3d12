//! The network during the import: a list of steps that can still change, and finally a checked [`Graph`].

use super::node::{Outcome, Trouble, wrong};
use super::value::Constant;
use crate::error::{LayerError, NetError};
use crate::graph::{Graph, GraphBuilder, NodeId};
use crate::layer::{Layer, Param};
use crate::shape::Shape;
use std::collections::HashMap;

/// A future layer.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) name: String,
    pub(super) layer: Layer,
    pub(super) inputs: Vec<usize>,
    pub(super) output: Shape,
    /// The name of the ONNX value that it computes.
    pub(super) value: String,
    /// The recipes of its parameter tensors, as many as the layer has.
    pub(super) tensors: Vec<(&'static str, Recipe)>,
}

/// How a parameter tensor is computed from a tensor of the model.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Recipe {
    pub(super) constant: Constant,
    /// A factor for every element.
    pub(super) factor: f32,
}

impl From<&Constant> for Recipe {
    fn from(constant: &Constant) -> Self {
        Self { constant: constant.clone(), factor: 1.0 }
    }
}

/// All steps, starting with the input.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) steps: Vec<Step>,
    names: HashMap<String, usize>,
}

impl Draft {
    /// Appends an input. All inputs come before the other steps.
    pub(super) fn input(&mut self, name: &str, shape: Shape) -> usize {
        let (name, layer) = (self.unique(name), Layer::Input(shape));
        let (inputs, tensors, value) = (Vec::new(), Vec::new(), String::new());
        self.steps.push(Step { name, layer, inputs, output: shape, value, tensors });
        self.steps.len() - 1
    }

    /// Removes the steps from index `len` on, which nothing reads.
    pub(super) fn truncate(&mut self, len: usize) {
        for step in self.steps.drain(len..) {
            self.names.remove(&step.name);
        }
    }

    /// The draft for any batch, if this is it for a batch of `one` and `other` for a batch of `two`.
    pub(super) fn unify(&self, other: &Self, batches: (usize, usize)) -> Option<Self> {
        let same = |a: &Step, b: &Step| {
            (&a.name, &a.inputs, &a.value, &a.tensors) == (&b.name, &b.inputs, &b.value, &b.tensors)
        };
        let unify = |(a, b): (&Step, &Step)| {
            let (layer, output) =
                (Layer::unify(&a.layer, &b.layer, batches)?, Shape::unify(a.output, b.output, batches)?);
            let (inputs, tensors) = (a.inputs.clone(), a.tensors.clone());
            let step = Step { name: a.name.clone(), layer, inputs, output, value: a.value.clone(), tensors };
            same(a, b).then_some(step)
        };
        let pairs = self.steps.iter().zip(&other.steps).map(unify);
        let steps = (self.steps.len() == other.steps.len()).then(|| pairs.collect::<Option<_>>())??;
        Some(Self { steps, names: self.names.clone() })
    }

    /// Appends a step after checking that its layer accepts the inputs and that all parameters are given.
    pub(super) fn push(&mut self, step: Step) -> Outcome<usize> {
        let shapes = self.shapes(&step.inputs);
        let misfit = |problem: LayerError| Trouble::Wrong(problem.to_string());
        let output = step.layer.output(&shapes).map_err(misfit)?;
        let params = step.layer.params(&shapes);
        for param in &params {
            match step.tensors.iter().find(|(name, _)| *name == param.name) {
                Some((_, recipe)) => check_shape(param, &recipe.constant)?,
                None => return wrong(format!("expected a tensor as {}, got none", param.name)),
            }
        }
        let name = self.unique(&step.name);
        self.steps.push(Step { name, output, ..step });
        Ok(self.steps.len() - 1)
    }

    pub(super) fn shapes(&self, inputs: &[usize]) -> Vec<Shape> {
        inputs.iter().map(|&input| self.steps[input].output).collect()
    }

    /// A name that no other step has.
    fn unique(&mut self, wanted: &str) -> String {
        let mut name = wanted.to_owned();
        while self.names.contains_key(&name) {
            let count = self.names.get_mut(wanted).expect("the first name of them");
            *count += 1;
            name = format!("{wanted}#{count}");
        }
        self.names.insert(name.clone(), 1);
        name
    }

    /// Builds the graph of all steps that `outputs` depend on. Also returns the index of the graph's output
    /// among `outputs` and the number of unused steps.
    ///
    /// The graph's output is the first of `outputs` that no other step reads; its step comes last. `batch` is the
    /// only batch size for which the graph is valid, if there is only one.
    pub(super) fn build(
        &self,
        name: &str,
        outputs: &[usize],
        batch: Option<usize>,
    ) -> Result<(Graph, usize, usize), NetError> {
        let mut needed = vec![false; self.steps.len()];
        let mut read = vec![false; self.steps.len()];
        for &output in outputs {
            needed[output] = true;
        }
        for (index, step) in self.steps.iter().enumerate().rev() {
            if needed[index] {
                for &input in &step.inputs {
                    (needed[input], read[input]) = (true, true);
                }
            }
        }
        let sink = outputs.iter().position(|&output| !read[output]).unwrap_or(0);
        let last = outputs.get(sink).copied();
        let is_input = |step: usize| matches!(self.steps[step].layer, Layer::Input(_));
        let wanted = |step: usize| is_input(step) || needed[step];
        let order = (1..self.steps.len()).filter(|&step| wanted(step) && Some(step) != last);
        let first = &self.steps[0];
        let mut builder = GraphBuilder::with_input(name, &first.name, first.output);
        if let Some(batch) = batch {
            builder.batch(batch);
        }
        let mut ids: Vec<NodeId> = vec![builder.last(); self.steps.len()];
        for index in order.chain(last.filter(|&last| last > 0 && !is_input(last))) {
            let step = &self.steps[index];
            let inputs: Vec<NodeId> = step.inputs.iter().map(|&input| ids[input]).collect();
            ids[index] = builder.add(&step.name, step.layer.clone(), &inputs);
        }
        let unneeded = (1..self.steps.len()).filter(|&step| !wanted(step)).count();
        let main = last.map_or(builder.last(), |last| ids[last]);
        let others =
            outputs.iter().enumerate().filter(|&(index, _)| index != sink).map(|(_, &step)| ids[step]);
        builder.outputs(&std::iter::once(main).chain(others).collect::<Vec<_>>());
        Ok((builder.build()?, sink, unneeded))
    }
}

/// Checks that a tensor has the extents of the parameter. A scalar can stand for every element of a vector.
fn check_shape(param: &Param, constant: &Constant) -> Outcome<()> {
    if constant.dims.is_empty() && param.dims.len() == 1 || param.dims == constant.dims {
        return Ok(());
    }
    wrong(format!("expected a tensor of {:?} as {}, got {:?}", param.dims, param.name, constant.dims))
}
