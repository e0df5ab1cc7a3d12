//! [`OnnxWeights`]: the weights of an imported network. They stay in the model's file until
//! [`read`](OnnxWeights::read) is called.

use super::draft::{Draft, Recipe};
use super::source::ModelSource;
use super::value::{Constant, Data};
use crate::count::NetCount;
use crate::error::{NetError, OnnxError, Place};
use crate::graph::Graph;
use crate::layer::{Param, Role};
use crate::run::evaluate;
use crate::weights::{MEMORY_LIMIT, WeightSet, WeightSource};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The weights of an imported network, in the model's file.
#[derive(Debug, Clone)]
pub struct OnnxWeights {
    source: ModelSource,
    recipes: BTreeMap<String, Recipe>,
}

/// Elements that the layers of a graph have in addition to those in the model's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surplus {
    /// The name of the layer.
    pub layer: String,
    /// The name of the parameter: `"weight"`, `"bias"` and so on.
    pub param: String,
    /// Number of elements that are not counted.
    pub numbers: u64,
    /// The tensor that counts them, if it is shared with another layer; `None` if the elements are not trained.
    pub shared_with: Option<String>,
}

impl OnnxWeights {
    pub(super) fn new(source: ModelSource, draft: Draft) -> Self {
        let tensors = draft.steps.into_iter().flat_map(|step| {
            let name = step.name;
            step.tensors.into_iter().map(move |(param, recipe)| (format!("{name}.{param}"), recipe))
        });
        Self { source, recipes: tensors.collect() }
    }

    /// Reads all weights that `graph` needs. It must be the graph that was imported with these weights.
    ///
    /// # Errors
    /// - [`NetError::TooLarge`] if the weights exceed the memory limit.
    /// - [`NetError::Io`] if the file cannot be read.
    /// - [`NetError::Onnx`] for a tensor with another element type than FLOAT, with another number of
    ///   elements, or computed by an operator that this library does not evaluate. It names the tensor.
    pub fn read(&self, graph: &Graph) -> Result<WeightSet, NetError> {
        WeightSet::from_params(graph, |name, param| self.numbers(name, param))
    }

    fn numbers(&self, name: &str, param: &Param) -> Result<Vec<f32>, NetError> {
        let fault = |problem: String| self.source.error(Place::Tensor(name.to_owned()), problem).into();
        let Some(Recipe { constant, factor }) = self.recipes.get(name) else {
            return Err(fault(
                "expected a tensor of this name, got none: the graph is another one".to_owned(),
            ));
        };
        let mut values = elements(constant, &self.source).map_err(|problem| match problem {
            Unread::Failed(error) => error,
            Unread::Unknown(what) => fault(format!("expected numbers of the file, got {what}")),
        })?;
        let len: usize = param.dims.iter().product();
        if let (&[value], 2..) = (values.as_slice(), len) {
            values = vec![value; len];
        }
        if values.len() != len {
            return Err(fault(format!("expected {len} numbers, got {}", values.len())));
        }
        if *factor != 1.0 {
            values.iter_mut().for_each(|value| *value *= factor);
        }
        Ok(values)
    }
}

/// Weights are read from the file on demand.
impl WeightSource for OnnxWeights {
    fn network(&self) -> &str {
        &self.source.origin
    }

    fn tensor(&self, name: &str, param: &Param) -> Result<Option<Cow<'_, [f32]>>, NetError> {
        self.numbers(name, param).map(|numbers| Some(numbers.into()))
    }

    /// Supported for tensors that are stored as they are needed.
    fn part(&self, name: &str, param: &Param, first: usize, numbers: &mut [f32]) -> Result<bool, NetError> {
        let Some(Recipe { constant, factor }) = self.recipes.get(name) else { return Ok(false) };
        let Data::Stored(tensor) = &constant.data else { return Ok(false) };
        if param.len() != tensor.elements() || !tensor.f32s_from(&self.source, first, numbers)? {
            return Ok(false);
        }
        if *factor != 1.0 {
            numbers.iter_mut().for_each(|number| *number *= factor);
        }
        Ok(true)
    }
}

/// The reason why a constant has no elements.
enum Unread {
    Failed(NetError),
    /// It is the result of something that is not computed.
    Unknown(String),
}

