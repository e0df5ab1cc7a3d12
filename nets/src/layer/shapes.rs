//! The output shapes of layers on maps and vectors.

use super::conv::invalid;
use crate::error::LayerError;
use crate::shape::Shape;
use kernels::{Pad2, Shape4};

pub(super) fn map(input: Shape) -> Result<Shape4, LayerError> {
    match input {
        Shape::Map { .. } => Ok(input.batched(1)),
        Shape::Vector { .. } | Shape::Tensor(_) | Shape::Unknown => {
            Err(LayerError::Input { expected: "feature maps", got: input })
        }
    }
}

pub(super) fn vector(input: Shape) -> Result<(), LayerError> {
    match input {
        Shape::Vector { .. } => Ok(()),
        Shape::Map { .. } | Shape::Tensor(_) | Shape::Unknown => {
            Err(LayerError::Input { expected: "a vector (flatten first)", got: input })
        }
    }
}

/// The same extents with another number of channels.
pub(super) fn with_channels(input: Shape, channels: usize) -> Result<Shape, LayerError> {
    let output = match input {
        Shape::Map { h, w, .. } => Shape::map(channels, h, w),
        Shape::Vector { .. } => Shape::vector(channels),
        Shape::Tensor(_) | Shape::Unknown => input,
    };
    output.len()?;
    Ok(output)
}

pub(super) fn maxout(pieces: usize, input: Shape) -> Result<Shape, LayerError> {
    if pieces == 0 || !input.channels().is_multiple_of(pieces) {
        return Err(invalid("pieces", format!("a divisor of the {} channels", input.channels()), pieces));
    }
    with_channels(input, input.channels() / pieces)
}

pub(super) fn concat(inputs: &[Shape]) -> Result<Shape, LayerError> {
    let mut channels = 0usize;
    for input in inputs {
        if with_channels(*input, inputs[0].channels())? != inputs[0] {
            return Err(LayerError::Differ {
                what: "inputs of one height and width",
                a: inputs[0],
                b: *input,
            });
        }
        let sum = channels.checked_add(input.channels());
        channels = sum.ok_or(kernels::ConvError::SizeOverflow { what: "channels" })?;
    }
    with_channels(inputs[0], channels)
}

pub(super) fn add(inputs: &[Shape]) -> Result<Shape, LayerError> {
    match inputs.iter().find(|&&input| input != inputs[0]) {
        Some(&b) => Err(LayerError::Differ { what: "inputs of one shape", a: inputs[0], b }),
        None => Ok(inputs[0]),
    }
}

pub(super) fn mul(a: Shape, b: Shape) -> Result<Shape, LayerError> {
    let one_pixel = b == Shape::map(a.channels(), 1, 1);
    if a == b || one_pixel {
        return Ok(a);
    }
    Err(LayerError::Differ { what: "inputs of one shape, or the second with one pixel", a, b })
}

pub(super) fn matmul(a: Shape, b: Shape) -> Result<Shape, LayerError> {
    let ((left, right), what) = ((map(a)?, map(b)?), "as many columns as the second has rows");
    if left.c != right.c || left.w != right.h {
        return Err(LayerError::Differ { what, a, b });
    }
    let output = Shape::map(left.c, left.h, right.w);
    output.len()?;
    Ok(output)
}

pub(super) fn padded(input: Shape4, pad: Pad2) -> Result<Shape, LayerError> {
    let sum = |extent: usize, before: usize, after| extent.checked_add(before)?.checked_add(after);
    let extents = sum(input.h, pad.top, pad.bottom).zip(sum(input.w, pad.left, pad.right));
    let (h, w) = extents.ok_or(kernels::ConvError::SizeOverflow { what: "output" })?;
    let output = Shape::map(input.c, h, w);
    output.len()?;
    Ok(output)
}

pub(super) fn shortcut(input: Shape4, stride: usize, channels: usize) -> Result<Shape, LayerError> {
    if stride == 0 {
        return Err(invalid("stride", "at least 1", stride));
    }
    if channels < input.c {
        return Err(invalid("channels", format!("at least the {} of the input", input.c), channels));
    }
    let output = Shape::map(channels, input.h.div_ceil(stride), input.w.div_ceil(stride));
    output.len()?;
    Ok(output)
}
