//! Operators that read or write the places that indices name.

use super::shapes::moved;
use super::{Attr, Draw, DrawOp, Id, Kind, MOST, MOST_AXES, Value, Walk, offset_in};
use arbitrary::Result;

pub const OPS: &[(&str, DrawOp)] = &[
    ("Gather", gather),
    ("GatherElements", gather_elements),
    ("GatherND", gather_nd),
    ("Scatter", |d| scatter_elements(d, "Scatter")),
    ("ScatterElements", |d| scatter_elements(d, "ScatterElements")),
    ("ScatterND", scatter_nd),
    ("OneHot", one_hot),
    ("Shape", |d| shape(d, "Shape")),
    ("Size", |d| shape(d, "Size")),
];

/// Indices of an axis, some of them counted from its end.
fn indices(d: &mut Draw<'_, '_>, dims: &[usize], extent: usize) -> Result<Id> {
    let extent = extent as i64;
    let count = dims.iter().product();
    let values = (0..count).map(|_| d.u.int_in_range(-extent..=extent - 1)).collect::<Result<Vec<_>>>()?;
    Ok(d.ints_of(dims, &values))
}

/// The index as one from 0.
fn wrapped(index: f64, extent: usize) -> usize {
    (index as i64).rem_euclid(extent as i64) as usize
}

fn gather(d: &mut Draw<'_, '_>) -> Result<()> {
    let Some(id) = d.pick(|value| value.rank() > 0)? else { return Ok(()) };
    let value = d.value(id).clone();
    let rank = value.rank();
    let (axis, written) = d.axis(rank)?;
    let more = d.below((MOST_AXES - rank + 2).min(3))?;
    let own = (0..more).map(|_| Ok(1 + d.below(3)?)).collect::<Result<Vec<_>>>()?;
    let dims = [&value.dims[..axis], &own, &value.dims[axis + 1..]].concat();
    if dims.len() > MOST_AXES || dims.iter().product::<usize>() > MOST {
        return Ok(());
    }
    let places = indices(d, &own, value.dims[axis])?;
    let at = d.value(places).clone();
    let output = moved(&value, dims, 0.0, |place| {
        let index = at.data[offset_in(&own, &place[axis..axis + more])];
        let index = wrapped(index, value.dims[axis]);
        Some([&place[..axis], &[index], &place[axis + more..]].concat())
    });
    d.node("Gather", &[Some(id), Some(places)], &[("axis", Attr::Int(written))], output);
    Ok(())
}

/// Extents of at most those of the data, except along an axis.
fn part_of(d: &mut Draw<'_, '_>, dims: &[usize], axis: usize) -> Result<Vec<usize>> {
    let mut own = Vec::new();
    for (other, &dim) in dims.iter().enumerate() {
        own.push(if other == axis { 1 + d.below(4)? } else { dim - d.below(dim.min(2))? });
    }
    Ok(own)
}

fn gather_elements(d: &mut Draw<'_, '_>) -> Result<()> {
    let Some(id) = d.pick(|value| value.rank() > 0 && value.len() <= 600)? else { return Ok(()) };
    let value = d.value(id).clone();
    let (axis, written) = d.axis(value.rank())?;
    let own = part_of(d, &value.dims, axis)?;
    let places = indices(d, &own, value.dims[axis])?;
    let at = d.value(places).clone();
    let output = moved(&value, own.clone(), 0.0, |place| {
        let mut from = place.to_vec();
        from[axis] = wrapped(at.data[offset_in(&own, place)], value.dims[axis]);
        Some(from)
    });
    d.node("GatherElements", &[Some(id), Some(places)], &[("axis", Attr::Int(written))], output);
    Ok(())
}

/// Tuples of indices: the outer extents of their tensor, and how many axes they name behind the first `skipped`.
fn tuples(d: &mut Draw<'_, '_>, outer: &[usize], named: &[usize]) -> Result<Id> {
    let mut values = Vec::new();
    for _ in 0..outer.iter().product() {
        for &extent in named {
            values.push(d.u.int_in_range(-(extent as i64)..=extent as i64 - 1)?);
        }
    }
    Ok(d.ints_of(&[outer, &[named.len()]].concat(), &values))
}

