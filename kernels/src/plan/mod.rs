//! Step 3, plan: chooses an algorithm, packs the weights and sizes the workspace. Everything that allocates
//! happens here.

pub(crate) mod applied;
mod backward_data;
mod backward_weights;
mod conv;
#[cfg(feature = "internal")]
mod cuts;
mod filter;
mod measured;
mod oneshot;
mod options;
mod packing;
pub(crate) mod phased;
pub(crate) mod prepare;
mod report;
pub(crate) mod rooms;
mod segments;
mod signal;
mod transposed;

use crate::choose::{Choice, Select, Wisdom};
use crate::describe::{Algorithm, ConvDesc, ConvError, Isa, Products, Weights};
use crate::memory::WorkspaceReq;
use crate::run::{ConvIo, PreparedConv, Threads};
use crate::tile::table::KernelSet;
pub use backward_data::{BackwardData, BackwardDataIo, DataSpec};
pub use backward_weights::{BackwardWeights, WeightsSpec};
pub use conv::{Conv, ConvBuilder};
#[cfg(feature = "internal")]
pub use cuts::{Cuts, cuts};
pub use filter::{Filter, PackedError};
pub use oneshot::conv2d;
pub use options::PlanOptions;
pub use packing::Packing;
pub use prepare::PlanWeights;
use prepare::Problem;
pub use report::PlanReport;
pub use signal::{BackwardData1d, BackwardWeights1d, Conv1dPlan, Transposed1dPlan};
use std::fmt;
pub use transposed::TransposedPlan;

/// A convolution that is ready to run. It holds the chosen algorithm, the packed weights and the size of the
/// workspace.
///
/// A plan is immutable and `Send + Sync`. Any number of threads can share it. Each concurrent run needs its
/// own [`Workspace`](crate::Workspace).
pub struct ConvPlan {
    conv: PreparedConv,
    report: PlanReport,
    kernels: &'static KernelSet,
}

impl fmt::Debug for ConvPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConvPlan").field("report", &self.report).finish_non_exhaustive()
    }
}

