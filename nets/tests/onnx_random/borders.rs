//! Padding, blocks of pixels, and triangles.

use super::shapes::{moved, signed};
use super::{Attr, Draw, DrawOp, Id, MOST, Value, strides};
use arbitrary::Result;

pub const OPS: &[(&str, DrawOp)] = &[
    ("Pad", pad),
    ("CenterCropPad", center),
    ("DepthToSpace", depth_to_space),
    ("SpaceToDepth", space_to_depth),
    ("Trilu", trilu),
];

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
