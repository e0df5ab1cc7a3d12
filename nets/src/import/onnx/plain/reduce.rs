//! Reductions, softmax and orders along axes.

use super::super::importer::Importer;
use super::super::node::{Call, Outcome, axis, unsupported, wrong};
use super::super::value::{Kind, Value};
use super::{NOT_KNOWN, Results, dims_of, unread};
use crate::layer::{Reduction, SoftKind, TensorOp};

pub(super) fn reduce<'a>(importer: &mut Importer<'a>, call: &Call<'a>) -> Outcome<Value> {
    let kind = match call.def.op.as_str() {
        "ReduceSum" => Reduction::Sum,
        "ReduceMean" => Reduction::Mean,
        "ReduceMax" => Reduction::Max,
        "ReduceMin" => Reduction::Min,
        "ReduceProd" => Reduction::Prod,
        "ReduceL1" => Reduction::L1,
        "ReduceL2" => Reduction::L2,
        "ReduceLogSum" => Reduction::LogSum,
        "ReduceLogSumExp" => Reduction::LogSumExp,
        "ReduceSumSquare" => Reduction::SumSquare,
        _ => return unsupported(NOT_KNOWN),
    };
    let dims = dims_of(call, 0)?;
    let value = call.value(0)?.clone();
    let keep = call.int("keepdims")?.unwrap_or(1) != 0;
    let axes = match call.ints_or_input("axes", 1)?.filter(|axes| !axes.is_empty()) {
        Some(axes) => marked(&axes, dims.len())?,
        None if call.flag("noop_with_empty_axes")? => return Ok(value),
        None => vec![true; dims.len()],
    };
    importer.emit(call, TensorOp::Reduce { kind, axes, keep }, &[value])
}

/// Which of `rank` axes are in a list.
pub(super) fn marked(axes: &[i64], rank: usize) -> Outcome<Vec<bool>> {
    let mut marked = vec![false; rank];
    for &along in axes {
        marked[axis(along, rank)?] = true;
    }
    Ok(marked)
}

/// Up to opset 12 over all axes from `axis` on together, and since then over one.
pub(super) fn softmax<'a>(importer: &mut Importer<'a>, call: &Call<'a>) -> Outcome<Value> {
    let rank = dims_of(call, 0)?.len();
    let default = if call.opset < 13 { 1 } else { -1 };
    let along = axis(call.int("axis")?.unwrap_or(default), rank)?;
    let kind = match call.def.op.as_str() {
        "Softmax" => SoftKind::Soft,
        "LogSoftmax" => SoftKind::Log,
        _ => SoftKind::Hard,
    };
    let end = if call.opset < 13 { rank } else { along + 1 };
    importer.emit(call, TensorOp::Softmax { kind, first: along, end }, &[call.value(0)?.clone()])
}

pub(super) fn arg_extreme<'a>(importer: &mut Importer<'a>, call: &Call<'a>) -> Outcome<Value> {
    let dims = dims_of(call, 0)?;
    let axis = axis(call.int("axis")?.unwrap_or(0), dims.len())?;
    if dims[axis] > 1 << 24 {
        return unsupported(format!("the indices of {} elements", dims[axis]));
    }
    let (max, last) = (call.def.op == "ArgMax", call.flag("select_last_index")?);
    let keep = call.int("keepdims")?.unwrap_or(1) != 0;
    importer.emit(call, TensorOp::ArgExtreme { max, axis, keep, last }, &[call.value(0)?.clone()])
}

pub(super) fn cum_sum<'a>(importer: &mut Importer<'a>, call: &Call<'a>) -> Outcome<Value> {
    let rank = dims_of(call, 0)?.len();
    let Some(along) = call.numbers(1)?.and_then(|along| along.first().copied()) else {
        return wrong("expected an axis, got none");
    };
    let axis = axis(along as i64, rank)?;
    let (exclusive, reverse) = (call.flag("exclusive")?, call.flag("reverse")?);
    importer.emit(call, TensorOp::CumSum { axis, exclusive, reverse }, &[call.value(0)?.clone()])
}

pub(super) fn top_k<'a>(importer: &mut Importer<'a>, call: &Call<'a>) -> Outcome<Results> {
    let dims = dims_of(call, 0)?;
    let axis = axis(call.int("axis")?.unwrap_or(-1), dims.len())?;
    let count = match call.int("k")? {
        Some(count) => Some(count as f64),
        None => call.numbers(1)?.and_then(|count| count.first().copied()),
    };
    let Some(count) = count.filter(|&count| count >= 1.0 && count <= dims[axis] as f64) else {
        return wrong(format!("expected from 1 to {} elements, got {count:?}", dims[axis]));
    };
    let (count, largest) = (count as usize, call.int("largest")?.unwrap_or(1) != 0);
    let value = call.value(0)?.clone();
    if value.kind() != Kind::Float && count > 0 && dims[axis] > 1 << 24 {
        return unsupported("so many elements");
    }
    let mut part = |output| match importer.reads(call, output) {
        true => {
            let op = TensorOp::TopK { axis, count, largest, indices: output == 1 };
            importer.emit(call, op, std::slice::from_ref(&value))
        }
        false => Ok(unread()),
    };
    Ok(vec![part(0)?, part(1)?])
}
