//! Threads on cores of their own: what is compared runs on the same ones.

use kernels::Threads;
use rayon::{ThreadPool, ThreadPoolBuilder};

/// The calling thread on one core, or a pool with one thread on each of several.
pub struct Crew {
    pool: Option<ThreadPool>,
    cores: Vec<usize>,
}

impl Crew {
    /// `threads` threads, on the last cores that this process may use: the first ones have the interrupts. More
    /// threads than cores are left to the system.
    ///
    /// # Errors
    /// If the system has no threads left.
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

    /// How many threads.
    pub fn threads(&self) -> usize {
        self.pool.as_ref().map_or(1, ThreadPool::current_num_threads)
    }

    /// What a plan is told inside [`enter`](Self::enter).
    pub fn plan_threads(&self) -> Threads<'static> {
        if self.pool.is_some() { Threads::Current } else { Threads::Seq }
    }

    /// What a network is told outside of the pool, as its users do.
    pub fn run_threads(&self) -> Threads<'_> {
        self.pool.as_ref().map_or(Threads::Seq, Threads::Pool)
    }

    /// Does `work` on the cores of the crew: in its pool, or pinned for as long as it takes.
    pub fn enter<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        match &self.pool {
            Some(pool) => pool.install(work),
            None => self.pinned(work),
        }
    }

    /// Does `work` with the calling thread, and so the processes that it starts, allowed on the cores of the crew only.
    pub fn pinned<R>(&self, work: impl FnOnce() -> R) -> R {
        let before = allowed();
        pin(&self.cores);
        let result = work();
        pin(&before);
        result
    }

    /// Does `work` on every thread at once.
    pub fn broadcast<R: Send>(&self, work: impl Fn() -> R + Sync) -> Vec<R> {
        match &self.pool {
            Some(pool) => pool.broadcast(|_| work()),
            None => vec![work()],
        }
    }
}

/// The cores that the calling thread may use; none where the system cannot say.
#[cfg(target_os = "linux")]
fn allowed() -> Vec<usize> {
    use rustix::thread::{CpuSet, sched_getaffinity};
    let set = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
    (0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect()
}

/// Allows the calling thread `cores` only. A system that refuses costs precision, not results.
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
