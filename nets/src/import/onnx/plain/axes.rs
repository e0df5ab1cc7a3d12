//! Operators that move, select or join elements along axes.

use super::super::dims::{new_dims, permutation, positive, slice_ranges};
use super::super::importer::Importer;
use super::super::node::{Call, Outcome, axis, unsupported, wrong};
use super::super::value::{Constant, Data, Kind, Value};
use super::{Results, dims_of};
use crate::layer::{Pick, TensorOp, broadcast};

/// The results of a node of this family; `None` for another node.
pub(super) fn import<'a>(importer: &mut Importer<'a>, call: &Call<'a>) -> Outcome<Option<Results>> {
    let one = |value: Outcome<Value>| value.map(|value| Some(vec![value]));
    match call.def.op.as_str() {
        "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" => {
            let dims = new_dims(call, &dims_of(call, 0)?)?;
            one(importer.reshaped(call, &call.value(0)?.clone(), dims))
        }
        "Transpose" => {
            let order = permutation(call, dims_of(call, 0)?.len())?;
            one(permuted(importer, call, call.value(0)?.clone(), order))
        }
        "Slice" => one(slice(importer, call)),
        "Split" => split(importer, call).map(Some),
        "Concat" => {
            let operands: Vec<Value> = call.inputs.iter().flatten().cloned().collect();
            let rank = dims_of(call, 0)?.len();
            let along = axis(call.int("axis")?.unwrap_or(1), rank)?;
            match operands.as_slice() {
                [only] => Ok(Some(vec![only.clone()])),
                _ => one(importer.emit(call, TensorOp::Concat { axis: along }, &operands)),
            }
        }
        "Expand" => {
            let Some(shape) = call.numbers(1)? else { return wrong("expected a shape, got none") };
            let dims = broadcast(&[dims_of(call, 0)?, positive(&shape)?]);
            let dims = dims.map_err(|problem| super::super::node::Trouble::Wrong(problem.to_string()))?;
            one(importer.emit_as(call, TensorOp::Expand, &[call.value(0)?.clone()], dims))
        }
        "Tile" => one(tile(importer, call)),
        "Pad" => one(pad(importer, call)),
        "CenterCropPad" => one(center(importer, call)),
        "DepthToSpace" | "SpaceToDepth" => one(blocks(importer, call)),
        "Trilu" => {
            let diagonal = call.numbers(1)?.map_or(0, |k| k.first().map_or(0, |&k| k as i64));
            let upper = call.int("upper")?.unwrap_or(1) != 0;
            if dims_of(call, 0)?.len() < 2 {
                return wrong("expected at least 2 axes");
            }
            one(importer.emit(call, TensorOp::Trilu { upper, diagonal }, &[call.value(0)?.clone()]))
        }
        _ => Ok(None),
    }
}

pub(super) fn permuted<'a>(
    importer: &mut Importer<'a>,
    call: &Call<'a>,
    value: Value,
    order: Vec<usize>,
) -> Outcome<Value> {
    if order.is_sorted() {
        return Ok(value);
    }
    importer.emit(call, TensorOp::Permute(order), &[value])
}

/// Selects along some axes.
fn pick<'a>(
    importer: &mut Importer<'a>,
    call: &Call<'a>,
    value: Value,
    axes: Vec<Pick>,
    fill: f32,
) -> Outcome<Value> {
    if axes.iter().all(|pick| *pick == Pick::All) {
        return Ok(value);
    }
    importer.emit(call, TensorOp::Pick { axes, fill }, &[value])
}

/// Maximum elements of an axis along which elements are selected one by one.
const MOST_PICKED: usize = 1 << 22;

/// The elements of an axis: `place` gives the source of each of `count`, which can be all of them in order.
fn index(extent: usize, count: usize, place: impl Fn(usize) -> Option<usize>) -> Outcome<Pick> {
    if count == extent && (0..count).all(|i| place(i) == Some(i)) {
        return Ok(Pick::All);
    }
    match count <= MOST_PICKED {
        true => Ok(Pick::Index((0..count).map(place).collect())),
        false => unsupported(format!("{count} elements of an axis, more than {MOST_PICKED}")),
    }
}

