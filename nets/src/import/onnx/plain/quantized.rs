//! Quantised operators, computed with whole numbers in `f32`. Sums beyond 2^24 are rounded.

use super::super::importer::Importer;
use super::super::node::{Call, Outcome, axis, unsupported, wrong};
use super::super::tensor::{dtype, type_name};
use super::super::value::{Constant, Kind, Value};
use super::axes::number;
use super::{dims_of, operand_dims};
use crate::layer::{Binary, TensorOp, Unary};

pub(super) fn import<'a>(importer: &mut Importer<'a>, call: &Call<'a>) -> Outcome<Value> {
    match call.def.op.as_str() {
        "DequantizeLinear" => dequantize(importer, call),
        "QuantizeLinear" => {
            let scale = along(call, 1, &dims_of(call, 0)?)?;
            let ratio = importer.emit(call, TensorOp::Zip(Binary::Div), &[float(call.value(0)?), scale])?;
            let zero = match call.input(2) {
                Some(_) => Some(along(call, 2, &dims_of(call, 0)?)?),
                None => None,
            };
            rounded(importer, call, ratio, (zero, 2))
        }
        "QLinearConv" => conv(importer, call),
        _ => matmul(importer, call),
    }
}

/// The same elements as floats.
fn float(value: &Value) -> Value {
    match value.clone() {
        Value::Tap(tap) => Value::Tap(super::Tap { kind: Kind::Float, ..tap }),
        Value::Constant(constant) => Value::Constant(Constant { kind: Kind::Float, ..constant }),
        unknown @ Value::Unknown(_) => unknown,
    }
}

/// A scale or a zero point with extents for broadcasting: one number, or one along an axis.
fn along(call: &Call<'_>, index: usize, dims: &[usize]) -> Outcome<Value> {
    let value = float(call.value(index)?);
    let own = operand_dims(std::slice::from_ref(&value))?.swap_remove(0);
    let extents = match own.as_slice() {
        [] | [1] => Vec::new(),
        [len] => {
            let axis = axis(call.int("axis")?.unwrap_or(1), dims.len())?;
            if *len != dims[axis] {
                return wrong(format!("expected one number or {} along axis {axis}, got {len}", dims[axis]));
            }
            [vec![*len], vec![1; dims.len() - 1 - axis]].concat()
        }
        _ => return unsupported(format!("scales of blocks {own:?}")),
    };
    match value {
        Value::Constant(constant) => Ok(Value::Constant(constant.reshaped(extents))),
        _ => unsupported("a scale that is computed"),
    }
}

fn dequantize<'a>(importer: &mut Importer<'a>, call: &Call<'a>) -> Outcome<Value> {
    let dims = dims_of(call, 0)?;
    let mut value = float(call.value(0)?);
    if call.input(2).is_some() {
        value = importer.emit(call, TensorOp::Zip(Binary::Sub), &[value, along(call, 2, &dims)?])?;
    }
    importer.emit(call, TensorOp::Zip(Binary::Mul), &[value, along(call, 1, &dims)?])
}

/// Rounds, adds the zero point, and limits to the range of its type.
fn rounded<'a>(
    importer: &mut Importer<'a>,
    call: &Call<'a>,
    value: Value,
    (zero, index): (Option<Value>, usize),
) -> Outcome<Value> {
    let given = match (call.input(index), call.int("output_dtype")?) {
        (_, Some(dtype)) if dtype != 0 => Some(dtype),
        (Some(Value::Constant(constant)), _) => constant.tensor().map(|tensor| tensor.dtype),
        (None, _) => Some(dtype::UINT8),
        _ => None,
    };
    let (lo, hi) = match given {
        Some(dtype::UINT8) => (0.0, 255.0),
        Some(dtype::INT8) => (-128.0, 127.0),
        Some(dtype::UINT16) => (0.0, 65_535.0),
        Some(dtype::INT16) => (-32_768.0, 32_767.0),
        Some(other) => return unsupported(format!("numbers of type {}", type_name(other))),
        None => return unsupported("a zero point of an unknown type"),
    };
    let mut value = importer.emit(call, TensorOp::Map(Unary::Round), &[value])?;
    if let Some(zero) = zero {
        value = importer.emit(call, TensorOp::Zip(Binary::Add), &[value, zero])?;
    }
    let limited = importer.emit(call, TensorOp::Map(Unary::Clip { lo, hi }), &[value])?;
    Ok(match limited {
        Value::Tap(tap) => Value::Tap(super::Tap { kind: Kind::Whole, ..tap }),
        Value::Constant(constant) => Value::Constant(Constant { kind: Kind::Whole, ..constant }),
        unknown @ Value::Unknown(_) => unknown,
    })
}