impl ConvPlan {
    /// Chooses an algorithm for `desc` and packs `weights` for it.
    ///
    /// # Errors
    /// - [`ConvError::BufferLen`], [`ConvError::FilterMismatch`] or [`ConvError::EpilogueMismatch`] if the
    ///   weights do not fit `desc`.
    /// - [`ConvError::IsaUnavailable`] if this machine does not have the requested instruction set.
    /// - [`ConvError::Unsupported`] if [`Select::Force`] names an algorithm that cannot compute `desc`.
    /// - [`ConvError::NothingAllowed`] if the options forbid every algorithm that can compute `desc`.
    /// - [`ConvError::TooLarge`] if every allowed algorithm exceeds a memory limit of the options.
    /// - [`ConvError::WeightsDropped`] if a filter without its original weights has no packed form that fits.
    /// - [`ConvError::OutOfMemory`] if the system refuses an allocation.
    /// - [`ConvError::SizeOverflow`] if the address space cannot hold the packed weights or the workspace.
    /// - [`ConvError::InvalidField`] if a number of threads or of multiply-accumulates per thread is zero.
    pub fn new<'a>(
        desc: &ConvDesc,
        weights: impl Into<PlanWeights<'a>>,
        options: &PlanOptions,
    ) -> Result<Self, ConvError> {
        Self::plan(desc, weights.into(), options, None)
    }

    /// Begins a plan that takes its filter in parts. The finished plan equals a plan that [`new`](Self::new)
    /// makes with the whole filter.
    ///
    /// `weights` holds the bias and the slopes. Its filter must be empty.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn packing(
        desc: &ConvDesc,
        weights: Weights<'_>,
        options: &PlanOptions,
    ) -> Result<Packing, ConvError> {
        Packing::new(desc, &weights, options)
    }

    /// Makes a plan like [`new`](Self::new). Under [`Select::Measured`] it takes the times from `wisdom` if
    /// `wisdom` knows them; otherwise it measures them and adds them to `wisdom`.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_wisdom<'a>(
        desc: &ConvDesc,
        weights: impl Into<PlanWeights<'a>>,
        options: &PlanOptions,
        wisdom: &Wisdom,
    ) -> Result<Self, ConvError> {
        Self::plan(desc, weights.into(), options, Some(wisdom))
    }

    fn plan(
        desc: &ConvDesc,
        weights: PlanWeights<'_>,
        options: &PlanOptions,
        wisdom: Option<&Wisdom>,
    ) -> Result<Self, ConvError> {
        let problem = Problem::new(desc, weights, options)?;
        problem.check_filter()?;
        let (choice, conv) = match options.select {
            Select::Measured if problem.has_weights() => measured::fastest(&problem, wisdom)?,
            _ => problem.prepare_chosen()?,
        };
        Ok(Self::of(&problem, choice, conv))
    }

    /// The plan that wraps `conv`, with the choice that led to it.
    fn of(problem: &Problem<'_>, choice: Choice, conv: PreparedConv) -> Self {
        let report = PlanReport {
            desc: *problem.desc,
            computed: *problem.computed(choice.method).0,
            choice,
            isa: problem.kernels.isa(),
            kernel: conv.driver.kernel_name(),
            packed_bytes: conv.driver.packed().bytes(),
            weights: conv.form.stored(),
            workspace_bytes_per_thread: conv.req.per_thread_len * size_of::<f32>(),
            max_threads: conv.req.threads,
        };
        Self { conv, report, kernels: problem.kernels }
    }

    /// Computes every element of `io.output`. It allocates nothing and keeps no state. The bits of the output
    /// do not depend on the number of threads.
    ///
    /// `scratch` is a [`Workspace`](crate::Workspace) or any `[f32]` slice of at least
    /// [`workspace_req`](Self::workspace_req)`.len()` elements. A slice is fastest if it begins at a multiple
    /// of 64 bytes. Its previous contents do not matter.
    ///
    /// # Errors
    /// The output is unchanged after an error.
    /// - [`ConvError::ShapeMismatch`] or [`ConvError::LayoutMismatch`] if a tensor does not fit the
    ///   descriptor.
    /// - [`ConvError::EpilogueMismatch`] if a planned residual is missing, or a residual is given that was
    ///   not planned.
    /// - [`ConvError::WorkspaceTooSmall`] if `scratch` is too short.
    pub fn run(
        &self,
        io: ConvIo<'_>,
        scratch: &mut (impl AsMut<[f32]> + ?Sized),
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        self.conv.run(io, scratch.as_mut(), threads)
    }

    /// Packs other weights of the same convolution in the place of the present ones, for training: the weights change in each
    /// step, and the algorithm and the memory can stay. The results are those of a plan that [`new`](Self::new) makes with
    /// these weights and the same algorithm.
    ///
    /// The packed weights stay where they are. The first call can allocate tables, and later ones allocate nothing, except
    /// with Fourier transforms and products of bf16 parts.
    ///
    /// # Errors
    /// - [`ConvError::BufferLen`] or [`ConvError::EpilogueMismatch`] if the weights do not fit the descriptor.
    /// - [`ConvError::InvalidField`] if a [`Filter`] or another plan shares the packed weights.
    /// - [`ConvError::OutOfMemory`] if the system refuses a table. The plan is unusable until a call succeeds.
    pub fn repack(&mut self, weights: Weights<'_>) -> Result<(), ConvError> {
        let Self { conv, kernels, .. } = self;
        let desc = &conv.desc;
        prepare::check_weights(desc.filter_len(), (desc.epilogue(), desc.output().c), &weights)?;
        let channels = conv.desc.output().c;
        if conv.form.repack(&mut conv.driver, &weights, channels, kernels, &mut conv.cut_room)? {
            return Ok(());
        }
        let expected = "packed weights that no filter and no other plan shares";
        Err(ConvError::field("weights", expected, "shared ones"))
    }

    /// Returns what [`new`](Self::new) would choose by the cost model, without packing anything. Under
    /// [`Select::Measured`] this is the choice before any measurement. It takes microseconds.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn choice(desc: &ConvDesc, options: &PlanOptions) -> Result<Choice, ConvError> {
        Problem::new(desc, Weights::filter(&[]).into(), options)?.choose()
    }

    /// Returns a filter that shares the packed weights of this plan. It does not have the original weights.
    ///
    /// The filter serves plans for any batch. It usually also serves plans for other image sizes.
    pub fn filter(&self) -> Filter<'static> {
        Filter::of_packed(&self.conv, self.report.isa)
    }

    /// The convolution that this plan computes.
    pub fn desc(&self) -> &ConvDesc {
        &self.conv.desc
    }

    /// The algorithm that the plan runs.
    pub fn algorithm(&self) -> Algorithm {
        self.report.choice.method.algorithm
    }

    /// The products that the plan computes with.
    pub fn products(&self) -> Products {
        self.report.choice.method.products
    }

    /// The instruction set whose kernels the plan runs.
    pub fn isa(&self) -> Isa {
        self.report.isa
    }

    /// Bytes of packed weights and of the tables of the algorithm.
    pub fn packed_bytes(&self) -> usize {
        self.report.packed_bytes
    }

    /// The workspace that [`run`](Self::run) needs.
    pub fn workspace_req(&self) -> WorkspaceReq {
        self.conv.req
    }

    /// Reports what was chosen, and why.
    pub fn explain(&self) -> &PlanReport {
        &self.report
    }
}
