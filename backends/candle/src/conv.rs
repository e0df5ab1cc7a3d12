//! The layers of `candle_nn::conv`, under the same names and with the same constructors.
//!
//! `new`, the free functions, `config`, `weight`, `bias`, `absorb_bn` and `forward` mean what they mean in
//! [`candle_nn::conv`]. The free functions create tensors through [`VarBuilder`] under the names `weight` and
//! `bias`, with candle's initial values. `From` converts a layer of candle.
//!
//! # When packed weights are kept
//!
//! The library packs weights before it computes. A layer keeps what it packed only while the weights are the
//! same:
//!
//! | weights | what each call does |
//! |---|---|
//! | loaded by a free function of this module (`conv2d(..., vb)`) or computed by `absorb_bn`, and neither a variable nor computed from one | uses the packed weights |
//! | any other | compares a 64-bit checksum of weight and bias with the one of the packed weights, and packs again if it differs |
//!
//! Whether a tensor is a variable, or computed from one, is [`Tensor::track_op`]. The checksum therefore covers
//! variables of a `VarMap`, which an optimizer changes in place, and tensors given to `new`, which may share
//! the memory of a variable ([`Tensor::detach`]). It reads the weights once and is several times faster than
//! packing them. `frozen` skips it.
//!
//! candle keeps the running mean and variance of a batch norm in variables. `absorb_bn` takes their values as they
//! are, so its weights are variables only if a weight or a bias is one.

use crate::batch_norm::scale_and_shift;
use crate::op::{Args, Kept, apply};
use crate::plans::Plans;
use crate::spec::{Rank, Spec};
use candle_core::{Module, Result, Tensor};
pub use candle_nn::conv::{Conv1dConfig, Conv2dConfig, ConvTranspose1dConfig, ConvTranspose2dConfig};
use candle_nn::{BatchNorm, VarBuilder};
use kernels::Activation;
use std::fmt;
use std::sync::Arc;

/// What the four layers have in common.
#[derive(Clone)]
struct Layer {
    weight: Tensor,
    bias: Option<Tensor>,
    activation: Activation,
    /// Whether the caller, or the way in which the weights were made, promises that they do not change.
    frozen: bool,
    plans: Arc<Plans>,
}

impl Layer {
    fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { weight, bias, activation: Activation::None, frozen: false, plans: Arc::default() }
    }

    /// Trusts the weights. The plans of a layer belong to the checksum of its weights, and trusted weights have none:
    /// a clone that checks and one that trusts would discard each other's plans in each call.
    fn freeze(&mut self) {
        if !self.frozen {
            self.frozen = true;
            self.plans = Arc::default();
        }
    }

    fn forward(&self, spec: Spec, input: &Tensor) -> Result<Tensor> {
        let tracked = self.weight.track_op() || self.bias.as_ref().is_some_and(Tensor::track_op);
        let kept = Kept { plans: self.plans.clone(), constant: self.frozen && !tracked };
        let args = Args { input, weight: &self.weight, bias: self.bias.as_ref() };
        apply(spec, args, self.activation, Some(&kept))
    }
}

