//! tract's executor as [`Threads`].

use kernels::Threads;
use tract_linalg::multithread::{Executor, current_tract_executor};

/// Calls `work` with the threads of tract's current executor.
pub(crate) fn with_threads<R>(work: impl FnOnce(Threads<'_>) -> R) -> R {
    match current_tract_executor() {
        Executor::SingleThread => work(Threads::Seq),
        #[cfg(feature = "multithread")]
        Executor::MultiThread(pool) if pool.current_num_threads() == 1 => work(Threads::Seq),
        #[cfg(feature = "multithread")]
        Executor::MultiThread(pool) => work(Threads::Pool(&pool)),
        #[cfg(feature = "multithread")]
        Executor::RayonGlobal => work(Threads::Current),
    }
}
