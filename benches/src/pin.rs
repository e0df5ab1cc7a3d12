//! Threads pinned to cores, so that all rivals run on the same cores.

use kernels::Threads;
use rayon::{ThreadPool, ThreadPoolBuilder};

/// The calling thread pinned to one core, or a pool with one thread on each of several cores.
pub struct Crew {
    pool: Option<ThreadPool>,
    cores: Vec<usize>,
}

impl Crew {
    /// Creates `threads` threads on the last cores that this process may use; the first cores usually serve
    /// the interrupts. If there are more threads than cores, they are not pinned.
    ///
    /// # Errors
    /// If the system cannot create the threads.
    pub fn new(threads: usize) -> Result<Self, rayon::ThreadPoolBuildError> {
        let mut cores = allowed();
        cores.reverse();
        cores.truncate(threads);
        if cores.len() < threads {
            cores.clear();
        }
        let to_pin = cores.clone();
        let pin_each = move |index: usize| {
            if let Some(&core) = to_pin.get(index) {
                pin(&[core]);
            }
        };
        let builder = || ThreadPoolBuilder::new().num_threads(threads).start_handler(pin_each).build();
        let pool = if threads > 1 { Some(builder()?) } else { None };
        Ok(Self { pool, cores })
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.pool.as_ref().map_or(1, ThreadPool::current_num_threads)
    }

    /// The `Threads` to run a plan with, inside [`enter`](Self::enter).
    pub fn plan_threads(&self) -> Threads<'static> {
        if self.pool.is_some() { Threads::Current } else { Threads::Seq }
    }

    /// The `Threads` to run a network with, from outside the pool, as callers of the library do.
    pub fn run_threads(&self) -> Threads<'_> {
        self.pool.as_ref().map_or(Threads::Seq, Threads::Pool)
    }

    /// Runs `work` on the cores of the crew: in its pool, or on the calling thread while it is pinned.
    pub fn enter<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        match &self.pool {
            Some(pool) => pool.install(work),
            None => self.pinned(work),
        }
    }

    /// Runs `work` while the calling thread is restricted to the cores of the crew. Processes that it starts
    /// inherit the restriction.
    pub fn pinned<R>(&self, work: impl FnOnce() -> R) -> R {
        let before = allowed();
        pin(&self.cores);
        let result = work();
        pin(&before);
        result
    }

    /// Runs `work` on every thread at the same time.
    pub fn broadcast<R: Send>(&self, work: impl Fn() -> R + Sync) -> Vec<R> {
        match &self.pool {
            Some(pool) => pool.broadcast(|_| work()),
            None => vec![work()],
        }
    }
}

/// The cores that the calling thread may use; empty if the system does not report them.
#[cfg(target_os = "linux")]
fn allowed() -> Vec<usize> {
    use rustix::thread::{CpuSet, sched_getaffinity};
    let set = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
    (0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect()
}

/// Restricts the calling thread to `cores`. If the system refuses, timings are less precise but results are
/// not affected.
#[cfg(target_os = "linux")]
fn pin(cores: &[usize]) {
    use rustix::thread::{CpuSet, sched_setaffinity};
    let mut set = CpuSet::new();
    cores.iter().for_each(|&core| set.set(core));
    if !cores.is_empty() {
        let _ = sched_setaffinity(None, &set);
    }
}

#[cfg(not(target_os = "linux"))]
fn allowed() -> Vec<usize> {
    Vec::new()
}

#[cfg(not(target_os = "linux"))]
fn pin(_: &[usize]) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crew_leaves_the_caller_as_it_was() {
        let before = allowed();
        let one = Crew::new(1).unwrap();
        let inside = one.enter(allowed);
        assert!(before.is_empty() || inside.len() == 1);
        assert_eq!(allowed(), before);
        let two = Crew::new(2).unwrap();
        assert_eq!((one.threads(), two.threads()), (1, 2));
        assert_eq!(two.broadcast(|| 7), [7, 7]);
        assert_eq!(two.enter(rayon::current_num_threads), 2);
    }
}
