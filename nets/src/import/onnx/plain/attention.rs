//! `Attention` (Vaswani et al. 2017, section 3.2.1), as the products, sums and the softmax that it consists of.

use super::super::importer::Importer;
use super::super::node::{Call, Outcome, unsupported, wrong};
use super::super::value::{Constant, Data, Kind, Value};
use super::axes::{number, permuted};
use super::{Results, dims_of, operand_dims, unread};
use crate::layer::{Binary, Pick, Reduction, SoftKind, TensorOp, Unary};

const MINUS_INFINITY: f64 = f64::NEG_INFINITY;

/// Queries `[batch, heads, length, features]`, keys and values `[batch, key heads, key length, features]`.
struct Parts {
    query: Value,
    key: Value,
    value: Value,
}

pub(super) fn import<'a>(importer: &mut Importer<'a>, call: &Call<'a>) -> Outcome<Results> {
    if call.input(6).is_some() {
        return unsupported("a length of each sequence (nonpad_kv_seqlen)");
    }
    let joined = dims_of(call, 0)?.len() == 3;
    let query = heads(importer, call, (0, "q_num_heads"))?;
    let (key, past) = with_past(importer, call, (1, 4))?;
    let (value, _) = with_past(importer, call, (2, 5))?;
    let mut results = vec![unread(), key.clone(), value.clone()];
    let parts = repeated(importer, call, Parts { query, key, value })?;
    let (probabilities, shown) = probabilities(importer, call, &parts, past)?;
    results.push(shown);
    let mut output = importer.emit(call, TensorOp::MatMul, &[probabilities, parts.value])?;
    if joined {
        output = permuted(importer, call, output, vec![0, 2, 1, 3])?;
        let dims = one_dims(&output)?;
        output = importer.reshaped(call, &output, vec![dims[0], dims[1], dims[2] * dims[3]])?;
    }
    results[0] = output;
    Ok(results)
}

fn one_dims(value: &Value) -> Outcome<Vec<usize>> {
    Ok(operand_dims(std::slice::from_ref(value))?.swap_remove(0))
}

/// An input with an axis for the heads, which an attribute counts if the features of all heads are together.
fn heads<'a>(importer: &mut Importer<'a>, call: &Call<'a>, (index, name): (usize, &str)) -> Outcome<Value> {
    let value = call.value(index)?.clone();
    let dims = one_dims(&value)?;
    match *dims {
        [_, _, _, _] => Ok(value),
        [batch, length, features] => match usize::try_from(call.int(name)?.unwrap_or(0)) {
            Ok(heads @ 1..) if features.is_multiple_of(heads) => {
                let split = importer.reshaped(call, &value, vec![batch, length, heads, features / heads])?;
                permuted(importer, call, split, vec![0, 2, 1, 3])
            }
            _ => wrong(format!("expected a divisor of the {features} features as `{name}`")),
        },
        _ => wrong(format!("expected 3 or 4 axes as input {index}, got {dims:?}")),
    }
}

/// Keys or values behind those of earlier calls, and how many of these there are.
fn with_past<'a>(
    importer: &mut Importer<'a>,
    call: &Call<'a>,
    (index, past): (usize, usize),
) -> Outcome<(Value, usize)> {
    let value = heads(importer, call, (index, "kv_num_heads"))?;
    let Some(before) = call.input(past).cloned() else { return Ok((value, 0)) };
    let dims = one_dims(&before)?;
    if dims.len() != 4 {
        return wrong(format!("expected 4 axes as input {past}, got {dims:?}"));
    }
    Ok((importer.emit(call, TensorOp::Concat { axis: 2 }, &[before, value])?, dims[2]))
}

/// As many heads of keys and values as of queries: each is repeated for a group of neighbours.
fn repeated<'a>(importer: &mut Importer<'a>, call: &Call<'a>, parts: Parts) -> Outcome<Parts> {
    let wanted = one_dims(&parts.query)?[1];
    let mut each = |value: Value| -> Outcome<Value> {
        let dims = one_dims(&value)?;
        let heads = dims[1];
        if heads == wanted {
            return Ok(value);
        }
        if heads == 0 || !wanted.is_multiple_of(heads) {
            return wrong(format!("expected a divisor of {wanted} as the number of key heads, got {heads}"));
        }
        let apart = importer.reshaped(call, &value, vec![dims[0], heads, 1, dims[2], dims[3]])?;
        let target = vec![dims[0], heads, wanted / heads, dims[2], dims[3]];
        let copies = importer.emit_as(call, TensorOp::Expand, &[apart], target)?;
        importer.reshaped(call, &copies, vec![dims[0], wanted, dims[2], dims[3]])
    };
    Ok(Parts { key: each(parts.key)?, value: each(parts.value)?, query: parts.query })
}

