//! Transfer: weights of a network that was trained on other data, with a new last layer.

use crate::error::{NetError, WeightsError};
use crate::graph::{Graph, GraphBuilder, NodeId};
use crate::layer::{Conv, Layer, Linear};
use crate::weights::{MEMORY_LIMIT, WeightSet, WeightSource, parsed, read_tensor, read_within};
use std::path::Path;

/// Weights from a file, where they fit.
#[derive(Debug)]
pub struct Transfer {
    /// The weights.
    pub weights: WeightSet,
    /// Names of the tensors that have initial weights instead: those of the last layer.
    pub initial: Vec<String>,
}

/// The layers that compute the outputs: that of the network, and those of side classifiers with as many. Behind them,
/// nothing has parameters.
fn last_layers(graph: &Graph) -> Vec<NodeId> {
    let consumers = graph.consumers();
    let is_end = |id: NodeId| id == graph.output_id() || consumers[id.index()].is_empty();
    let ends =
        graph.ids().filter(|&(id, node)| is_end(id) && node.output.len().ok() == graph.output().len().ok());
    ends.filter_map(|(id, _)| last_layer(graph, id)).collect()
}

/// The nearest node before `id`, or `id` itself, that has parameters. `None` if several nodes are combined behind it.
fn last_layer(graph: &Graph, mut id: NodeId) -> Option<NodeId> {
    loop {
        let node = graph.node(id);
        if !node.layer.params(&graph.input_shapes(node)).is_empty() {
            return Some(id);
        }
        let &[input] = &node.inputs[..] else { return None };
        id = input;
    }
}

/// The graph with another number of outputs, also of its side classifiers.
///
/// # Errors
/// [`NetError::Data`] if no last layer with parameters is found, or if it is neither fully connected nor a convolution.
pub fn with_classes(graph: &Graph, classes: usize) -> Result<Graph, NetError> {
    let wrong = |name: &str| NetError::Data {
        origin: format!("network `{}`", graph.name()),
        expected: format!("a last layer that can have {classes} outputs"),
        got: format!("{} outputs of `{name}`", graph.output()),
    };
    let last = last_layers(graph);
    if last_layer(graph, graph.output_id()).is_none() {
        return Err(wrong(&graph.node(graph.output_id()).name));
    }
    let mut builder = GraphBuilder::with_input(graph.name(), &graph.nodes()[0].name, graph.input());
    for (id, node) in graph.ids().skip(1) {
        let layer = match &node.layer {
            layer if !last.contains(&id) => layer.clone(),
            Layer::Linear(linear) => Layer::Linear(Linear { out_features: classes, ..*linear }),
            Layer::Conv(conv) => Layer::Conv(Conv { out_channels: classes, ..*conv }),
            _ => return Err(wrong(&node.name)),
        };
        builder.add(&node.name, layer, &node.inputs);
    }
    builder.output(graph.output_id());
    builder.build()
}

/// Bytes of a file, at most. The last layer that is replaced can be larger than that of the network.
const MOST_BYTES: u64 = MEMORY_LIMIT + (16 << 20);

impl Transfer {
    /// Reads the weights of `graph` from a safetensors file, as [`from_safetensors`](Self::from_safetensors).
    ///
    /// # Errors
    /// [`NetError::Io`] if the file cannot be read, [`NetError::TooLarge`] if it is larger than any network, and those of
    /// [`from_safetensors`](Self::from_safetensors).
    pub fn load(
        graph: &Graph,
        path: &Path,
        initial: &dyn WeightSource,
        new_last: bool,
    ) -> Result<Self, NetError> {
        let bytes = read_within(path, MOST_BYTES, "weights")?;
        Self::from_safetensors(graph, &bytes, &path.display().to_string(), initial, new_last)
    }

    /// Reads the weights of `graph` from the bytes of a safetensors file. The last layer gets weights of `initial` if
    /// `new_last` is set, or if the file has another number of outputs for it.
    ///
    /// # Errors
    /// [`NetError::Weights`] if the bytes are no safetensors file, or if a tensor of another layer is missing or has another
    /// shape or element type.
    pub fn from_safetensors(
        graph: &Graph,
        bytes: &[u8],
        origin: &str,
        initial: &dyn WeightSource,
        new_last: bool,
    ) -> Result<Self, NetError> {
        let file = parsed(bytes, origin)?;
        let last = last_layers(graph).into_iter().map(|id| format!("{}.", graph.node(id).name));
        let last: Vec<String> = last.collect();
        let mut replaced = Vec::new();
        let weights = WeightSet::from_params(graph, |name, param| {
            let is_last = last.iter().any(|layer| name.starts_with(layer));
            if !(is_last && new_last) {
                match read_tensor(&file, origin, name, param) {
                    Err(error) if !is_last => return Err(error.into()),
                    // Another number of outputs.
                    Err(_) => {}
                    Ok(numbers) => return Ok(numbers),
                }
            }
            replaced.push(name.to_owned());
            let missing = || WeightsError::Missing {
                origin: initial.network().to_owned(),
                tensor: name.to_owned(),
                expected: param.dims.clone(),
            };
            Ok(initial.tensor(name, param)?.ok_or_else(missing)?.into_owned())
        })?;
        Ok(Self { weights, initial: replaced })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::{Init, SeededWeights};
    use crate::zoo;

    #[test]
    fn every_classifier_of_the_zoo_gets_other_classes() {
        for entry in zoo::ALL {
            let graph = entry.graph().unwrap();
            match with_classes(&graph, 7) {
                Ok(other) => {
                    assert_eq!(other.output().len().unwrap(), 7, "{}", entry.name);
                    assert_eq!(other.nodes().len(), graph.nodes().len());
                }
                Err(error) => {
                    assert!(entry.name.starts_with("inception") || entry.name == "lenet5-1998", "{error}");
                }
            }
        }
    }

    #[test]
    fn all_but_the_last_layer_is_kept() {
        let graph = zoo::lenet5().unwrap();
        let file = WeightSet::seeded(&graph, Init::He, 1).unwrap().to_safetensors();
        let initial = SeededWeights::new(&graph, Init::He, 2).unwrap();
        let kept = Transfer::from_safetensors(&graph, &file, "file", &initial, false).unwrap();
        assert!(kept.initial.is_empty());
        let new = Transfer::from_safetensors(&graph, &file, "file", &initial, true).unwrap();
        assert_eq!(new.initial, ["output.weight", "output.bias"]);
        assert_eq!(new.weights.get("f6.weight"), kept.weights.get("f6.weight"));
        assert_ne!(new.weights.get("output.weight"), kept.weights.get("output.weight"));
        // Another number of outputs replaces the layer without being asked.
        let wide = with_classes(&graph, 26).unwrap();
        let initial = SeededWeights::new(&wide, Init::He, 2).unwrap();
        let other = Transfer::from_safetensors(&wide, &file, "file", &initial, false).unwrap();
        assert_eq!(other.initial, ["output.weight", "output.bias"]);
        let error = Transfer::from_safetensors(&wide, b"no file", "file", &initial, false).unwrap_err();
        assert!(error.to_string().starts_with("file: expected a safetensors file"), "{error}");
    }
}
