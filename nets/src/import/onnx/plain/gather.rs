//! Operators that read or write the places that indices name.

use super::super::importer::Importer;
use super::super::node::{Call, Outcome, axis, unsupported, wrong};
use super::super::value::{Constant, Data, Kind, Value};
use super::dims_of;
use crate::layer::{Binary, Scatter, TensorOp};

/// The result of a node of this family; `None` for another node.
pub(super) fn import<'a>(importer: &mut Importer<'a>, call: &Call<'a>) -> Outcome<Option<Value>> {
    let op = match call.def.op.as_str() {
        "Gather" => TensorOp::Gather { axis: along(call, 0)? },
        "GatherElements" => TensorOp::GatherElements { axis: along(call, 0)? },
        "GatherND" => {
            let batch_dims = usize::try_from(call.int("batch_dims")?.unwrap_or(0)).unwrap_or(usize::MAX);
            if batch_dims >= dims_of(call, 0)?.len() {
                return wrong(format!("expected `batch_dims` below the axes of the data, got {batch_dims}"));
            }
            TensorOp::GatherNd { batch_dims }
        }
        "ScatterElements" | "Scatter" => TensorOp::ScatterElements { axis: along(call, 0)?, how: how(call)? },
        "ScatterND" => TensorOp::ScatterNd { how: how(call)? },
        "OneHot" => return one_hot(importer, call).map(Some),
        _ => return Ok(None),
    };
    let operands: Vec<Value> = call.inputs.iter().flatten().cloned().collect();
    match operands.get(1) {
        Some(indices) if indices.kind() == Kind::Whole => check(call, &op, &operands)?,
        _ => return wrong("expected integers as indices, got something else"),
    }
    importer.emit(call, op, &operands).map(Some)
}

fn along(call: &Call<'_>, default: i64) -> Outcome<usize> {
    axis(call.int("axis")?.unwrap_or(default), dims_of(call, 0)?.len())
}

fn how(call: &Call<'_>) -> Outcome<Scatter> {
    Ok(match call.text("reduction")? {
        None | Some("none") => Scatter::Replace,
        Some("add") => Scatter::With(Binary::Add),
        Some("mul") => Scatter::With(Binary::Mul),
        Some("max") => Scatter::With(Binary::Max),
        Some("min") => Scatter::With(Binary::Min),
        Some(other) => {
            return wrong(format!("expected none, add, mul, max or min as reduction, got `{other}`"));
        }
    })
}

/// Checks the extents that the operator's loops rely on. Indices that are known must lie on their axes.
fn check(call: &Call<'_>, op: &TensorOp, operands: &[Value]) -> Outcome<()> {
    let dims = super::operand_dims(operands)?;
    let (data, indices) = (&dims[0], &dims[1]);
    // An index beyond 2^24 is not exact in f32.
    if data.iter().any(|&dim| dim > 1 << 24) {
        return unsupported(format!("indices of an axis in {data:?}"));
    }
    let outside = |axis: Option<usize>| match axis {
        Some(along) => {
            let rest = |dims: &[usize]| [&dims[..along], &dims[along + 1..]].concat();
            indices.len() != data.len() || rest(indices).iter().zip(rest(data)).any(|(&i, d)| i > d)
        }
        None => false,
    };
    let fits = match op {
        TensorOp::GatherElements { axis } => !outside(Some(*axis)),
        TensorOp::ScatterElements { axis, .. } => !outside(Some(*axis)) && dims.get(2) == Some(indices),
        TensorOp::ScatterNd { .. } => {
            let depth = indices.last().copied().unwrap_or(usize::MAX);
            depth <= data.len()
                && dims.get(2).is_some_and(|updates| {
                    *updates == [&indices[..indices.len() - 1], &data[depth..]].concat()
                })
        }
        _ => true,
    };
    if !fits {
        return wrong(format!("expected indices and updates that fit {data:?}, got {:?}", &dims[1..]));
    }
    let extent = match op {
        TensorOp::Gather { axis }
        | TensorOp::GatherElements { axis }
        | TensorOp::ScatterElements { axis, .. } => data[*axis] as f64,
        _ => return Ok(()),
    };
    if let Value::Constant(constant) = &operands[1]
        && let Some(values) = constant.small(call.source)?
        && let Some(bad) = values.iter().find(|&&value| value < -extent || value >= extent)
    {
        return wrong(format!("expected indices from -{extent} to below {extent}, got {bad}"));
    }
    Ok(())
}

fn one_hot<'a>(importer: &mut Importer<'a>, call: &Call<'a>) -> Outcome<Value> {
    let indices = call.value(0)?.clone();
    let rank = dims_of(call, 0)?.len() + 1;
    let along = axis(call.int("axis")?.unwrap_or(-1), rank)?;
    let Some(depth) = call.numbers(1)?.and_then(|depth| depth.first().map(|&depth| depth as usize)) else {
        return wrong("expected a depth, got none");
    };
    if depth == 0 || depth > 1 << 24 {
        return unsupported(format!("a depth of {depth}"));
    }
    let Value::Constant(values) = call.value(2)?.clone() else {
        return unsupported("values that are computed");
    };
    let kind = values.kind;
    let whole = match indices.kind() {
        Kind::Float => importer.emit(call, TensorOp::Map(crate::layer::Unary::Trunc), &[indices])?,
        _ => indices,
    };
    let values = match values.small(call.source)? {
        Some(numbers) if numbers.len() == 2 => Constant { dims: vec![2], kind, data: Data::Small(numbers) },
        _ => return wrong("expected two values, off and on"),
    };
    importer.emit(call, TensorOp::OneHot { axis: along, depth }, &[whole, Value::Constant(values)])
}
