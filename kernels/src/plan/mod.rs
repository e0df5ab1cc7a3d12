//! Step 3, plan: choose, pack, size the workspace. Everything that allocates happens here.

mod measured;
pub(crate) mod memory;
pub(crate) mod packed;
mod packing;
mod report;

use crate::algo::{self, Algorithm, Algorithms, PlanKind};
use crate::choose::{Choice, Isa, Limits, Machine, Numerics, Profile, Select, Wisdom, choose, kernels};
use crate::describe::{Activation, ConvDesc, Weights, checked_product};
use crate::error::ConvError;
use crate::tile::table::KernelSet;
pub use memory::{Buffer, Workspace, WorkspaceReq};
pub use packing::Packing;
pub use report::PlanReport;

/// What the caller wants of a plan; [`PlanOptions::default`] wants the fastest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlanOptions {
    /// Who chooses the algorithm.
    pub select: Select,
    /// How much rounding error it may add.
    pub numerics: Numerics,
    /// What must not be chosen.
    pub forbidden: Algorithms,
    /// The instruction set, if not the best one; it can only be lowered.
    pub isa: Option<Isa>,
    /// Threads that the workspace is sized for; `run` uses at most as many. At least 1.
    pub max_threads: usize,
    /// Multiply-accumulates that are worth another thread. At least 1.
    pub macs_per_thread: u64,
    /// Bytes of workspace, of all threads together, that the plan may need at most.
    pub max_workspace_bytes: Option<usize>,
    /// Bytes of packed weights that it may keep at most.
    pub max_packed_bytes: Option<usize>,
    /// The machine that times are estimated for, if not a typical one with that instruction set.
    pub profile: Option<Profile>,
}

/// About 2 microseconds of one core, the price of waking a thread up.
const MACS_PER_THREAD: u64 = 100_000;

impl Default for PlanOptions {
    fn default() -> Self {
        Self {
            select: Select::Auto,
            numerics: Numerics::Default,
            forbidden: Algorithms::NONE,
            isa: None,
            max_threads: num_cpus::get_physical().max(1),
            macs_per_thread: MACS_PER_THREAD,
            max_workspace_bytes: None,
            max_packed_bytes: None,
            profile: None,
        }
    }
}

impl PlanOptions {
    /// With `select`.
    pub const fn select(mut self, select: Select) -> Self {
        self.select = select;
        self
    }

    /// With `algorithm` or an error.
    pub const fn force(self, algorithm: Algorithm) -> Self {
        self.select(Select::Force(algorithm))
    }

    /// With `numerics`.
    pub const fn numerics(mut self, numerics: Numerics) -> Self {
        self.numerics = numerics;
        self
    }

    /// Without `algorithm`, unless it is forced. May be called for several.
    pub const fn forbid(mut self, algorithm: Algorithm) -> Self {
        self.forbidden = self.forbidden.with(algorithm);
        self
    }

    /// With the kernels of `isa`.
    pub const fn isa(mut self, isa: Isa) -> Self {
        self.isa = Some(isa);
        self
    }

    /// With at most `threads` threads.
    pub const fn max_threads(mut self, threads: usize) -> Self {
        self.max_threads = threads;
        self
    }

    /// With another thread for every `macs` multiply-accumulates.
    pub const fn macs_per_thread(mut self, macs: u64) -> Self {
        self.macs_per_thread = macs;
        self
    }

    /// With at most `bytes` of workspace for all threads; an algorithm that needs more is not chosen.
    pub const fn max_workspace_bytes(mut self, bytes: usize) -> Self {
        self.max_workspace_bytes = Some(bytes);
        self
    }

    /// With at most `bytes` of packed weights; an algorithm that needs more is not chosen.
    pub const fn max_packed_bytes(mut self, bytes: usize) -> Self {
        self.max_packed_bytes = Some(bytes);
        self
    }

    /// With times estimated for the machine of `profile`.
    pub const fn profile(mut self, profile: Profile) -> Self {
        self.profile = Some(profile);
        self
    }

    fn limits(&self) -> Limits {
        Limits {
            select: self.select,
            numerics: self.numerics,
            forbidden: self.forbidden,
            max_workspace_bytes: self.max_workspace_bytes,
            max_packed_bytes: self.max_packed_bytes,
        }
    }
}

/// A convolution that is ready to run: chosen algorithm, packed weights, sized workspace.
///
/// Immutable, `Send + Sync`: share one between as many threads as you like, each with its own [`Workspace`].
pub struct ConvPlan {
    pub(crate) desc: ConvDesc,
    pub(crate) kind: PlanKind,
    pub(crate) req: WorkspaceReq,
    /// Threads that the work is worth, at most those that the workspace is sized for.
    pub(crate) parts: usize,
    report: PlanReport,
}

