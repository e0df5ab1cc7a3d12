//! `GridSample`, `DeformConv` and `Col2Im`.

use super::super::importer::Importer;
use super::super::node::{Call, Outcome, unsupported, wrong};
use super::super::spatial;
use super::super::value::Value;
use super::axes::number;
use super::dims_of;
use crate::layer::{Deform, GridSample, Interpolation, Outside, Overlap, TensorOp};

pub(super) fn grid<'a>(importer: &mut Importer<'a>, call: &Call<'a>) -> Outcome<Value> {
    // The names are those of a picture up to opset 19.
    let how = match call.text("mode")? {
        None | Some("linear" | "bilinear") => Interpolation::Linear,
        Some("nearest") => Interpolation::Nearest,
        Some("cubic" | "bicubic") => Interpolation::Cubic,
        Some(other) => return wrong(format!("expected linear, nearest or cubic as mode, got `{other}`")),
    };
    let outside = match call.text("padding_mode")? {
        None | Some("zeros") => Outside::Zeros,
        Some("border") => Outside::Border,
        Some("reflection") => Outside::Reflection,
        Some(other) => {
            return wrong(format!("expected zeros, border or reflection as padding_mode, got `{other}`"));
        }
    };
    let axes = dims_of(call, 0)?.len().saturating_sub(2);
    if axes > GridSample::MOST_AXES {
        return unsupported(format!("an image of {axes} axes"));
    }
    let layer = GridSample { how, outside, align_corners: call.flag("align_corners")? };
    importer.emit(call, TensorOp::GridSample(layer), &[call.value(0)?.clone(), call.value(1)?.clone()])
}

pub(super) fn deform<'a>(importer: &mut Importer<'a>, call: &Call<'a>) -> Outcome<Value> {
    let dims = dims_of(call, 0)?;
    if dims.len() != 4 {
        return unsupported(format!("a deformable convolution of {dims:?}, which is not a picture"));
    }
    let (kernel, groups) = spatial::filter(call, &dims_of(call, 1)?, 2)?;
    let offset_groups = match usize::try_from(call.int("offset_group")?.unwrap_or(1)) {
        Ok(groups @ 1..) if groups <= dims[1] => groups,
        _ => return wrong(format!("expected an offset_group from 1 to {}", dims[1])),
    };
    let windows = spatial::windows(call, &dims[2..], kernel)?;
    let mut operands = vec![call.value(0)?.clone(), call.value(1)?.clone(), call.value(2)?.clone()];
    operands.push(call.input(3).cloned().unwrap_or_else(|| number(0.0)));
    operands.push(call.input(4).cloned().unwrap_or_else(|| number(1.0)));
    importer.emit(call, TensorOp::Deform(Deform { windows, groups, offset_groups }), &operands)
}

/// Adds up windows at their places in an image, whose extents and those of a window are inputs 1 and 2.
pub(super) fn overlap<'a>(importer: &mut Importer<'a>, call: &Call<'a>) -> Outcome<Value> {
    let extents = |index: usize| -> Outcome<Vec<usize>> {
        let Some(numbers) = call.numbers(index)? else {
            return wrong(format!("expected extents as input {index}, got none"));
        };
        let positive =
            |&number: &f64| (1.0..=f64::from(u32::MAX)).contains(&number).then_some(number as usize);
        match numbers.iter().map(positive).collect() {
            Some(extents) => Ok(extents),
            None => wrong(format!("expected extents of at least 1 as input {index}, got {numbers:?}")),
        }
    };
    let (image, kernel) = (extents(1)?, extents(2)?);
    if image.is_empty() || image.len() != kernel.len() {
        return wrong(format!("expected a window of {} axes, got {kernel:?}", image.len()));
    }
    let windows = spatial::windows(call, &image, kernel)?;
    importer.emit(call, TensorOp::Overlap(Overlap { windows, image }), &[call.value(0)?.clone()])
}
