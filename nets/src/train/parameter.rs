//! [`Parameter`] and [`ParameterMut`]: a parameter tensor of a network that trains, with its gradient. [`Params`] holds all of
//! them.

use super::form::Form;
use crate::error::{LayerError, NetError};
use crate::graph::Graph;
use crate::layer::{Param, Role};
use crate::weights::{WeightSet, WeightSource};
use kernels::ConvError;
use std::collections::HashMap;

/// A parameter tensor of a network that trains, with the gradient of the last step.
#[derive(Debug)]
pub struct ParameterMut<'a> {
    /// The full name: `layer.weight`, `layer.bias` and so on.
    pub name: &'a str,
    /// The role in the layer.
    pub role: Role,
    /// Extents, outermost first.
    pub dims: &'a [usize],
    /// The elements, last extent fastest.
    pub value: &'a mut [f32],
    /// The derivative of the loss by each element. An optimiser can use it as scratch.
    pub gradient: &'a mut [f32],
}

/// The same, to read.
#[derive(Debug, Clone, Copy)]
pub struct Parameter<'a> {
    /// The full name: `layer.weight`, `layer.bias` and so on.
    pub name: &'a str,
    /// The role in the layer.
    pub role: Role,
    /// Extents, outermost first.
    pub dims: &'a [usize],
    /// The elements, last extent fastest.
    pub value: &'a [f32],
    /// The derivative of the loss by each element.
    pub gradient: &'a [f32],
}

/// All parameters and running statistics of a network.
pub(super) struct Params {
    network: String,
    entries: Vec<Entry>,
    index: HashMap<String, usize>,
    pub(super) values: Vec<Vec<f32>>,
    /// Empty for a tensor that is not trained.
    pub(super) gradients: Vec<Vec<f32>>,
    /// The tensors that are trained in the place of weights, which are computed from them.
    pub(super) forms: Vec<Option<Form>>,
}

struct Entry {
    name: String,
    param: Param,
    /// Whether its layer has gradients of parameters, and whether the parameter itself is updated.
    has_gradient: bool,
    is_trained: bool,
    /// Whether it is a tensor of the graph, and not one from which others are computed.
    is_of_graph: bool,
}

impl Params {
    /// Reads the tensors of `graph`. Layers for which `reaches` is false have no influence on the loss.
    pub(super) fn new(
        graph: &Graph,
        source: &dyn WeightSource,
        frozen: &[String],
        reaches: impl Fn(usize) -> bool,
    ) -> Result<Self, NetError> {
        let mut params = Self {
            network: graph.name().to_owned(),
            entries: Vec::new(),
            index: HashMap::new(),
            values: Vec::new(),
            gradients: Vec::new(),
            forms: Vec::new(),
        };
        for (number, node) in graph.nodes().iter().enumerate() {
            let tensors = node.layer.params(&graph.input_shapes(node));
            let named: Vec<_> =
                tensors.into_iter().map(|param| (format!("{}.{}", node.name, param.name), param)).collect();
            let is_trained = |name: &String, param: &Param| {
                param.role.is_trained() && reaches(number) && !frozen.contains(name)
            };
            let layer_trains = named.iter().any(|(name, param)| is_trained(name, param));
            for (name, param) in named {
                let value = read(source, &node.name, &name, &param)?;
                let has_gradient = layer_trains && param.role.is_trained();
                let is_trained = is_trained(&name, &param);
                params.add(Entry { name, param, has_gradient, is_trained, is_of_graph: true }, value);
            }
        }
        match frozen.iter().find(|name| !params.index.contains_key(*name)) {
            Some(name) => Err(NetError::Option {
                option: "frozen",
                expected: format!("names of parameters of network `{}`", graph.name()),
                got: format!("`{name}`"),
            }),
            None => Ok(params),
        }
    }

    fn add(&mut self, entry: Entry, value: Vec<f32>) -> usize {
        let index = self.entries.len();
        self.gradients.push(vec![0.0; if entry.has_gradient { value.len() } else { 0 }]);
        self.values.push(value);
        self.forms.push(None);
        self.index.insert(entry.name.clone(), index);
        self.entries.push(entry);
        index
    }

    /// Adds a trained vector of zeros that is no tensor of the graph, and returns its index.
    pub(super) fn add_derived(&mut self, name: String, param: Param) -> usize {
        let value = vec![0.0; param.dims.iter().product()];
        self.add(Entry { name, param, has_gradient: true, is_trained: true, is_of_graph: false }, value)
    }

