//! Operators that move no number, or none that matters, and the extents of those that are not known.

use super::super::array::broadcast;
use super::super::dims::{new_dims, permutation, slice_ranges};
use super::super::importer::Importer;
use super::super::node::{Call, Outcome, axis, unsupported, wrong};
use super::super::value::{MAX_RANK, Tap, Value};
use super::spatial;
use crate::layer::Layer;

pub(super) fn reshape(importer: &mut Importer<'_>, call: &Call<'_>) -> Outcome<Tap> {
    let tap = call.tap(0)?;
    let dims = new_dims(call, &tap.dims)?;
    importer.view(call, tap, dims)
}

/// Where only extents of one change places nothing moves.
pub(super) fn transpose(importer: &mut Importer<'_>, call: &Call<'_>) -> Outcome<Tap> {
    let tap = call.tap(0)?;
    let order = permutation(call, tap.dims.len())?;
    let moved: Vec<usize> = order.iter().copied().filter(|&axis| tap.dims[axis] != 1).collect();
    if !moved.is_sorted() {
        return unsupported(format!("an order of axes {order:?}"));
    }
    importer.view(call, tap, order.iter().map(|&axis| tap.dims[axis]).collect())
}

/// A slice of everything.
pub(super) fn slice(_: &mut Importer<'_>, call: &Call<'_>) -> Outcome<Tap> {
    let tap = call.tap(0)?;
    let ranges = slice_ranges(call, &tap.dims)?;
    let all = ranges.iter().zip(&tap.dims).all(|(&range, &dim)| range == (0, 1, dim));
    if all { Ok(tap.clone()) } else { unsupported("a part of the image") }
}

pub(super) fn dropout(importer: &mut Importer<'_>, call: &Call<'_>) -> Outcome<Tap> {
    importer.only_first(call, "the mask")?;
    importer.same(call, Layer::Dropout, call.tap(0)?)
}

/// Zeros around the image. The numbers come as an attribute until opset 10, as an input since, for some axes since 18.
pub(super) fn pad(importer: &mut Importer<'_>, call: &Call<'_>) -> Outcome<Tap> {
    let tap = importer.image(call, 0)?;
    let rank = tap.dims.len();
    let Some(given) = call.ints_or_input("pads", 1)? else { return wrong("expected pads, got none") };
    let axes = call.numbers(3)?.map(|axes| axes.iter().map(|&along| along as i64).collect::<Vec<_>>());
    let axes = axes.unwrap_or_else(|| (0..rank as i64).collect());
    if given.len() != 2 * axes.len() {
        return wrong(format!("expected {} pads, got {}", 2 * axes.len(), given.len()));
    }
    let mut pads = vec![(0, 0); rank];
    for (index, &along) in axes.iter().enumerate() {
        pads[axis(along, rank)?] = (given[index], given[index + axes.len()]);
    }
    if pads.iter().all(|&pad| pad == (0, 0)) {
        return Ok(tap.clone());
    }
    let value = call.numbers(2)?.map_or(0.0, |value| value.first().copied().unwrap_or(0.0));
    let constant = matches!(call.text("mode")?, None | Some("constant"));
    if !constant || value != 0.0 || call.float("value", 0.0)? != 0.0 || !matches!(rank, 3 | 4) {
        return unsupported("padding with anything but zeros");
    }
    let good = |&(before, after): &(i64, i64)| usize::try_from(before).ok().zip(usize::try_from(after).ok());
    match pads[2..].iter().map(good).collect::<Option<Vec<_>>>() {
        Some(image) if pads[..2] == [(0, 0); 2] => {
            importer.layer(call, Layer::Pad(spatial::pad2(&image)), &[tap], &[])
        }
        _ => unsupported(format!("padding by {pads:?}")),
    }
}

/// The extents that an operator without a layer gives, where they can be told.
pub(in super::super) fn guess(call: &Call<'_>) -> Outcome<Option<Vec<usize>>> {
    let Some(Value::Tap(Tap { dims, .. })) = call.input(0) else { return Ok(None) };
    let rank = dims.len();
    Ok(match call.def.op.as_str() {
        "Transpose" => Some(permutation(call, rank)?.into_iter().map(|axis| dims[axis]).collect()),
        "Slice" => Some(slice_ranges(call, dims)?.into_iter().map(|(_, _, count)| count).collect()),
        "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Min" | "Max" => {
            let shape = |value: &Value| match value {
                Value::Tap(tap) => tap.dims.clone(),
                Value::Constant(constant) => constant.dims.clone(),
            };
            let shapes: Vec<Vec<usize>> = call.inputs.iter().flatten().map(shape).collect();
            Some(broadcast(&shapes.iter().map(Vec::as_slice).collect::<Vec<_>>())?)
        }
        "MatMul" => product(call, dims),
        "Split" => Some(part(call, dims)?),
        op if op.starts_with("Reduce") => Some(reduced(call, dims)?),
        _ => None,
    })
}

fn product(call: &Call<'_>, dims: &[usize]) -> Option<Vec<usize>> {
    let Some(Value::Constant(matrix)) = call.input(1) else { return None };
    let (&[inputs, outputs], Some((&last, first))) = (matrix.dims.as_slice(), dims.split_last()) else {
        return None;
    };
    (last == inputs).then(|| first.iter().copied().chain([outputs]).collect())
}

/// Equal parts of one axis.
fn part(call: &Call<'_>, dims: &[usize]) -> Outcome<Vec<usize>> {
    let along = axis(call.int("axis")?.unwrap_or(0), dims.len())?;
    let mut dims = dims.to_vec();
    dims[along] = dims[along].div_ceil(call.def.outputs.len().max(1));
    Ok(dims)
}

fn reduced(call: &Call<'_>, dims: &[usize]) -> Outcome<Vec<usize>> {
    let keep = call.int("keepdims")?.unwrap_or(1) != 0;
    let mut gone = vec![false; dims.len()];
    match call.ints_or_input("axes", 1)? {
        None => gone.fill(true),
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
