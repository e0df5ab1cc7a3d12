//! Convolutions of tensors, without a layer.
//!
//! Each function packs the weight for its call. A layer of [`conv`](crate::conv) keeps the packed weight.

use crate::op::{Args, apply};
use crate::spec::Spec;
use candle_core::{Result, Tensor};
use candle_nn::conv::{Conv1dConfig, Conv2dConfig, ConvTranspose1dConfig, ConvTranspose2dConfig};
use kernels::Activation;

macro_rules! function {
    ($(#[$doc:meta])* $name:ident, $config:ident) => {
        $(#[$doc])*
        ///
        /// The bias, one number per output channel, and the activation are applied while the sums are in
        /// registers, unless a tensor needs a gradient. All tensors have gradients.
        ///
        /// # Errors
        /// If the extents do not fit together, with the reason; if the tensors have different types or
        /// devices; or if the system refuses memory.
        pub fn $name(
            input: &Tensor,
            weight: &Tensor,
            bias: Option<&Tensor>,
            config: $config,
            activation: Activation,
        ) -> Result<Tensor> {
            apply(Spec::from(config), Args { input, weight, bias }, activation, None)
        }
    };
}

function! {
    /// Convolves `[N, C, L]` with a weight `[O, C / groups, K]`.
    conv1d, Conv1dConfig
}
function! {
    /// Convolves `[N, C, H, W]` with a weight `[O, C / groups, KH, KW]`.
    conv2d, Conv2dConfig
}
function! {
    /// Computes the transposed convolution of `[N, C, L]` with a weight `[C, O / groups, K]`.
    conv_transpose1d, ConvTranspose1dConfig
}
function! {
    /// Computes the transposed convolution of `[N, C, H, W]` with a weight `[C, O, KH, KW]`.
    conv_transpose2d, ConvTranspose2dConfig
}
