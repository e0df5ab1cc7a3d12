//! Elementwise functions.

use super::super::broadcast::per_channel;
use super::super::importer::Importer;
use super::super::node::{Call, Outcome, axis, unsupported, wrong};
use super::super::value::{Constant, Tap};
use crate::layer::Layer;
use kernels::Activation;

pub(super) fn activation<'a>(importer: &mut Importer<'a>, call: &Call<'a>) -> Outcome<Tap> {
    let tap = call.tap(0)?;
    let function = match call.def.op.as_str() {
        "Relu" => Activation::Relu,
        "LeakyRelu" => Activation::LeakyRelu { alpha: call.float("alpha", 0.01)? },
        "Elu" => Activation::Elu { alpha: call.float("alpha", 1.0)? },
        "Tanh" => Activation::Tanh,
        "HardSwish" => Activation::HardSwish,
        "Clip" => clip(call)?,
        "Sigmoid" => importer.gate(call, Activation::Silu)?.unwrap_or(Activation::Sigmoid),
        "HardSigmoid" => match hard_gate(importer, call)? {
            Some(function) => function,
            None => {
                let layer =
                    Layer::HardSigmoid { alpha: call.float("alpha", 0.2)?, beta: call.float("beta", 0.5)? };
                return importer.same(call, layer, tap);
            }
        },
        _ => {
            importer.image(call, 0)?;
            let slope = slope(call, &tap.dims)?;
            return importer.layer(call, Activation::PRelu.into(), &[tap], &[("weight", Some(&slope))]);
        }
    };
    importer.same(call, function.into(), tap)
}

/// `x * hard_sigmoid(x)` with a slope of 1/6, which is how exporters write hard swish.
fn hard_gate<'a>(importer: &mut Importer<'a>, call: &Call<'a>) -> Outcome<Option<Activation>> {
    let (alpha, beta) = (call.float("alpha", 0.2)?, call.float("beta", 0.5)?);
    let sixth = (alpha - 1.0 / 6.0).abs() < 1e-6 && beta == 0.5;
    if sixth { importer.gate(call, Activation::HardSwish) } else { Ok(None) }
}

/// Limits are attributes up to opset 10, and inputs since.
fn clip(call: &Call<'_>) -> Outcome<Activation> {
    let limit = |name: &str, index: usize, none: f32| {
        if call.opset < 11 || call.has(name) {
            return call.float(name, none);
        }
        match call.numbers(index)?.as_deref() {
            None => Ok(none),
            Some(&[limit]) => Ok(limit as f32),
            Some(other) => wrong(format!("expected one number as limit, got {}", other.len())),
        }
    };
    let (lo, hi) = (limit("min", 1, f32::MIN)?, limit("max", 2, f32::MAX)?);
    // `Relu` keeps infinity, but `Clip` without an upper limit reduces it to the largest finite number.
    let relu = lo == 0.0 && hi == f32::INFINITY;
    // If the limits cross, the upper limit wins.
    Ok(if relu { Activation::Relu } else { Activation::Clip { lo: if lo > hi { hi } else { lo }, hi } })
}

/// Up to opset 6 a slope has one element per channel, whatever its extents.
fn slope(call: &Call<'_>, dims: &[usize]) -> Outcome<Constant> {
    let slope = call.weight(1)?;
    match slope.len() {
        _ if call.opset >= 7 => per_channel(call, dims, slope),
        1 => Ok(slope.reshaped(Vec::new())),
        _ => call.vector(1, "weight", dims[1]).cloned(),
    }
}

/// Softmax over the channels. Up to opset 12 it runs over all axes from `axis` on, and since then over one axis.
pub(super) fn softmax(importer: &mut Importer<'_>, call: &Call<'_>) -> Outcome<Tap> {
    let tap = importer.image(call, 0)?;
    let default = if call.opset < 13 { 1 } else { -1 };
    let along = axis(call.int("axis")?.unwrap_or(default), tap.dims.len())?;
    let one_pixel = tap.dims[2..].iter().all(|&dim| dim == 1);
    if along != 1 || call.opset < 13 && !one_pixel {
        return unsupported(format!("a softmax of {:?} over axis {along}", tap.dims));
    }
    importer.same(call, Layer::Softmax, tap)
}
