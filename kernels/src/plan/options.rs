//! [`PlanOptions`]: what the caller wants of a plan.

use crate::choose::{Limits, Numerics, Profile, Select};
use crate::describe::{Algorithm, Algorithms, Isa};
use crate::run::Threads;

/// What the caller wants of a plan. [`PlanOptions::default`] wants the fastest one for a single thread.
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
    /// Threads that the plan is for: the workspace is sized for them, and `run` uses at most as many. At least 1, which
    /// is the default and fits [`Threads::Seq`].
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
            max_threads: 1,
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

    /// For the threads that it will run on: [`max_threads`](Self::max_threads) with their number.
    pub fn threads(self, threads: &Threads<'_>) -> Self {
        self.max_threads(threads.count())
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

    pub(super) fn limits(&self) -> Limits {
        Limits {
            select: self.select,
            numerics: self.numerics,
            forbidden: self.forbidden,
            max_workspace_bytes: self.max_workspace_bytes,
            max_packed_bytes: self.max_packed_bytes,
        }
    }
}