/// An operand minus its zero point. `per` are the extents of the zero point for broadcasting.
fn centred<'a>(importer: &mut Importer<'a>, call: &Call<'a>, index: usize, per: &[usize]) -> Outcome<Value> {
    let value = float(call.value(index)?);
    match call.input(index + 2) {
        None => Ok(value),
        Some(_) => {
            let zero = scalar_or(call, index + 2, per)?;
            importer.emit(call, TensorOp::Zip(Binary::Sub), &[value, zero])
        }
    }
}

/// A constant with one number, or with as many as the extents `per` have.
fn scalar_or(call: &Call<'_>, index: usize, per: &[usize]) -> Outcome<Value> {
    let constant = call.weight(index)?;
    let extents = if constant.len() == 1 { Vec::new() } else { per.to_vec() };
    if constant.len() != extents.iter().product::<usize>() {
        return unsupported(format!("a scale or zero point of {:?}", constant.dims));
    }
    Ok(float(&Value::Constant(constant.reshaped(extents))))
}

fn conv<'a>(importer: &mut Importer<'a>, call: &Call<'a>) -> Outcome<Value> {
    let filter = dims_of(call, 3)?;
    let outputs = filter.first().copied().unwrap_or(0);
    let per_filter = [vec![outputs], vec![1; filter.len().saturating_sub(1)]].concat();
    let per_channel = [vec![outputs], vec![1; filter.len().saturating_sub(2)]].concat();
    let x = centred(importer, call, 0, &[])?;
    let w = centred(importer, call, 3, &per_filter)?;
    let bias = call.input(8).map(float);
    let inner = Call {
        def: call.def,
        inputs: vec![Some(x), Some(w), bias],
        opset: call.opset,
        source: call.source,
        name: call.name.clone(),
    };
    let sums = super::window::conv(importer, &inner)?;
    requantized(importer, call, sums, (1, 4, 6), &per_channel)
}

fn matmul<'a>(importer: &mut Importer<'a>, call: &Call<'a>) -> Outcome<Value> {
    let columns = dims_of(call, 3)?.last().copied().unwrap_or(0);
    let a = centred(importer, call, 0, &[])?;
    let b = centred(importer, call, 3, &[columns])?;
    let sums = importer.emit(call, TensorOp::MatMul, &[a, b])?;
    requantized(importer, call, sums, (1, 4, 6), &[columns])
}

/// Multiplies by the scales of the operands and divides by the scale of the result.
fn requantized<'a>(
    importer: &mut Importer<'a>,
    call: &Call<'a>,
    sums: Value,
    (a, b, result): (usize, usize, usize),
    per: &[usize],
) -> Outcome<Value> {
    let scale = |index, per: &[usize]| scalar_or(call, index, per);
    let both = importer.emit(call, TensorOp::Zip(Binary::Mul), &[scale(a, &[])?, scale(b, per)?])?;
    let factor = importer.emit(call, TensorOp::Zip(Binary::Div), &[both, scale(result, &[])?])?;
    let scaled = importer.emit(call, TensorOp::Zip(Binary::Mul), &[sums, factor])?;
    let zero = match call.input(result + 1) {
        Some(_) => scalar_or(call, result + 1, &[])?,
        None => number(0.0),
    };
    rounded(importer, call, scaled, (Some(zero), result + 1))
}
