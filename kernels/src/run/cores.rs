//! How many cores a pool of threads can use.

/// Cores that the threads of a pool may use, at the price of a microsecond.
///
/// A thread of a pool may be pinned to one core while the process, by its first thread, may use all of them. Where the first
/// thread is pinned too, the number is not known, and this is `usize::MAX`.
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
