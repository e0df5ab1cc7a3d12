//! [`PlanOptions`]: limits and preferences of a plan.

use crate::choose::{Limits, Numerics, Profile, Runs, Select};
use crate::describe::{Algorithm, Algorithms, Isa, Method, Products, ProductsSet};
use crate::run::Threads;

/// Limits and preferences of a plan. [`PlanOptions::default`] asks for the fastest plan for one thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlanOptions {
    /// How the algorithm is chosen.
    pub select: Select,
    /// How much rounding error the algorithm may add.
    pub numerics: Numerics,
    /// Algorithms that must not be chosen, except by [`Select::Force`].
    pub forbidden: Algorithms,
    /// Products that must not be chosen, except by [`Select::Force`].
    pub forbidden_products: ProductsSet,
    /// The instruction set; `None` stands for the best one of this machine.
    pub isa: Option<Isa>,
    /// Maximum number of threads of a run. The workspace is sized for it. The default is 1, which fits
    /// [`Threads::Seq`].
    pub max_threads: usize,
    /// Multiply-accumulates that justify one more thread, at least 1.
    pub macs_per_thread: u64,
    /// Bytes that other work reads and writes between two runs: in a network, the weights and activations of all other
    /// layers. So much of the caches no longer holds the weights when a run begins, and where they come from memory, a
    /// form with fewer bytes wins. The default is 0: the same layer runs again and again.
    pub bytes_between_runs: usize,
    /// Maximum bytes of workspace, all threads together.
    pub max_workspace_bytes: Option<usize>,
    /// Maximum bytes of packed weights.
    pub max_packed_bytes: Option<usize>,
    /// The machine that times are estimated for; `None` stands for [`Profile::typical`] of the instruction
    /// set.
    pub profile: Option<Profile>,
}

/// About 2 microseconds of work on one core, which is the cost of waking a thread.
const MACS_PER_THREAD: u64 = 100_000;

impl Default for PlanOptions {
    fn default() -> Self {
        Self {
            select: Select::Auto,
            numerics: Numerics::Default,
            forbidden: Algorithms::NONE,
            forbidden_products: ProductsSet::NONE,
            isa: None,
            max_threads: 1,
            macs_per_thread: MACS_PER_THREAD,
            bytes_between_runs: 0,
            max_workspace_bytes: None,
            max_packed_bytes: None,
            profile: None,
        }
    }
}

impl PlanOptions {
    /// Sets how the algorithm is chosen.
    pub const fn select(mut self, select: Select) -> Self {
        self.select = select;
        self
    }

    /// Forces a method: an [`Algorithm`] with `f32` products, or a [`Method`] with any products. Planning fails
    /// if it does not support the problem.
    pub fn force(self, method: impl Into<Method>) -> Self {
        self.select(Select::Force(method.into()))
    }

    /// Sets how much rounding error the algorithm may add.
    pub const fn numerics(mut self, numerics: Numerics) -> Self {
        self.numerics = numerics;
        self
    }

    /// Forbids `algorithm`, unless it is forced. Call it once per algorithm.
    pub const fn forbid(mut self, algorithm: Algorithm) -> Self {
        self.forbidden = self.forbidden.with(algorithm);
        self
    }

    /// Forbids `products`, unless they are forced. Call it once per kind of products.
    pub const fn forbid_products(mut self, products: Products) -> Self {
        self.forbidden_products = self.forbidden_products.with(products);
        self
    }

    /// Uses the kernels of `isa`.
    pub const fn isa(mut self, isa: Isa) -> Self {
        self.isa = Some(isa);
        self
    }

    /// Sets the maximum number of threads of a run.
    pub const fn max_threads(mut self, threads: usize) -> Self {
        self.max_threads = threads;
        self
    }

    /// Sets [`max_threads`](Self::max_threads) to the number of `threads`.
    pub fn threads(self, threads: &Threads<'_>) -> Self {
        self.max_threads(threads.count())
    }

    /// Sets the multiply-accumulates that justify one more thread.
    pub const fn macs_per_thread(mut self, macs: u64) -> Self {
        self.macs_per_thread = macs;
        self
    }

    /// Sets the bytes that other work reads and writes between two runs.
    pub const fn bytes_between_runs(mut self, bytes: usize) -> Self {
        self.bytes_between_runs = bytes;
        self
    }

    /// Limits the workspace of all threads together to `bytes`. An algorithm that needs more is not chosen.
    pub const fn max_workspace_bytes(mut self, bytes: usize) -> Self {
        self.max_workspace_bytes = Some(bytes);
        self
    }

    /// Limits the packed weights to `bytes`. An algorithm that needs more is not chosen.
    pub const fn max_packed_bytes(mut self, bytes: usize) -> Self {
        self.max_packed_bytes = Some(bytes);
        self
    }

    /// Estimates times for the machine that `profile` describes.
    pub const fn profile(mut self, profile: Profile) -> Self {
        self.profile = Some(profile);
        self
    }

    pub(super) fn runs(&self) -> Runs {
        let Self { max_threads, macs_per_thread, bytes_between_runs, .. } = *self;
        Runs { max_threads, macs_per_thread, bytes_between_runs }
    }

    pub(super) fn limits(&self) -> Limits {
        Limits {
            select: self.select,
            numerics: self.numerics,
            forbidden: self.forbidden,
            forbidden_products: self.forbidden_products,
            max_workspace_bytes: self.max_workspace_bytes,
            max_packed_bytes: self.max_packed_bytes,
        }
    }
}
