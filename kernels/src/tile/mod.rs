//! Step 5, tiles: the loops that live in registers, behind safe, length-checked calls.
//!
//! A kernel is a [`boundary::Body`]: one generic function over the SIMD token. `boundary` compiles it once per
//! instruction set, `table` collects the function pointers, and the safe methods there check every slice
//! before they call one. Nothing above this folder is `unsafe`; in it, the modules that say so are.
//!
//! Index loops over const-generic bounds are used on purpose throughout: iterator adaptors are functions of
//! their own, and one that is not inlined is compiled without the instruction set.
#![allow(clippy::needless_range_loop)]

#[allow(unsafe_code)]
#[cfg(feature = "ops")]
pub(crate) mod add;
#[allow(unsafe_code)]
#[cfg(feature = "ops")]
pub(crate) mod affine;
#[allow(unsafe_code)]
pub(crate) mod boundary;
#[allow(unsafe_code)]
pub(crate) mod copy;
#[allow(unsafe_code)]
pub(crate) mod copy_table;
#[allow(unsafe_code)]
pub(crate) mod depthwise;
#[allow(unsafe_code)]
pub(crate) mod depthwise_read;
#[allow(unsafe_code)]
mod depthwise_sum;
#[allow(unsafe_code)]
pub(crate) mod depthwise_table;
pub(crate) mod detect;
#[allow(unsafe_code)]
pub(crate) mod direct;
#[allow(unsafe_code)]
pub(crate) mod direct_table;
#[allow(unsafe_code)]
#[cfg(feature = "ops")]
pub(crate) mod elementwise;
#[allow(unsafe_code)]
pub(crate) mod fft;
#[allow(unsafe_code)]
mod fft_plane;
#[allow(unsafe_code)]
mod fft_product;
#[allow(unsafe_code)]
pub(crate) mod fft_table;
#[allow(unsafe_code)]
mod finish;
#[allow(unsafe_code)]
pub(crate) mod gemm;
#[allow(unsafe_code)]
pub(crate) mod gemm_table;
#[cfg(feature = "internal")]
pub(crate) mod inspect;
#[allow(unsafe_code)]
#[cfg(feature = "ops")]
pub(crate) mod layer_table;
#[allow(unsafe_code)]
#[cfg(feature = "ops")]
pub(crate) mod lrn;
#[allow(unsafe_code)]
#[cfg(feature = "ops")]
pub(crate) mod maxout;
mod measure;
#[allow(unsafe_code)]
#[cfg(feature = "ops")]
pub(crate) mod moments;
#[allow(unsafe_code)]
#[cfg(feature = "ops")]
pub(crate) mod ops_table;
#[allow(unsafe_code)]
pub(crate) mod output;
#[cfg(all(test, feature = "ops"))]
mod overflow;
#[allow(unsafe_code)]
#[cfg(feature = "ops")]
pub(crate) mod pool;
#[allow(unsafe_code)]
#[cfg(feature = "ops")]
pub(crate) mod pool_plane;
pub(crate) mod post;
#[allow(unsafe_code)]
#[cfg(feature = "ops")]
mod reduce;
pub(crate) mod shape;
#[allow(unsafe_code)]
pub(crate) mod store;
pub(crate) mod table;
#[cfg(feature = "ops")]
pub(crate) mod window;
#[allow(unsafe_code)]
pub(crate) mod winograd;
#[allow(unsafe_code)]
pub(crate) mod winograd_table;
