//! Normalisations over any axes: a normalisation without parameters, then a product and a sum.

use super::super::importer::Importer;
use super::super::node::{Call, Outcome, axis, no_training, unsupported, wrong};
use super::super::value::{Constant, Value};
use super::reduce::marked;
use super::{Results, dims_of};
use crate::layer::{Binary, Lrn, Reduction, TensorOp, Unary};

pub(super) fn layer<'a>(importer: &mut Importer<'a>, call: &Call<'a>) -> Outcome<Results> {
    let (value, rank) = (call.value(0)?.clone(), dims_of(call, 0)?.len());
    let first = axis(call.int("axis")?.unwrap_or(-1), rank)?;
    let axes: Vec<bool> = (0..rank).map(|axis| axis >= first).collect();
    let eps = call.float("epsilon", 1e-5)?;
    let normal = importer.emit(
        call,
        TensorOp::Normalize { axes: axes.clone(), eps, center: true },
        std::slice::from_ref(&value),
    )?;
    let mut results = vec![affine(importer, call, normal, (call.input(1), call.input(2)))?];
    let wants = |output: usize| call.def.outputs.get(output).is_some_and(|name| !name.is_empty());
    if wants(1) || wants(2) {
        let kind = Reduction::Mean;
        let mean = importer.emit(
            call,
            TensorOp::Reduce { kind, axes: axes.clone(), keep: true },
            std::slice::from_ref(&value),
        )?;
        let centred = importer.emit(call, TensorOp::Zip(Binary::Sub), &[value, mean.clone()])?;
        let squares = importer.emit(call, TensorOp::Zip(Binary::Mul), &[centred.clone(), centred])?;
        let variance = importer.emit(call, TensorOp::Reduce { kind, axes, keep: true }, &[squares])?;
        let shifted =
            importer.emit(call, TensorOp::Map(Unary::Linear { scale: 1.0, shift: eps }), &[variance])?;
        let root = importer.emit(call, TensorOp::Map(Unary::Sqrt), &[shifted])?;
        let inverse = importer.emit(call, TensorOp::Map(Unary::Reciprocal), &[root])?;
        results.extend([mean, inverse]);
    }
    Ok(results)
}

pub(super) fn rms<'a>(importer: &mut Importer<'a>, call: &Call<'a>) -> Outcome<Value> {
    let rank = dims_of(call, 0)?.len();
    let first = axis(call.int("axis")?.unwrap_or(-1), rank)?;
    let axes = (0..rank).map(|axis| axis >= first).collect();
    let op = TensorOp::Normalize { axes, eps: call.float("epsilon", 1e-5)?, center: false };
    let normal = importer.emit(call, op, &[call.value(0)?.clone()])?;
    affine(importer, call, normal, (call.input(1), None))
}

/// Multiplies by the scale and adds the shift, as far as they are given.
fn affine<'a>(
    importer: &mut Importer<'a>,
    call: &Call<'a>,
    value: Value,
    (scale, shift): (Option<&Value>, Option<&Value>),
) -> Outcome<Value> {
    let mut value = value;
    for (operand, function) in [(scale, Binary::Mul), (shift, Binary::Add)] {
        if let Some(operand) = operand {
            let before = super::operand_dims(std::slice::from_ref(&value))?;
            value = importer.emit(call, TensorOp::Zip(function), &[value, operand.clone()])?;
            if super::operand_dims(std::slice::from_ref(&value))? != before {
                return wrong(format!(
                    "expected a scale and a shift that can be broadcast to {:?}",
                    before[0]
                ));
            }
        }
    }
    Ok(value)
}

/// A vector with one number for each channel, as an operand for `rank` axes.
fn channels(call: &Call<'_>, index: usize, (len, rank): (usize, usize)) -> Outcome<Constant> {
    let vector = call.vector(index, "a parameter of each channel", len)?;
    Ok(vector.reshaped([vec![len], vec![1; rank.saturating_sub(2)]].concat()))
}

/// The scale and the shift of each channel, inputs 1 and 2.
fn per_channel<'a>(
    importer: &mut Importer<'a>,
    call: &Call<'a>,
    value: Value,
    dims: &[usize],
) -> Outcome<Value> {
    let extents = (dims[1], dims.len());
    let scale = Value::Constant(channels(call, 1, extents)?);
    let shift = Value::Constant(channels(call, 2, extents)?);
    affine(importer, call, value, (Some(&scale), Some(&shift)))
}

fn image(call: &Call<'_>) -> Outcome<Vec<usize>> {
    let dims = dims_of(call, 0)?;
    match dims.len() {
        0 | 1 => wrong(format!("expected batch and channels, got {dims:?}")),
        _ => Ok(dims),
    }
}

