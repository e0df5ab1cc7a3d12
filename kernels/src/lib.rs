//! 1-D, 2-D and 3-D convolution on CPUs, with kernels for AVX-512, AVX2 with FMA, NEON, portable vectors, and the bf16 units of
//! x86 (matrix tiles and dot products).
//!
//! The library picks an instruction set for the machine at run time, and an algorithm for the shape of the
//! layer. A plan packs the weights once. A run then allocates nothing and never panics on bad arguments. A plan
//! gives the same bits with any number of threads.
//!
//! # Five steps
//!
//! ```text
//! describe  ->  choose  ->  plan (pack)  ->  run (split among threads)  ->  tiles (SIMD, epilogue in registers)
//! ```
//!
//! 1. **Describe.** A [`ConvDesc`] describes one convolution: shapes, stride, dilation, padding, groups and
//!    layout. Building it checks that they fit together. Its epilogue ([`EpilogueSpec`]) is what is applied to each
//!    output: a bias, a residual (a second tensor to add), and an activation.
//! 2. **Choose.** The library detects the best instruction set of the machine ([`Isa`]). It chooses an
//!    [`Algorithm`] with a cost model, or by timing the candidates ([`Select`]). [`PlanOptions`] can force or
//!    restrict both, and [`Numerics`] limits the rounding error. Where the machine has a bf16 unit and the limit
//!    allows it, the algorithm multiplies bf16 numbers ([`Products`]); both together are a [`Method`].
//! 3. **Plan.** [`ConvPlan::new`] packs the weights into the order in which the chosen kernel reads them. The
//!    plan is immutable and `Send + Sync`. [`ConvPlan::explain`] names the chosen algorithm and gives a reason
//!    against each of the others.
//! 4. **Run.** [`ConvPlan::run`] checks every tensor. It then splits the output among [`Threads`], and each
//!    thread computes its part.
//! 5. **Tiles.** A tile is a function that computes a block of outputs so small that their sums stay in
//!    registers. It applies the epilogue before it stores them. Each tile is one generic function over a small
//!    SIMD trait, compiled for every instruction set.
//!
//! # Example
//!
//! ```
//! use kernels::*;
//! # fn main() -> Result<(), ConvError> {
//! // A 3x3 convolution with padding 1, from 8 to 16 channels of 32x32, then bias and ReLU.
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
//! // output[33] is row 1, column 1: all 8 * 9 taps are inside the image.
//! assert!((output[33] - (8.0 * 9.0 * 0.1 + 0.5)).abs() < 1e-4);
//! println!("{}", plan.explain());
//! # Ok(())
//! # }
//! ```
//!
//! # Sharing weights between plans
//!
//! A [`ConvPlan`] is made for one batch size and one image size. A [`Filter`] holds the weights, independent of
//! both. Each algorithm reads the weights in a packed form of its own. A filter packs each form at most once and
//! shares it among its plans. A plan for another size that uses the same form takes some tens of microseconds.
//! [`Filter::write_packed`] saves the packed forms, so that the next start of the program need not pack them
//! again.
//!
//! A [`Conv`] is a filter with a cache of plans and workspaces. It accepts inputs of any batch and image size.
//!
//! # Threads
//!
//! The caller passes [`Threads`] to each run: the calling thread alone, a rayon pool (feature `rayon`), or
//! any other pool that implements [`Executor`]. A run uses at most [`PlanOptions::max_threads`] threads, even in
//! a larger pool. **The default is 1.** [`Threads::with_team`] keeps the threads of a rayon pool awake between
//! the runs of a forward pass, which saves waking them for every layer. [`Helpers`] are threads of the library's
//! own that do the same where each layer is a call of its own.
//!
//! # Memory
//!
//! The caller owns the inputs, the outputs and the scratch memory of a run. An output can be uninitialised
//! memory: pass a [`TensorOut`] instead of a [`TensorMut`]. The scratch memory is a [`Workspace`], or any `[f32]`
//! slice of at least [`ConvPlan::workspace_req`] elements. One workspace can serve all layers of a network:
//! [`WorkspaceReq::union`] is the size that fits every plan.
//!
//! If the system refuses an allocation that grows with the problem, the function that asked for it returns
//! [`ConvError::OutOfMemory`].
//!
//! # Layouts
//!
//! A tensor is NCHW, NHWC, or Nchw16c, which is NCHW in blocks of 16 channels ([`Layout`]). Whole networks are
//! fastest in Nchw16c. A filter is always OIHW, whatever the layout of the tensors. A tensor can be some channels
//! of a wider tensor: [`Pitch`] is the distance from one image to the next and from one pixel to the next. So a
//! layer can write directly into its part of a concatenated tensor.
//!
//! Between two convolutions with bf16 products, a tensor can hold bf16 numbers: [`Layout::Nchw32cBf16`].
//!
//! # Other layers
//!
//! [`Ops`] has the layers that stand between convolutions: pooling, normalisation, softmax, activations,
//! elementwise sums, and copies between layouts. A [`LinearPlan`] is a fully connected layer.
//!
//! # Gradients
//!
//! [`BackwardData`] and [`BackwardWeights`] compute the gradients of a convolution with respect to its input, its filter and
//! its bias. [`TransposedPlan`] is a transposed convolution, which is made of ordinary plans, as [`BackwardData`] is. With
//! the feature `ops`, [`Ops`] and [`LinearGradient`] compute the gradients of the other layers.
//!
//! # Signals and volumes
//!
//! [`Conv1dPlan`] and [`Conv3dPlan`] are convolutions of signals (`N x C x W`) and of volumes (`N x C x D x H x W`), made of 2-D
//! plans. [`BackwardData1d`], [`BackwardWeights1d`], [`BackwardData3d`] and [`BackwardWeights3d`] are their gradients, and
//! [`Transposed1dPlan`] and [`Transposed3dPlan`] the transposed convolutions. Signals are tensors of one row. Volumes are a
//! [`VolumeRef`] or [`VolumeMut`] in a [`VolumeLayout`]. With the feature `ops`, [`Pool1dDesc`] and [`Pool3dDesc`] describe
//! their pooling.
//!
//! # Cargo features
//!
//! All three features are enabled by default.
//!
//! | feature | what it adds |
//! |---|---|
//! | `ops` | [`Ops`] and [`LinearPlan`] |
//! | `rayon` | Runs in rayon pools, and [`Threads::with_team`]. The crate depends on rayon only with this feature. |
//! | `wisdom` | Files of [`Wisdom`], the remembered times of measured choices. Without this feature, a program can store their text itself. |
//!
//! # Limits
//!
//! The library computes on `f32` tensors. It starts no thread
//! except for [`Helpers`], reads no environment variable, and keeps no global state
//! except whether the machine has matrix tiles: on Linux it asks for the permission to use them once per process.