/// The softmax of the masked scores, and what the fourth output shows.
fn probabilities<'a>(
    importer: &mut Importer<'a>,
    call: &Call<'a>,
    parts: &Parts,
    past: usize,
) -> Outcome<(Value, Value)> {
    let features = one_dims(&parts.query)?[3];
    let scale = call.float("scale", (1.0 / (features as f64).sqrt()) as f32)?;
    let line = |scale: f32| TensorOp::Map(Unary::Linear { scale, shift: 0.0 });
    let query = importer.emit(call, line(scale), std::slice::from_ref(&parts.query))?;
    let turned = permuted(importer, call, parts.key.clone(), vec![0, 1, 3, 2])?;
    let mut scores = importer.emit(call, TensorOp::MatMul, &[query, turned])?;
    let mut stages = vec![scores.clone()];
    let cap = call.float("softcap", 0.0)?;
    if cap > 0.0 {
        let small = importer.emit(call, line(1.0 / cap), &[scores])?;
        let bounded = importer.emit(call, TensorOp::Map(Unary::Tanh), &[small])?;
        scores = importer.emit(call, line(cap), &[bounded])?;
    }
    stages.push(scores.clone());
    let extents = one_dims(&scores)?;
    let bias = bias(importer, call, [extents[2], extents[3]], past)?;
    if let Some(bias) = &bias {
        scores = importer.emit(call, TensorOp::Zip(Binary::Add), &[scores, bias.clone()])?;
        if one_dims(&scores)? != extents {
            return wrong(format!("expected a mask that can be broadcast to {extents:?}"));
        }
    }
    stages.push(scores.clone());
    let softmax = TensorOp::Softmax { kind: SoftKind::Soft, first: 3, end: 4 };
    let mut result = importer.emit(call, softmax, &[scores])?;
    if let Some(bias) = bias {
        // A query that may read nothing has no probabilities.
        let axes = (0..one_dims(&bias)?.len()).rev().map(|from_end| from_end == 0).collect();
        let most =
            importer.emit(call, TensorOp::Reduce { kind: Reduction::Max, axes, keep: true }, &[bias])?;
        let infinite = TensorOp::Map(Unary::IsInf { negative: true, positive: false });
        let nothing = importer.emit(call, infinite, &[most])?;
        result = importer.emit(call, TensorOp::Where, &[nothing, number(0.0), result])?;
    }
    stages.push(result.clone());
    let mode = call.int("qk_matmul_output_mode")?.unwrap_or(0);
    let shown = usize::try_from(mode).ok().and_then(|mode| stages.into_iter().nth(mode));
    match shown {
        Some(shown) => Ok((result, shown)),
        None => wrong(format!("expected 0 to 3 as qk_matmul_output_mode, got {mode}")),
    }
}

/// What is added to the scores of `[queries, keys]`: 0, or minus infinity where a query may not read a key.
fn bias<'a>(
    importer: &mut Importer<'a>,
    call: &Call<'a>,
    [queries, keys]: [usize; 2],
    past: usize,
) -> Outcome<Option<Value>> {
    let mut bias = match call.input(3).cloned() {
        Some(mask) => Some(mask_bias(importer, call, mask, keys)?),
        None => None,
    };
    let window = |name: &str| -> Outcome<Option<i64>> {
        Ok(call.int(name)?.filter(|&size| size >= 0).map(|size| size.min(1 << 32)))
    };
    // The key of a query's own place is `past` places to the right.
    let past = past as i64;
    let causal = call.flag("is_causal")?.then_some(past);
    let right = window("right_window_size")?.map(|size| past + size);
    let left = window("left_window_size")?.map(|size| past - size);
    let ends = causal.into_iter().chain(right).min();
    let triangles = ends.map(|end| (false, end)).into_iter().chain(left.map(|start| (true, start)));
    for (upper, diagonal) in triangles {
        let ones = Constant { dims: vec![queries, keys], kind: Kind::Float, data: Data::Fill(1.0) };
        let allowed = importer.emit(call, TensorOp::Trilu { upper, diagonal }, &[Value::Constant(ones)])?;
        let part = importer.emit(call, TensorOp::Where, &[allowed, number(0.0), number(MINUS_INFINITY)])?;
        bias = Some(match bias {
            Some(bias) => importer.emit(call, TensorOp::Zip(Binary::Add), &[bias, part])?,
            None => part,
        });
    }
    Ok(bias)
}

/// A mask as numbers, with all keys. Keys behind its last one may not be read.
fn mask_bias<'a>(importer: &mut Importer<'a>, call: &Call<'a>, mask: Value, keys: usize) -> Outcome<Value> {
    let dims = one_dims(&mask)?;
    let bias = match mask.kind() {
        Kind::Truth => importer.emit(call, TensorOp::Where, &[mask, number(0.0), number(MINUS_INFINITY)])?,
        _ => mask,
    };
    match dims.last() {
        Some(&given) if given < keys => {
            let mut axes = vec![Pick::All; dims.len()];
            axes[dims.len() - 1] =
                Pick::Index((0..keys).map(|key| Some(key).filter(|&key| key < given)).collect());
            importer.emit(call, TensorOp::Pick { axes, fill: f32::NEG_INFINITY }, &[bias])
        }
        Some(_) => Ok(bias),
        None => wrong("expected a mask with at least one axis"),
    }
}
