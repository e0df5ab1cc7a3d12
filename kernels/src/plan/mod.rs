//! Step 3, plan: choose, pack, size the workspace. Everything that allocates happens here.

pub(crate) mod memory;
pub(crate) mod packed;

use crate::algo::{self, PlanKind};
use crate::choose::{Algorithm, Algorithms, Choice, Isa, Limits, Numerics, Select, choose, kernels};
use crate::describe::{Activation, ConvDesc, Weights, checked_product};
use crate::error::ConvError;
pub use memory::{Buffer, Workspace, WorkspaceReq};
use std::fmt;

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

/// What was chosen, why, and what it costs: `println!("{}", plan.explain())`.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanReport {
    /// The problem.
    pub desc: ConvDesc,
    /// The algorithm and the reasons against the others.
    pub choice: Choice,
    /// Whose kernels run.
    pub isa: Isa,
    /// The register tile, `<op>_f32_<rows>x<cols>_<isa>`.
    pub kernel: &'static str,
    /// Bytes of packed weights.
    pub packed_bytes: usize,
    /// Bytes of workspace for one thread.
    pub workspace_bytes_per_thread: usize,
    /// Threads that the workspace is sized for.
    pub max_threads: usize,
}

impl fmt::Display for PlanReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Choice { algorithm, reason, rejected } = &self.choice;
        writeln!(f, "{}", self.desc)?;
        writeln!(f, "  chosen    {algorithm} with {}: {reason}", self.kernel)?;
        writeln!(
            f,
            "  memory    {} bytes of weights, {} of workspace for each of {} threads",
            self.packed_bytes, self.workspace_bytes_per_thread, self.max_threads
        )?;
        for (other, why) in rejected {
            writeln!(f, "  rejected  {other}: {why}")?;
        }
        Ok(())
    }
}

impl ConvPlan {
    /// Chooses an algorithm for `desc` and packs `weights` for it.
    ///
    /// # Errors
    /// [`ConvError::BufferLen`] or [`ConvError::EpilogueMismatch`] if the weights are not the descriptor's,
    /// [`ConvError::IsaUnavailable`], [`ConvError::Unsupported`] (under [`Select::Force`] only),
    /// [`ConvError::NothingAllowed`] if everything that can do `desc` is forbidden,
    /// [`ConvError::InvalidField`] for zero threads.
    pub fn new(desc: &ConvDesc, weights: Weights<'_>, options: &PlanOptions) -> Result<Self, ConvError> {
        check_weights(desc, &weights)?;
        if options.max_threads == 0 {
            return Err(ConvError::field("max_threads", "at least 1", 0));
        }
        if options.macs_per_thread == 0 {
            return Err(ConvError::field("macs_per_thread", "at least 1", 0));
        }
        let kernels = kernels(options.isa)?;
        let PlanOptions { select, numerics, forbidden, .. } = *options;
        let choice = choose(desc, &Limits { select, numerics, forbidden })?;
        let kind = algo::plan(choice.algorithm, desc, &weights, kernels);
        let per_thread_len = kind.workspace_len();
        let threads = options.max_threads;
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
        let worth = usize::try_from(desc.cost().macs / options.macs_per_thread).unwrap_or(usize::MAX);
        let parts = worth.clamp(1, threads);
        Ok(Self { desc: *desc, kind, req: WorkspaceReq { per_thread_len, threads }, parts, report })
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

fn check_weights(desc: &ConvDesc, weights: &Weights<'_>) -> Result<(), ConvError> {
    let len = |what, expected: usize, got: usize| {
        if expected == got { Ok(()) } else { Err(ConvError::BufferLen { what, expected, got }) }
    };
    len("filter", desc.filter_len(), weights.filter.len())?;
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
            len(what, desc.output().c, values.len())?;
        }
    }
    Ok(())
}
