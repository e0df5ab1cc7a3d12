//! Operators that move elements or give them other extents.

use super::{Attr, Draw, DrawOp, Id, MOST, MOST_AXES, Value, Walk, broadcast, offset_in, strides};
use arbitrary::Result;

pub const OPS: &[(&str, DrawOp)] = &[
    ("Transpose", transpose),
    ("Reshape", reshape),
    ("Flatten", flatten),
    ("Squeeze", squeeze),
    ("Unsqueeze", unsqueeze),
    ("Slice", slice),
    ("Split", split),
    ("Concat", concat),
    ("Tile", tile),
    ("Expand", expand),
    ("Pad", pad),
    ("CenterCropPad", center),
    ("DepthToSpace", depth_to_space),
    ("SpaceToDepth", space_to_depth),
    ("Trilu", trilu),
];

/// A tensor of these extents whose elements come from places of another one, or are `fill`.
pub fn moved(
    value: &Value,
    dims: Vec<usize>,
    fill: f64,
    from: impl Fn(&[usize]) -> Option<Vec<usize>>,
) -> Value {
    let element = |place: Vec<usize>| from(&place).map_or(fill, |at| value.data[offset_in(&value.dims, &at)]);
    let data = Walk::new(&dims).map(element).collect();
    Value { exact: true, ..Value::new(dims, data) }
}

fn viewed(value: &Value, dims: Vec<usize>) -> Value {
    Value::new(dims, value.data.clone()).exact()
}

fn signed(dims: &[usize]) -> Vec<i64> {
    dims.iter().map(|&dim| dim as i64).collect()
}

/// Numbers from 0 in a random order.
fn shuffled(d: &mut Draw<'_, '_>, count: usize) -> Result<Vec<usize>> {
    let mut order: Vec<usize> = (0..count).collect();
    for last in (1..count).rev() {
        order.swap(last, d.below(last + 1)?);
    }
    Ok(order)
}

fn transpose(d: &mut Draw<'_, '_>) -> Result<()> {
    let Some(id) = d.pick(|_| true)? else { return Ok(()) };
    let value = d.value(id).clone();
    let rank = value.rank();
    let (mut order, mut attrs) = ((0..rank).rev().collect::<Vec<_>>(), Vec::new());
    if !d.once_in(4)? {
        order = shuffled(d, rank)?;
        attrs.push(("perm", Attr::Ints(signed(&order))));
    }
    let dims = order.iter().map(|&axis| value.dims[axis]).collect();
    let output = moved(&value, dims, 0.0, |place| {
        let mut at = vec![0; rank];
        order.iter().zip(place).for_each(|(&axis, &place)| at[axis] = place);
        Some(at)
    });
    d.node("Transpose", &[Some(id)], &attrs, output);
    Ok(())
}

/// Splits or joins neighbouring axes, with 0 for an extent that stays and -1 for one that is computed.
fn reshape(d: &mut Draw<'_, '_>) -> Result<()> {
    let Some(id) = d.pick(|_| true)? else { return Ok(()) };
    let value = d.value(id).clone();
    let (mut dims, mut rest) = (Vec::new(), value.len());
    while rest > 1 && dims.len() < 4 {
        let divisors: Vec<usize> = (1..=rest).filter(|&extent| rest.is_multiple_of(extent)).collect();
        let extent = *d.u.choose(&divisors)?;
        dims.push(extent);
        rest /= extent;
    }
    if rest > 1 || d.once_in(3)? {
        dims.push(rest);
    }
    let mut written = signed(&dims);
    for axis in 0..dims.len() {
        if value.dims.get(axis) == Some(&dims[axis]) && d.once_in(2)? {
            written[axis] = 0;
        }
    }
    if !dims.is_empty() && d.once_in(2)? {
        let free = d.below(dims.len())?;
        written[free] = -1;
    }
    let shape = d.ints(&written);
    let output = viewed(&value, dims);
    d.node("Reshape", &[Some(id), Some(shape)], &[], output);
    Ok(())
}

fn flatten(d: &mut Draw<'_, '_>) -> Result<()> {
    let Some(id) = d.pick(|value| value.rank() > 0)? else { return Ok(()) };
    let value = d.value(id).clone();
    let rank = value.rank();
    let (mut at, mut attrs) = (1, Vec::new());
    if !d.once_in(3)? {
        at = d.below(rank + 1)?;
        let written = if at < rank && d.once_in(2)? { at as i64 - rank as i64 } else { at as i64 };
        attrs.push(("axis", Attr::Int(written)));
    }
    let dims = vec![value.dims[..at].iter().product(), value.dims[at..].iter().product()];
    let output = viewed(&value, dims);
    d.node("Flatten", &[Some(id)], &attrs, output);
    Ok(())
}