fn slice<'a>(importer: &mut Importer<'a>, call: &Call<'a>) -> Outcome<Value> {
    let dims = dims_of(call, 0)?;
    let ranges = slice_ranges(call, &dims)?;
    let picks = ranges.iter().zip(&dims).map(|(&(start, step, count), &dim)| {
        index(dim, count, |i| usize::try_from(start + i as i64 * step).ok())
    });
    let picks = picks.collect::<Outcome<_>>()?;
    pick(importer, call, call.value(0)?.clone(), picks, 0.0)
}

/// The parts of an axis: of given extents, or equal ones of which the last can be smaller.
fn split<'a>(importer: &mut Importer<'a>, call: &Call<'a>) -> Outcome<Results> {
    let dims = dims_of(call, 0)?;
    let along = axis(call.int("axis")?.unwrap_or(0), dims.len())?;
    let extent = dims[along];
    let count = match call.int("num_outputs")? {
        Some(count) => usize::try_from(count).unwrap_or(0),
        None => call.def.outputs.len(),
    };
    let parts: Vec<usize> = match call.ints_or_input("split", 1)? {
        Some(parts) => parts.iter().map(|&part| usize::try_from(part).unwrap_or(usize::MAX)).collect(),
        // More parts than elements would be empty.
        None if count > extent => return wrong(format!("expected at most {extent} parts, got {count}")),
        None => {
            let even = extent.div_ceil(count.max(1));
            (0..count).map(|part| even.min(extent.saturating_sub(even * part))).collect()
        }
    };
    let sum = parts.iter().try_fold(0usize, |sum, &part| sum.checked_add(part));
    if sum != Some(extent) || parts.len() < call.def.outputs.len() {
        return wrong(format!("expected parts that add up to {extent}, got {parts:?}"));
    }
    let (mut start, mut results) = (0, Vec::new());
    for part in parts {
        let mut picks = vec![Pick::All; dims.len()];
        picks[along] = index(extent, part, |i| Some(start + i))?;
        start += part;
        results.push(pick(importer, call, call.value(0)?.clone(), picks, 0.0)?);
    }
    Ok(results)
}

fn tile<'a>(importer: &mut Importer<'a>, call: &Call<'a>) -> Outcome<Value> {
    let dims = dims_of(call, 0)?;
    let Some(repeats) = call.numbers(1)? else { return wrong("expected repeats, got none") };
    let repeats = positive(&repeats)?;
    if repeats.len() != dims.len() {
        return wrong(format!("expected {} repeats, got {repeats:?}", dims.len()));
    }
    let total = dims
        .iter()
        .zip(&repeats)
        .try_fold(1usize, |all, (&dim, &repeat)| all.checked_mul(dim)?.checked_mul(repeat));
    if total.is_none_or(|total| total > 1 << 40) {
        return wrong("expected extents that can be addressed");
    }
    let picks = dims.iter().zip(&repeats).map(|(&dim, &repeat)| index(dim, dim * repeat, |i| Some(i % dim)));
    let picks = picks.collect::<Outcome<_>>()?;
    pick(importer, call, call.value(0)?.clone(), picks, 0.0)
}

/// Padding before and after each axis: attributes up to opset 10, inputs since, and since 18 for some axes.
fn pads(call: &Call<'_>, rank: usize) -> Outcome<Vec<(i64, i64)>> {
    let name = if call.has("paddings") { "paddings" } else { "pads" };
    let Some(given) = call.ints_or_input(name, 1)? else { return wrong("expected pads, got none") };
    let axes = call.numbers(3)?.map(|axes| axes.iter().map(|&along| along as i64).collect::<Vec<_>>());
    let axes = axes.unwrap_or_else(|| (0..rank as i64).collect());
    if given.len() != 2 * axes.len() {
        return wrong(format!("expected {} pads, got {}", 2 * axes.len(), given.len()));
    }
    let mut pads = vec![(0, 0); rank];
    for (number, &along) in axes.iter().enumerate() {
        pads[axis(along, rank)?] = (given[number], given[number + axes.len()]);
    }
    let limit = 1 << 40;
    match pads.iter().all(|&(before, after)| before.unsigned_abs() < limit && after.unsigned_abs() < limit) {
        true => Ok(pads),
        false => wrong(format!("expected pads that can be addressed, got {pads:?}")),
    }
}

