//! Operators that move elements or give them other extents.

use super::{Attr, Draw, DrawOp, Id, MOST, MOST_AXES, Value, Walk, broadcast, offset_in};
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

pub fn signed(dims: &[usize]) -> Vec<i64> {
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
    let (mut inputs, mut attrs) = (vec![Some(id)], Vec::new());
    if !d.once_in(4)? {
        ones = vec![ones[d.below(ones.len())?]];
        let written = ones[0] as i64 - if d.once_in(2)? { rank as i64 } else { 0 };
        d.list(("axes", 13), &[written], (&mut inputs, &mut attrs));
    }
    let dims = (0..rank).filter(|axis| !ones.contains(axis)).map(|axis| value.dims[axis]).collect();
    let output = viewed(&value, dims);
    d.node("Squeeze", &inputs, &attrs, output);
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
    let (mut inputs, mut attrs) = (vec![Some(id)], Vec::new());
    d.list(("axes", 13), &written, (&mut inputs, &mut attrs));
    d.node("Unsqueeze", &inputs, &attrs, output);
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
    for (axis, taken) in taken.iter_mut().enumerate() {
        let extent = value.dims[axis] as i64;
        let mut place = || d.u.int_in_range(-extent - 3..=extent + 3);
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
        *taken = places;
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
        d.list(("split", 13), &signed(&parts), (&mut inputs, &mut attrs));
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
