//! tract's `Conv`.

use super::{Found, bias, check_input, constant, elements};
use crate::view::{OutDim, View};
use crate::window::Window;
use kernels::FilterShape;
use tract_core::internal::*;
use tract_core::ops::cnn::{Conv, KernelFormat};
use tract_core::ops::nn::DataFormat;

/// The axes of a tensor in this format.
pub(crate) fn view_of(format: DataFormat, spatial: usize) -> View {
    View { lead: usize::from(format.has_n()), channels: 1, spatial, channels_last: format.c_is_last() }
}

pub(super) fn recognise(model: &TypedModel, node: &TypedNode, op: &Conv) -> Result<Found, String> {
    if op.q_params.is_some() {
        return Err("quantised".into());
    }
    let window = Window::of(&op.pool_spec)?;
    if window.rounds_up() {
        return Err("rounds its output size up".into());
    }
    check_input(model, node.inputs[0])?;
    let weights = oihw(&*constant(model, node.inputs[1], "the weights")?, op.kernel_fmt, op.group)?;
    let channels = op.output_channels();
    let view = view_of(op.pool_spec.data_format, op.pool_spec.rank());
    let in_channels = op.input_channels() / op.group;
    Ok(Found {
        input: node.inputs[0],
        nodes: vec![node.id],
        shape: FilterShape::new(channels, in_channels, window.kernel).groups(op.group),
        window,
        weights,
        bias: bias(model, node.inputs[2], channels)?,
        input_view: view,
        output_view: view,
        dims: OutDim::of_view(view, channels),
    })
}

/// The elements of a kernel in OIHW order, with the groups in the output channels.
pub(super) fn oihw(kernel: &Tensor, format: KernelFormat, group: usize) -> Result<Vec<f32>, String> {
    let grouped = format.kernel_as_group_o_i_hw(kernel, group).map_err(|error| error.to_string())?;
    Ok(elements(&grouped)?.to_vec())
}
