//! The messages of an ONNX file that an import needs (onnx.proto, IR versions 3 to 11).

use super::tensor::TensorDef;
use super::wire::{Field, Span, Wire};
use crate::error::OnnxError;

/// `ModelProto`.
#[derive(Debug, Default)]
pub(super) struct Model {
    /// The version of the standard operators; `None` if the model does not state it.
    pub(super) opset: Option<i64>,
    pub(super) graph: Option<GraphDef>,
    /// Number of local functions. They are not expanded.
    pub(super) functions: usize,
}

/// `GraphProto`.
#[derive(Debug, Default)]
pub(super) struct GraphDef {
    pub(super) name: String,
    pub(super) nodes: Vec<NodeDef>,
    pub(super) initializers: Vec<TensorDef>,
    /// The position of each `SparseTensorProto` in the file.
    pub(super) sparse: Vec<u64>,
    pub(super) inputs: Vec<ValueInfo>,
    pub(super) outputs: Vec<ValueInfo>,
    /// Shapes that the exporter recorded for intermediate values.
    pub(super) values: Vec<ValueInfo>,
}

/// `NodeProto`.
#[derive(Debug, Default)]
pub(super) struct NodeDef {
    pub(super) name: String,
    pub(super) op: String,
    pub(super) domain: String,
    pub(super) inputs: Vec<String>,
    pub(super) outputs: Vec<String>,
    pub(super) attributes: Vec<Attribute>,
}

/// `AttributeProto`.
#[derive(Debug)]
pub(super) struct Attribute {
    pub(super) name: String,
    pub(super) value: AttributeValue,
}

#[derive(Debug)]
pub(super) enum AttributeValue {
    Float(f32),
    Int(i64),
    Text(String),
    Tensor(TensorDef),
    Floats(Vec<f32>),
    Ints(Vec<i64>),
    Texts(Vec<String>),
    /// A subgraph, a sparse tensor, or a list of tensors.
    Other,
}

/// `ValueInfoProto` of a tensor.
#[derive(Debug, Default)]
pub(super) struct ValueInfo {
    pub(super) name: String,
    /// The number of the element type, 0 if it is not stated.
    pub(super) dtype: i64,
    /// `None` if the rank is not stated.
    pub(super) dims: Option<Vec<Dim>>,
}

/// One extent of a [`ValueInfo`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Dim {
    Known(i64),
    /// The name of a symbolic extent; empty if it has none.
    Symbol(String),
}

/// Reads the messages of a whole file.
pub(super) fn model(wire: &mut Wire<'_>) -> Result<Model, OnnxError> {
    let mut model = Model::default();
    let mut span = wire.all();
    while let Some(field) = wire.next(&mut span)? {
        match field.number {
            7 => graph(wire, &field, model.graph.get_or_insert_default())?,
            8 => {
                let (domain, version) = opset(wire, &field)?;
                if domain.is_empty() || domain == "ai.onnx" {
                    model.opset = Some(version);
                }
            }
            25 => model.functions += 1,
            _ => {}
        }
    }
    Ok(model)
}

fn opset(wire: &mut Wire<'_>, field: &Field) -> Result<(String, i64), OnnxError> {
    let mut span = wire.span(field)?;
    let (mut domain, mut version) = (String::new(), 0);
    while let Some(field) = wire.next(&mut span)? {
        match field.number {
            1 => domain = wire.text(&field)?,
            2 => version = wire.int(&field)?,
            _ => {}
        }
    }
    Ok((domain, version))
}

/// A graph in several fields is merged into one, as protocol buffers define it.
fn graph(wire: &mut Wire<'_>, field: &Field, graph: &mut GraphDef) -> Result<(), OnnxError> {
    let mut span = wire.span(field)?;
    while let Some(field) = wire.next(&mut span)? {
        let at = field.at;
        match field.number {
            1 => push(wire, at, &mut graph.nodes, |wire| node(wire, &field))?,
            2 => graph.name = wire.text(&field)?,
            5 => push(wire, at, &mut graph.initializers, |wire| TensorDef::read(wire, wire.span(&field)?))?,
            11 => push(wire, at, &mut graph.inputs, |wire| value_info(wire, &field))?,
            12 => push(wire, at, &mut graph.outputs, |wire| value_info(wire, &field))?,
            13 => push(wire, at, &mut graph.values, |wire| value_info(wire, &field))?,
            15 => push(wire, at, &mut graph.sparse, |_| Ok(at))?,
            _ => {}
        }
    }
    Ok(())
}

/// Appends to a list, after accounting for the memory of the element.
pub(super) fn push<'a, T>(
    wire: &mut Wire<'a>,
    at: u64,
    list: &mut Vec<T>,
    read: impl FnOnce(&mut Wire<'a>) -> Result<T, OnnxError>,
) -> Result<(), OnnxError> {
    wire.charge(size_of::<T>() as u64, at)?;
    list.push(read(wire)?);
    Ok(())
}

fn node(wire: &mut Wire<'_>, field: &Field) -> Result<NodeDef, OnnxError> {
    let mut node = NodeDef::default();
    let mut span = wire.span(field)?;
    while let Some(field) = wire.next(&mut span)? {
        match field.number {
            1 => node.inputs.push(wire.text(&field)?),
            2 => node.outputs.push(wire.text(&field)?),
            3 => node.name = wire.text(&field)?,
            4 => node.op = wire.text(&field)?,
            5 => push(wire, field.at, &mut node.attributes, |wire| attribute(wire, &field))?,
            7 => node.domain = wire.text(&field)?,
            _ => {}
        }
    }
    Ok(node)
}

