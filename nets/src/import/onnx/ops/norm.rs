//! Normalisations.

use super::super::broadcast::per_channel;
use super::super::importer::Importer;
use super::super::node::{Call, Outcome, axis, no_training, unsupported, wrong};
use super::super::value::{Constant, Data, Kind, Tap};
use crate::layer::{Layer, Lrn, Norm};

pub(super) fn batch(importer: &mut Importer<'_>, call: &Call<'_>) -> Outcome<Tap> {
    let tap = importer.image(call, 0)?;
    if call.int("spatial")?.unwrap_or(1) == 0 {
        return unsupported("statistics per pixel");
    }
    no_training(call)?;
    let channels = tap.dims[1];
    let norm = Norm::batch().eps(call.float("epsilon", 1e-5)?);
    let tensors = [
        ("weight", Some(call.vector(1, "weight", channels)?)),
        ("bias", Some(call.vector(2, "bias", channels)?)),
        ("running_mean", Some(call.vector(3, "running_mean", channels)?)),
        ("running_var", Some(call.vector(4, "running_var", channels)?)),
    ];
    importer.layer(call, norm.into(), &[tap], &tensors)
}

pub(super) fn instance(importer: &mut Importer<'_>, call: &Call<'_>) -> Outcome<Tap> {
    let tap = importer.image(call, 0)?;
    let norm = Norm { affine: true, ..Norm::instance() }.eps(call.float("epsilon", 1e-5)?);
    affine(importer, call, tap, norm)
}

pub(super) fn layer(importer: &mut Importer<'_>, call: &Call<'_>) -> Outcome<Tap> {
    let tap = importer.image(call, 0)?;
    let first = axis(call.int("axis")?.unwrap_or(-1), tap.dims.len())?;
    if first != 1 || tap.dims[2..].iter().any(|&dim| dim != 1) {
        return unsupported(format!("a normalisation of {:?} from axis {first} on", tap.dims));
    }
    importer.only_first(call, "mean and deviation")?;
    let norm = Norm::layer().eps(call.float("epsilon", 1e-5)?);
    let scale = per_channel(call, &tap.dims, call.weight(1)?)?;
    let none = Constant { dims: Vec::new(), kind: Kind::Float, data: Data::Fill(0.0) };
    let shift = call.constant(2)?.map_or(Ok(none), |shift| per_channel(call, &tap.dims, shift))?;
    importer.layer(call, norm.into(), &[tap], &[("weight", Some(&scale)), ("bias", Some(&shift))])
}

pub(super) fn group(importer: &mut Importer<'_>, call: &Call<'_>) -> Outcome<Tap> {
    let tap = importer.image(call, 0)?;
    let groups = call.int("num_groups")?.and_then(|groups| usize::try_from(groups).ok());
    let Some(groups) = groups else { return wrong("expected a positive attribute `num_groups`") };
    if call.opset < 21 && groups != tap.dims[1] {
        return unsupported("a scale per group, which opset 21 has replaced");
    }
    let norm = Norm::group(groups).eps(call.float("epsilon", 1e-5)?);
    affine(importer, call, tap, norm)
}

/// Adds a normalisation with a scale and a shift per channel.
fn affine(importer: &mut Importer<'_>, call: &Call<'_>, tap: &Tap, norm: Norm) -> Outcome<Tap> {
    let channels = tap.dims[1];
    let (scale, shift) = (call.vector(1, "weight", channels)?, call.vector(2, "bias", channels)?);
    importer.layer(call, norm.into(), &[tap], &[("weight", Some(scale)), ("bias", Some(shift))])
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
