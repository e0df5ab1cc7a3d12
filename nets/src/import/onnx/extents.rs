//! The output extents of operators that have no layer, where they can be inferred. Operators not listed here
//! have unknown extents.

use super::array::broadcast;
use super::dims::{permutation, positive, slice_ranges};
use super::node::{Call, Outcome, Trouble, axis, wrong};
use super::proto::AttributeValue;
use super::value::{MAX_RANK, Value, checked_len};
use std::sync::Arc;

/// Operators whose first output has the extents of the first input.
const KEEPING: &str = "\
    Abs Acos Acosh Asin Asinh Atan Atanh BatchNormalization Bernoulli Cast CastLike Ceil Celu Clip Cos \
    Cosh CumSum DequantizeLinear Dropout Elu Erf Exp Floor Gelu GroupNormalization HardSigmoid HardSwish \
    Hardmax Identity InstanceNormalization IsInf IsNaN LRN LayerNormalization LeakyRelu Log LogSoftmax \
    LpNormalization MeanVarianceNormalization Mish Neg Not PRelu QuantizeLinear RMSNormalization \
    Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softmax Softplus Softsign Sqrt Swish Tan \
    Tanh ThresholdedRelu Trilu";

/// Operators that broadcast their inputs to each other.
const BROADCASTING: &str = "\
    Add And BitShift BitwiseAnd BitwiseOr BitwiseXor Div Equal Greater GreaterOrEqual Less LessOrEqual \
    Max Mean Min Mod Mul Or Pow Sub Sum Where Xor";

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
        "Split" => part(call, dims, index)?,
        _ if index > 0 => None,
        op if lists(KEEPING, op) => Some(dims.to_vec()),
        op if lists(BROADCASTING, op) => broadcasted(call)?,
        "Transpose" => Some(permutation(call, dims.len())?.into_iter().map(|axis| dims[axis]).collect()),
        "Slice" => Some(slice_ranges(call, dims)?.into_iter().map(|(_, _, count)| count).collect()),
        "Concat" => concatenated(call)?,
        "MatMul" => second(call).and_then(|second| product(dims, second)),
        "Gemm" => gemm(call, dims)?,
        "Gather" => gathered(call, dims)?,
        "Pad" => padded(call, dims)?,
        "Tile" => {
            let repeats = call.numbers(1)?.map(|repeats| positive(&repeats)).transpose()?;
            repeats.filter(|repeats| repeats.len() == dims.len()).and_then(|repeats| times(dims, &repeats))
        }
        "Expand" => match call.numbers(1)? {
            Some(shape) => Some(broadcast(&[dims, &positive(&shape)?])?),
            None => None,
        },
        "DepthToSpace" | "SpaceToDepth" => blocks(call, dims)?,
        "Upsample" | "Resize" => resized(call, dims)?,
        op if op.starts_with("Reduce") => Some(reduced(call, dims)?),
        _ => None,
    })
}

fn lists(names: &str, op: &str) -> bool {
    names.split_whitespace().any(|name| name == op)
}

