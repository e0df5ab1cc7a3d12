//! candle's convolution layers on the kernels of `convkernels`.
//!
//! The crate re-exports everything of [`candle_nn`] and replaces its convolution layers and its batch norm by
//! faster ones with the same names, constructors and results. A model changes its `use` line, and nothing else:
//!
//! ```
//! use candle_core::{DType, Device, Result, Tensor};
//! use convkernels_candle::{Conv2dConfig, Module, VarBuilder, VarMap, conv2d}; // was: use candle_nn::{...}
//! # fn main() -> Result<()> {
//!
//! let weights = VarMap::new();
//! let vb = VarBuilder::from_varmap(&weights, DType::F32, &Device::Cpu);
//! let layer = conv2d(3, 16, 3, Conv2dConfig { padding: 1, ..Default::default() }, vb.pp("stem"))?;
//! let image = Tensor::zeros((1, 3, 32, 32), DType::F32, &Device::Cpu)?;
//! assert_eq!(layer.forward(&image)?.dims(), [1, 16, 32, 32]);
//! # Ok(())
//! # }
//! ```
//!
//! A line in `Cargo.toml` does the same for a whole crate:
//!
//! ```toml
//! candle-nn = { package = "convkernels-candle", version = "0.1" }
//! ```
//!
//! # What is replaced
//!
//! - The layers of [`conv`]: `Conv1d`, `Conv2d`, `ConvTranspose1d` and `ConvTranspose2d`. Bias and, if asked for,
//!   an activation ([`Fused`]) are fused.
//! - [`BatchNorm`] in evaluation mode, which becomes one pass over the tensor.
//! - The gradients of the layers, computed by `kernels::BackwardData` and `kernels::BackwardWeights`. A transposed
//!   1-D convolution has gradients too, which it does not have in candle.
//!
//! `From` converts layers that candle has made. [`functional`] has the same convolutions for tensors.
//!
//! # What falls back to candle
//!
//! Tensors that are not `f32` or not on the CPU, empty batches, and gradients under
//! `CANDLE_GRAD_DO_NOT_DETACH` are computed by candle's own operators, with candle's results. An input that is
//! neither a variable nor computed from one gets no gradient, which saves time; candle computes one.
//!
//! # Inputs
//!
//! An input is read without a copy if its strides are those of NCHW or of NHWC (a permuted view), with any
//! offset and any distance between images. Any other input is made contiguous first. The output is always
//! contiguous.
//!
//! # Threads
//!
//! Outside of a rayon pool, convolutions run on the calling thread and on threads of this crate
//! (`kernels::Helpers`), which stay awake for up to 10 ms between layers. Inside a rayon pool, they run on its
//! threads. The number of threads is [`get_num_threads`](candle_core::utils::get_num_threads), or the pool's if that
//! is smaller, and `RAYON_NUM_THREADS` limits it. With `RAYON_NUM_THREADS=1` all of this runs on the calling thread.
//!
//! Large batch norms, and the gradient of a bias whose weight has no gradient, run in the current rayon pool. So does the
//! gradient of the bias of a transposed convolution.
//!
//! Layers can be called from any number of threads, and from inside a job of a pool.

mod backward;
pub mod batch_norm;
pub mod conv;
mod fallback;
pub mod functional;
mod op;
mod output;
mod plans;
mod run;
mod spec;
mod threads;
mod view;

pub use batch_norm::{BatchNorm, batch_norm};
pub use candle_nn::*;
pub use conv::{
    Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d, conv_transpose1d, conv_transpose1d_no_bias,
    conv_transpose2d, conv_transpose2d_no_bias, conv1d, conv1d_no_bias, conv2d, conv2d_no_bias,
};
/// The activations that a layer can fuse. It is called `Fused` here, because `candle_nn` has an `Activation`.
pub use kernels::Activation as Fused;
