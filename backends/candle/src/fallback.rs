//! candle's own operators, for everything that the library does not compute.

use crate::op::Args;
use crate::spec::{Problem, Rank, Spec};
use candle_core::{Result, Tensor, bail};
use kernels::Activation;

/// candle's convolution, then the bias and the activation as candle computes them.
pub(crate) fn forward(problem: &Problem, args: Args<'_>, activation: Activation) -> Result<Tensor> {
    let Args { input, weight, bias } = args;
    let outputs = problem.output_dims();
    let Spec { rank, transposed, padding, output_padding, stride, dilation, groups, cudnn_fwd_algo } =
        problem.spec;
    if transposed && crops_first(problem) {
        let unpadded = Spec { padding: 0, ..problem.spec };
        let problem = Problem::new(unpadded, input.dims(), weight.dims())?;
        let mut output = forward(&problem, args, activation)?;
        for (axis, length) in outputs.into_iter().enumerate().skip(2) {
            output = output.narrow(axis, padding, length)?;
        }
        return output.contiguous();
    }
    let sum = match (rank, transposed) {
        (Rank::One, false) => {
            input.conv1d_with_algo(weight, padding, stride, dilation, groups, cudnn_fwd_algo)
        }
        (Rank::Two, false) => {
            input.conv2d_with_algo(weight, padding, stride, dilation, groups, cudnn_fwd_algo)
        }
        (Rank::One, true) => {
            input.conv_transpose1d(weight, padding, output_padding, stride, dilation, groups)
        }
        (Rank::Two, true) => input.conv_transpose2d(weight, padding, output_padding, stride, dilation),
    }?;
    let sum = match bias {
        None => sum,
        Some(bias) => add_bias(&sum, bias)?,
    };
    activate(&sum, activation)
}

/// Whether candle would subtract the padding from something smaller, which panics in a debug build.
fn crops_first(problem: &Problem) -> bool {
    let Problem { spec, input, .. } = *problem;
    let lengths = if spec.rank == Rank::One { [input.w, input.w] } else { [input.h, input.w] };
    lengths.iter().any(|length| (length - 1) * spec.stride < 2 * spec.padding)
}

/// Adds one number per channel, broadcast as `candle_nn` does it.
pub(crate) fn add_bias(sum: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let mut dims = vec![1; sum.rank()];
    dims[1] = bias.dims1()?;
    sum.broadcast_add(&bias.reshape(dims)?)
}

/// Applies an activation by candle's operators, which have gradients.
pub(crate) fn activate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    match activation {
        Activation::None => Ok(x.clone()),
        Activation::Relu => x.relu(),
        Activation::LeakyRelu { alpha } => candle_nn::ops::leaky_relu(x, f64::from(alpha)),
        Activation::Clip { lo, hi } => x.clamp(f64::from(lo), f64::from(hi)),
        Activation::Sigmoid => candle_nn::ops::sigmoid(x),
        Activation::Tanh => x.tanh(),
        Activation::Elu { alpha } => x.elu(f64::from(alpha)),
        Activation::HardSwish => x * candle_nn::ops::hard_sigmoid(x)?,
        Activation::Silu => x.silu(),
        Activation::PRelu => bail!("activation: expected one without slopes per channel, got prelu"),
        other => bail!("activation: expected one that candle has, got {}", other.name()),
    }
}