fn squeeze(d: &mut Draw<'_, '_>) -> Result<()> {
    let Some(id) = d.pick(|value| value.dims.contains(&1))? else { return Ok(()) };
    let value = d.value(id).clone();
    let rank = value.rank();
    let mut ones: Vec<usize> = (0..rank).filter(|&axis| value.dims[axis] == 1).collect();
    let mut inputs = vec![Some(id)];
    if !d.once_in(4)? {
        ones = vec![ones[d.below(ones.len())?]];
        let written = ones[0] as i64 - if d.once_in(2)? { rank as i64 } else { 0 };
        inputs.push(Some(d.ints(&[written])));
    }
    let dims = (0..rank).filter(|axis| !ones.contains(axis)).map(|axis| value.dims[axis]).collect();
    let output = viewed(&value, dims);
    d.node("Squeeze", &inputs, &[], output);
    Ok(())
}

fn unsqueeze(d: &mut Draw<'_, '_>) -> Result<()> {
    let Some(id) = d.pick(|value| value.rank() < MOST_AXES - 1)? else { return Ok(()) };
    let value = d.value(id).clone();
    let rank = value.rank() + 1 + d.below(2)?;
    let mut new = shuffled(d, rank)?;
    new.truncate(rank - value.rank());
    let written: Vec<i64> = new.iter().map(|&axis| axis as i64).collect();
    let written =
        if d.once_in(2)? { written.iter().map(|axis| axis - rank as i64).collect() } else { written };
    let mut old = value.dims.iter();
    let dims = (0..rank).map(|axis| if new.contains(&axis) { 1 } else { *old.next().unwrap_or(&1) });
    let output = viewed(&value, dims.collect());
    let axes = d.ints(&written);
    d.node("Unsqueeze", &[Some(id), Some(axes)], &[], output);
    Ok(())
}

/// The places that a slice of one axis takes, as Python's do: a start, an end and a step, and limits beyond the axis.
fn sliced(extent: i64, (start, end, step): (i64, i64, i64)) -> Vec<usize> {
    let wrapped = |place: i64| if place < 0 { place + extent } else { place };
    let (low, high) = if step > 0 { (0, extent) } else { (-1, extent - 1) };
    let (mut at, end) = (wrapped(start).clamp(low, high), wrapped(end).clamp(low, high));
    let mut places = Vec::new();
    while (step > 0 && at < end) || (step < 0 && at > end) {
        places.push(at as usize);
        at += step;
    }
    places
}

fn slice(d: &mut Draw<'_, '_>) -> Result<()> {
    let Some(id) = d.pick(|value| value.rank() > 0)? else { return Ok(()) };
    let value = d.value(id).clone();
    let rank = value.rank();
    let mut taken: Vec<Vec<usize>> = value.dims.iter().map(|&dim| (0..dim).collect()).collect();
    let (mut starts, mut ends, mut axes, mut steps) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let with_steps = d.once_in(2)?;
    for axis in 0..rank {
        let extent = value.dims[axis] as i64;
        let mut place = || Ok(d.u.int_in_range(-extent - 3..=extent + 3)?);
        let range = (place()?, place()?, 1);
        let range = (range.0, range.1, if with_steps { *d.u.choose(&[-3, -2, -1, 1, 2, 4])? } else { 1 });
        // Some ends are the largest numbers, which mean all of the axis.
        let range = match d.below(4)? {
            0 if range.2 > 0 => (range.0, i64::MAX / 2, range.2),
            0 => (range.0, i64::MIN / 2, range.2),
            _ => range,
        };
        let places = sliced(extent, range);
        if places.is_empty() || d.once_in(3)? {
            continue;
        }
        taken[axis] = places;
        starts.push(range.0);
        ends.push(range.1);
        steps.push(range.2);
        axes.push(axis as i64 - if d.once_in(2)? { rank as i64 } else { 0 });
    }
    if starts.is_empty() {
        return Ok(());
    }
    let output = taken_from(&value, &taken);
    let mut inputs = vec![Some(id), Some(d.ints(&starts)), Some(d.ints(&ends)), Some(d.ints(&axes))];
    if with_steps {
        inputs.push(Some(d.ints(&steps)));
    }
    d.node("Slice", &inputs, &[], output);
    Ok(())
}

