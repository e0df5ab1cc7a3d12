//! Convolutions and image filters of [`ndarray`] arrays in `f32`, computed by [`kernels`].
//!
//! - [`filter2d`] applies one kernel to an image, with any [`Border`], as OpenCV's `filter2D` does.
//!   [`filter2d_hwc`] and [`filter2d_chw`] take images with channels.
//! - [`correlate2d`], [`convolve2d`], [`correlate1d`] and [`convolve1d`] have the sizes of SciPy and NumPy.
//! - [`Filter2d`] prepares a kernel once. It has all options, and writes to the caller's memory.
//! - [`conv2d`] and [`Conv2d`] convolve batches of many channels, as neural networks do. [`conv2d_input_gradient`] and
//!   [`conv2d_weight_gradients`] are its gradients, and [`conv_transpose2d`] is the transposed convolution.
//!
//! ```
//! use convkernels_ndarray::{Border, Mode, convolve2d, filter2d};
//! use ndarray::array;
//! # fn main() -> Result<(), convkernels_ndarray::Error> {
//! let image = array![[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]];
//! let difference = array![[-1.0, 1.0]];
//! // The anchor of a kernel of two columns is its second one.
//! let gradient = filter2d(image.view(), difference.view(), Border::Replicate)?;
//! assert_eq!(gradient, array![[0.0, 1.0, 2.0], [0.0, 8.0, 16.0]]);
//! // A convolution rotates the kernel.
//! let valid = convolve2d(image.view(), difference.view(), Mode::Valid)?;
//! assert_eq!(valid, array![[-1.0, -2.0], [-8.0, -16.0]]);
//! # Ok(())
//! # }
//! ```
//!
//! # Views
//!
//! Arrays can be views with any strides: sliced, transposed, reversed or broadcast. What the library cannot
//! read or write in place is copied, if possible in parts that stay in cache. New outputs cost page faults,
//! which take longer than a small filter: use the methods that end in `_into` for large images.
//!
//! # Speed
//!
//! Kernels that are a column times a row, such as box and Gaussian blurs, are recognised and run as two passes
//! over stripes of rows. Large kernels that are not run by Fourier transforms. [`Threads::Rayon`] uses rayon's
//! pool, and gives the same bits.
//!
//! # Infinities and NaN
//!
//! An infinite or NaN pixel reaches every output that reads it. It can spoil others too: the outputs of the
//! same tile of a Fourier transform, and those in up to 64 columns and one stripe of rows around it if the
//! kernel is separable.

#![deny(unsafe_code)]

mod border;
mod conv;
mod correlate;
mod engine;
mod error;
mod filter;
mod gradients;
mod memory;
mod separable;
mod threads;

pub use border::Border;
pub use conv::{Conv2d, ConvOptions, conv2d};
pub use correlate::{convolve1d, convolve2d, correlate1d, correlate2d};
pub use error::Error;
pub use filter::{Filter2d, FilterOptions, Mode, filter2d, filter2d_chw, filter2d_hwc};
pub use gradients::{WeightGradients, conv_transpose2d, conv2d_input_gradient, conv2d_weight_gradients};
pub use kernels::{Activation, ConvError, Pad2, Size2};
pub use threads::Threads;

/// Compiles the code of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
