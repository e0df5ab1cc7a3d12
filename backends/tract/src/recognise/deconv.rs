//! tract's `Deconv`.

use super::conv::{oihw, view_of};
use super::{Found, bias, check_input, constant};
use crate::view::OutDim;
use crate::window::Window;
use kernels::FilterShape;
use tract_core::internal::*;
use tract_core::ops::cnn::Deconv;

pub(super) fn recognise(model: &TypedModel, node: &TypedNode, op: &Deconv) -> Result<Found, String> {
    let spec = &op.pool_spec;
    let window = Window::of(spec)?.transposed(&op.adjustments)?;
    check_input(model, node.inputs[0])?;
    let (channels, ins) = (spec.output_channels, spec.input_channels);
    if op.group == 0 || !ins.is_multiple_of(op.group) {
        return Err(format!("{ins} input channels in {} groups", op.group));
    }
    let weights = oihw(&*constant(model, node.inputs[1], "the weights")?, op.kernel_format, op.group)?;
    let view = view_of(spec.data_format, spec.rank());
    Ok(Found {
        input: node.inputs[0],
        nodes: vec![node.id],
        shape: FilterShape::new(channels, ins / op.group, window.kernel).groups(op.group),
        window,
        weights,
        bias: bias(model, node.inputs[2], channels)?,
        input_view: view,
        output_view: view,
        dims: OutDim::of_view(view, channels),
    })
}