/// The elements at some places of each axis.
fn taken_from(value: &Value, taken: &[Vec<usize>]) -> Value {
    let dims = taken.iter().map(Vec::len).collect();
    moved(value, dims, 0.0, |place| Some(place.iter().zip(taken).map(|(&at, list)| list[at]).collect()))
}

/// Parts of given extents, or equal ones of which the last can be smaller.
fn split(d: &mut Draw<'_, '_>) -> Result<()> {
    let Some(id) = d.pick(|value| value.rank() > 0)? else { return Ok(()) };
    let value = d.value(id).clone();
    let (axis, written) = d.axis(value.rank())?;
    let extent = value.dims[axis];
    let mut attrs = vec![("axis", Attr::Int(written))];
    let mut inputs = vec![Some(id)];
    let mut parts = Vec::new();
    if d.once_in(2)? {
        let mut rest = extent;
        while rest > 0 {
            let part = 1 + d.below(rest)?;
            parts.push(part);
            rest -= part;
        }
        inputs.push(Some(d.ints(&signed(&parts))));
    } else {
        let count = 1 + d.below(extent.min(4))?;
        let even = extent.div_ceil(count);
        let is_allowed = if d.opset < 18 { even * count == extent } else { even * (count - 1) < extent };
        if !is_allowed {
            return Ok(());
        }
        parts = (0..count).map(|part| even.min(extent - even * part)).collect();
        if d.opset >= 18 {
            attrs.push(("num_outputs", Attr::Int(count as i64)));
        }
    }
    let mut start = 0;
    let outputs = parts.iter().map(|&part| {
        let mut taken: Vec<Vec<usize>> = value.dims.iter().map(|&dim| (0..dim).collect()).collect();
        taken[axis] = (start..start + part).collect();
        start += part;
        taken_from(&value, &taken)
    });
    d.node_many("Split", &inputs, &attrs, outputs.collect());
    Ok(())
}

/// One to four tensors whose other extents are equal: the value itself, constants, and other values.
fn concat(d: &mut Draw<'_, '_>) -> Result<()> {
    let Some(first) = d.pick(|value| value.rank() > 0 && value.len() <= MOST / 4)? else { return Ok(()) };
    let dims = d.value(first).dims.clone();
    let (axis, written) = d.axis(dims.len())?;
    let rest = |dims: &[usize]| [&dims[..axis], &dims[axis + 1..]].concat();
    let mut ids = vec![first];
    for _ in 0..d.below(4)? {
        let fits = |value: &Value| {
            value.rank() == dims.len() && rest(&value.dims) == rest(&dims) && value.len() <= MOST / 4
        };
        let id = if d.once_in(2)? {
            let mut own = dims.clone();
            own[axis] = 1 + d.below(dims[axis])?;
            d.constant(&own, -2.0, 2.0)?
        } else {
            d.pick(fits)?.unwrap_or(first)
        };
        let place = d.below(ids.len() + 1)?;
        ids.insert(place, id);
    }
    let all: Vec<Value> = ids.iter().map(|&id| d.value(id).clone()).collect();
    let mut joint = dims.clone();
    joint[axis] = all.iter().map(|value| value.dims[axis]).sum();
    let element = |mut place: Vec<usize>| {
        let mut all = all.iter();
        let mut value = all.next().expect("the first operand");
        while place[axis] >= value.dims[axis] {
            place[axis] -= value.dims[axis];
            value = all.next().expect("operands whose extents add up");
        }
        value.data[offset_in(&value.dims, &place)]
    };
    let data = Walk::new(&joint).map(element).collect();
    let inputs: Vec<Option<Id>> = ids.iter().map(|&id| Some(id)).collect();
    d.node("Concat", &inputs, &[("axis", Attr::Int(written))], Value::new(joint, data).exact());
    Ok(())
}

fn tile(d: &mut Draw<'_, '_>) -> Result<()> {
    let Some(id) = d.pick(|value| value.rank() > 0)? else { return Ok(()) };
    let value = d.value(id).clone();
    let mut repeats = Vec::new();
    let mut len = value.len();
    for _ in 0..value.rank() {
        let repeat = 1 + d.below(3)?;
        let repeat = if len * repeat > MOST { 1 } else { repeat };
        len *= repeat;
        repeats.push(repeat);
    }
    let dims: Vec<usize> = value.dims.iter().zip(&repeats).map(|(dim, repeat)| dim * repeat).collect();
    let own = value.dims.clone();
    let output =
        moved(&value, dims, 0.0, |place| Some(place.iter().zip(&own).map(|(at, dim)| at % dim).collect()));
    let repeats = d.ints(&signed(&repeats));
    d.node("Tile", &[Some(id), Some(repeats)], &[], output);
    Ok(())
}

