//! Normalisations.

use super::super::importer::Importer;
use super::super::node::{Call, Outcome, axis, unsupported, wrong};
use super::super::value::{Constant, Data, Tap};
use crate::layer::{Layer, Lrn, Norm};

pub(super) fn batch(importer: &mut Importer<'_>, call: &Call<'_>) -> Outcome<Tap> {
    let tap = importer.image(call, 0)?;
    if call.int("spatial")?.unwrap_or(1) == 0 {
        return unsupported("statistics per pixel");
    }
    if call.flag("training_mode")? {
        importer.warn("a batch normalisation in training mode is taken with its running statistics", call);
    }
    let norm = Norm::batch().eps(call.float("epsilon", 1e-5)?);
    let tensors = [
        ("weight", Some(call.weight(1)?)),
        ("bias", Some(call.weight(2)?)),
        ("running_mean", Some(call.weight(3)?)),
        ("running_var", Some(call.weight(4)?)),
    ];
    importer.layer(call, norm.into(), &[tap], &tensors)
}

pub(super) fn instance(importer: &mut Importer<'_>, call: &Call<'_>) -> Outcome<Tap> {
    let tap = importer.image(call, 0)?;
    let norm = Norm { affine: true, ..Norm::instance() }.eps(call.float("epsilon", 1e-5)?);
    scaled(importer, call, tap, norm)
}

pub(super) fn layer(importer: &mut Importer<'_>, call: &Call<'_>) -> Outcome<Tap> {
    let tap = importer.image(call, 0)?;
    let first = axis(call.int("axis")?.unwrap_or(-1), tap.dims.len())?;
    if first != 1 || tap.dims[2..].iter().any(|&dim| dim != 1) {
        return unsupported(format!("a normalisation of {:?} from axis {first} on", tap.dims));
    }
    importer.only_first(call, "mean and deviation")?;
    scaled(importer, call, tap, Norm::layer().eps(call.float("epsilon", 1e-5)?))
}

pub(super) fn group(importer: &mut Importer<'_>, call: &Call<'_>) -> Outcome<Tap> {
    let tap = importer.image(call, 0)?;
    let groups = call.int("num_groups")?.and_then(|groups| usize::try_from(groups).ok());
    let Some(groups) = groups else { return wrong("expected a positive attribute `num_groups`") };
    if call.opset < 21 && groups != tap.dims[1] {
        return unsupported("a scale per group, which opset 21 has replaced");
    }
    scaled(importer, call, tap, Norm::group(groups).eps(call.float("epsilon", 1e-5)?))
}

/// With a scale and perhaps a shift per channel.
fn scaled(importer: &mut Importer<'_>, call: &Call<'_>, tap: &Tap, norm: Norm) -> Outcome<Tap> {
    let none = Constant { dims: vec![1], whole: false, data: Data::Fill(0.0) };
    let bias = call.constant(2)?.unwrap_or(&none);
    let tensors = [("weight", Some(call.weight(1)?)), ("bias", Some(bias))];
    importer.layer(call, norm.into(), &[tap], &tensors)
}

pub(super) fn lrn(importer: &mut Importer<'_>, call: &Call<'_>) -> Outcome<Tap> {
    let tap = importer.image(call, 0)?;
    let Some(size) = call.int("size")?.and_then(|size| usize::try_from(size).ok()) else {
        return wrong("expected a positive attribute `size`");
    };
    let (alpha, beta) = (call.float("alpha", 1e-4)?, call.float("beta", 0.75)?);
    let lrn = Lrn { size, alpha, beta, k: call.float("bias", 1.0)? };
    importer.layer(call, Layer::Lrn(lrn), &[tap], &[])
}
