//! Fast convolutions and image filters for [`ndarray`], computed by `convkernels`.
#![deny(unsafe_code)]

mod border;
mod conv;
mod correlate;
mod engine;
mod error;
mod filter;
mod memory;
mod separable;
mod threads;

pub use border::Border;
pub use conv::{Conv2d, ConvOptions, conv2d};
pub use correlate::{convolve1d, convolve2d, correlate1d, correlate2d};
pub use error::Error;
pub use filter::{Filter2d, FilterOptions, Mode, filter2d, filter2d_chw, filter2d_hwc};
pub use kernels::{Activation, ConvError, Pad2, Size2};
pub use threads::Threads;
