//! A node during the import: typed access to its attributes and inputs, and its errors.

use super::proto::{AttributeValue, NodeDef};
use super::source::ModelSource;
use super::value::{Constant, Tap, Value};
use crate::error::OnnxError;
use std::sync::Arc;

/// The reason why a node was not imported.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The model is invalid.
    Wrong(String),
    /// The model is valid, but there is no layer for the node.
    Unsupported(String),
    /// An error of another part, with its own position.
    Onnx(OnnxError),
}

impl From<OnnxError> for Trouble {
    fn from(error: OnnxError) -> Self {
        Self::Onnx(error)
    }
}

/// The result of a part of the import.
pub(super) type Outcome<T> = Result<T, Trouble>;

pub(super) fn wrong<T>(problem: impl Into<String>) -> Outcome<T> {
    Err(Trouble::Wrong(problem.into()))
}

pub(super) fn unsupported<T>(what: impl Into<String>) -> Outcome<T> {
    Err(Trouble::Unsupported(what.into()))
}

/// A node with its inputs.
pub(super) struct Call<'a> {
    pub(super) def: &'a NodeDef,
    /// `None` for an optional input that is omitted.
    pub(super) inputs: Vec<Option<Value>>,
    pub(super) opset: i64,
    pub(super) source: &'a ModelSource,
    /// The name of the layer.
    pub(super) name: String,
}

impl Call<'_> {
    fn attribute(&self, name: &str) -> Option<&AttributeValue> {
        self.def.attributes.iter().find(|attribute| attribute.name == name).map(|attribute| &attribute.value)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.attribute(name).is_some()
    }

    pub(super) fn int(&self, name: &str) -> Outcome<Option<i64>> {
        match self.attribute(name) {
            None => Ok(None),
            Some(AttributeValue::Int(value)) => Ok(Some(*value)),
            Some(other) => wrong(format!("expected an integer as attribute `{name}`, got {}", kind(other))),
        }
    }

    pub(super) fn flag(&self, name: &str) -> Outcome<bool> {
        Ok(self.int(name)?.unwrap_or(0) != 0)
    }

    pub(super) fn float(&self, name: &str, default: f32) -> Outcome<f32> {
        match self.attribute(name) {
            None => Ok(default),
            Some(AttributeValue::Float(value)) => Ok(*value),
            Some(other) => wrong(format!("expected a float as attribute `{name}`, got {}", kind(other))),
        }
    }

    pub(super) fn text(&self, name: &str) -> Outcome<Option<&str>> {
        match self.attribute(name) {
            None => Ok(None),
            Some(AttributeValue::Text(value)) => Ok(Some(value)),
            Some(other) => wrong(format!("expected a text as attribute `{name}`, got {}", kind(other))),
        }
    }

    pub(super) fn ints(&self, name: &str) -> Outcome<Option<&[i64]>> {
        match self.attribute(name) {
            None => Ok(None),
            Some(AttributeValue::Ints(values)) => Ok(Some(values)),
            Some(other) => wrong(format!("expected integers as attribute `{name}`, got {}", kind(other))),
        }
    }

    /// A list of texts.
    pub(super) fn texts(&self, name: &str) -> Outcome<Option<Vec<String>>> {
        match self.attribute(name) {
            None => Ok(None),
            Some(AttributeValue::Texts(texts)) => Ok(Some(texts.clone())),
            Some(other) => wrong(format!("expected texts as attribute `{name}`, got {}", kind(other))),
        }
    }

    /// A list of floats, empty if there is none.
    pub(super) fn floats(&self, name: &str) -> Outcome<&[f32]> {
        match self.attribute(name) {
            None => Ok(&[]),
            Some(AttributeValue::Floats(values)) => Ok(values),
            Some(other) => wrong(format!("expected floats as attribute `{name}`, got {}", kind(other))),
        }
    }

    /// Any of these attributes, for `Constant`.
    pub(super) fn any(&self, names: &[&str]) -> Option<&AttributeValue> {
        names.iter().find_map(|name| self.attribute(name))
    }

    /// An attribute with one number per axis, each at least `least`.
    pub(super) fn extents(
        &self,
        name: &str,
        axes: usize,
        default: usize,
        least: usize,
    ) -> Outcome<Vec<usize>> {
        let Some(values) = self.ints(name)? else { return Ok(vec![default; axes]) };
        if values.len() != axes {
            return wrong(format!("expected {axes} numbers as attribute `{name}`, got {values:?}"));
        }
        let good =
            |&value: &i64| usize::try_from(value).ok().filter(|&value| value >= least && value <= 1 << 32);
        match values.iter().map(good).collect() {
            Some(values) => Ok(values),
            None => {
                wrong(format!("expected numbers from {least} to 2^32 as attribute `{name}`, got {values:?}"))
            }
        }
    }

    pub(super) fn input(&self, index: usize) -> Option<&Value> {
        self.inputs.get(index).and_then(Option::as_ref)
    }

    /// A required input.
    pub(super) fn value(&self, index: usize) -> Outcome<&Value> {
        match self.input(index) {
            Some(value) => Ok(value),
            None => wrong(format!("expected something as input {index} (from 0), got nothing")),
        }
    }

    /// A required input that is an activation.
    pub(super) fn tap(&self, index: usize) -> Outcome<&Tap> {
        match self.value(index)? {
            Value::Tap(tap) => Ok(tap),
            Value::Constant(_) => unsupported(format!("a constant as input {index}")),
            Value::Unknown(unknown) => unsupported(unknown.reason()),
        }
    }

    /// A constant input.
    pub(super) fn constant(&self, index: usize) -> Outcome<Option<&Constant>> {
        match self.input(index) {
            None => Ok(None),
            Some(Value::Constant(constant)) => Ok(Some(constant)),
            Some(Value::Tap(_) | Value::Unknown(_)) => {
                unsupported(format!("input {index} is computed from the image"))
            }
        }
    }

    /// A required parameter: a vector of `len` elements.
    pub(super) fn vector(&self, index: usize, what: &str, len: usize) -> Outcome<&Constant> {
        let constant = self.weight(index)?;
        match constant.dims == [len] {
            true => Ok(constant),
            false => wrong(format!("expected a tensor of [{len}] as {what}, got {:?}", constant.dims)),
        }
    }

    /// A required parameter.
    pub(super) fn weight(&self, index: usize) -> Outcome<&Constant> {
        self.value(index)?;
        self.constant(index)?.map_or_else(|| wrong(format!("expected something as input {index}")), Ok)
    }

    /// The elements of a small constant input.
    pub(super) fn numbers(&self, index: usize) -> Outcome<Option<Arc<[f64]>>> {
        let Some(constant) = self.constant(index)? else { return Ok(None) };
        match constant.small(self.source)? {
            Some(values) => Ok(Some(values)),
            None => unsupported(format!("input {index} is too large or not known in advance")),
        }
    }

    /// Integers from an attribute (older opsets) or an input (newer ones).
    pub(super) fn ints_or_input(&self, name: &str, index: usize) -> Outcome<Option<Vec<i64>>> {
        if let Some(values) = self.ints(name)? {
            return Ok(Some(values.to_vec()));
        }
        Ok(self.numbers(index)?.map(|values| values.iter().map(|&value| value as i64).collect()))
    }
}

