//! tract's `Deconv`, where no two taps meet.

use super::conv::{oihw, view_of};
use super::{Found, bias, check_input, constant};
use crate::view::OutDim;
use crate::window::Window;
use kernels::{FilterShape, Size2};
use tract_core::internal::*;
use tract_core::ops::cnn::{Deconv, KernelFormat, PaddingSpec};

pub(super) fn recognise(model: &TypedModel, node: &TypedNode, op: &Deconv) -> Result<Found, String> {
    let spec = &op.pool_spec;
    let window = Window::of(spec)?;
    let unpadded = match &spec.padding {
        PaddingSpec::Valid => true,
        PaddingSpec::Explicit(before, after) => before.iter().chain(after).all(|pad| *pad == 0),
        _ => false,
    };
    let apart = window.kernel == window.stride && window.dilation == Size2::square(1);
    if !unpadded || !apart || op.adjustments.iter().any(|extra| *extra != 0) {
        return Err("a transposed convolution whose kernel differs from its stride, or with padding".into());
    }
    if op.group != 1 || spec.data_format.c_is_last() {
        return Err("a transposed convolution with groups or channels last".into());
    }
    check_input(model, node.inputs[0])?;
    let kernel = constant(model, node.inputs[1], "the weights")?;
    let (taps, channels, ins) = (window.kernel, spec.output_channels, spec.input_channels);
    let oihw = if op.kernel_format == KernelFormat::OIHW {
        oihw(&kernel, KernelFormat::OIHW, 1)?
    } else {
        return Err(format!("a transposed convolution with {:?} weights", op.kernel_format));
    };
    // From [channel][input][tap] to [channel][tap][input].
    let (per_channel, count) = (ins * taps.h * taps.w, taps.h * taps.w);
    let weights = oihw.chunks_exact(per_channel).flat_map(|weights| {
        (0..count).flat_map(move |tap| (0..ins).map(move |input| weights[input * count + tap]))
    });
    let bias = bias(model, node.inputs[2], channels)?;
    let view = view_of(spec.data_format, spec.rank());
    Ok(Found {
        input: node.inputs[0],
        nodes: vec![node.id],
        window: Window::point(),
        shape: FilterShape::new(channels * count, ins, Size2::square(1)),
        weights: weights.collect(),
        bias: bias.map(|bias| bias.iter().flat_map(|value| std::iter::repeat_n(*value, count)).collect()),
        input_view: view,
        output_view: view,
        dims: OutDim::of_view(view, channels),
        taps: Some(taps),
    })
}