macro_rules! layer {
    ($(#[$doc:meta])* $name:ident, $config:ident) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name {
            layer: Layer,
            config: $config,
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name))
                    .field("weight", &self.layer.weight)
                    .field("bias", &self.layer.bias)
                    .field("config", &self.config)
                    .field("activation", &self.layer.activation)
                    .finish()
            }
        }

        impl $name {
            /// Makes a layer of these tensors. Shapes are checked by `forward`.
            pub fn new(weight: Tensor, bias: Option<Tensor>, config: $config) -> Self {
                Self { layer: Layer::new(weight, bias), config }
            }

            /// The configuration.
            pub fn config(&self) -> &$config {
                &self.config
            }

            /// The weight.
            pub fn weight(&self) -> &Tensor {
                &self.layer.weight
            }

            /// The bias.
            pub fn bias(&self) -> Option<&Tensor> {
                self.layer.bias.as_ref()
            }

            /// Applies `activation` to the output. Without gradients it is computed while the sums are still
            /// in registers; with gradients, by candle's operators.
            ///
            /// `forward` refuses [`Activation::PRelu`], because there are no slopes.
            #[must_use]
            pub fn with_activation(mut self, activation: Activation) -> Self {
                self.layer.activation = activation;
                self
            }

            /// The activation. It is [`Activation::None`] unless
            /// [`with_activation`](Self::with_activation) has set another one.
            pub fn activation(&self) -> Activation {
                self.layer.activation
            }

            /// Promises that the weights do not change any more, so that no checksum is needed. The promise
            /// has no effect while the weight or the bias is a variable or computed from one.
            #[must_use]
            pub fn frozen(mut self) -> Self {
                self.layer.freeze();
                self
            }

            /// Number of plans that the layer keeps: one for each input shape, at most 16. Clones share them,
            /// but a layer that is not frozen shares none with its frozen clones.
            pub fn plans(&self) -> usize {
                self.layer.plans.len()
            }

            fn loaded(weight: &Tensor, bias: Option<&Tensor>, config: &$config) -> Self {
                Self::new(weight.clone(), bias.cloned(), *config).frozen()
            }
        }

        impl From<candle_nn::$name> for $name {
            /// Returns the layer with the same tensors and configuration. Each call checks its weights, unless
            /// [`frozen`](Self::frozen) promises that they do not change.
            fn from(layer: candle_nn::$name) -> Self {
                Self::new(layer.weight().clone(), layer.bias().cloned(), *layer.config())
            }
        }

        impl Module for $name {
            /// # Errors
            /// If the extents do not fit together, with the reason; if the tensors have different types or
            /// devices; or if the system refuses memory.
            fn forward(&self, input: &Tensor) -> Result<Tensor> {
                self.layer.forward(Spec::from(self.config), input)
            }
        }
    };
}

macro_rules! constructors {
    ($name:ident, $config:ident, $with_bias:ident, $no_bias:ident) => {
        constructors!(@one $name, $config, $with_bias, "Creates a layer with a bias from `vb`.");
        constructors!(@one $name, $config, $no_bias, "Creates a layer without a bias from `vb`.");
    };
    (@one $name:ident, $config:ident, $function:ident, $doc:literal) => {
        #[doc = $doc]
        ///
        /// # Errors
        /// If `vb` does not have the tensors in these shapes.
        pub fn $function(
            in_channels: usize,
            out_channels: usize,
            kernel_size: usize,
            cfg: $config,
            vb: VarBuilder<'_>,
        ) -> Result<$name> {
            check_groups(&Spec::from(cfg))?;
            let layer = candle_nn::conv::$function(in_channels, out_channels, kernel_size, cfg, vb)?;
            Ok($name::loaded(layer.weight(), layer.bias(), layer.config()))
        }
    };
}

layer! {
    /// A 1-D convolution: `[N, C, L]` with a weight `[O, C / groups, K]` to `[N, O, L']`.
    Conv1d, Conv1dConfig
}
layer! {
    /// A 2-D convolution: `[N, C, H, W]` with a weight `[O, C / groups, KH, KW]` to `[N, O, H', W']`.
    Conv2d, Conv2dConfig
}
layer! {
    /// A transposed 1-D convolution: `[N, C, L]` with a weight `[C, O / groups, K]` to `[N, O, L']`.
    ConvTranspose1d, ConvTranspose1dConfig
}
layer! {
    /// A transposed 2-D convolution: `[N, C, H, W]` with a weight `[C, O, KH, KW]` to `[N, O, H', W']`.
    ConvTranspose2d, ConvTranspose2dConfig
}