/// Rejects training behaviour: `Dropout` that drops, and `BatchNormalization` with the statistics of the batch.
pub(super) fn no_training(call: &Call<'_>) -> Outcome<()> {
    let opset = call.opset;
    let training = match call.def.op.as_str() {
        _ if opset < 7 => !call.flag("is_test")?,
        "Dropout" if opset < 12 => false,
        "Dropout" => call.numbers(2)?.is_some_and(|flag| flag.iter().any(|&flag| flag != 0.0)),
        // Only training outputs the statistics. Since opset 14 a flag indicates it too.
        _ => call.flag("training_mode")? || call.def.outputs.iter().skip(1).any(|name| !name.is_empty()),
    };
    if training { unsupported(format!("training (opset {opset})")) } else { Ok(()) }
}

/// `axis` of a tensor with `rank` extents; negative values count from the end.
pub(super) fn axis(axis: i64, rank: usize) -> Outcome<usize> {
    let from_end = if axis < 0 { axis.checked_add(rank as i64) } else { Some(axis) };
    match from_end.and_then(|axis| usize::try_from(axis).ok()).filter(|&axis| axis < rank) {
        Some(axis) => Ok(axis),
        None => wrong(format!("expected an axis of {rank}, got {axis}")),
    }
}

fn kind(value: &AttributeValue) -> &'static str {
    match value {
        AttributeValue::Float(_) => "a float",
        AttributeValue::Int(_) => "an integer",
        AttributeValue::Text(_) => "a text",
        AttributeValue::Tensor(_) => "a tensor",
        AttributeValue::Floats(_) => "floats",
        AttributeValue::Ints(_) => "integers",
        AttributeValue::Texts(_) => "texts",
        AttributeValue::Other => "something else",
    }
}