/// The fields of an `AttributeProto`, of which one holds the value.
#[derive(Default)]
struct Fields {
    name: String,
    kind: i64,
    float: Option<f32>,
    int: Option<i64>,
    text: Option<String>,
    tensor: Option<TensorDef>,
    floats: Vec<f32>,
    ints: Vec<i64>,
    texts: Vec<String>,
}

fn attribute(wire: &mut Wire<'_>, field: &Field) -> Result<Attribute, OnnxError> {
    let mut fields = Fields::default();
    let mut span = wire.span(field)?;
    while let Some(field) = wire.next(&mut span)? {
        match field.number {
            1 => fields.name = wire.text(&field)?,
            2 => fields.float = Some(wire.float(&field)?),
            3 => fields.int = Some(wire.int(&field)?),
            4 => fields.text = Some(attribute_text(wire, &field)?),
            5 => fields.tensor = Some(TensorDef::read(wire, wire.span(&field)?)?),
            7 => wire.floats(&field, &mut fields.floats)?,
            8 => wire.ints(&field, &mut fields.ints)?,
            9 => push(wire, field.at, &mut fields.texts, |wire| attribute_text(wire, &field))?,
            20 => fields.kind = wire.int(&field)?,
            _ => {}
        }
    }
    let name = std::mem::take(&mut fields.name);
    Ok(Attribute { name, value: fields.value() })
}

/// Custom operators can store whole engines in texts. Long texts are never compared with names, so they are skipped.
fn attribute_text(wire: &mut Wire<'_>, field: &Field) -> Result<String, OnnxError> {
    if wire.span(field)?.len() > 1 << 10 { Ok(String::new()) } else { wire.text(field) }
}

impl Fields {
    /// Selects the value by the stated type. Old models state no type; then the field that is present decides.
    fn value(self) -> AttributeValue {
        let kind = match self.kind {
            0 if self.float.is_some() => 1,
            0 if self.int.is_some() => 2,
            0 if self.text.is_some() => 3,
            0 if self.tensor.is_some() => 4,
            0 if !self.floats.is_empty() => 6,
            0 if !self.texts.is_empty() => 8,
            0 => 7,
            kind => kind,
        };
        match (kind, self.tensor) {
            (1, _) => AttributeValue::Float(self.float.unwrap_or_default()),
            (2, _) => AttributeValue::Int(self.int.unwrap_or_default()),
            (3, _) => AttributeValue::Text(self.text.unwrap_or_default()),
            (4, Some(tensor)) => AttributeValue::Tensor(tensor),
            (6, _) => AttributeValue::Floats(self.floats),
            (7, _) => AttributeValue::Ints(self.ints),
            (8, _) => AttributeValue::Texts(self.texts),
            _ => AttributeValue::Other,
        }
    }
}

fn value_info(wire: &mut Wire<'_>, field: &Field) -> Result<ValueInfo, OnnxError> {
    let mut info = ValueInfo::default();
    let mut span = wire.span(field)?;
    while let Some(field) = wire.next(&mut span)? {
        match field.number {
            1 => info.name = wire.text(&field)?,
            2 => {
                info.dims = nested(wire, &field, &[1, 2])?.map(|shape| dims(wire, shape)).transpose()?;
                info.dtype = element_type(wire, &field)?;
            }
            _ => {}
        }
    }
    Ok(info)
}

/// `TypeProto.tensor_type.elem_type`, 0 if the type is not that of a tensor.
fn element_type(wire: &mut Wire<'_>, field: &Field) -> Result<i64, OnnxError> {
    let (mut dtype, Some(mut span)) = (0, nested(wire, field, &[1])?) else { return Ok(0) };
    while let Some(field) = wire.next(&mut span)? {
        if field.number == 1 {
            dtype = wire.int(&field)?;
        }
    }
    Ok(dtype)
}

/// The last field at the nested field numbers `path`, for example `TypeProto.tensor_type.shape`.
fn nested(wire: &mut Wire<'_>, field: &Field, path: &[u64]) -> Result<Option<Span>, OnnxError> {
    let mut found = Some(wire.span(field)?);
    for &number in path {
        let Some(mut span) = found.take() else { break };
        while let Some(field) = wire.next(&mut span)? {
            if field.number == number {
                found = Some(wire.span(&field)?);
            }
        }
    }
    Ok(found)
}

/// `TensorShapeProto`.
fn dims(wire: &mut Wire<'_>, mut span: Span) -> Result<Vec<Dim>, OnnxError> {
    let mut dims = Vec::new();
    while let Some(field) = wire.next(&mut span)? {
        if field.number == 1 {
            push(wire, field.at, &mut dims, |wire| dim(wire, &field))?;
        }
    }
    Ok(dims)
}

fn dim(wire: &mut Wire<'_>, field: &Field) -> Result<Dim, OnnxError> {
    let mut dim = Dim::Symbol(String::new());
    let mut span = wire.span(field)?;
    while let Some(field) = wire.next(&mut span)? {
        match field.number {
            1 => dim = Dim::Known(wire.int(&field)?),
            // Some exporters give this name to every extent that has none.
            2 => dim = Dim::Symbol(Some(wire.text(&field)?).filter(|name| name != "?").unwrap_or_default()),
            _ => {}
        }
    }
    Ok(dim)
}