constructors!(Conv1d, Conv1dConfig, conv1d, conv1d_no_bias);
constructors!(Conv2d, Conv2dConfig, conv2d, conv2d_no_bias);
constructors!(ConvTranspose1d, ConvTranspose1dConfig, conv_transpose1d, conv_transpose1d_no_bias);
constructors!(ConvTranspose2d, ConvTranspose2dConfig, conv_transpose2d, conv_transpose2d_no_bias);

impl Conv2d {
    /// Returns the layer that computes this convolution and then `bn` in evaluation mode. It keeps the
    /// activation of this layer.
    ///
    /// The new weights have gradients to the variables among the weights and biases of both. The running mean and
    /// variance have no gradients.
    ///
    /// # Errors
    /// If `bn` has no weight and bias, or another number of channels.
    pub fn absorb_bn(&self, bn: &BatchNorm) -> Result<Self> {
        if bn.weight_and_bias().is_none() {
            candle_core::bail!("batch norm: expected one with a weight and a bias, got one without");
        }
        let (outputs, channels) = (self.weight().dims4()?.0, bn.running_mean().elem_count());
        if channels != outputs {
            candle_core::bail!(
                "batch norm: expected the {outputs} channels of the convolution, got {channels}"
            );
        }
        let (scale, shift) = scale_and_shift(bn, self.bias())?;
        let weight = self.weight().broadcast_mul(&scale.reshape((channels, 1, 1, 1))?)?;
        Ok(Self::loaded(&weight, Some(&shift), &self.config).with_activation(self.activation()))
    }
}

/// candle divides by the groups before it checks them.
fn check_groups(spec: &Spec) -> Result<()> {
    match spec.groups {
        0 => candle_core::bail!("groups: expected at least 1, got 0"),
        _ => Ok(()),
    }
}

impl From<Conv1dConfig> for Spec {
    fn from(config: Conv1dConfig) -> Self {
        let Conv1dConfig { padding, stride, dilation, groups, cudnn_fwd_algo } = config;
        Self {
            rank: Rank::One,
            transposed: false,
            padding,
            output_padding: 0,
            stride,
            dilation,
            groups,
            cudnn_fwd_algo,
        }
    }
}

impl From<Conv2dConfig> for Spec {
    fn from(config: Conv2dConfig) -> Self {
        let Conv2dConfig { padding, stride, dilation, groups, cudnn_fwd_algo } = config;
        Self {
            rank: Rank::Two,
            transposed: false,
            padding,
            output_padding: 0,
            stride,
            dilation,
            groups,
            cudnn_fwd_algo,
        }
    }
}

impl From<ConvTranspose1dConfig> for Spec {
    fn from(config: ConvTranspose1dConfig) -> Self {
        let ConvTranspose1dConfig { padding, output_padding, stride, dilation, groups } = config;
        Self {
            rank: Rank::One,
            transposed: true,
            padding,
            output_padding,
            stride,
            dilation,
            groups,
            cudnn_fwd_algo: None,
        }
    }
}

impl From<ConvTranspose2dConfig> for Spec {
    fn from(config: ConvTranspose2dConfig) -> Self {
        let ConvTranspose2dConfig { padding, output_padding, stride, dilation } = config;
        Self {
            rank: Rank::Two,
            transposed: true,
            padding,
            output_padding,
            stride,
            dilation,
            groups: 1,
            cudnn_fwd_algo: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::conv::CudnnFwdAlgo;

    /// The fallback reads it from here. No output shows it without a GPU.
    #[test]
    fn the_algorithm_for_cudnn_is_kept() {
        let cudnn_fwd_algo = Some(CudnnFwdAlgo::Winograd);
        let one = Spec::from(Conv1dConfig { cudnn_fwd_algo, ..Default::default() });
        let two = Spec::from(Conv2dConfig { cudnn_fwd_algo, ..Default::default() });
        assert_eq!([one.cudnn_fwd_algo, two.cudnn_fwd_algo], [cudnn_fwd_algo; 2]);
    }
}
