//! The number of cores that a pool of threads can use.

/// Returns the number of cores that the threads of a pool can use. It takes about a microsecond.
///
/// A thread of a pool can be pinned to one core while the first thread of the process can use all cores. If
/// the first thread is pinned too, the number is unknown, and this returns `usize::MAX`.
pub(super) fn for_pools() -> usize {
    let here = num_cpus::get().max(1);
    match affinity() {
        // Fewer cores than this thread can use: the process has a CPU quota.
        Some((thread, _)) if here < thread => here,
        Some((1, 1)) => usize::MAX,
        Some((_, process)) => here.max(process),
        None => here,
    }
}

/// Returns the numbers of cores that this thread and the first thread of the process can use.
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
        // The first thread can be a thread of the test harness, or this one.
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