/// The place that a tuple names.
fn named(tuples: &Value, outer: &[usize], extents: &[usize]) -> Vec<usize> {
    let depth = extents.len();
    let start = offset_in(&tuples.dims[..tuples.rank() - 1], outer) * depth;
    let indices = &tuples.data[start..start + depth];
    indices.iter().zip(extents).map(|(&index, &extent)| wrapped(index, extent)).collect()
}

fn gather_nd(d: &mut Draw<'_, '_>) -> Result<()> {
    let Some(id) = d.pick(|value| value.rank() > 0)? else { return Ok(()) };
    let value = d.value(id).clone();
    let rank = value.rank();
    let skipped = d.below(rank.min(3))?;
    let depth = 1 + d.below(rank - skipped)?;
    let extents = value.dims[skipped..skipped + depth].to_vec();
    let mut outer = value.dims[..skipped].to_vec();
    outer.push(1 + d.below(3)?);
    let dims = [&outer, &value.dims[skipped + depth..]].concat();
    if dims.len() > MOST_AXES || dims.iter().product::<usize>() > MOST {
        return Ok(());
    }
    let places = tuples(d, &outer, &extents)?;
    let at = d.value(places).clone();
    let output = moved(&value, dims, 0.0, |place| {
        let named = named(&at, &place[..outer.len()], &extents);
        Some([&place[..skipped], &named, &place[outer.len()..]].concat())
    });
    let attrs = [("batch_dims", Attr::Int(skipped as i64))];
    d.node("GatherND", &[Some(id), Some(places)], &attrs[..usize::from(skipped > 0)], output);
    Ok(())
}

/// How an element is combined with another one that is written to its place.
fn reduction(d: &mut Draw<'_, '_>) -> Result<&'static str> {
    match d.opset {
        ..16 => Ok("none"),
        16..18 => Ok(*d.u.choose(&["none", "add", "mul"])?),
        _ => Ok(*d.u.choose(&["none", "add", "mul", "max", "min"])?),
    }
}

fn combined(how: &str, old: f64, new: f64) -> f64 {
    match how {
        "add" => old + new,
        "mul" => old * new,
        "max" => old.max(new),
        "min" => old.min(new),
        _ => new,
    }
}

/// Attributes of a scatter.
fn how_attrs(how: &'static str, attrs: &mut Vec<(&'static str, Attr)>) {
    if how != "none" {
        attrs.push(("reduction", Attr::Text(how)));
    }
}

fn scatter_elements(d: &mut Draw<'_, '_>, op: &'static str) -> Result<()> {
    let Some(id) = d.pick(|value| value.rank() > 0 && value.len() <= 600)? else { return Ok(()) };
    let mut value = d.value(id).clone();
    let (axis, written) = d.axis(value.rank())?;
    let how = if op == "Scatter" { "none" } else { reduction(d)? };
    let mut own = part_of(d, &value.dims, axis)?;
    // Without a reduction, no place is written twice: the order of writes is open.
    own[axis] = if how == "none" { 1 } else { own[axis] };
    let places = indices(d, &own, value.dims[axis])?;
    let updates = d.constant(&own, -2.0, 2.0)?;
    for (number, place) in Walk::new(&own).enumerate() {
        let mut to = place.clone();
        to[axis] = wrapped(d.value(places).data[number], value.dims[axis]);
        let to = offset_in(&value.dims.clone(), &to);
        value.data[to] = combined(how, value.data[to], d.value(updates).data[number]);
    }
    let mut attrs = vec![("axis", Attr::Int(written))];
    how_attrs(how, &mut attrs);
    let output = Value::new(value.dims, value.data).exact();
    d.node(op, &[Some(id), Some(places), Some(updates)], &attrs, output);
    Ok(())
}

