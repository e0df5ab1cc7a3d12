//! The gradients of a convolution.

use crate::op::{Args, apply};
use crate::run::storage;
use crate::spec::{Problem, Rank, Spec};
use crate::threads::{self, PARALLEL};
use crate::{im2col, view};
use candle_core::{CpuStorage, CustomOp1, Layout as Strides, Result, Shape, Tensor};
use kernels::{Activation, Shape4};
use rayon::prelude::*;

/// The gradient of the input: of an ordinary convolution a transposed one with the same weight, and the
/// reverse. `None` if the input needs none.
pub(crate) fn input(
    problem: &Problem,
    input: &Tensor,
    weight: &Tensor,
    grad: &Tensor,
) -> Result<Option<Tensor>> {
    if !input.track_op() {
        return Ok(None);
    }
    let Problem { spec, input: shape, kernel, output } = *problem;
    // Inputs that no window of the forward convolution reached are the output padding of the transposed one.
    let rest = |length: usize, taps: usize, positions: usize| {
        let reached = (positions - 1) * spec.stride + (taps - 1) * spec.dilation + 1;
        (length + 2 * spec.padding).saturating_sub(reached)
    };
    let of_width = rest(shape.w, kernel.w, output.w);
    let output_padding = match spec.rank {
        Rank::Two if !spec.transposed => of_width.max(rest(shape.h, kernel.h, output.h)),
        _ => of_width,
    };
    let reverse = Spec {
        transposed: !spec.transposed,
        output_padding: if spec.transposed { 0 } else { output_padding },
        ..spec
    };
    let args = Args { input: &grad.detach(), weight: &weight.detach(), bias: None };
    let result = apply(reverse, args, Activation::None, None)?;
    cropped(&result, &spec, shape).map(Some)
}

/// The first rows and columns of a gradient that has some too many.
fn cropped(grad: &Tensor, spec: &Spec, shape: Shape4) -> Result<Tensor> {
    let mut result = grad.clone();
    for (axis, &length) in spec.dims(shape).iter().enumerate().skip(2) {
        if result.dims()[axis] > length {
            result = result.narrow(axis, 0, length)?;
        }
    }
    result.contiguous()
}

/// Elements of the matrix of windows that are made at once: 16 MB.
const WINDOWS: usize = 1 << 22;

/// The gradient of the weight: for each group, the matrix product of the output's gradient, `O x pixels`, and
/// the windows of the input, `pixels x taps`. `None` if the weight needs none.
pub(crate) fn weight(
    problem: &Problem,
    input: &Tensor,
    weight: &Tensor,
    grad: &Tensor,
) -> Result<Option<Tensor>> {
    if !weight.track_op() {
        return Ok(None);
    }
    let spec = problem.spec;
    // A transposed convolution exchanges the roles of the input and of the output.
    let (scanned, moved, scanned_shape, moved_shape) = if spec.transposed {
        (grad, input, problem.output, problem.input)
    } else {
        (input, grad, problem.input, problem.output)
    };
    let (scanned, moved) = (scanned.detach().contiguous()?, moved.detach());
    let pixels = moved_shape.h * moved_shape.w;
    let taps = scanned_shape.c / spec.groups * problem.kernel.h * problem.kernel.w;
    let per_image = taps.saturating_mul(spec.groups).saturating_mul(pixels).max(1);
    let step = (WINDOWS / per_image).clamp(1, moved_shape.n);
    let mut total: Option<Tensor> = None;
    for first in (0..moved_shape.n).step_by(step) {
        let count = step.min(moved_shape.n - first);
        let windows = im2col::Windows {
            problem: *problem,
            positions: moved_shape.size(),
            images: first..first + count,
        };
        let windows = scanned.apply_op1_no_bwd(&windows)?;
        let windows = windows.reshape((spec.groups, taps, count * pixels))?;
        let rows = moved.narrow(0, first, count)?.transpose(0, 1)?.contiguous()?;
        let rows = rows.reshape((spec.groups, moved_shape.c / spec.groups, count * pixels))?;
        let product = rows.matmul(&windows.transpose(1, 2)?)?;
        total = Some(match total {
            None => product,
            Some(total) => (total + product)?,
        });
    }
    total.map(|total| total.reshape(weight.dims())).transpose()
}

/// The gradient of the bias: a sum over images and pixels. `None` if the bias needs none.
pub(crate) fn bias(bias: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
    if !bias.track_op() {
        return Ok(None);
    }
    grad.detach().contiguous()?.apply_op1_no_bwd(&ChannelSums).map(Some)
}

/// Sums a contiguous tensor over all axes but the second one.
struct ChannelSums;

impl CustomOp1 for ChannelSums {
    fn name(&self) -> &'static str {
        "convkernels-channel-sums"
    }

    fn cpu_fwd(&self, values: &CpuStorage, strides: &Strides) -> Result<(CpuStorage, Shape)> {
        let (images, channels) = (strides.dims()[0], strides.dims()[1]);
        let values = view::contiguous("gradient", values, strides)?;
        let plane = values.len() / (images * channels).max(1);
        let sum_of = |channel: usize| {
            let planes = (0..images).map(|image| &values[(image * channels + channel) * plane..][..plane]);
            planes.map(sum).sum::<f32>()
        };
        let sums = if values.len() >= PARALLEL && threads::count() > 1 {
            (0..channels).into_par_iter().map(sum_of).collect()
        } else {
            (0..channels).map(sum_of).collect()
        };
        Ok((storage(sums), Shape::from(channels)))
    }
}

/// Adds in 16 partial sums, which the compiler keeps in vectors and which round less than one.
fn sum(values: &[f32]) -> f32 {
    let chunks = values.chunks_exact(16);
    let rest: f32 = chunks.remainder().iter().sum();
    let mut sums = [0.0f32; 16];
    for chunk in chunks {
        sums.iter_mut().zip(chunk).for_each(|(sum, value)| *sum += value);
    }
    sums.iter().sum::<f32>() + rest
}