impl ConvPlan {
    /// Chooses an algorithm for `desc` and packs `weights` for it.
    ///
    /// # Errors
    /// [`ConvError::BufferLen`] or [`ConvError::EpilogueMismatch`] if the weights are not the descriptor's,
    /// [`ConvError::IsaUnavailable`], [`ConvError::Unsupported`] (under [`Select::Force`] only),
    /// [`ConvError::NothingAllowed`] if everything that can do `desc` is forbidden,
    /// [`ConvError::TooLarge`] if what is not needs more memory than it may,
    /// [`ConvError::InvalidField`] for zero threads.
    pub fn new(desc: &ConvDesc, weights: Weights<'_>, options: &PlanOptions) -> Result<Self, ConvError> {
        Self::plan(desc, &weights, options, None)
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
    pub fn with_wisdom(
        desc: &ConvDesc,
        weights: Weights<'_>,
        options: &PlanOptions,
        wisdom: &Wisdom,
    ) -> Result<Self, ConvError> {
        Self::plan(desc, &weights, options, Some(wisdom))
    }

    fn plan(
        desc: &ConvDesc,
        weights: &Weights<'_>,
        options: &PlanOptions,
        wisdom: Option<&Wisdom>,
    ) -> Result<Self, ConvError> {
        check_weights(desc, weights)?;
        let (choice, kernels, parts) = choice_of(desc, options)?;
        let plans = Plans { desc, weights, options, kernels, parts };
        match options.select {
            Select::Measured => measured::fastest(desc, choice, &plans, wisdom),
            Select::Auto | Select::Force(_) => plans.plan(choice),
        }
    }

    /// What [`new`](Self::new) would choose by the model, with nothing packed; under [`Select::Measured`], before
    /// anything is timed. Costs microseconds.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn choice(desc: &ConvDesc, options: &PlanOptions) -> Result<Choice, ConvError> {
        Ok(choice_of(desc, options)?.0)
    }

    /// The problem that this plan solves.
    pub fn desc(&self) -> &ConvDesc {
        &self.desc
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
        self.req
    }

    /// What was chosen and why.
    pub fn explain(&self) -> &PlanReport {
        &self.report
    }
}

/// The choice by the model, whose kernels run, and the threads that the work is worth.
fn choice_of(
    desc: &ConvDesc,
    options: &PlanOptions,
) -> Result<(Choice, &'static KernelSet, usize), ConvError> {
    if options.max_threads == 0 {
        return Err(ConvError::field("max_threads", "at least 1", 0));
    }
    if options.macs_per_thread == 0 {
        return Err(ConvError::field("macs_per_thread", "at least 1", 0));
    }
    let kernels = kernels(options.isa)?;
    let worth = usize::try_from(desc.cost().macs / options.macs_per_thread).unwrap_or(usize::MAX);
    let parts = worth.clamp(1, options.max_threads);
    let profile = options.profile.unwrap_or(Profile::typical(kernels.isa()));
    let machine = Machine::new(kernels, &profile, parts, options.max_threads);
    Ok((choose(desc, &options.limits(), &machine)?, kernels, parts))
}

/// What the plans of all candidates of a problem share.
struct Plans<'a> {
    desc: &'a ConvDesc,
    weights: &'a Weights<'a>,
    options: &'a PlanOptions,
    kernels: &'static KernelSet,
    /// Threads that the work is worth.
    parts: usize,
}

impl Plans<'_> {
    /// Packs the weights for what was chosen.
    fn plan(&self, choice: Choice) -> Result<ConvPlan, ConvError> {
        let Self { desc, weights, kernels, parts, .. } = *self;
        let kind = algo::plan(choice.algorithm, desc, weights, kernels);
        let (per_thread_len, threads) = (kind.workspace_len(), self.options.max_threads);
        checked_product("workspace", &[per_thread_len, threads])?;
        let report = PlanReport {
            desc: *desc,
            choice,
            isa: kernels.isa(),
            kernel: kind.kernel_name(),
            packed_bytes: kind.packed_bytes(),
            workspace_bytes_per_thread: per_thread_len * size_of::<f32>(),
            max_threads: threads,
        };
        Ok(ConvPlan { desc: *desc, kind, req: WorkspaceReq { per_thread_len, threads }, parts, report })
    }
}

fn check_weights(desc: &ConvDesc, weights: &Weights<'_>) -> Result<(), ConvError> {
    check_len("filter", desc.filter_len(), weights.filter.len())?;
    check_per_channel(desc, weights)
}

/// Bias and slopes.
fn check_per_channel(desc: &ConvDesc, weights: &Weights<'_>) -> Result<(), ConvError> {
    let epilogue = desc.epilogue();
    let operands = [
        ("bias", epilogue.bias, weights.bias),
        ("PReLU slopes", epilogue.activation == Activation::PRelu, weights.slope),
    ];
    for (what, planned, given) in operands {
        if planned != given.is_some() {
            return Err(ConvError::EpilogueMismatch { what, planned });
        }
        if let Some(values) = given {
            check_len(what, desc.output().c, values.len())?;
        }
    }
    Ok(())
}

fn check_len(what: &'static str, expected: usize, got: usize) -> Result<(), ConvError> {
    if expected == got { Ok(()) } else { Err(ConvError::BufferLen { what, expected, got }) }
}