fn pad<'a>(importer: &mut Importer<'a>, call: &Call<'a>) -> Outcome<Value> {
    let dims = dims_of(call, 0)?;
    let pads = pads(call, dims.len())?;
    let fill = match call.numbers(2)? {
        Some(values) => values.first().copied().unwrap_or(0.0) as f32,
        None => call.float("value", 0.0)?,
    };
    let mode = call.text("mode")?.unwrap_or("constant");
    let mut picks = Vec::new();
    for (&dim, &(before, after)) in dims.iter().zip(&pads) {
        let extent = dim as i64;
        let count = extent + before + after;
        if !(1..=1 << 32).contains(&count) {
            return unsupported(format!("padding {dim} elements by {before} and {after}"));
        }
        let place = |i: usize| -> Option<usize> {
            let at = i as i64 - before;
            let inside = (0..extent).contains(&at);
            let at = match mode {
                _ if inside => at,
                "edge" => at.clamp(0, extent - 1),
                "wrap" => at.rem_euclid(extent),
                "reflect" => {
                    let period = 2 * (extent - 1);
                    let at = at.rem_euclid(period.max(1));
                    if at < extent { at } else { period - at }
                }
                _ => return None,
            };
            usize::try_from(at).ok()
        };
        picks.push(index(dim, count as usize, place)?);
    }
    match mode {
        "constant" | "edge" | "wrap" | "reflect" => pick(importer, call, call.value(0)?.clone(), picks, fill),
        other => wrong(format!("expected constant, reflect, edge or wrap as mode, got `{other}`")),
    }
}

/// Crops or pads evenly around the centre.
fn center<'a>(importer: &mut Importer<'a>, call: &Call<'a>) -> Outcome<Value> {
    let dims = dims_of(call, 0)?;
    let Some(shape) = call.numbers(1)? else { return wrong("expected a shape, got none") };
    let shape = positive(&shape)?;
    let axes = call.ints("axes")?.map_or_else(|| (0..dims.len() as i64).collect(), <[i64]>::to_vec);
    if axes.len() != shape.len() {
        return wrong(format!("expected {} extents, got {shape:?}", axes.len()));
    }
    let mut picks = vec![Pick::All; dims.len()];
    for (&along, &target) in axes.iter().zip(&shape) {
        let along = axis(along, dims.len())?;
        let (extent, wanted) = (dims[along] as i64, target as i64);
        // The start of the crop, or minus the padding before.
        let start = if wanted < extent { (extent - wanted) / 2 } else { -((wanted - extent) / 2) };
        let place =
            |i: usize| Some(i as i64 + start).filter(|at| (0..extent).contains(at)).map(|at| at as usize);
        picks[along] = index(dims[along], target, place)?;
    }
    pick(importer, call, call.value(0)?.clone(), picks, 0.0)
}

/// Moves blocks of pixels to channels or back: a view, a permutation and another view.
fn blocks<'a>(importer: &mut Importer<'a>, call: &Call<'a>) -> Outcome<Value> {
    let dims = dims_of(call, 0)?;
    let (&[n, c, h, w], Some(size @ 1..=4096)) = (dims.as_slice(), call.int("blocksize")?) else {
        return wrong(format!("expected an image and a `blocksize` from 1, got {dims:?}"));
    };
    let b = size as usize;
    let to_space = call.def.op == "DepthToSpace";
    let fits = if to_space { c.is_multiple_of(b * b) } else { h.is_multiple_of(b) && w.is_multiple_of(b) };
    if !fits {
        return wrong(format!("expected extents that blocks of {b} divide, got {dims:?}"));
    }
    let crd = call.text("mode")? == Some("CRD");
    let (split, order, result) = match (to_space, crd) {
        (true, true) => {
            (vec![n, c / (b * b), b, b, h, w], vec![0, 1, 4, 2, 5, 3], vec![n, c / (b * b), h * b, w * b])
        }
        (true, false) => {
            (vec![n, b, b, c / (b * b), h, w], vec![0, 3, 4, 1, 5, 2], vec![n, c / (b * b), h * b, w * b])
        }
        (false, _) => (
            vec![n, c, h / b, b, w / b, b],
            if crd { vec![0, 1, 3, 5, 2, 4] } else { vec![0, 3, 5, 1, 2, 4] },
            vec![n, c * b * b, h / b, w / b],
        ),
    };
    let split = importer.reshaped(call, &call.value(0)?.clone(), split)?;
    let moved = permuted(importer, call, split, order)?;
    importer.reshaped(call, &moved, result)
}

/// A constant scalar.
pub(super) fn number(value: f64) -> Value {
    Value::Constant(Constant { dims: Vec::new(), kind: Kind::Float, data: Data::Fill(value) })
}
