//! Step 3, plan: choose, pack, size the workspace. Everything that allocates happens here.

mod conv;
mod filter;
mod measured;
mod oneshot;
mod options;
mod packing;
mod prepare;
mod report;

use crate::choose::{Choice, Select, Wisdom};
use crate::describe::{Algorithm, ConvDesc, ConvError, Isa, Weights};
use crate::memory::WorkspaceReq;
use crate::run::{ConvIo, PreparedConv, Threads};
pub use conv::{Conv, ConvBuilder};
pub use filter::{Filter, PackedError};
pub use oneshot::conv2d;
pub use options::PlanOptions;
pub use packing::Packing;
pub use prepare::PlanWeights;
use prepare::Problem;
pub use report::PlanReport;
use std::fmt;

/// A convolution that is ready to run: chosen algorithm, packed weights, sized workspace.
///
/// Immutable, `Send + Sync`: share one between as many threads as you like, each with its own [`Workspace`](crate::Workspace).
pub struct ConvPlan {
    conv: PreparedConv,
    report: PlanReport,
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
    /// [`ConvError::BufferLen`] or [`ConvError::EpilogueMismatch`] if the weights are not the descriptor's,
    /// [`ConvError::IsaUnavailable`], [`ConvError::Unsupported`] (under [`Select::Force`] only),
    /// [`ConvError::NothingAllowed`] if everything that can do `desc` is forbidden,
    /// [`ConvError::TooLarge`] if what is not needs more memory than it may,
    /// [`ConvError::OutOfMemory`] for packed weights that the system has no room for,
    /// [`ConvError::InvalidField`] for zero threads.
    pub fn new<'a>(
        desc: &ConvDesc,
        weights: impl Into<PlanWeights<'a>>,
        options: &PlanOptions,
    ) -> Result<Self, ConvError> {
        Self::plan(desc, weights.into(), options, None)
    }

    /// Begins a plan whose filters are given in parts: the same in the end as that of [`new`](Self::new) with all of
    /// them. `weights` are bias and slopes, and an empty filter.
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

    /// [`new`](Self::new); under [`Select::Measured`], with the times that `wisdom` has, or adding those that it has not.
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

    /// The plan that `conv` is, with the choice that led to it.
    fn of(problem: &Problem<'_>, choice: Choice, conv: PreparedConv) -> Self {
        let report = PlanReport {
            desc: *problem.desc,
            choice,
            isa: problem.kernels.isa(),
            kernel: conv.driver.kernel_name(),
            packed_bytes: conv.packed.bytes() + conv.driver.table_bytes(),
            workspace_bytes_per_thread: conv.req.per_thread_len * size_of::<f32>(),
            max_threads: conv.req.threads,
        };
        Self { conv, report }
    }

    /// Computes every element of `io.output`. Allocates nothing, keeps no state, and its output bits do not depend
    /// on the number of threads.
    ///
    /// `scratch` is a [`Workspace`](crate::Workspace), or any `[f32]` of at least [`workspace_req`](Self::workspace_req)`.len()` elements, which
    /// should begin at a multiple of 64 bytes. What it holds before does not matter.
    ///
    /// # Errors
    /// [`ConvError::ShapeMismatch`], [`ConvError::LayoutMismatch`], [`ConvError::EpilogueMismatch`],
    /// [`ConvError::WorkspaceTooSmall`]. The output is untouched then.
    pub fn run(
        &self,
        io: ConvIo<'_>,
        scratch: &mut (impl AsMut<[f32]> + ?Sized),
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        self.conv.run(io, scratch.as_mut(), threads)
    }

    /// What [`new`](Self::new) would choose by the model, with nothing packed; under [`Select::Measured`], before
    /// anything is timed. Costs microseconds.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn choice(desc: &ConvDesc, options: &PlanOptions) -> Result<Choice, ConvError> {
        Problem::new(desc, Weights::filter(&[]).into(), options)?.choose()
    }

    /// A filter that has the packed weights of this plan and shares their memory, without the original weights.
    ///
    /// Plans for another batch, and as a rule for another image size, can be made from it.
    pub fn filter(&self) -> Filter<'static> {
        Filter::of_packed(&self.conv, self.report.isa)
    }

    /// The problem that this plan solves.
    pub fn desc(&self) -> &ConvDesc {
        &self.conv.desc
    }

    /// The algorithm that runs.
    pub fn algorithm(&self) -> Algorithm {
        self.report.choice.algorithm
    }

    /// The instruction set whose kernels run.
    pub fn isa(&self) -> Isa {
        self.report.isa
    }

    /// Bytes of packed weights.
    pub fn packed_bytes(&self) -> usize {
        self.report.packed_bytes
    }

    /// What `run` needs.
    pub fn workspace_req(&self) -> WorkspaceReq {
        self.conv.req
    }

    /// What was chosen and why.
    pub fn explain(&self) -> &PlanReport {
        &self.report
    }
}
