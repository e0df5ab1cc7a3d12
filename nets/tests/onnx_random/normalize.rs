//! Normalisations.

use super::reductions::{groups, joined, mean, only, squares};
use super::{Attr, Draw, DrawOp, Id, Value, Walk};
use arbitrary::Result;

pub const OPS: &[(&str, DrawOp)] = &[
    ("LayerNormalization", layer),
    ("RMSNormalization", rms),
    ("InstanceNormalization", instance),
    ("GroupNormalization", group),
    ("BatchNormalization", batch),
    ("MeanVarianceNormalization", mean_variance),
    ("LpNormalization", lp),
    ("LRN", lrn),
];

type Attrs = Vec<(&'static str, Attr)>;

/// An attribute that is absent in half of the cases.
fn epsilon(d: &mut Draw<'_, '_>, attrs: &mut Attrs) -> Result<f64> {
    if d.once_in(2)? {
        return Ok(f64::from(1e-5f32));
    }
    let value = *d.u.choose(&[1e-3f32, 0.1])?;
    attrs.push(("epsilon", Attr::Float(value)));
    Ok(f64::from(value))
}

/// Normal numbers: minus their mean, divided by the standard deviation.
fn normal(all: &[f64], eps: f64) -> Vec<f64> {
    let centre = mean(all);
    let centred: Vec<f64> = all.iter().map(|x| x - centre).collect();
    let deviation = (squares(&centred) / all.len() as f64 + eps).sqrt();
    centred.iter().map(|x| x / deviation).collect()
}

/// The values that a normalisation does not blow up: exact ones, whose spread is either 0 or not small.
fn exact(value: &Value, ranks: std::ops::RangeInclusive<usize>) -> bool {
    value.exact && ranks.contains(&value.rank())
}

fn normalized(value: &Value, axes: &[bool], eps: f64) -> Value {
    let results: Vec<Vec<f64>> = groups(value, axes).iter().map(|all| normal(all, eps)).collect();
    joined(&value.dims, axes, &results)
}

/// Multiplied by a scale and shifted, as `index` says where their elements are for a place.
fn affine(
    d: &Draw<'_, '_>,
    value: &Value,
    (scale, shift): (Id, Option<Id>),
    index: impl Fn(&[usize]) -> usize,
) -> Value {
    let element = |(place, &x): (Vec<usize>, &f64)| {
        let at = index(&place);
        x * d.value(scale).data[at] + shift.map_or(0.0, |shift| d.value(shift).data[at])
    };
    let data = Walk::new(&value.dims).zip(&value.data).map(element).collect();
    Value::new(value.dims.clone(), data)
}

/// A normalisation over the axes from one on, with a scale for each of their elements.
struct Trailing {
    id: Id,
    value: Value,
    attrs: Attrs,
    eps: f64,
    /// Whether an axis is one of them, and their extents.
    axes: Vec<bool>,
    own: Vec<usize>,
    scale: Id,
}

fn trailing(d: &mut Draw<'_, '_>) -> Result<Option<Trailing>> {
    let Some(id) = d.pick(|value| exact(value, 1..=6))? else { return Ok(None) };
    let value = d.value(id).clone();
    let (first, written) = d.axis(value.rank())?;
    let mut attrs = vec![("axis", Attr::Int(written))];
    let eps = epsilon(d, &mut attrs)?;
    let axes = (0..value.rank()).map(|axis| axis >= first).collect();
    let own = value.dims[first..].to_vec();
    let scale = d.constant(&own, 0.5, 2.0)?;
    Ok(Some(Trailing { id, value, attrs, eps, axes, own, scale }))
}

fn layer(d: &mut Draw<'_, '_>) -> Result<()> {
    let Some(Trailing { id, value, attrs, eps, axes, own, scale }) = trailing(d)? else { return Ok(()) };
    let shift = if d.once_in(2)? { Some(d.constant(&own, -1.0, 1.0)?) } else { None };
    let normal = normalized(&value, &axes, eps);
    let output = affine(d, &normal, (scale, shift), |place| super::offset_in(&own, place));
    d.node("LayerNormalization", &[Some(id), Some(scale), shift], &attrs, output);
    Ok(())
}

fn rms(d: &mut Draw<'_, '_>) -> Result<()> {
    let Some(Trailing { id, value, attrs, eps, axes, own, scale }) = trailing(d)? else { return Ok(()) };
    let divided = |all: &Vec<f64>| {
        let root = (squares(all) / all.len() as f64 + eps).sqrt();
        all.iter().map(|x| x / root).collect()
    };
    let results: Vec<Vec<f64>> = groups(&value, &axes).iter().map(divided).collect();
    let normal = joined(&value.dims, &axes, &results);
    let output = affine(d, &normal, (scale, None), |place| super::offset_in(&own, place));
    d.node("RMSNormalization", &[Some(id), Some(scale)], &attrs, output);
    Ok(())
}

fn instance(d: &mut Draw<'_, '_>) -> Result<()> {
    let Some(id) = d.pick(|value| exact(value, 3..=5))? else { return Ok(()) };
    let value = d.value(id).clone();
    let mut attrs = Vec::new();
    let eps = epsilon(d, &mut attrs)?;
    let axes: Vec<bool> = (0..value.rank()).map(|axis| axis >= 2).collect();
    let scale = d.constant(&value.dims[1..2], -2.0, 2.0)?;
    let shift = d.constant(&value.dims[1..2], -1.0, 1.0)?;
    let output = affine(d, &normalized(&value, &axes, eps), (scale, Some(shift)), |place| place[1]);
    d.node("InstanceNormalization", &[Some(id), Some(scale), Some(shift)], &attrs, output);
    Ok(())
}

/// With a scale and a shift of each group up to opset 20, and of each channel since then.
fn group(d: &mut Draw<'_, '_>) -> Result<()> {
    let Some(id) = d.pick(|value| exact(value, 3..=5))? else { return Ok(()) };
    let value = d.value(id).clone();
    let channels = value.dims[1];
    let counts: Vec<usize> = (1..=channels).filter(|&count| channels.is_multiple_of(count)).collect();
    let count = *d.u.choose(&counts)?;
    let mut attrs = vec![("num_groups", Attr::Int(count as i64))];
    let eps = epsilon(d, &mut attrs)?;
    let split = [&[value.dims[0], count, channels / count], &value.dims[2..]].concat();
    let axes: Vec<bool> = (0..split.len()).map(|axis| axis >= 2).collect();
    let normal = normalized(&Value { dims: split, ..value.clone() }, &axes, eps);
    let normal = Value { dims: value.dims.clone(), ..normal };
    let (own, wide) = if d.opset < 21 { (count, channels / count) } else { (channels, 1) };
    let (scale, shift) = (d.constant(&[own], -2.0, 2.0)?, d.constant(&[own], -1.0, 1.0)?);
    let output = affine(d, &normal, (scale, Some(shift)), |place| place[1] / wide);
    d.node("GroupNormalization", &[Some(id), Some(scale), Some(shift)], &attrs, output);
    Ok(())
}

fn batch(d: &mut Draw<'_, '_>) -> Result<()> {
    let Some(id) = d.pick(|value| (2..=5).contains(&value.rank()))? else { return Ok(()) };
    let value = d.value(id).clone();
    let mut attrs = Vec::new();
    let eps = epsilon(d, &mut attrs)?;
    let channels = &value.dims[1..2];
    let (scale, shift) = (d.constant(channels, -2.0, 2.0)?, d.constant(channels, -1.0, 1.0)?);
    let (centre, variance) = (d.constant(channels, -1.0, 1.0)?, d.constant(channels, 0.25, 2.0)?);
    let element = |(place, x): (Vec<usize>, &f64)| {
        let of = |id: Id| d.value(id).data[place[1]];
        (x - of(centre)) / (of(variance) + eps).sqrt() * of(scale) + of(shift)
    };
    let data = Walk::new(&value.dims).zip(&value.data).map(element).collect();
    let inputs = [Some(id), Some(scale), Some(shift), Some(centre), Some(variance)];
    d.node("BatchNormalization", &inputs, &attrs, Value::new(value.dims.clone(), data));
    Ok(())
}

fn mean_variance(d: &mut Draw<'_, '_>) -> Result<()> {
    // Without a spread the definition divides 0 by almost 0.
    let Some(id) = d.pick(|value| exact(value, 4..=4))? else { return Ok(()) };
    let value = d.value(id).clone();
    let (mut axes, mut attrs) = (vec![true, false, true, true], Vec::new());
    if d.once_in(2)? {
        axes = (0..4).map(|_| d.once_in(2)).collect::<Result<_>>()?;
        axes[d.below(4)?] = true;
        let list = (0..4).filter(|&axis| axes[axis as usize]).collect();
        attrs.push(("axes", Attr::Ints(list)));
    }
    let output = normalized(&value, &axes, 1e-9);
    d.node("MeanVarianceNormalization", &[Some(id)], &attrs, output);
    Ok(())
}

fn lp(d: &mut Draw<'_, '_>) -> Result<()> {
    let Some(id) = d.pick(|value| exact(value, 1..=6))? else { return Ok(()) };
    let value = d.value(id).clone();
    let (axis, written) = d.axis(value.rank())?;
    let p = 1 + d.below(2)?;
    let attrs = [("axis", Attr::Int(written)), ("p", Attr::Int(p as i64))];
    let divided = |all: &Vec<f64>| {
        let norm = if p == 1 { all.iter().map(|x| x.abs()).sum() } else { squares(all).sqrt() };
        all.iter().map(|x| if norm == 0.0 { 0.0 } else { x / norm }).collect()
    };
    let axes = only(value.rank(), axis);
    let results: Vec<Vec<f64>> = groups(&value, &axes).iter().map(divided).collect();
    d.node("LpNormalization", &[Some(id)], &attrs, joined(&value.dims, &axes, &results));
    Ok(())
}

fn lrn(d: &mut Draw<'_, '_>) -> Result<()> {
    let Some(id) = d.pick(|value| (3..=5).contains(&value.rank()))? else { return Ok(()) };
    let value = d.value(id).clone();
    let size = 1 + d.below(6)?;
    let mut attrs = vec![("size", Attr::Int(size as i64))];
    let (mut alpha, mut beta, mut bias) = (1e-4f32, 0.75f32, 1.0f32);
    if d.once_in(2)? {
        (alpha, beta, bias) = (0.5, 0.5, 2.0);
        attrs.extend([
            ("alpha", Attr::Float(alpha)),
            ("beta", Attr::Float(beta)),
            ("bias", Attr::Float(bias)),
        ]);
    }
    // One channel more lies behind than before if the size is even.
    let (before, after) = ((size - 1) / 2, size / 2);
    let axes = only(value.rank(), 1);
    let result = |all: &Vec<f64>| {
        let one = |at: usize| {
            let near = &all[at.saturating_sub(before)..(at + after + 1).min(all.len())];
            let sum = f64::from(bias) + f64::from(alpha) / size as f64 * squares(near);
            all[at] / sum.powf(f64::from(beta))
        };
        (0..all.len()).map(one).collect()
    };
    let results: Vec<Vec<f64>> = groups(&value, &axes).iter().map(result).collect();
    d.node("LRN", &[Some(id)], &attrs, joined(&value.dims, &axes, &results));
    Ok(())
}
