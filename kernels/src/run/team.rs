//! [`Team`]: threads of a pool that stay awake between runs that follow each other closely.
//!
//! To wake a thread up takes a system call, and on a virtual machine tens of microseconds: as long as a small layer. A
//! team is gathered once, with `rayon::join`, and then waits for jobs by looking at one word of memory.
//!
//! ```text
//! leader:  job = ..; left = parts; free = one bit per part      // publish
//!          take parts and do them, until none is free; wait until none is left
//! others:  look at free; take a part (clear its bit) and do it; left -= 1
//! ```
//!
//! Whoever clears the bit of a part has taken it: so a part is done once, and of the job that is published at that moment, since
//! the leader publishes no other before all parts of this one are done. Nobody waits for a thread that has taken nothing:
//! members that come late, or never, cost nothing but their help, and so nothing can be waited for that nobody does.

use super::threads::Threads;
use crate::choose::cores_for_pools;
use std::cell::UnsafeCell;
use std::fmt;
use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread::yield_now;

/// Parts of a job at most: a bit of a word each.
pub(super) const MOST_PARTS: usize = u64::BITS as usize;

/// How often a member looks for a job, some tens of microseconds, before it lets other threads have the core each time;
const SPINS: usize = 2_000;
/// and how often it does that before it sleeps.
const YIELDS: usize = 2_000;

/// Threads that work together on one run after another, see [`Threads::together`].
pub struct Team {
    members: usize,
    /// Parts of the job that nobody has taken.
    free: Line<AtomicU64>,
    /// Parts that are not done.
    left: Line<AtomicUsize>,
    /// Written by the leader while nothing is left, read by who has taken a part.
    job: Line<UnsafeCell<Job>>,
    /// Whether there is a leader now.
    led: AtomicBool,
    /// Whether there will be no more jobs.
    closed: AtomicBool,
    sleepers: AtomicUsize,
    bed: Mutex<()>,
    wake: Condvar,
}

/// On cache lines of its own.
#[repr(align(128))]
struct Line<T>(T);

/// A function of the number of a part, and what it captures.
#[derive(Clone, Copy)]
struct Job {
    captured: *const (),
    call: unsafe fn(*const (), usize),
}

// SAFETY: `job` is all that is not `Sync` by itself. It is written by the one leader (`led`) while no part is left, and read
// only by threads that have taken a part; taking one happens after it was published (`free`), and the next is written after
// all have been done (`left`). What is captured is `Sync`.
unsafe impl Sync for Team {}
// SAFETY: nothing belongs to a thread.
unsafe impl Send for Team {}

impl fmt::Debug for Team {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Team").field("members", &self.members).finish_non_exhaustive()
    }
}

impl Team {
    /// Threads that a team has at most now: as many as the process may use cores. To plan for more helps nobody.
    pub fn most_members() -> usize {
        cores_for_pools().min(MOST_PARTS)
    }

    /// Does `work` with a team of the pool that the caller is in.
    pub(super) fn lead<R: Send>(work: impl FnOnce(Threads<'_>) -> R + Send) -> R {
        let members = rayon::current_num_threads().min(Self::most_members());
        if members < 2 {
            return work(Threads::Seq);
        }
        let team = Self::new(members);
        team.gather(members - 1, || work(Threads::Team(&team)))
    }

    fn new(members: usize) -> Self {
        Self {
            members,
            free: Line(AtomicU64::new(0)),
            left: Line(AtomicUsize::new(0)),
            job: Line(UnsafeCell::new(Job { captured: std::ptr::null(), call: |_, _| () })),
            led: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            sleepers: AtomicUsize::new(0),
            bed: Mutex::new(()),
            wake: Condvar::new(),
        }
    }

    /// Threads that jobs can be cut for.
    pub(super) fn members(&self) -> usize {
        self.members
    }

    /// Offers `others` places of members to the pool, then does `work`. A place that no thread was free to take is taken
    /// back at the end.
    fn gather<R: Send>(&self, others: usize, work: impl FnOnce() -> R + Send) -> R {
        if others == 0 {
            let _close = Close(self);
            return work();
        }
        rayon::join(|| self.gather(others - 1, work), || self.follow(others)).0
    }

    /// Calls `work` once for each part, on this and the other threads, and returns when all calls have. A thread that leads
    /// while another does, calls it by itself.
    ///
    /// # Panics
    /// If `work` does; or, on another thread, when the team is left.
    pub(super) fn run<F: Fn(usize) + Sync>(&self, parts: usize, work: &F) {
        /// # Safety
        /// `captured` must be an `F`.
        unsafe fn call<F: Fn(usize)>(captured: *const (), part: usize) {
            // SAFETY: by the caller.
            unsafe { (*captured.cast::<F>())(part) }
        }
        assert!(parts <= MOST_PARTS);
        if parts < 2 || self.led.swap(true, Ordering::Acquire) {
            return (0..parts).for_each(work);
        }
        // SAFETY: this is the leader, and no part of an earlier job is left: nobody reads.
        unsafe { *self.job.0.get() = Job { captured: std::ptr::from_ref(work).cast(), call: call::<F> } };
        self.left.0.store(parts, Ordering::Relaxed);
        self.free.0.store(u64::MAX >> (MOST_PARTS - parts), Ordering::Release);
        self.wake_up();
        // Whatever happens, `work` is not left before all who have taken a part of it are done.
        let _finish = Finish(self);
        while let Some(part) = self.take(0) {
            let _done = Done(self);
            work(part);
        }
    }

    /// Does parts of jobs until the team is closed; the first choice is part `place`, of which it may have in its cache what it
    /// wrote a job ago.
    fn follow(&self, place: usize) {
        loop {
            while let Some(part) = self.take(place) {
                let _done = Done(self);
                // SAFETY: this thread has taken a part, so the job stays as it is until the part is done; `captured` is what
                // `call` was made for.
                unsafe {
                    let Job { captured, call } = *self.job.0.get();
                    call(captured, part);
                }
            }
            if self.closed.load(Ordering::Acquire) {
                return;
            }
            self.wait();
        }
    }

    /// A part that nobody has taken: `place` if it is free.
    fn take(&self, place: usize) -> Option<usize> {
        loop {
            let free = self.free.0.load(Ordering::Relaxed);
            let first = free & free.wrapping_neg();
            let bit = if free >> place & 1 == 1 { 1 << place } else { first };
            if bit == 0 {
                return None;
            }
            if self.free.0.fetch_and(!bit, Ordering::Acquire) & bit != 0 {
                return Some(bit.trailing_zeros() as usize);
            }
        }
    }

    fn nothing_to_do(&self) -> bool {
        self.free.0.load(Ordering::Relaxed) == 0 && !self.closed.load(Ordering::Relaxed)
    }

    fn wait(&self) {
        for turn in 0..SPINS + YIELDS {
            if !self.nothing_to_do() {
                return;
            }
            if turn < SPINS { spin_loop() } else { yield_now() }
        }
        let mut bed = self.bed.lock().unwrap_or_else(PoisonError::into_inner);
        self.sleepers.fetch_add(1, Ordering::Relaxed);
        // Either this thread sees the job, or the leader sees that it sleeps.
        fence(Ordering::SeqCst);
        while self.nothing_to_do() {
            bed = self.wake.wait(bed).unwrap_or_else(PoisonError::into_inner);
        }
        self.sleepers.fetch_sub(1, Ordering::Relaxed);
    }

    fn wake_up(&self) {
        fence(Ordering::SeqCst);
        if self.sleepers.load(Ordering::Relaxed) > 0 {
            // Who has counted itself but does not sleep yet has the lock.
            drop(self.bed.lock().unwrap_or_else(PoisonError::into_inner));
            self.wake.notify_all();
        }
    }
}

/// Lets the members go, also if the work panics.
struct Close<'a>(&'a Team);