fn expand(d: &mut Draw<'_, '_>) -> Result<()> {
    let Some(id) = d.pick(|_| true)? else { return Ok(()) };
    let value = d.value(id).clone();
    let shape = super::binary::partner(d, &value.dims, true)?;
    let Some(dims) = broadcast(&[&value.dims, &shape]) else { return Ok(()) };
    let output = moved(&value, dims, 0.0, |place| Some(place[place.len() - value.rank()..].to_vec()));
    let shape = d.ints(&signed(&shape));
    d.node("Expand", &[Some(id), Some(shape)], &[], output);
    Ok(())
}

/// Where an element of a padded axis comes from.
fn padded(mode: &str, at: i64, extent: i64) -> Option<usize> {
    let mut at = at;
    match mode {
        "edge" => at = at.clamp(0, extent - 1),
        "wrap" => at = at.rem_euclid(extent),
        "reflect" => {
            while !(0..extent).contains(&at) {
                at = if at < 0 { -at } else { 2 * (extent - 1) - at };
            }
        }
        _ => (),
    }
    (0..extent).contains(&at).then_some(at as usize)
}

fn pad(d: &mut Draw<'_, '_>) -> Result<()> {
    let Some(id) = d.pick(|value| value.rank() > 0)? else { return Ok(()) };
    let value = d.value(id).clone();
    let rank = value.rank();
    let modes: &[&str] = if d.opset < 19 {
        &["constant", "reflect", "edge"]
    } else {
        &["constant", "reflect", "edge", "wrap"]
    };
    let mode = *d.u.choose(modes)?;
    let some_axes = d.opset >= 18 && d.once_in(2)?;
    let (mut before, mut after, mut axes) = (Vec::new(), Vec::new(), Vec::new());
    let mut dims = value.dims.clone();
    let mut shift = vec![0i64; rank];
    for axis in 0..rank {
        let extent = value.dims[axis] as i64;
        // A reflection has no more elements than the axis has besides its edge.
        let most = if mode == "reflect" { (extent - 1).min(3) } else { 3 };
        let (mut first, mut last) = (d.u.int_in_range(-1..=most)?, d.u.int_in_range(-1..=most)?);
        if extent + first + last < 1 || (first < 0 || last < 0) && extent < 3 {
            (first, last) = (0, 0);
        }
        if dims.iter().product::<usize>() / dims[axis] * (extent + first + last) as usize > MOST {
            (first, last) = (0, 0);
        }
        if some_axes && d.once_in(2)? {
            continue;
        }
        (shift[axis], dims[axis]) = (first, (extent + first + last) as usize);
        before.push(first);
        after.push(last);
        axes.push(axis as i64 - if d.once_in(2)? { rank as i64 } else { 0 });
    }
    if axes.is_empty() {
        return Ok(());
    }
    let fill = if mode == "constant" && d.once_in(2)? { Some(d.constant(&[], -2.0, 2.0)?) } else { None };
    let number = fill.map_or(0.0, |fill| d.value(fill).data[0]);
    let own = signed(&value.dims);
    let output = moved(&value, dims, number, |place| {
        (0..rank).map(|axis| padded(mode, place[axis] as i64 - shift[axis], own[axis])).collect()
    });
    let mut inputs = vec![Some(id), Some(d.ints(&[before, after].concat())), fill];
    if some_axes {
        inputs.push(Some(d.ints(&axes)));
    }
    d.node("Pad", &inputs, &[("mode", Attr::Text(mode))], output);
    Ok(())
}

fn center(d: &mut Draw<'_, '_>) -> Result<()> {
    let Some(id) = d.pick(|value| value.rank() > 0 && value.len() <= MOST / 4)? else { return Ok(()) };
    let value = d.value(id).clone();
    let (axis, written) = d.axis(value.rank())?;
    let (extent, wanted) = (value.dims[axis], 1 + d.below(2 * value.dims[axis])?);
    let mut dims = value.dims.clone();
    dims[axis] = wanted;
    let output = moved(&value, dims, 0.0, |place| {
        let mut at = place.to_vec();
        at[axis] = match wanted < extent {
            true => at[axis] + (extent - wanted) / 2,
            false => at[axis].checked_sub((wanted - extent) / 2).filter(|&at| at < extent)?,
        };
        Some(at)
    });
    let shape = d.ints(&[wanted as i64]);
    d.node("CenterCropPad", &[Some(id), Some(shape)], &[("axes", Attr::Ints(vec![written]))], output);
    Ok(())
}

