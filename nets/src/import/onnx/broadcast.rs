//! Broadcasting of constants over activations: by position, as each opset defines it, and never by the number
//! of elements.

use super::node::{Call, Outcome, unsupported};
use super::value::Constant;

/// `constant` as one number per channel (axis 1) of a tensor of extents `dims`, or as one number for all channels.
/// Extents are aligned at the last axis as in NumPy, or up to opset 6 as the attributes `broadcast` and `axis` say.
pub(super) fn per_channel(call: &Call<'_>, dims: &[usize], constant: &Constant) -> Outcome<Constant> {
    let laid = second_operand(call, dims, &constant.dims)?;
    let (rank, channels) = (laid.len(), dims.get(1).copied());
    let axis = |from_end: usize| (dims.len() - 1).checked_sub(from_end);
    let fits =
        rank <= dims.len()
            && laid.iter().rev().enumerate().all(|(from_end, &extent)| {
                extent == 1 || axis(from_end) == Some(1) && Some(extent) == channels
            });
    match (fits, constant.len()) {
        (true, 1) => Ok(constant.reshaped(Vec::new())),
        (true, len) => Ok(constant.reshaped(vec![len])),
        (false, _) => unsupported(format!(
            "opset {}: expected a constant that has one number, or one for each channel (axis 1) of {dims:?}, got {:?}",
            call.opset, constant.dims
        )),
    }
}

/// The extents with which the second operand of a node is broadcast to `first`. Up to opset 6 they begin at
/// the attribute `axis`, and broadcasting happens only if the attribute `broadcast` is set.
pub(super) fn second_operand(call: &Call<'_>, first: &[usize], second: &[usize]) -> Outcome<Vec<usize>> {
    let legacy = ["Add", "Sub", "Mul", "Div", "Pow", "Gemm", "And", "Or", "Xor", "Equal", "Less", "Greater"];
    if call.opset >= 7 || !legacy.contains(&call.def.op.as_str()) || first == second {
        return Ok(second.to_vec());
    }
    let opset = call.opset;
    if !call.flag("broadcast")? {
        return unsupported(format!(
            "opset {opset}: expected a second operand of {first:?} (`broadcast` is 0), got {second:?}"
        ));
    }
    if second.iter().product::<usize>() == 1 {
        return Ok(Vec::new());
    }
    let last = first.len().checked_sub(second.len());
    let axis = call.int("axis")?.map_or(last, |axis| usize::try_from(axis).ok());
    match axis.filter(|&axis| last.is_some_and(|last| axis <= last)) {
        Some(axis) => {
            let after = first.len() - axis - second.len();
            Ok([&vec![1; axis], second, &vec![1; after]].concat())
        }
        None => unsupported(format!(
            "opset {opset}: expected a second operand that lies within {first:?} from `axis` on, got {second:?}"
        )),
    }
}
