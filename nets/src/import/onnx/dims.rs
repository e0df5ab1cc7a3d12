//! Operators that change the extents of tensors, for constants and activations alike.

use super::node::{Call, Outcome, axis, wrong};
use super::value::{MAX_RANK, checked_len};

/// The order of axes of a `Transpose`.
pub(super) fn permutation(call: &Call<'_>, rank: usize) -> Outcome<Vec<usize>> {
    let Some(given) = call.ints("perm")? else { return Ok((0..rank).rev().collect()) };
    let order: Option<Vec<usize>> = given.iter().map(|&axis| usize::try_from(axis).ok()).collect();
    let order = order.filter(|order| (0..rank).all(|axis| order.contains(&axis)) && order.len() == rank);
    order.map_or_else(|| wrong(format!("expected a permutation of {rank} axes as `perm`, got {given:?}")), Ok)
}

/// The start, step and count of a `Slice` on each axis.
pub(super) fn slice_ranges(call: &Call<'_>, dims: &[usize]) -> Outcome<Vec<(i64, i64, usize)>> {
    let starts = call.ints_or_input("starts", 1)?.unwrap_or_default();
    let ends = call.ints_or_input("ends", 2)?.unwrap_or_default();
    let axes = call.ints_or_input("axes", 3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = call.ints_or_input("steps", 4)?.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()].iter().any(|&len| len != starts.len()) {
        return wrong("expected as many starts as ends, axes and steps");
    }
    let mut ranges: Vec<(i64, i64, usize)> = dims.iter().map(|&dim| (0, 1, dim)).collect();
    for (((start, end), along), step) in starts.into_iter().zip(ends).zip(axes).zip(steps) {
        let along = axis(along, dims.len())?;
        let extent = dims[along] as i64;
        let from_end = |place: i64| if place < 0 { place.saturating_add(extent) } else { place };
        let (start, end) = match step {
            1.. => (from_end(start).clamp(0, extent), from_end(end).clamp(0, extent)),
            0 => return wrong("expected steps other than 0"),
            _ => (from_end(start).clamp(0, (extent - 1).max(0)), from_end(end).clamp(-1, extent)),
        };
        let distance = if step > 0 { end - start } else { start - end };
        let count =
            if extent == 0 { 0 } else { distance.max(0).unsigned_abs().div_ceil(step.unsigned_abs()) };
        ranges[along] = (start, step, count as usize);
    }
    Ok(ranges)
}

/// The new extents that `Reshape`, `Flatten`, `Squeeze` or `Unsqueeze` give to a tensor of extents `dims`.
pub(super) fn new_dims(call: &Call<'_>, dims: &[usize]) -> Outcome<Vec<usize>> {
    let result = match call.def.op.as_str() {
        "Reshape" => reshape(call, dims)?,
        "Flatten" => {
            let at = call.int("axis")?.unwrap_or(1);
            let at = if at == dims.len() as i64 { dims.len() } else { axis(at, dims.len())? };
            vec![dims[..at].iter().product(), dims[at..].iter().product()]
        }
        "Squeeze" => squeeze(call, dims)?,
        _ => unsqueeze(call, dims)?,
    };
    match (checked_len(&result), checked_len(dims)) {
        (Some(new), Some(old)) if new == old => Ok(result),
        _ => wrong(format!("expected extents with the elements of {dims:?}, got {result:?}")),
    }
}

fn reshape(call: &Call<'_>, dims: &[usize]) -> Outcome<Vec<usize>> {
    let Some(wanted) = call.ints_or_input("shape", 1)? else { return wrong("expected a shape, got none") };
    if wanted.len() > MAX_RANK {
        return wrong(format!("expected at most {MAX_RANK} extents, got {}", wanted.len()));
    }
    let keep_zeros = call.flag("allowzero")?;
    let (mut result, mut free) = (Vec::new(), None);
    for (index, &extent) in wanted.iter().enumerate() {
        result.push(match (extent, dims.get(index)) {
            (0, Some(&same)) if !keep_zeros => same,
            (-1, _) if free.is_none() => {
                free = Some(index);
                1
            }
            (0.., _) => extent as usize,
            _ => return wrong(format!("expected extents from 0 and one -1, got {wanted:?}")),
        });
    }
    if let (Some(free), Some(known), Some(all)) = (free, checked_len(&result), checked_len(dims)) {
        result[free] = all.checked_div(known).unwrap_or(0);
    }
    Ok(result)
}

fn squeeze(call: &Call<'_>, dims: &[usize]) -> Outcome<Vec<usize>> {
    let Some(given) = call.ints_or_input("axes", 1)? else {
        return Ok(dims.iter().copied().filter(|&dim| dim != 1).collect());
    };
    let mut gone = vec![false; dims.len()];
    for along in given {
        let along = axis(along, dims.len())?;
        if dims[along] != 1 {
            return wrong(format!("expected an extent of 1 at axis {along}, got {}", dims[along]));
        }
        gone[along] = true;
    }
    Ok(dims.iter().zip(gone).filter(|(_, gone)| !gone).map(|(&dim, _)| dim).collect())
}

fn unsqueeze(call: &Call<'_>, dims: &[usize]) -> Outcome<Vec<usize>> {
    let given = call.ints_or_input("axes", 1)?.unwrap_or_default();
    let rank = dims.len() + given.len();
    if rank > MAX_RANK {
        return wrong(format!("expected at most {MAX_RANK} extents, got {rank}"));
    }
    let mut new = vec![false; rank];
    for along in given {
        new[axis(along, rank)?] = true;
    }
    let mut old = dims.iter().copied();
    let extents = new.iter().map(|&new| if new { Some(1) } else { old.next() });
    extents.collect::<Option<_>>().map_or_else(|| wrong("expected axes that differ, got one twice"), Ok)
}

/// Converts numbers to extents.
pub(super) fn positive(values: &[f64]) -> Outcome<Vec<usize>> {
    let good = |&value: &f64| (0.0..=(1u64 << 40) as f64).contains(&value).then_some(value as usize);
    let dims: Option<Vec<usize>> = values.iter().map(good).collect();
    let dims = dims.filter(|dims| checked_len(dims).is_some());
    dims.map_or_else(|| wrong("expected extents that can be addressed, got others"), Ok)
}
