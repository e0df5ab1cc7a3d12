//! SIMD convolution for CPUs: one plan per layer shape, the best kernel for this machine, no allocation in the hot path.
//!
//! Five steps in one direction; the folders of this crate are these steps:
//!
//! ```text
//! describe  ->  choose  ->  plan (pack)  ->  run (drivers)  ->  tiles (SIMD), epilogue on registers
//! ```
//!
//! 1. **Describe**: [`ConvDesc`] is one checked 2-D convolution: batch, stride, dilation and padding per axis, groups,
//!    layout, and what follows the sum ([`EpilogueSpec`]: bias, residual, activation).
//! 2. **Choose**: the instruction set ([`Isa`]) is detected at run time and the algorithm ([`Algorithm`]) chosen for the
//!    shape; [`PlanOptions`] can force either.
//! 3. **Plan**: [`ConvPlan::new`] packs the weights. Everything that allocates happens here; the plan is immutable and
//!    `Send + Sync`, and [`ConvPlan::explain`] says what was chosen and why.
//! 4. **Run**: [`ConvPlan::run`] checks every tensor, cuts the output among [`Threads`] and computes it. It allocates
//!    nothing, never panics on bad arguments, and its bits do not depend on the number of threads.
//! 5. **Tiles**: register-blocked kernels, written once over a small SIMD trait, compiled once per instruction set.
//!
//! ```
//! use kernels::*;
//! # fn main() -> Result<(), ConvError> {
//! // 8 channels of 32x32 to 16 channels, 3x3 with padding 1, bias and ReLU.
//! let desc = ConvDesc::builder(Shape4::new(1, 8, 32, 32), 16, Size2::square(3))
//!     .pad(Pad2::all(1))
//!     .epilogue(EpilogueSpec::bias(Activation::Relu))
//!     .build()?;
//! let (filter, bias) = (vec![0.1; desc.filter_len()], vec![0.5; 16]);
//!
//! // Once: choose and pack.
//! let plan = ConvPlan::new(&desc, Weights::with_bias(&filter, &bias), &PlanOptions::default())?;
//! let mut workspace = Workspace::for_req(plan.workspace_req())?;
//!
//! // Many times: run.
//! let input = vec![1.0; desc.input().len(desc.layout())?];
//! let mut output = vec![0.0; desc.output().len(desc.layout())?];
//! let io = ConvIo::new(
//!     TensorRef::packed(&input, desc.input(), desc.layout())?,
//!     TensorMut::packed(&mut output, desc.output(), desc.layout())?,
//! );
//! plan.run(io, &mut workspace, Threads::Seq)?;
//! assert!((output[33] - 7.7).abs() < 1e-4); // 8 * 9 * 0.1 + 0.5
//! println!("{}", plan.explain());
//! # Ok(())
//! # }
//! ```
//!
//! The layers that stand between convolutions (pooling, softmax, fully connected, activations, normalisation, sums,
//! copies between layouts) are in [`Ops`] and
//! [`LinearPlan`]. The library builds no thread pool, reads no environment variable, and keeps no global state.

#![deny(unsafe_code)]
#![deny(missing_debug_implementations)]

mod algo;
mod choose;
mod describe;
#[allow(unsafe_code)]
mod memory;
#[cfg(feature = "ops")]
mod ops;
mod plan;
mod run;
mod simd;
#[allow(missing_debug_implementations)] // function pointers; nothing of it is public
mod tile;
mod work;

pub use choose::{
    Bound, Candidate, Choice, Comparison, Difference, Estimate, Loaded, Numerics, Profile, Rejection, Select,
    Terms, Wisdom,
};
pub use describe::{
    Activation, Algorithm, Algorithms, BLOCK, ConvDesc, ConvDescBuilder, ConvError, Cost, EpilogueSpec,
    FilterShape, Isa, Layout, Pad2, Pitch, Shape4, Size2, TensorMut, TensorOut, TensorRef, Unsupported,
    Weights,
};

pub use memory::{Buffer, Workspace, WorkspaceReq};
#[cfg(feature = "ops")]
pub use ops::{LinearPlan, LrnSpec, NormSpec, Ops, PoolDesc, PoolDescBuilder, PoolKind};
pub use plan::{
    Conv, ConvBuilder, ConvPlan, Filter, PackedError, Packing, PlanOptions, PlanReport, PlanWeights, conv2d,
};
#[cfg(feature = "rayon")]
pub use run::Team;
pub use run::{ConvIo, Executor, Threads};
pub use work::Traffic;

/// The register tiles themselves, for this workspace's tests and benches: no part of the public interface.
#[cfg(feature = "internal")]
#[doc(hidden)]
pub mod internal {
    pub use crate::choose::{choice_with, parts_of};
    pub use crate::tile::direct_table::DirectTile;
    pub use crate::tile::gemm_table::GemmTile;
    pub use crate::tile::inspect::{KernelCode, Loops};
    pub use crate::tile::table::KernelSet;
    pub use crate::tile::winograd_table::WinogradKernels;
}
