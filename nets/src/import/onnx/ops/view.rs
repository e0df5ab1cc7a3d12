//! Operators that do not change the order of elements.

use super::super::dims::{new_dims, permutation, slice_ranges};
use super::super::importer::Importer;
use super::super::node::{Call, Outcome, axis, no_training, unsupported, wrong};
use super::super::spatial;
use super::super::value::Tap;
use crate::layer::Layer;

pub(super) fn reshape(importer: &mut Importer<'_>, call: &Call<'_>) -> Outcome<Tap> {
    let tap = call.tap(0)?;
    let dims = new_dims(call, &tap.dims)?;
    importer.view(call, tap, dims)
}

/// A transposition is supported if it only moves axes of extent 1.
pub(super) fn transpose(importer: &mut Importer<'_>, call: &Call<'_>) -> Outcome<Tap> {
    let tap = call.tap(0)?;
    let order = permutation(call, tap.dims.len())?;
    let moved: Vec<usize> = order.iter().copied().filter(|&axis| tap.dims[axis] != 1).collect();
    if !moved.is_sorted() {
        return unsupported(format!("an order of axes {order:?}"));
    }
    importer.view(call, tap, order.iter().map(|&axis| tap.dims[axis]).collect())
}

/// A slice is supported if it takes everything.
pub(super) fn slice(_: &mut Importer<'_>, call: &Call<'_>) -> Outcome<Tap> {
    let tap = call.tap(0)?;
    let ranges = slice_ranges(call, &tap.dims)?;
    let all = ranges.iter().zip(&tap.dims).all(|(&range, &dim)| range == (0, 1, dim));
    if all { Ok(tap.clone()) } else { unsupported("a part of the image") }
}

pub(super) fn dropout(importer: &mut Importer<'_>, call: &Call<'_>) -> Outcome<Tap> {
    no_training(call)?;
    importer.only_first(call, "the mask")?;
    importer.same(call, Layer::Dropout, call.tap(0)?)
}

/// Zero padding around the image. `pads` is an attribute up to opset 10 and an input since; since opset 18 it
/// can be for some axes only.
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
