//! Step 5, tiles: the loops that live in registers, behind safe, length-checked calls.
//!
//! A kernel is a [`boundary::Body`]: one generic function over the SIMD token. `boundary` compiles it once per
//! instruction set, `table` collects the function pointers, and the safe methods there check every slice
//! before they call one. Nothing above this folder is `unsafe`.
//!
//! Index loops over const-generic bounds are used on purpose throughout: iterator adaptors are functions of
//! their own, and one that is not inlined is compiled without the instruction set.
#![allow(clippy::needless_range_loop)]

pub(crate) mod add;
pub(crate) mod affine;
pub(crate) mod boundary;
pub(crate) mod copy;
pub(crate) mod depthwise;
pub(crate) mod depthwise_read;
mod depthwise_sum;
pub(crate) mod depthwise_table;
pub(crate) mod detect;
pub(crate) mod direct;
pub(crate) mod direct_table;
pub(crate) mod elementwise;
pub(crate) mod fft;
mod fft_plane;
mod fft_product;
pub(crate) mod fft_table;
mod finish;
pub(crate) mod gemm;
pub(crate) mod gemm_table;
pub(crate) mod layer_table;
pub(crate) mod lrn;
pub(crate) mod maxout;
mod measure;
pub(crate) mod moments;
pub(crate) mod ops_table;
pub(crate) mod output;
#[cfg(test)]
mod overflow;
pub(crate) mod pool;
pub(crate) mod pool_plane;
mod reduce;
pub(crate) mod store;
pub(crate) mod table;
pub(crate) mod window;
pub(crate) mod winograd;
pub(crate) mod winograd_table;
