//! Matrix products.

use super::super::broadcast::per_channel;
use super::super::draft::Recipe;
use super::super::importer::Importer;
use super::super::node::{Call, Outcome, unsupported, wrong};
use super::super::value::{Constant, Tap};
use crate::layer::{Layer, Linear};

pub(super) fn gemm(importer: &mut Importer<'_>, call: &Call<'_>) -> Outcome<Tap> {
    let tap = importer.image(call, 0)?;
    if call.flag("transA")? {
        return unsupported("transA");
    }
    let weight = matrix(call.weight(1)?, call.flag("transB")?)?;
    let (alpha, beta) = (call.float("alpha", 1.0)?, call.float("beta", 1.0)?);
    let bias = call.constant(2)?.filter(|_| beta != 0.0);
    linear(importer, call, tap, (weight, alpha), bias.map(|bias| (bias, beta)))
}

/// A product with a trained matrix.
pub(super) fn matmul(importer: &mut Importer<'_>, call: &Call<'_>) -> Outcome<Tap> {
    let tap = importer.image(call, 0)?;
    if tap.dims.len() != 2 {
        return unsupported(format!("a matrix product of {:?}", tap.dims));
    }
    let weight = matrix(call.weight(1)?, false)?;
    linear(importer, call, tap, (weight, 1.0), None)
}

/// The matrix in the order of layers: outputs by inputs.
fn matrix(weight: &Constant, output_first: bool) -> Outcome<Constant> {
    match weight.dims.len() {
        2 if output_first => Ok(weight.clone()),
        2 => Ok(weight.turned()),
        _ => unsupported(format!("weights of {:?}, which are not a matrix", weight.dims)),
    }
}

fn linear(
    importer: &mut Importer<'_>,
    call: &Call<'_>,
    tap: &Tap,
    (weight, alpha): (Constant, f32),
    bias: Option<(&Constant, f32)>,
) -> Outcome<Tap> {
    if tap.dims.len() != 2 || tap.dims[1] != weight.dims[1] {
        let (inputs, got) = (weight.dims[1], &tap.dims);
        return wrong(format!("expected {inputs} inputs as the weights have, got {got:?}"));
    }
    let result = [tap.dims[0], weight.dims[0]];
    let laid = |(bias, beta)| per_channel(call, &result, bias).map(|bias| (bias, beta));
    let bias = bias.map(laid).transpose()?;
    let layer = Layer::Linear(Linear { out_features: weight.dims[0], bias: bias.is_some() });
    let mut tensors = vec![("weight", Recipe { constant: weight, factor: alpha })];
    tensors.extend(bias.map(|(bias, beta)| ("bias", Recipe { constant: bias, factor: beta })));
    importer.layer_of(call, layer, &[tap], tensors)
}