    /// Number of tensors.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The name and the description of a tensor.
    pub(super) fn of(&self, index: usize) -> (&str, &Param) {
        (&self.entries[index].name, &self.entries[index].param)
    }

    /// Whether a tensor is updated.
    pub(super) fn is_trained(&self, index: usize) -> bool {
        self.entries[index].is_trained
    }

    /// The index of the tensor `param` of a layer.
    pub(super) fn find(&self, layer: &str, param: &str) -> Option<usize> {
        self.index.get(&format!("{layer}.{param}")).copied()
    }

    /// Whether a tensor of the layer has a gradient.
    pub(super) fn trains(&self, layer: &str) -> bool {
        ["weight", "bias"]
            .iter()
            .filter_map(|param| self.find(layer, param))
            .any(|index| self.entries[index].has_gradient)
    }

    /// Every trained parameter with its gradient, in the order of the graph. Gains are behind them.
    pub(super) fn trained(&self) -> impl Iterator<Item = Parameter<'_>> {
        let tensors = self.values.iter().zip(&self.gradients).zip(&self.forms);
        self.entries.iter().zip(tensors).filter(|(entry, _)| entry.is_trained).map(
            |(entry, ((value, gradient), form))| {
                let Entry { name, param, .. } = entry;
                let own = (&value[..], &gradient[..]);
                let (value, gradient) = form.as_ref().map_or(own, |form| (&form.raw, &form.gradient));
                Parameter { name, role: param.role, dims: &param.dims, value, gradient }
            },
        )
    }

    /// The same, to change.
    pub(super) fn trained_mut(&mut self) -> impl Iterator<Item = ParameterMut<'_>> {
        let tensors = self.values.iter_mut().zip(&mut self.gradients).zip(&mut self.forms);
        self.entries.iter().zip(tensors).filter(|(entry, _)| entry.is_trained).map(
            |(entry, ((value, gradient), form))| {
                let Entry { name, param, .. } = entry;
                let (value, gradient) = match form {
                    Some(form) => (&mut form.raw, &mut form.gradient),
                    None => (value, gradient),
                };
                ParameterMut { name, role: param.role, dims: &param.dims, value, gradient }
            },
        )
    }

    /// The name of the first tensor, trained or not, for which `is_wanted` is true.
    pub(super) fn first(&self, is_wanted: impl Fn(&[f32]) -> bool) -> Option<&str> {
        let mut tensors = self.entries.iter().zip(&self.values);
        tensors.find(|(_, value)| is_wanted(value)).map(|(entry, _)| entry.name.as_str())
    }

    /// Sets all gradients to zero.
    pub(super) fn clear_gradients(&mut self) {
        self.gradients.iter_mut().for_each(|gradient| gradient.fill(0.0));
    }

    /// A copy of all tensors of the graph.
    pub(super) fn weights(&self) -> WeightSet {
        let tensors = self.entries.iter().zip(&self.values).filter(|(entry, _)| entry.is_of_graph);
        WeightSet::from_tensors(
            &self.network,
            tensors.map(|(entry, value)| (entry.name.clone(), entry.param.dims.clone(), value.clone())),
        )
    }

    /// Replaces all tensors.
    pub(super) fn set(&mut self, source: &dyn WeightSource) -> Result<(), NetError> {
        let read = |entry: &Entry| {
            let layer = entry.name.rsplit_once('.').map_or(entry.name.as_str(), |(layer, _)| layer);
            read(source, layer, &entry.name, &entry.param)
        };
        let of_graph = self.entries.iter().filter(|entry| entry.is_of_graph);
        let values = of_graph.map(read).collect::<Result<Vec<_>, _>>()?;
        // Tensors of the graph come first.
        self.values.iter_mut().zip(values).for_each(|(to, value)| *to = value);
        self.decompose();
        Ok(())
    }
}

fn read(source: &dyn WeightSource, layer: &str, name: &str, param: &Param) -> Result<Vec<f32>, NetError> {
    let Some(tensor) = source.tensor(name, param)? else {
        let problem = LayerError::NoWeights { tensor: name.to_owned(), network: source.network().to_owned() };
        return Err(NetError::layer(layer, problem));
    };
    // Callers can implement their own sources, so check the length.
    let (expected, got) = (param.dims.iter().product(), tensor.len());
    match expected == got {
        true => Ok(tensor.into_owned()),
        false => Err(NetError::layer(layer, ConvError::BufferLen { what: param.name, expected, got })),
    }
}
