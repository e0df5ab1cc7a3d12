//! 2-D convolution on CPUs, with SIMD kernels for AVX-512, AVX2 with FMA, and NEON.
//!
//! The library picks a kernel for the machine at run time and an algorithm for the shape of the layer. It
//! packs the weights once. A run then allocates nothing, never panics on bad arguments, and gives the same
//! bits with any number of threads.
//!
//! # Five steps
//!
//! A convolution passes through five steps. Each step uses only the results of the steps before it.
//!
//! ```text
//! describe  ->  choose  ->  plan (pack)  ->  run (split among threads)  ->  tiles (SIMD, epilogue in registers)
//! ```
//!
//! 1. **Describe.** A [`ConvDesc`] is one checked convolution: shapes, stride, dilation, padding, groups and
//!    layout. Its [`EpilogueSpec`] says what follows the sum: bias, residual and activation.
//! 2. **Choose.** The library detects the best instruction set of the machine ([`Isa`]) and chooses an
//!    [`Algorithm`] for the shape. [`PlanOptions`] can force or restrict both choices.
//! 3. **Plan.** [`ConvPlan::new`] packs the weights into the order in which the chosen kernel reads them. The
//!    plan is immutable and `Send + Sync`. [`ConvPlan::explain`] says what was chosen, and why the other
//!    algorithms were not.
//! 4. **Run.** [`ConvPlan::run`] checks every tensor, splits the output among [`Threads`] and computes it.
//! 5. **Tiles.** A register tile computes one small block of the output. It applies the epilogue before it
//!    stores the block. Tiles are written once over a small SIMD trait and compiled once per instruction set.
//!
//! # Example
//!
//! ```
//! use kernels::*;
//! # fn main() -> Result<(), ConvError> {
//! // 8 channels of 32x32 to 16 channels, 3x3 with padding 1, then bias and ReLU.
//! let desc = ConvDesc::builder(Shape4::new(1, 8, 32, 32), 16, Size2::square(3))
//!     .pad(Pad2::all(1))
//!     .epilogue(EpilogueSpec::bias(Activation::Relu))
//!     .build()?;
//! let (filter, bias) = (vec![0.1; desc.filter_len()], vec![0.5; 16]);
//!
//! // Once: choose an algorithm and pack the weights.
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
//! # Weights apart from plans
//!
//! A [`ConvPlan`] is made for one batch and one image size. A [`Filter`] holds the weights without these
//! sizes. It packs each form once and shares it among all plans that need it, so that a plan for another size
//! takes microseconds. [`Filter::write_packed`] saves the packed forms for the next start of the program.
//!
//! A [`Conv`] adds a cache of plans and workspaces to a filter. It takes inputs of any batch and image size.
//!
//! # Threads
//!
//! Each run gets [`Threads`] from its caller: the calling thread alone, a rayon pool (feature `rayon`), or
//! any other pool through the [`Executor`] trait. A plan is sized for at most [`PlanOptions::max_threads`]
//! threads; the default is 1. [`Threads::with_team`] keeps the threads of a rayon pool awake between the runs
//! of a forward pass.
//!
//! # Memory
//!
//! The caller owns the inputs, the outputs and the scratch memory of a run. An output can be uninitialised
//! ([`TensorOut`]). Scratch is a [`Workspace`] or any `[f32]` slice of the length that
//! [`ConvPlan::workspace_req`] asks for. One workspace serves a whole network ([`WorkspaceReq::union`]).
//!
//! If the system refuses an allocation, the call returns [`ConvError::OutOfMemory`].
//!
//! # Layouts
//!
//! A tensor is NCHW, NHWC or blocked by 16 channels ([`Layout`]). A filter is OIHW in every layout. A tensor
//! can be a slice of a wider one: [`Pitch`] gives the distance between its images and pixels. A layer can
//! thus write its part of a concatenation in place.
//!
//! # Other layers
//!
//! [`Ops`] has the layers that stand between convolutions: pooling, normalisation, softmax, activations,
//! sums, and copies between layouts. A [`LinearPlan`] is a fully connected layer.
//!
//! # Cargo features
//!
//! All three features are enabled by default.
//!
//! | feature | what it adds |
//! |---|---|
//! | `ops` | [`Ops`] and [`LinearPlan`] |
//! | `rayon` | runs in rayon pools, and [`Threads::with_team`]; without it the crate does not depend on rayon |
//! | `wisdom` | [`Wisdom`] in files; without it, measured times can be kept as text |
//!
//! # Limits
//!
//! The library computes in `f32` only, forward passes only, and 2-D convolutions only. It builds no thread
//! pool, reads no environment variable, and keeps no global state.

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
#[allow(missing_debug_implementations)] // function pointers, and not public
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

/// The register tiles and parts of the cost model, for this workspace's tests and benches. Not a public
/// interface.
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
