//! The output extents of operators that are not computed, where they are those of the inputs. Operators not listed here have
//! unknown extents.

use super::array::broadcast;
use super::node::{Call, Outcome, Trouble};
use super::value::{Value, checked_len};

/// Operators whose first output has the extents of the first input.
const KEEPING: &str = "\
    BatchNormalization Bernoulli BitwiseNot CastLike Cast DequantizeLinear Dropout QuantizeLinear \
    RandomNormalLike RandomUniformLike ReverseSequence";

/// Operators that broadcast their inputs to each other.
const BROADCASTING: &str = "\
    BitShift BitwiseAnd BitwiseOr BitwiseXor";

/// The extents of output `index` of a node; `None` if they are unknown.
pub(super) fn of(call: &Call<'_>, index: usize) -> Outcome<Option<Vec<usize>>> {
    let standard = matches!(call.def.domain.as_str(), "" | "ai.onnx");
    let first = call.input(0).and_then(Value::dims);
    let dims = match first.filter(|_| standard) {
        None => None,
        Some(first) => match told(call, first, index) {
            Err(Trouble::Unsupported(_)) => None,
            told => told?,
        },
    };
    Ok(dims.filter(|dims| checked_len(dims).is_some_and(|len| len > 0)))
}

fn told(call: &Call<'_>, dims: &[usize], index: usize) -> Outcome<Option<Vec<usize>>> {
    let op = call.def.op.as_str();
    Ok(match op {
        _ if index > 0 => None,
        op if lists(KEEPING, op) => Some(dims.to_vec()),
        op if lists(BROADCASTING, op) => broadcasted(call)?,
        _ => None,
    })
}

fn lists(names: &str, op: &str) -> bool {
    names.split_whitespace().any(|name| name == op)
}

/// The broadcast extents of the inputs; `None` if the extents of an input are unknown. Up to opset 6 the
/// result has the extents of the first operand.
fn broadcasted(call: &Call<'_>) -> Outcome<Option<Vec<usize>>> {
    let shapes: Option<Vec<&[usize]>> = call.inputs.iter().flatten().map(Value::dims).collect();
    match shapes {
        Some(shapes) if call.opset < 7 => Ok(shapes.first().map(|dims| dims.to_vec())),
        Some(shapes) => broadcast(&shapes).map(Some),
        None => Ok(None),
    }
}
