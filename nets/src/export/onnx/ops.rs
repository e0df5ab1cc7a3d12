//! The ONNX operators of each layer.

use super::Draft;
use super::proto::Attribute::{self, Float, Int, Ints};
use crate::error::LayerError;
use crate::graph::{Graph, Node};
use crate::layer::{Conv, ConvTranspose, Layer, Norm, NormKind, Pool};
use crate::shape::Shape;
use kernels::{Activation, Pad2, PoolKind, Size2};

/// Adds the operators of a layer. The value has the name of the node, or is the value of the input for a
/// layer without effect.
pub(super) fn layer(draft: &mut Draft, graph: &Graph, node: &Node) -> Result<(), LayerError> {
    let shapes = graph.input_shapes(node);
    let refused = || LayerError::NoOperator { op: node.layer.op().to_owned() };
    match &node.layer {
        Layer::Input(_) => draft.name_value(node.name.clone()),
        Layer::Conv(conv) => {
            let params = draft.params(node, &shapes);
            draft.node("Conv", node, &params, &convolution(conv));
        }
        Layer::ConvTranspose(conv) => {
            let params = draft.params(node, &shapes);
            draft.node("ConvTranspose", node, &params, &transposed(conv));
        }
        Layer::Linear(_) => {
            let params = draft.params(node, &shapes);
            draft.node("Gemm", node, &params, &[("transB", Int(1))]);
        }
        Layer::Pool(pool) => match shapes[0] {
            Shape::Map { .. } => pooling(draft, node, pool).ok_or_else(refused)?,
            Shape::Vector { .. } | Shape::Tensor(_) | Shape::Unknown => return Err(refused()),
        },
        Layer::AdaptivePool(adaptive) => match adaptive.as_pool(shapes[0].batched(1)) {
            Some(_) if node.output == shapes[0] => draft.alias(node),
            Some(pool) => pooling(draft, node, &pool).ok_or_else(refused)?,
            None => return Err(refused()),
        },
        &Layer::Activation(activation) => function(draft, node, activation, &shapes).ok_or_else(refused)?,
        Layer::Norm(norm) => normalisation(draft, node, norm, &shapes).ok_or_else(refused)?,
        Layer::Lrn(lrn) => {
            let numbers = [("alpha", lrn.alpha), ("beta", lrn.beta), ("bias", lrn.k)];
            let mut attributes = numbers.map(|(name, value)| (name, Float(value))).to_vec();
            attributes.push(("size", Int(lrn.size)));
            draft.node("LRN", node, &[], &attributes);
        }
        Layer::Dropout => draft.alias(node),
        Layer::Concat => draft.node("Concat", node, &[], &[("axis", Int(1))]),
        Layer::Add if node.inputs.len() == 2 => draft.node("Add", node, &[], &[]),
        Layer::Add => draft.node("Sum", node, &[], &[]),
        Layer::Mul => draft.node("Mul", node, &[], &[]),
        Layer::MatMul => draft.node("MatMul", node, &[], &[]),
        Layer::Pad(Pad2 { top, bottom, left, right }) => {
            let pads = draft.ints(node, "pads", &[0, 0, *top, *left, 0, 0, *bottom, *right]);
            draft.node("Pad", node, &[pads], &[]);
        }
        Layer::Flatten => draft.node("Flatten", node, &[], &[("axis", Int(1))]),
        Layer::Reshape(shape) => {
            // 0 keeps the extent of the input, here the batch.
            let dims: Vec<usize> = [0].into_iter().chain(shape.dims()).collect();
            let dims = draft.ints(node, "shape", &dims);
            draft.node("Reshape", node, &[dims], &[]);
        }
        Layer::Softmax => draft.node("Softmax", node, &[], &[("axis", Int(1))]),
        _ => return Err(refused()),
    }
    Ok(())
}

/// Attributes of an operator with a sliding window.
type Attributes = Vec<(&'static str, Attribute)>;

fn pair(size: Size2) -> Attribute {
    Ints(vec![size.h, size.w])
}

fn pads(pad: Pad2) -> Attribute {
    Ints(vec![pad.top, pad.left, pad.bottom, pad.right])
}

fn convolution(conv: &Conv) -> Attributes {
    vec![
        ("kernel_shape", pair(conv.kernel)),
        ("strides", pair(conv.stride)),
        ("pads", pads(conv.pad)),
        ("dilations", pair(conv.dilation)),
        ("group", Int(conv.groups)),
    ]
}

fn transposed(conv: &ConvTranspose) -> Attributes {
    vec![
        ("kernel_shape", pair(conv.kernel)),
        ("strides", pair(conv.stride)),
        ("pads", pads(conv.pad)),
        ("output_padding", pair(conv.output_pad)),
        ("dilations", pair(conv.dilation)),
        ("group", Int(conv.groups)),
    ]
}

fn pooling(draft: &mut Draft, node: &Node, pool: &Pool) -> Option<()> {
    let is_max = pool.kind == PoolKind::Max;
    let Some(kernel) = pool.window else {
        draft.node(if is_max { "GlobalMaxPool" } else { "GlobalAveragePool" }, node, &[], &[]);
        return Some(());
    };
    let mut attributes =
        vec![("kernel_shape", pair(kernel)), ("strides", pair(pool.stride)), ("pads", pads(pool.pad))];
    attributes.extend(pool.ceil_mode.then_some(("ceil_mode", Int(1))));
    match pool.kind {
        PoolKind::Max => attributes.push(("dilations", pair(pool.dilation))),
        // Available only since opset 19.
        _ if pool.dilation != Size2::square(1) => return None,
        PoolKind::Average { count_include_pad } => {
            attributes.push(("count_include_pad", Int(usize::from(count_include_pad))));
        }
        // A kind that a later version of the kernels may have.
        _ => return None,
    }
    draft.node(if is_max { "MaxPool" } else { "AveragePool" }, node, &[], &attributes);
    Some(())
}

fn function(draft: &mut Draft, node: &Node, activation: Activation, shapes: &[Shape]) -> Option<()> {
    let alpha = |alpha| [("alpha", Float(alpha))];
    match activation {
        Activation::None => draft.alias(node),
        Activation::Relu => draft.node("Relu", node, &[], &[]),
        Activation::LeakyRelu { alpha: slope } => draft.node("LeakyRelu", node, &[], &alpha(slope)),
        Activation::Clip { lo, hi } => {
            let limits = [draft.float(node, "min", lo), draft.float(node, "max", hi)];
            draft.node("Clip", node, &limits, &[]);
        }
        Activation::Sigmoid => draft.node("Sigmoid", node, &[], &[]),
        Activation::Tanh => draft.node("Tanh", node, &[], &[]),
        Activation::Elu { alpha: limit } => draft.node("Elu", node, &[], &alpha(limit)),
        Activation::PRelu => {
            let params = draft.per_channel(node, shapes);
            draft.node("PRelu", node, &params, &[]);
        }
        Activation::HardSwish => draft.node("HardSwish", node, &[], &[]),
        Activation::Silu => {
            let gate = draft.before("Sigmoid", node, "gate");
            draft.node("Mul", node, &[gate], &[]);
        }
        _ => return None,
    }
    Some(())
}

fn normalisation(draft: &mut Draft, node: &Node, norm: &Norm, shapes: &[Shape]) -> Option<()> {
    let op = match norm.kind {
        NormKind::Batch if norm.affine => "BatchNormalization",
        NormKind::Instance if norm.affine => "InstanceNormalization",
        _ => return None,
    };
    let params = draft.params(node, shapes);
    draft.node(op, node, &params, &[("epsilon", Float(norm.eps))]);
    Some(())
}