/// The elements of a constant.
fn elements(constant: &Constant, source: &ModelSource) -> Result<Vec<f32>, Unread> {
    let needed = (constant.len() as u64).saturating_mul(size_of::<f32>() as u64);
    if needed > MEMORY_LIMIT {
        let what = "a constant of the model".to_owned();
        return Err(Unread::Failed(NetError::TooLarge { what, limit: MEMORY_LIMIT, needed }));
    }
    let failed = |error: OnnxError| Unread::Failed(error.into());
    Ok(match &constant.data {
        Data::Stored(tensor) => tensor.numbers(source).map_err(failed)?,
        Data::Transposed(tensor, columns) => transposed(&tensor.numbers(source).map_err(failed)?, *columns),
        Data::Fill(value) => vec![*value as f32; constant.len()],
        Data::Small(values) => values.iter().map(|&value| value as f32).collect(),
        Data::Opaque(what) => return Err(Unread::Unknown(what.clone())),
        Data::Computed(computed) => {
            let operands = computed.operands.iter().map(|operand| elements(operand, source));
            let operands = operands.collect::<Result<_, _>>()?;
            evaluate(&computed.layer, operands).map_err(|problem| Unread::Unknown(problem.to_string()))?
        }
    })
}

/// Transposes a matrix with this many columns.
fn transposed(matrix: &[f32], columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|column| matrix.iter().skip(column).step_by(columns.max(1)).copied()).collect()
}

/// Elements that the graph counts but the file does not have: tensors of two layers, and scalars that stand
/// for vectors.
pub(super) fn surplus(graph: &Graph, draft: &Draft) -> Vec<Surplus> {
    let recipes: HashMap<&str, &[(&'static str, Recipe)]> =
        draft.steps.iter().map(|step| (step.name.as_str(), step.tensors.as_slice())).collect();
    let (mut seen, mut surplus) = (HashMap::new(), Vec::new());
    for node in graph.nodes() {
        let tensors = recipes.get(node.name.as_str()).copied().unwrap_or_default();
        for param in
            node.layer.params(&graph.input_shapes(node)).iter().filter(|param| param.role.is_trained())
        {
            let Some((_, Recipe { constant, .. })) = tensors.iter().find(|(name, _)| *name == param.name)
            else {
                continue;
            };
            let numbers = param.len().unwrap_or(0);
            let mut add = |numbers: u64, shared_with: Option<&String>| {
                let (layer, param) = (node.name.clone(), param.name.to_owned());
                surplus.push(Surplus { layer, param, numbers, shared_with: shared_with.cloned() });
            };
            let key = constant.tensor().map(Arc::as_ptr);
            match key.and_then(|key| seen.get(&key)) {
                Some(first) => add(numbers, Some(first)),
                None if constant.len() == 1 && numbers > 1 => {
                    // A common slope is one parameter. A factor or an epsilon is not trained.
                    let trained = u64::from(param.role == Role::Slope);
                    add(numbers - trained, None);
                }
                None => {}
            }
            if let Some(key) = key {
                seen.entry(key).or_insert_with(|| format!("{}.{}", node.name, param.name));
            }
        }
    }
    surplus
}

/// Tensors of several layers, each with the number of further layers.
pub(super) fn shared(surplus: &[Surplus]) -> BTreeMap<&str, usize> {
    let mut shared = BTreeMap::new();
    for tensor in surplus.iter().filter_map(|entry| entry.shared_with.as_deref()) {
        *shared.entry(tensor).or_insert(0) += 1;
    }
    shared
}

/// Subtracts the surplus from a count.
pub(super) fn leave_out(count: &mut NetCount, graph: &Graph, surplus: &[Surplus]) {
    let places: HashMap<&str, usize> =
        graph.nodes().iter().enumerate().map(|(index, node)| (node.name.as_str(), index)).collect();
    for entry in surplus {
        let Some(&place) = places.get(entry.layer.as_str()) else { continue };
        let node = &graph.nodes()[place];
        let params = node.layer.params(&graph.input_shapes(node));
        let Some(param) = params.iter().find(|param| param.name == entry.param) else { continue };
        let layer = &mut count.layers[place];
        for (kinds, params) in [(&mut layer.kinds, &mut layer.params), (&mut count.kinds, &mut count.params)]
        {
            *params -= entry.numbers;
            match param.role {
                Role::Weight { .. } => kinds.weights -= entry.numbers,
                Role::Bias => kinds.biases -= entry.numbers,
                Role::Slope => kinds.slopes -= entry.numbers,
                _ => kinds.norms -= entry.numbers,
            }
        }
    }
}
