//! The layers of ONNX operators: one function per family.

mod combine;
mod conv;
mod elementwise;
mod linear;
mod norm;
mod pool;
mod view;

use super::importer::Importer;
use super::node::{Call, Outcome, unsupported};
use super::value::Tap;

/// Imports a node that reads activations. The result is its first output.
pub(super) fn import<'a>(importer: &mut Importer<'a>, call: &Call<'a>) -> Outcome<Tap> {
    if !matches!(call.def.domain.as_str(), "" | "ai.onnx") {
        return unsupported(format!("an operator of `{}`", call.def.domain));
    }
    match call.def.op.as_str() {
        "Conv" => conv::conv(importer, call),
        "ConvTranspose" => conv::transpose(importer, call),
        "Gemm" => linear::gemm(importer, call),
        "MatMul" => linear::matmul(importer, call),
        "MaxPool" | "AveragePool" => pool::windows(importer, call),
        "GlobalAveragePool" | "GlobalMaxPool" => pool::global(importer, call),
        "ReduceMean" | "ReduceMax" => pool::reduce(importer, call),
        "BatchNormalization" => norm::batch(importer, call),
        "InstanceNormalization" => norm::instance(importer, call),
        "LayerNormalization" => norm::layer(importer, call),
        "GroupNormalization" => norm::group(importer, call),
        "LRN" => norm::lrn(importer, call),
        "Relu" | "LeakyRelu" | "PRelu" | "Elu" | "Sigmoid" | "Tanh" | "HardSwish" | "HardSigmoid"
        | "Clip" => elementwise::activation(importer, call),
        "Softmax" => elementwise::softmax(importer, call),
        "Add" | "Sub" | "Mul" | "Div" | "Sum" => combine::arithmetic(importer, call),
        "Concat" => combine::concat(importer, call),
        "Flatten" | "Reshape" | "Squeeze" | "Unsqueeze" => view::reshape(importer, call),
        "Transpose" => view::transpose(importer, call),
        "Slice" => view::slice(importer, call),
        "Pad" => view::pad(importer, call),
        "Identity" => Ok(call.tap(0)?.clone()),
        "Cast" if call.int("to")? == Some(1) => Ok(call.tap(0)?.clone()),
        "Dropout" if !importer.is_read(call.def.outputs.get(1).map_or("", String::as_str)) => {
            view::dropout(importer, call)
        }
        _ => unsupported(super::plain::NOT_KNOWN),
    }
}
