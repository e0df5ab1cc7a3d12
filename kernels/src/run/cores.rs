//! How many cores there are to use.

use std::num::NonZero;

/// Cores that this process may use: both respect the affinity of the process, and the quota of its control group.
pub(crate) fn usable() -> usize {
    let parallelism = std::thread::available_parallelism().map_or(usize::MAX, NonZero::get);
    num_cpus::get().min(parallelism).max(1)
}

/// The same at the price of a microsecond, and right for a pool whose threads are pinned to a core each: such a thread may use
/// one, and the process, by its first thread, all of them. Where that one is pinned too, nobody can say: as many as there
/// may be.
pub(super) fn for_pools() -> usize {
    let here = num_cpus::get().max(1);
    match affinity() {
        // Fewer than the thread may use: the quota.
        Some((thread, _)) if here < thread => here,
        Some((1, 1)) => usize::MAX,
        Some((_, process)) => here.max(process),
        None => here,
    }
}

/// Cores that this thread may use, and the first of the process.
#[cfg(target_os = "linux")]
fn affinity() -> Option<(usize, usize)> {
    use rustix::thread::{Pid, sched_getaffinity};
    let count = |pid| Some(sched_getaffinity(pid).ok()?.count() as usize);
    Some((count(None)?, count(Pid::from_raw(i32::try_from(std::process::id()).ok()?))?))
}

#[cfg(not(target_os = "linux"))]
fn affinity() -> Option<(usize, usize)> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_pinned_thread_does_not_make_the_process_smaller() {
        use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
        // The first thread may be that of the test harness, or this one.
        let all = for_pools();
        assert!(all == usize::MAX || (1..=num_cpus::get()).contains(&all));
        std::thread::spawn(move || {
            let may = sched_getaffinity(None).expect("a thread knows its cores");
            let mut one = CpuSet::new();
            one.set((0..CpuSet::MAX_CPU).find(|&core| may.is_set(core)).expect("it has one"));
            sched_setaffinity(None, &one).expect("it may be pinned to one of its own");
            assert_eq!((num_cpus::get(), for_pools()), (1, all));
        })
        .join()
        .expect("the thread has not panicked");
    }
}