impl Drop for Close<'_> {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::Release);
        self.0.wake_up();
    }
}

/// One part is done, also if it panicked.
struct Done<'a>(&'a Team);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.left.0.fetch_sub(1, Ordering::Release);
    }
}

/// Waits for all parts that were taken. Parts are free then only if the leader panicked, and are taken back.
struct Finish<'a>(&'a Team);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        let Team { free, left, led, .. } = self.0;
        let free = free.0.swap(0, Ordering::Relaxed).count_ones();
        left.0.fetch_sub(free as usize, Ordering::Relaxed);
        let mut turn = 0;
        while left.0.load(Ordering::Acquire) > 0 {
            turn += 1;
            if turn < SPINS { spin_loop() } else { yield_now() }
        }
        led.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::AtomicU32;

    fn pool(threads: usize) -> rayon::ThreadPool {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads can start")
    }

    /// `jobs` jobs of 1 to `parts` parts: every part is called once, and nothing after `run` has returned.
    fn count(team: &Team, jobs: usize, parts: usize) {
        for job in 0..jobs {
            let calls = [const { AtomicU32::new(0) }; MOST_PARTS];
            let parts = job % parts + 1;
            team.run(parts, &|part| {
                calls[part].fetch_add(1, Ordering::Relaxed);
            });
            for (part, calls) in calls.iter().enumerate() {
                assert_eq!(calls.load(Ordering::Relaxed), u32::from(part < parts), "part {part} of {parts}");
            }
        }
    }

    fn gathered<R: Send>(members: usize, work: impl FnOnce(&Team) -> R + Send) -> R {
        pool(members).install(|| {
            let team = Team::new(members);
            team.gather(members - 1, || work(&team))
        })
    }

    /// More members than cores too: the team itself has no limit but its parts.
    #[test]
    fn every_part_is_done_once() {
        let jobs = if cfg!(miri) { 20 } else { 3_000 };
        for members in [1, 2, 3, 7] {
            gathered(members, |team| count(team, jobs, members + 2));
        }
        gathered(2, |team| count(team, jobs / 10, MOST_PARTS));
    }

    #[test]
    fn members_that_sleep_are_woken() {
        gathered(3, |team| {
            for _ in 0..3 {
                std::thread::sleep(std::time::Duration::from_millis(20));
                count(team, 5, 3);
            }
        });
    }

    #[test]
    fn two_leaders_at_once_are_not_mixed_up() {
        gathered(2, |team| {
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| count(team, if cfg!(miri) { 10 } else { 2_000 }, 2));
                }
            });
        });
    }

    #[test]
    fn a_panic_ends_the_work_and_nothing_else() {
        for victim in 0..4 {
            let result = catch_unwind(AssertUnwindSafe(|| {
                gathered(2, |team| {
                    team.run(4, &|part| assert_ne!(part, victim, "as it should"));
                    count(team, 10, 2);
                });
            }));
            assert!(result.is_err(), "part {victim} has panicked");
        }
    }
}
