//! Step 5, tiles: loops whose sums stay in registers, behind safe, length-checked calls.
//!
//! A kernel is a [`boundary::Body`]: one generic function over a SIMD token. [`boundary::Enter`] gives every
//! body one entry per instruction set, `enter_<isa>`, which enables the features of that set and inlines the
//! body.
//!
//! The entries of one family of kernels are function pointers in a `*_table` module. Its safe methods measure
//! every operand (`measure`) before they call an entry. `table` collects all tables of an instruction set in
//! a [`table::KernelSet`], and `detect` chooses the set for this machine.
//!
//! | family | kernels | safe calls |
//! |---|---|---|
//! | matrix product | `gemm` | `gemm_table` |
//! | direct | `direct`, `rows`, `few` | `direct_table`, `rows_table`, `few_table` |
//! | depthwise | `depthwise`, `depthwise_sum`, `depthwise_points`, `depthwise_read` | `depthwise_table` |
//! | Winograd | `winograd`, products in `gemm` | `winograd_table` |
//! | FFT | `fft`, `fft_plane`, `fft_product`, `finish` | `fft_table` |
//! | gradient of a filter | `taps`, `taps_depthwise`, `partial` | `taps_table` |
//! | bf16 products | `parts`, `amx`, `parts_plain` | `parts_table` |
//! | copies | `copy` | `copy_table` |
//! | activation, softmax, pooling | `elementwise`, `pool`, `pool_plane`, `reduce`, `window` | `ops_table` |
//! | other layers | `affine`, `combine`, `moments`, `lrn`, `maxout` | `layer_table` |
//! | gradients of the layers | `grad` | `grad::table` |
//!
//! The last three families are compiled only with the feature `ops`. All convolutions share `target`, `activate`, `store` (initial
//! sums, epilogue and partial tiles) and `post` (the operands of the epilogue). `shape` describes register
//! tiles. `output` is the only way to write an output tensor. `inspect` lists every entry for tests and
//! benches, with the feature `internal`. `overflow` tests that tables refuse sizes that overflow.
//!
//! Only the modules marked `#[allow(unsafe_code)]` contain unsafe code. docs/unsafe.md lists all of them.
//!
//! Index loops over const-generic bounds are deliberate. An iterator adaptor is a separate function. If it is
//! not inlined, it is compiled without the instruction set.
#![allow(clippy::needless_range_loop)]

#[allow(unsafe_code)]
mod activate;
#[allow(unsafe_code)]
#[cfg(feature = "ops")]
pub(crate) mod affine;
#[allow(unsafe_code)]
#[cfg(target_arch = "x86_64")]
pub(crate) mod amx;
#[allow(unsafe_code)]
pub(crate) mod boundary;
#[allow(unsafe_code)]
#[cfg(feature = "ops")]
pub(crate) mod combine;
#[allow(unsafe_code)]
pub(crate) mod copy;
#[allow(unsafe_code)]
pub(crate) mod copy_table;
#[allow(unsafe_code)]
pub(crate) mod depthwise;
#[allow(unsafe_code)]
pub(crate) mod depthwise_points;
#[allow(unsafe_code)]
pub(crate) mod depthwise_read;
#[allow(unsafe_code)]
mod depthwise_sum;
#[allow(unsafe_code)]
pub(crate) mod depthwise_table;
pub(crate) mod detect;
#[allow(unsafe_code)]
pub(crate) mod direct;
mod direct_pixels;
#[allow(unsafe_code)]
pub(crate) mod direct_table;
#[allow(unsafe_code)]
#[cfg(feature = "ops")]
pub(crate) mod elementwise;
#[allow(unsafe_code)]
pub(crate) mod few;
#[allow(unsafe_code)]
pub(crate) mod few_table;
#[allow(unsafe_code)]
pub(crate) mod fft;
#[allow(unsafe_code)]
pub(crate) mod fft_lanes;
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
#[cfg(feature = "ops")]
pub(crate) mod grad;
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
pub(crate) mod partial;
#[allow(unsafe_code)]
pub(crate) mod parts;
#[allow(unsafe_code)]
mod parts_plain;
#[allow(unsafe_code)]
pub(crate) mod parts_table;
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
#[allow(unsafe_code)]
pub(crate) mod rows;
#[allow(unsafe_code)]
pub(crate) mod rows_table;
pub(crate) mod shape;
#[allow(unsafe_code)]
pub(crate) mod store;
pub(crate) mod table;
#[allow(unsafe_code)]
pub(crate) mod taps;
#[allow(unsafe_code)]
pub(crate) mod taps_depthwise;
#[allow(unsafe_code)]
pub(crate) mod taps_table;
mod target;
mod transpose;
mod unroll;
#[cfg(feature = "ops")]
pub(crate) mod window;
#[allow(unsafe_code)]
pub(crate) mod winograd;
#[allow(unsafe_code)]
mod winograd_filter;
pub(crate) mod winograd_operands;
#[allow(unsafe_code)]
mod winograd_output;
#[allow(unsafe_code)]
pub(crate) mod winograd_table;
#[allow(unsafe_code)]
pub(crate) mod winograd_weights;