fn second<'a>(call: &'a Call<'_>) -> Option<&'a [usize]> {
    call.input(1).and_then(Value::dims)
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

fn concatenated(call: &Call<'_>) -> Outcome<Option<Vec<usize>>> {
    let shapes: Option<Vec<&[usize]>> = call.inputs.iter().flatten().map(Value::dims).collect();
    let Some((first, rest)) = shapes.as_ref().and_then(|shapes| shapes.split_first()) else {
        return Ok(None);
    };
    let along = axis(call.int("axis")?.unwrap_or(1), first.len())?;
    let mut dims = first.to_vec();
    for other in rest {
        let same = |(index, (a, b)): (usize, (&usize, &usize))| index == along || a == b;
        if other.len() != dims.len() || !dims.iter().zip(*other).enumerate().all(same) {
            return wrong(format!(
                "expected inputs that differ on axis {along} alone, got {first:?} and {other:?}"
            ));
        }
        dims[along] = dims[along].saturating_add(other[along]);
    }
    Ok(Some(dims))
}

/// The extents of a matrix product. The axes before the last two are broadcast.
fn product(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let ([a_first @ .., rows, inner], [b_first @ .., inner_b, columns]) = (a, b) else { return None };
    let mut dims = broadcast(&[a_first, b_first]).ok().filter(|_| inner == inner_b)?;
    dims.extend([rows, columns]);
    Some(dims)
}

fn gemm(call: &Call<'_>, dims: &[usize]) -> Outcome<Option<Vec<usize>>> {
    let (&[a, b], Some(&[c, d])) = (dims, second(call)) else { return Ok(None) };
    let rows = if call.flag("transA")? { b } else { a };
    Ok(Some(vec![rows, if call.flag("transB")? { c } else { d }]))
}

fn gathered(call: &Call<'_>, dims: &[usize]) -> Outcome<Option<Vec<usize>>> {
    let along = axis(call.int("axis")?.unwrap_or(0), dims.len())?;
    Ok(second(call).map(|indices| [&dims[..along], indices, &dims[along + 1..]].concat()))
}

/// The extents after padding every axis, or since opset 18 the given axes. Negative padding crops.
fn padded(call: &Call<'_>, dims: &[usize]) -> Outcome<Option<Vec<usize>>> {
    let Some(pads) = call.ints_or_input("pads", 1)? else { return Ok(None) };
    let axes = call.numbers(3)?.map(|axes| axes.iter().map(|&along| along as i64).collect::<Vec<_>>());
    let axes = axes.unwrap_or_else(|| (0..dims.len() as i64).collect());
    if pads.len() != 2 * axes.len() {
        return wrong(format!("expected {} pads, got {}", 2 * axes.len(), pads.len()));
    }
    let mut result = dims.to_vec();
    for (index, along) in axes.iter().enumerate() {
        let extent = &mut result[axis(*along, dims.len())?];
        let sum =
            [pads[index], pads[index + axes.len()]].into_iter().try_fold(*extent as i64, i64::checked_add);
        let Some(sum) = sum.and_then(|sum| usize::try_from(sum).ok()) else { return Ok(None) };
        *extent = sum;
    }
    Ok(Some(result))
}

fn times(dims: &[usize], factors: &[usize]) -> Option<Vec<usize>> {
    dims.iter().zip(factors).map(|(&dim, &factor)| dim.checked_mul(factor)).collect()
}

/// The extents after `DepthToSpace` or `SpaceToDepth`.
fn blocks(call: &Call<'_>, dims: &[usize]) -> Outcome<Option<Vec<usize>>> {
    let (&[n, c, h, w], Some(size @ 1..=4096)) = (dims, call.int("blocksize")?) else { return Ok(None) };
    let side = size as usize;
    Ok(match call.def.op.as_str() {
        "DepthToSpace" if c.is_multiple_of(side * side) => {
            times(&[n, c / (side * side), h, w], &[1, 1, side, side])
        }
        "SpaceToDepth" if h.is_multiple_of(side) && w.is_multiple_of(side) => {
            times(&[n, c, h / side, w / side], &[1, side * side, 1, 1])
        }
        _ => None,
    })
}

/// The extents after resizing by factors or to given extents. They are an attribute up to opset 8 and an
/// input since. Since opset 11, `Resize` has a region as an input before them.
fn resized(call: &Call<'_>, dims: &[usize]) -> Outcome<Option<Vec<usize>>> {
    let plain = ["axes", "keep_aspect_ratio_policy"].iter().all(|name| !call.has(name));
    // In this mode the factors apply to a region.
    if !plain || matches!(call.text("coordinate_transformation_mode")?, Some("tf_crop_and_resize")) {
        return Ok(None);
    }
    let at = if call.def.op == "Resize" && call.opset >= 11 { 2 } else { 1 };
    let sizes = if at == 2 { call.numbers(3)? } else { None };
    if let Some(sizes) = sizes.filter(|sizes| sizes.len() == dims.len()) {
        return positive(&sizes).map(Some);
    }
    let scales: Option<Arc<[f64]>> = match call.any(&["scales"]) {
        Some(AttributeValue::Floats(scales)) => Some(scales.iter().map(|&scale| scale.into()).collect()),
        _ => call.numbers(at)?,
    };
    let Some(scales) = scales.filter(|scales| scales.len() == dims.len()) else { return Ok(None) };
    // ONNX defines the product in single precision.
    let scaled = |(&dim, &scale): (&usize, &f64)| f64::from((dim as f32 * scale as f32).floor());
    positive(&dims.iter().zip(scales.iter()).map(scaled).collect::<Vec<_>>()).map(Some)
}

/// The extents of part `index` of a split axis: its given length, or else equal parts except the last.
fn part(call: &Call<'_>, dims: &[usize], index: usize) -> Outcome<Option<Vec<usize>>> {
    let along = axis(call.int("axis")?.unwrap_or(0), dims.len())?;
    let mut dims = dims.to_vec();
    let extent = dims[along];
    dims[along] = match call.ints_or_input("split", 1)? {
        Some(parts) => match parts.get(index).and_then(|&part| usize::try_from(part).ok()) {
            Some(part) => part,
            None => return Ok(None),
        },
        None => {
            let count = call.def.outputs.len().max(1);
            let even = extent.div_ceil(count);
            even.min(extent.saturating_sub(even.saturating_mul(index)))
        }
    };
    Ok(Some(dims))
}

fn reduced(call: &Call<'_>, dims: &[usize]) -> Outcome<Vec<usize>> {
    let keep = call.int("keepdims")?.unwrap_or(1) != 0;
    let mut gone = vec![false; dims.len()];
    match call.ints_or_input("axes", 1)?.filter(|axes| !axes.is_empty()) {
        None => gone.fill(!call.flag("noop_with_empty_axes")?),
        Some(axes) if axes.len() <= MAX_RANK => {
            for along in axes {
                gone[axis(along, dims.len())?] = true;
            }
        }
        Some(axes) => return wrong(format!("expected at most {MAX_RANK} axes, got {}", axes.len())),
    }
    let extents = dims.iter().zip(gone).filter(|&(_, gone)| keep || !gone);
    Ok(extents.map(|(&dim, gone)| if gone { 1 } else { dim }).collect())
}