fn scatter_nd(d: &mut Draw<'_, '_>) -> Result<()> {
    let Some(id) = d.pick(|value| value.rank() > 0)? else { return Ok(()) };
    let mut value = d.value(id).clone();
    let depth = 1 + d.below(value.rank())?;
    let how = reduction(d)?;
    let outer = if how == "none" { vec![1] } else { vec![1 + d.below(3)?] };
    let (extents, rest) = (value.dims[..depth].to_vec(), value.dims[depth..].to_vec());
    let own = [&outer[..], &rest].concat();
    if own.iter().product::<usize>() > MOST {
        return Ok(());
    }
    let places = tuples(d, &outer, &extents)?;
    let updates = d.constant(&own, -2.0, 2.0)?;
    for (number, place) in Walk::new(&own).enumerate() {
        let to = [&named(d.value(places), &place[..1], &extents), &place[1..]].concat();
        let to = offset_in(&value.dims, &to);
        value.data[to] = combined(how, value.data[to], d.value(updates).data[number]);
    }
    let mut attrs = Vec::new();
    how_attrs(how, &mut attrs);
    let output = Value::new(value.dims, value.data).exact();
    d.node("ScatterND", &[Some(id), Some(places), Some(updates)], &attrs, output);
    Ok(())
}

/// Indices outside the depth have no element that is on.
fn one_hot(d: &mut Draw<'_, '_>) -> Result<()> {
    let fits = |value: &Value| value.exact && value.rank() < MOST_AXES - 1 && value.len() <= MOST / 4;
    let Some(id) = d.pick(fits)? else { return Ok(()) };
    let value = d.value(id).clone();
    let rank = value.rank() + 1;
    let (axis, written) = d.axis(rank)?;
    let depth = 1 + d.below(4)?;
    let numbers = d.constant(&[2], -2.0, 2.0)?;
    let (off, on) = (d.value(numbers).data[0], d.value(numbers).data[1]);
    let mut dims = value.dims.clone();
    dims.insert(axis, depth);
    let element = |mut place: Vec<usize>| {
        let at = place.remove(axis) as i64;
        let index = value.data[offset_in(&value.dims, &place)].trunc() as i64;
        let index = if index < 0 { index + depth as i64 } else { index };
        if index == at { on } else { off }
    };
    let data = Walk::new(&dims).map(element).collect();
    let count = d.ints_of(&[], &[depth as i64]);
    // Indices can be floats; they are converted, so that the file is one that every runtime takes.
    let whole = Value::new(value.dims.clone(), value.data.iter().map(|x| x.trunc()).collect());
    let whole = d.node("Cast", &[Some(id)], &[("to", Attr::Int(7))], whole.exact().kind(Kind::Whole));
    let attrs = [("axis", Attr::Int(written))];
    let inputs = [Some(whole), Some(count), Some(numbers)];
    d.node("OneHot", &inputs, &attrs, Value::new(dims, data).exact());
    Ok(())
}

/// The extents of a value, or its length, as an operand of a product: they are constants of the import.
fn shape(d: &mut Draw<'_, '_>, op: &'static str) -> Result<()> {
    let Some(id) = d.pick(|value| value.rank() > 0)? else { return Ok(()) };
    let value = d.value(id).clone();
    let (dims, data) = match op {
        "Shape" => (vec![value.rank()], value.dims.iter().map(|&dim| dim as f64).collect()),
        _ => (Vec::new(), vec![value.len() as f64]),
    };
    let extents = d.node(op, &[Some(id)], &[], Value::new(dims.clone(), data).exact().kind(Kind::Whole));
    let floats = Value { kind: Kind::Float, ..d.value(extents).clone() };
    let floats = d.node("Cast", &[Some(extents)], &[("to", Attr::Int(1))], floats);
    // The sum of an element and the extents depends on the input.
    let most = Value::new(Vec::new(), vec![value.data.iter().copied().fold(f64::NEG_INFINITY, f64::max)]);
    let most = d.node("ReduceMax", &[Some(id)], &[("keepdims", Attr::Int(0))], most.exact());
    let output = super::binary::zip(d, &[most, floats], |x| x[0] + x[1]).exact();
    d.node("Add", &[Some(most), Some(floats)], &[], output);
    Ok(())
}
