//! An ONNX file with a convolution, batch normalisation and an activation, made here.

mod common;

use common::{Numbers, check};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto, attribute_proto, tensor_proto, tensor_shape_proto, type_proto,
};
use tract_onnx::prelude::*;

const FLOAT: i32 = tensor_proto::DataType::Float as i32;

fn constant(name: &str, shape: &[usize], numbers: &mut Numbers, positive: bool) -> TensorProto {
    let elements = (0..shape.iter().product()).map(|_| numbers.next());
    TensorProto {
        name: name.into(),
        dims: shape.iter().map(|extent| *extent as i64).collect(),
        data_type: FLOAT,
        float_data: elements.map(|x| if positive { x.abs() + 0.5 } else { x }).collect(),
        ..TensorProto::default()
    }
}

fn node(op_type: &str, input: &[&str], output: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        op_type: op_type.into(),
        name: output.into(),
        input: input.iter().map(|name| name.to_string()).collect(),
        output: vec![output.into()],
        attribute,
        ..NodeProto::default()
    }
}

fn integers(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        ints: values.to_vec(),
        r#type: attribute_proto::AttributeType::Ints as i32,
        ..AttributeProto::default()
    }
}

fn value(name: &str, shape: &[i64]) -> ValueInfoProto {
    let dim = |extent: &i64| tensor_shape_proto::Dimension {
        value: Some(tensor_shape_proto::dimension::Value::DimValue(*extent)),
        ..Default::default()
    };
    let shape = TensorShapeProto { dim: shape.iter().map(dim).collect() };
    let tensor = type_proto::Tensor { elem_type: FLOAT, shape: Some(shape) };
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() }),
        ..ValueInfoProto::default()
    }
}

/// Convolution, batch normalisation and ReLU, then a 1x1 convolution of stride 2 to which the same of the input
/// is added.
fn file() -> ModelProto {
    let mut numbers = Numbers::new(11);
    let pads = integers("pads", &[1, 1, 1, 1]);
    let stride = || integers("strides", &[2, 2]);
    let graph = GraphProto {
        name: "graph".into(),
        node: vec![
            node("Conv", &["x", "w1"], "conv1", vec![pads]),
            node("BatchNormalization", &["conv1", "scale", "shift", "mean", "variance"], "norm", vec![]),
            node("Relu", &["norm"], "relu", vec![]),
            node("Conv", &["relu", "w2", "b2"], "conv2", vec![stride()]),
            node("Conv", &["x", "w3"], "conv3", vec![stride()]),
            node("Add", &["conv2", "conv3"], "sum", vec![]),
            node("Relu", &["sum"], "y", vec![]),
        ],
        initializer: vec![
            constant("w1", &[20, 6, 3, 3], &mut numbers, false),
            constant("scale", &[20], &mut numbers, true),
            constant("shift", &[20], &mut numbers, false),
            constant("mean", &[20], &mut numbers, false),
            constant("variance", &[20], &mut numbers, true),
            constant("w2", &[12, 20, 1, 1], &mut numbers, false),
            constant("b2", &[12], &mut numbers, false),
            constant("w3", &[12, 6, 1, 1], &mut numbers, false),
        ],
        input: vec![value("x", &[2, 6, 10, 12])],
        output: vec![value("y", &[2, 12, 5, 6])],
        ..GraphProto::default()
    };
    ModelProto {
        ir_version: 8,
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 13 }],
        graph: Some(graph),
        ..ModelProto::default()
    }
}

#[test]
fn batch_normalisation_stride_and_residual_are_fused() {
    let model = tract_onnx::onnx().model_for_proto_model(&file()).unwrap().into_typed().unwrap();
    let report = check(model, &[tvec!(Numbers::new(2).tensor(&[2, 6, 10, 12]))]);
    assert_eq!((report.replaced.len(), report.fell_back.len()), (3, 0), "{report}");
    assert!(report.replaced.iter().any(|layer| layer.layer.contains("residual, relu")), "{report}");
}