pub(super) fn instance<'a>(importer: &mut Importer<'a>, call: &Call<'a>) -> Outcome<Value> {
    let dims = image(call)?;
    let axes = (0..dims.len()).map(|axis| axis >= 2).collect();
    let op = TensorOp::Normalize { axes, eps: call.float("epsilon", 1e-5)?, center: true };
    let normal = importer.emit(call, op, &[call.value(0)?.clone()])?;
    per_channel(importer, call, normal, &dims)
}

/// Up to opset 20 the scale and the shift have one number for each group, and since then for each channel.
pub(super) fn group<'a>(importer: &mut Importer<'a>, call: &Call<'a>) -> Outcome<Value> {
    let dims = image(call)?;
    let groups = call.int("num_groups")?.and_then(|groups| usize::try_from(groups).ok());
    let Some(groups) = groups.filter(|&groups| groups > 0 && dims[1].is_multiple_of(groups)) else {
        return wrong(format!("expected `num_groups` that divides the {} channels, got {groups:?}", dims[1]));
    };
    let split = [&[dims[0], groups, dims[1] / groups], &dims[2..]].concat();
    let grouped = importer.reshaped(call, &call.value(0)?.clone(), split.clone())?;
    let axes = (0..split.len()).map(|axis| axis >= 2).collect();
    let op = TensorOp::Normalize { axes, eps: call.float("epsilon", 1e-5)?, center: true };
    let normal = importer.emit(call, op, &[grouped])?;
    if call.opset < 21 {
        let scaled = per_channel(importer, call, normal, &split)?;
        return importer.reshaped(call, &scaled, dims);
    }
    let normal = importer.reshaped(call, &normal, dims.clone())?;
    per_channel(importer, call, normal, &dims)
}

/// With fixed statistics: `(x - mean) / sqrt(variance + eps) * scale + shift`.
pub(super) fn batch<'a>(importer: &mut Importer<'a>, call: &Call<'a>) -> Outcome<Value> {
    let dims = image(call)?;
    if call.int("spatial")?.unwrap_or(1) == 0 {
        return unsupported("statistics per pixel");
    }
    no_training(call)?;
    let extents = (dims[1], dims.len());
    let part = |index| channels(call, index, extents).map(Value::Constant);
    let centred = importer.emit(call, TensorOp::Zip(Binary::Sub), &[call.value(0)?.clone(), part(3)?])?;
    let shifted = Unary::Linear { scale: 1.0, shift: call.float("epsilon", 1e-5)? };
    let variance = importer.emit(call, TensorOp::Map(shifted), &[part(4)?])?;
    let deviation = importer.emit(call, TensorOp::Map(Unary::Sqrt), &[variance])?;
    let normal = importer.emit(call, TensorOp::Zip(Binary::Div), &[centred, deviation])?;
    per_channel(importer, call, normal, &dims)
}

pub(super) fn mean_variance<'a>(importer: &mut Importer<'a>, call: &Call<'a>) -> Outcome<Value> {
    let rank = dims_of(call, 0)?.len();
    let axes = marked(call.ints("axes")?.unwrap_or(&[0, 2, 3]), rank)?;
    importer.emit(call, TensorOp::Normalize { axes, eps: 1e-9, center: true }, &[call.value(0)?.clone()])
}

pub(super) fn lp<'a>(importer: &mut Importer<'a>, call: &Call<'a>) -> Outcome<Value> {
    let rank = dims_of(call, 0)?.len();
    let axes = marked(&[call.int("axis")?.unwrap_or(-1)], rank)?;
    let kind = match call.int("p")?.unwrap_or(2) {
        1 => Reduction::L1,
        2 => Reduction::L2,
        p => return wrong(format!("expected 1 or 2 as `p`, got {p}")),
    };
    let value = call.value(0)?.clone();
    let norm =
        importer.emit(call, TensorOp::Reduce { kind, axes, keep: true }, std::slice::from_ref(&value))?;
    importer.emit(call, TensorOp::Zip(Binary::DivOrZero), &[value, norm])
}

pub(super) fn lrn<'a>(importer: &mut Importer<'a>, call: &Call<'a>) -> Outcome<Value> {
    image(call)?;
    let Some(size @ 1..) = call.int("size")?.and_then(|size| usize::try_from(size).ok()) else {
        return wrong("expected a positive attribute `size`");
    };
    let (alpha, beta) = (call.float("alpha", 1e-4)?, call.float("beta", 0.75)?);
    let lrn = Lrn { size, alpha, beta, k: call.float("bias", 1.0)? };
    importer.emit(call, TensorOp::Lrn(lrn), &[call.value(0)?.clone()])
}
