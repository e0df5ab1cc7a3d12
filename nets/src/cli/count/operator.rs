//! Layers as papers write them: `conv 3x3/2, 64`.

use kernels::{PoolKind, Size2};
use nets::plot::Kind;
use nets::{Layer, Node, Shape};

/// What the layer does.
pub(super) fn kind(layer: &Layer) -> Kind {
    match layer {
        Layer::Input(_) => Kind::Port,
        Layer::Conv(_) | Layer::SparseConv(_) | Layer::ConvTranspose(_) => Kind::Conv,
        Layer::Linear(_) | Layer::Rbf { .. } | Layer::MatMul => Kind::Linear,
        Layer::Pool(_) | Layer::AdaptivePool(_) | Layer::Subsample(_) | Layer::FractionalPool(_) => {
            Kind::Pool
        }
        Layer::Norm(_) | Layer::Lrn(_) | Layer::Scale { .. } => Kind::Norm,
        Layer::Activation(_) | Layer::Softmax | Layer::HardSigmoid { .. } | Layer::Maxout { .. } => {
            Kind::Activation
        }
        Layer::Concat | Layer::Add | Layer::Mul => Kind::Join,
        Layer::Unknown { .. } => Kind::Unknown,
        Layer::Tensor(_) => match layer.op() {
            "conv" | "conv_transpose" => Kind::Conv,
            "matmul" | "gemm" | "einsum" | "rnn" | "gru" | "lstm" => Kind::Linear,
            "avg_pool" | "lp_pool" | "max_pool" => Kind::Pool,
            "normalize" | "lrn" => Kind::Norm,
            "relu" | "sigmoid" | "tanh" | "gelu" | "elu" | "celu" | "selu" | "mish" | "clip" | "softplus"
            | "softsign" | "prelu" | "hard_sigmoid" | "hard_swish" | "softmax" | "log_softmax"
            | "hardmax" => Kind::Activation,
            "add" | "sub" | "mul" | "div" | "concat" | "where" => Kind::Join,
            _ => Kind::Other,
        },
        _ => Kind::Other,
    }
}

/// Whether papers draw a layer with so many inputs together with the one that it follows, if at all.
pub(super) fn is_small(layer: &Layer, inputs: usize) -> bool {
    match layer {
        _ if inputs != 1 => false,
        // Of one map, as exported DenseNets have it.
        Layer::Concat => true,
        Layer::Dropout | Layer::Flatten | Layer::Reshape(_) | Layer::Pad(_) => true,
        Layer::Tensor(_) => {
            matches!(kind(layer), Kind::Norm | Kind::Activation)
                || matches!(
                    layer.op(),
                    "reshape" | "transpose" | "cast" | "erf" | "sqrt" | "add" | "mul" | "div" | "sub"
                )
        }
        _ => matches!(kind(layer), Kind::Norm | Kind::Activation),
    }
}

/// The operator with what distinguishes it from others.
pub(super) fn operator(node: &Node, inputs: &[Shape]) -> String {
    let text = node.layer.op().replace('_', " ");
    match &node.layer {
        Layer::Conv(conv) => {
            let read = inputs.first().map_or(0, |input| input.channels());
            let (text, groups) = match conv.groups {
                1 => ("conv", String::new()),
                groups if groups == read => ("depthwise", String::new()),
                groups => ("conv", format!(", g={groups}")),
            };
            let has_gaps = conv.dilation != Size2::square(1);
            let dilation = if has_gaps { format!(", d={}", side(conv.dilation)) } else { String::new() };
            format!("{text} {}, {}{groups}{dilation}", window(conv.kernel, conv.stride), conv.out_channels)
        }
        Layer::SparseConv(sparse) => {
            let conv = sparse.conv;
            format!("sparse conv {}, {}", window(conv.kernel, conv.stride), conv.out_channels)
        }
        Layer::ConvTranspose(conv) => {
            format!("up-conv {}, {}", window(conv.kernel, conv.stride), conv.out_channels)
        }
        Layer::Linear(linear) => format!("linear, {}", linear.out_features),
        Layer::Rbf { codes } => format!("rbf, {codes}"),
        Layer::Pool(pool) => match pool.window {
            Some(size) => {
                let text = if pool.kind == PoolKind::Max { "max pool" } else { "avg pool" };
                format!("{text} {}", window(size, pool.stride))
            }
            None => text,
        },
        Layer::Subsample(pool) => format!("subsample {}", window(pool.window, pool.window)),
        _ => text,
    }
}

/// `3x3/2`: the window, and the stride unless it is 1.
fn window(kernel: Size2, stride: Size2) -> String {
    let stride = if stride == Size2::square(1) { String::new() } else { format!("/{}", side(stride)) };
    format!("{}x{}{stride}", kernel.h, kernel.w)
}

/// One number, or two if the axes differ.
fn side(size: Size2) -> String {
    if size.h == size.w { size.h.to_string() } else { format!("{}x{}", size.h, size.w) }
}