/// Blocks of pixels from channels: the place in a block is the slow part of the channel (`DCR`) or the fast one (`CRD`).
fn depth_to_space(d: &mut Draw<'_, '_>) -> Result<()> {
    let b = 2 + d.below(2)?;
    let fits = |value: &Value| value.rank() == 4 && value.dims[1].is_multiple_of(b * b);
    let Some(id) = d.pick(fits)? else { return depth(d, b) };
    apply_depth(d, id, b)
}

/// Gives a value the channels that [`depth_to_space`] needs.
fn depth(d: &mut Draw<'_, '_>, b: usize) -> Result<()> {
    let Some(id) = d.pick(|value| value.rank() == 4 && value.len() * b * b <= MOST)? else { return Ok(()) };
    let value = d.value(id).clone();
    let mut dims = value.dims.clone();
    dims[1] *= b * b;
    let channels = value.dims[1];
    let output =
        moved(&value, dims, 0.0, |place| Some(vec![place[0], place[1] % channels, place[2], place[3]]));
    let repeats = d.ints(&[1, (b * b) as i64, 1, 1]);
    let id = d.node("Tile", &[Some(id), Some(repeats)], &[], output);
    apply_depth(d, id, b)
}

fn apply_depth(d: &mut Draw<'_, '_>, id: Id, b: usize) -> Result<()> {
    let value = d.value(id).clone();
    let mut attrs = vec![("blocksize", Attr::Int(b as i64))];
    let mode = *d.u.choose(&["", "DCR", "CRD"])?;
    if !mode.is_empty() {
        attrs.push(("mode", Attr::Text(mode)));
    }
    let channels = value.dims[1] / (b * b);
    let dims = vec![value.dims[0], channels, value.dims[2] * b, value.dims[3] * b];
    let output = moved(&value, dims, 0.0, |place| {
        let within = place[2] % b * b + place[3] % b;
        let channel = if mode == "CRD" { place[1] * b * b + within } else { within * channels + place[1] };
        Some(vec![place[0], channel, place[2] / b, place[3] / b])
    });
    d.node("DepthToSpace", &[Some(id)], &attrs, output);
    Ok(())
}

fn space_to_depth(d: &mut Draw<'_, '_>) -> Result<()> {
    let b = 1 + d.below(3)?;
    let fits = |value: &Value| value.rank() == 4 && value.dims[2..].iter().all(|dim| dim.is_multiple_of(b));
    let Some(id) = d.pick(fits)? else { return Ok(()) };
    let value = d.value(id).clone();
    let channels = value.dims[1];
    let dims = vec![value.dims[0], channels * b * b, value.dims[2] / b, value.dims[3] / b];
    let output = moved(&value, dims, 0.0, |place| {
        let within = place[1] / channels;
        Some(vec![place[0], place[1] % channels, place[2] * b + within / b, place[3] * b + within % b])
    });
    d.node("SpaceToDepth", &[Some(id)], &[("blocksize", Attr::Int(b as i64))], output);
    Ok(())
}

fn trilu(d: &mut Draw<'_, '_>) -> Result<()> {
    let Some(id) = d.pick(|value| value.rank() >= 2)? else { return Ok(()) };
    let value = d.value(id).clone();
    let (upper, k) = (d.once_in(2)?, d.u.int_in_range(-3..=3i64)?);
    let steps = strides(&value.dims);
    let keeps = |offset: usize| {
        let (row, column) = (
            offset / steps[value.rank() - 2] % value.dims[value.rank() - 2],
            offset % value.dims[value.rank() - 1],
        );
        let diagonal = column as i64 - row as i64;
        if upper { diagonal >= k } else { diagonal <= k }
    };
    let data = value.data.iter().enumerate().map(|(at, &x)| if keeps(at) { x } else { 0.0 }).collect();
    let number = d.ints_of(&[], &[k]);
    let attrs = [("upper", Attr::Int(upper.into()))];
    d.node("Trilu", &[Some(id), Some(number)], &attrs, Value::new(value.dims.clone(), data).exact());
    Ok(())
}
