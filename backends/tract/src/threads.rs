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
        Executor::MultiThread(pool) if pool.current_thread_index().is_some() => work(Threads::Current),
        #[cfg(feature = "multithread")]
        Executor::MultiThread(pool) => work(Threads::Executor(&CallerAndPool(&pool))),
        #[cfg(feature = "multithread")]
        Executor::RayonGlobal => work(Threads::Current),
    }
}

/// The calling thread, which is not in the pool, and all but one thread of the pool.
///
/// `Threads::Pool` would move all work into the pool, and the caller would sleep meanwhile. Here one thread less
/// must be woken for every layer.
#[cfg(feature = "multithread")]
struct CallerAndPool<'a>(&'a rayon::ThreadPool);

#[cfg(feature = "multithread")]
impl kernels::Executor for CallerAndPool<'_> {
    fn threads(&self) -> usize {
        self.0.current_num_threads()
    }

    fn run(&self, parts: usize, part: &(dyn Fn(usize) + Sync)) {
        self.0.in_place_scope(|scope| {
            (1..parts).for_each(|number| scope.spawn(move |_| part(number)));
            if parts > 0 {
                part(0);
            }
        });
    }
}