#![deny(unsafe_code)]
#![deny(missing_debug_implementations)]

mod algo;
mod choose;
mod describe;
#[allow(unsafe_code)]
mod memory;
#[cfg(feature = "ops")]
mod ops;
#[cfg(feature = "ops")]
mod ops_grad;
mod plan;
mod run;
mod simd;
#[allow(missing_debug_implementations)] // function pointers, and not public
mod tile;
mod volume;
mod work;

pub use choose::{
    Bound, Candidate, Choice, Comparison, Difference, Estimate, Loaded, Numerics, Profile, Rejection, Select,
    Terms, Wisdom,
};
pub use describe::{
    Activation, Algorithm, Algorithms, BLOCK, Conv1dDesc, Conv1dDescBuilder, Conv3dDesc, Conv3dDescBuilder,
    ConvDesc, ConvDescBuilder, ConvError, Cost, EpilogueSpec, FilterShape, Isa, Layout, Method, Pad1, Pad2,
    Pad3, Pitch, Products, ProductsSet, Shape3, Shape4, Shape5, Size2, Size3, TensorMut, TensorOut,
    TensorRef, Transposed1dDesc, Transposed1dDescBuilder, Transposed3dDesc, Transposed3dDescBuilder,
    TransposedDesc, TransposedDescBuilder, Unsupported, VolumeLayout, VolumeMut, VolumeRef, Weights,
};

pub use memory::{Buffer, Workspace, WorkspaceReq};
#[cfg(feature = "ops")]
pub use ops::{
    LinearPlan, LrnSpec, NormSpec, Ops, Pool1dDesc, Pool1dDescBuilder, Pool3dDesc, Pool3dDescBuilder,
    PoolDesc, PoolDescBuilder, PoolKind,
};
#[cfg(feature = "ops")]
pub use ops_grad::{
    ActivationValue, BatchNormSpec, BatchStatistics, Gradient, LinearGradient, NormGradients, SliceGradient,
    VolumeGradient,
};
pub use plan::{
    BackwardData, BackwardData1d, BackwardDataIo, BackwardWeights, BackwardWeights1d, Conv, Conv1dPlan,
    ConvBuilder, ConvPlan, DataSpec, Filter, PackedError, Packing, PlanOptions, PlanReport, PlanWeights,
    Transposed1dPlan, TransposedPlan, WeightsSpec, conv2d,
};
#[cfg(not(all(test, loom)))]
pub use run::Helpers;
#[cfg(feature = "rayon")]
pub use run::Team;
pub use run::{BackwardWeightsIo, ConvIo, Executor, Threads};
pub use volume::{
    BackwardData3d, BackwardData3dIo, BackwardWeights3d, BackwardWeights3dIo, Conv3dIo, Conv3dPlan,
    Transposed3dPlan, VolumeReport,
};
pub use work::Traffic;

/// The register tiles and parts of the cost model, for this workspace's tests and benches. Not a public
/// interface.
#[cfg(feature = "internal")]
#[doc(hidden)]
pub mod internal {
    pub use crate::choose::{choice_with, parts_of};
    pub use crate::plan::{Cuts, cuts};
    #[cfg(target_arch = "x86_64")]
    pub use crate::tile::amx::emulation;
    pub use crate::tile::direct_table::DirectTile;
    pub use crate::tile::gemm_table::GemmTile;
    pub use crate::tile::inspect::{KernelCode, Loops};
    pub use crate::tile::table::KernelSet;
    pub use crate::tile::winograd_table::WinogradKernels;
    pub use crate::work::parts::OutputBox;
}
