//! [`Team`]: threads that stay awake between runs that follow each other closely.
//!
//! Waking a thread takes a system call. On a virtual machine it takes tens of microseconds, as long as a
//! small layer. The members of a team instead poll one cache line for the next job.
//!
//! ```text
//! leader:  job = ..; unfinished = parts; unclaimed = one bit per part      // publish
//!          claim parts and do them, until none is unclaimed; wait until none is unfinished
//! member:  look at unclaimed; claim a part (clear its bit) and do it; unfinished -= 1
//! ```
//!
//! **Each part is done once, and of the right job.** The thread that clears the bit of a part has claimed the
//! part. The leader publishes the next job only after all parts of this job are done. A claimed part
//! therefore always belongs to the job that is published at that moment.
//!
//! **No thread waits for itself.** The leader waits only for parts that another thread has claimed. That
//! thread is computing them: a part is code of this crate, which waits for nothing. A member that comes late
//! or never costs only its help. A member stays for a limited time: it leaves when no job has come for
//! [`LONGEST_IDLE`], or after [`LONGEST_STAY`] in all. A thread that waits for a member therefore gets it
//! back, even if the waiting thread is the leader itself. A later job of the thread that gathered the team
//! gets another helper for each member that has left.

#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(feature = "rayon")]
use super::cores;
use super::executor::MOST_PARTS;
use super::sync::{
    AtomicBool, AtomicU64, AtomicUsize, Ordering, Stopwatch, UnsafeCell, spin_loop, yield_now,
};
use std::fmt;
use std::time::Duration;

/// Number of polls of a waiting thread, some tens of microseconds, before it yields its core at each further
/// poll.
const SPINS: usize = if cfg!(all(test, loom)) { 0 } else { 2_000 };

/// A member leaves when no job has been published for this long. It is longer than any pause between two
/// steps of a network, and longer than the system usually gives the leader's core to another process.
const LONGEST_IDLE: Duration = Duration::from_millis(10);

/// A member leaves after this time even if there is always a job, so that other jobs of its pool get their
/// turn. Each later run must wake threads, which takes tens of microseconds. The steps of a forward pass this
/// long take milliseconds.
const LONGEST_STAY: Duration = Duration::from_millis(500);

/// Threads that work together on one run after another; see
/// [`Threads::with_team`](crate::Threads::with_team).
pub struct Team {
    members: usize,
    /// The thread that gathered the team, identified by an address of its own.
    #[cfg_attr(not(feature = "rayon"), allow(dead_code))]
    home: usize,
    /// Everything that a waiting member polls.
    board: CacheLine<Board>,
    /// Number of parts of the published job that are not done.
    unfinished: CacheLine<AtomicUsize>,
    /// The published job. The leader writes it while no part is unfinished. Threads that have claimed a part
    /// read it.
    job: CacheLine<UnsafeCell<Job>>,
    /// Whether a thread is inside [`run`](Self::run) as the leader.
    has_leader: CacheLine<AtomicBool>,
    /// Number of members that left before the team was closed, or that declined.
    left_early: AtomicUsize,
    /// Makes the next publication panic.
    #[cfg(test)]
    pub(super) fails_to_publish: std::sync::atomic::AtomicBool,
}

/// Parts in a word of bits.
const WORD_PARTS: usize = u64::BITS as usize;

/// In this order, a team of up to [`WORD_PARTS`] members polls only the first of its cache lines.
#[repr(C)]
struct Board {
    /// Number of published jobs.
    jobs: AtomicUsize,
    /// Whether no more jobs will come.
    closed: AtomicBool,
    /// Parts of the published job that no thread has claimed, one bit each.
    unclaimed: [AtomicU64; MOST_PARTS / WORD_PARTS],
}

/// A value on cache lines of its own.
#[repr(align(128))]
struct CacheLine<T>(T);

/// A function of the number of a part, and a pointer to what it captures.
#[derive(Clone, Copy)]
struct Job {
    captured: *const (),
    call: unsafe fn(*const (), usize),
}

// SAFETY: `job` is the only field that is not `Sync` by itself. Only the one leader (`has_leader`) writes it,
// while no part is unfinished. Only threads that have claimed a part read it. A part is claimed after the job
// was published (`unclaimed`), and the next job is written after all parts are done (`unfinished`), so no
// read overlaps a write. What the job captures is `Sync`.
unsafe impl Sync for Team {}
// SAFETY: no field is tied to a thread.
unsafe impl Send for Team {}

impl fmt::Debug for Team {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Team").field("members", &self.members).finish_non_exhaustive()
    }
}

impl Team {
    /// Returns the maximum number of threads of a team: the number of cores that the process can use now, at most
    /// 1024. A plan for more threads gains nothing.
    #[cfg(feature = "rayon")]
    pub fn most_members() -> usize {
        cores::for_pools().min(MOST_PARTS)
    }

    /// A team of `members` threads, including the thread at `home` that gathers the others.
    pub(super) fn new(members: usize, home: usize) -> Self {
        let board = Board {
            jobs: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            unclaimed: std::array::from_fn(|_| AtomicU64::new(0)),
        };
        Self {
            members,
            home,
            board: CacheLine(board),
            unfinished: CacheLine(AtomicUsize::new(0)),
            job: CacheLine(UnsafeCell::new(Job { captured: std::ptr::null(), call: |_, _| () })),
            has_leader: CacheLine(AtomicBool::new(false)),
            left_early: AtomicUsize::new(0),
            #[cfg(test)]
            fails_to_publish: std::sync::atomic::AtomicBool::new(false),
        }
    }

    /// The number of threads to split a job for.
    #[cfg(feature = "rayon")]
    pub(super) fn members(&self) -> usize {
        self.members
    }

    /// The thread that gathered the team, identified by an address of its own.
    #[cfg(feature = "rayon")]
    pub(super) fn home(&self) -> usize {
        self.home
    }

    /// The words of unclaimed parts that have a bit for each member. A job uses no others.
    fn unclaimed(&self) -> &[AtomicU64] {
        let words = &self.board.0.unclaimed;
        &words[..self.members.div_ceil(WORD_PARTS).clamp(1, words.len())]
    }

    /// Calls `work` once for each part, on this thread and the members, and returns when all calls have
    /// returned. If another thread already leads, this thread makes all calls by itself. It also computes the parts
    /// that have no bit, because they are more than the members.
    ///
    /// If members have left and the job lacks helpers, this calls `recruit` with their number and a function
    /// that leads the job. `recruit` calls that function while other threads [`help`](Self::help). It returns
    /// at once if it can get no help.
    ///
    /// # Panics
    /// If `work` panics. A panic of a member is passed on when the team ends.
    pub(super) fn run<F: Fn(usize) + Sync>(
        &self,
        parts: usize,
        work: &F,
        recruit: impl FnOnce(usize, &(dyn Fn() + Sync)),
    ) {
        let leads = || self.has_leader.0.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed);
        if parts < 2 || leads().is_err() {
            return (0..parts).for_each(work);
        }
        // Created before the job is published. Whatever happens, this call does not return before all claimed
        // parts of `work` are done, and no part stays unclaimed.
        let _finish = FinishJob(self);
        let shared = parts.min(self.unclaimed().len() * WORD_PARTS);
        self.publish(shared, work);
        let missing = self.missing(shared);
        if missing > 0 {
            recruit(missing, &|| {
                self.lead(work);
                // This waits here because `recruit` can execute other jobs while it waits for the helpers.
                self.wait_until_finished();
            });
        }
        self.lead(work);
        (shared..parts).for_each(work);
    }

    /// Returns the number of helpers that a job of `parts` parts lacks because members have left.
    pub(super) fn missing(&self, parts: usize) -> usize {
        let members = (self.members - 1).saturating_sub(self.left_early.load(Ordering::Relaxed));
        (parts - 1).saturating_sub(members)
    }

    fn publish<F: Fn(usize) + Sync>(&self, parts: usize, work: &F) {
        /// # Safety
        /// `captured` must be an `F`.
        unsafe fn call<F: Fn(usize)>(captured: *const (), part: usize) {
            // SAFETY: the caller guarantees that `captured` points to an `F`.
            unsafe { (*captured.cast::<F>())(part) }
        }
        let job = Job { captured: std::ptr::from_ref(work).cast(), call: call::<F> };
        // SAFETY: this thread is the only leader, and no part of an earlier job is unfinished. So no other
        // thread reads or writes the job.
        self.job.0.with_mut(|place| unsafe { *place = job });
        self.unfinished.0.store(parts, Ordering::Relaxed);
        let board = &self.board.0;
        board.jobs.store(board.jobs.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        // A late member can be trying to claim a part of the previous job. A plain store would suffice, but
        // loom orders only read-modify-writes with each other.
        for (word, first) in self.unclaimed().iter().zip((0..parts).step_by(WORD_PARTS)) {
            let parts = (parts - first).min(WORD_PARTS);
            word.swap(u64::MAX >> (WORD_PARTS - parts), Ordering::Release);
        }
        #[cfg(test)]
        if self.fails_to_publish.load(Ordering::Relaxed) {
            std::panic::resume_unwind(Box::new("as the test asked for"));
        }
    }

    fn lead<F: Fn(usize)>(&self, work: &F) {
        while let Some(part) = self.claim(0) {
            let _done = PartDone(self);
            work(part);
        }
    }

    /// Works on jobs until the team is closed, or until it is time for a member to leave.
    ///
    /// The first choice is part `preferred`. What this thread wrote as the same part of the previous job can
    /// still be in its cache.
    pub(super) fn serve(&self, preferred: usize) {
        let _leave = Leave(self);
        let mut stay = Stay::new(self.board.0.jobs.load(Ordering::Relaxed));
        loop {
            match self.claim(preferred) {
                Some(part) => self.do_claimed(part),
                None => stay.rest(),
            }
            if self.board.0.closed.load(Ordering::Relaxed) || stay.is_over(self) {
                return;
            }
        }
    }

    /// Works on the published job until no part is unclaimed.
    #[cfg(feature = "rayon")]
    pub(super) fn help(&self, preferred: usize) {
        while let Some(part) = self.claim(preferred) {
            self.do_claimed(part);
        }
    }

    /// Leaves the team at once, in place of [`serve`](Self::serve).
    #[cfg(feature = "rayon")]
    pub(super) fn decline(&self) {
        drop(Leave(self));
    }

    /// Takes back that a member has left, before it [serves](Self::serve) again.
    pub(super) fn come_back(&self) {
        self.left_early.fetch_sub(1, Ordering::Relaxed);
    }

    /// Tells the members that no more jobs will come.
    pub(super) fn close(&self) {
        self.board.0.closed.store(true, Ordering::Relaxed);
    }

    fn do_claimed(&self, part: usize) {
        let _done = PartDone(self);
        // SAFETY: this thread has claimed a part, so no thread writes the job until the part is done
        // (`_done`).
        let Job { captured, call } = self.job.0.with(|job| unsafe { *job });
        // SAFETY: `call` was made for the type of `captured`. The leader keeps the captured value alive until
        // the part is done.
        unsafe { call(captured, part) };
    }

    /// Claims a part that no other thread has claimed: `preferred` if possible, otherwise one of the same word.
    fn claim(&self, preferred: usize) -> Option<usize> {
        let words = self.unclaimed();
        let (word, bit) = (preferred / WORD_PARTS, preferred % WORD_PARTS);
        (word..word + words.len()).map(|word| word % words.len()).find_map(|word| {
            let part = claim_bit(&words[word], bit)?;
            Some(word * WORD_PARTS + part)
        })
    }

    fn wait_until_finished(&self) {
        let mut turn = 0;
        while self.unfinished.0.load(Ordering::Acquire) > 0 {
            turn += 1;
            if turn < SPINS { spin_loop() } else { yield_now() }
        }
    }
}

/// Clears a bit that is set: `preferred` if possible. Returns its number.
fn claim_bit(unclaimed: &AtomicU64, preferred: usize) -> Option<usize> {
    loop {
        let now = unclaimed.load(Ordering::Relaxed);
        let first = now & now.wrapping_neg();
        let bit = if now >> preferred & 1 == 1 { 1 << preferred } else { first };
        if bit == 0 {
            return None;
        }
        if unclaimed.fetch_and(!bit, Ordering::Acquire) & bit != 0 {
            return Some(bit.trailing_zeros() as usize);
        }
    }
}

/// How long a member has stayed, and how long it has had no job.
struct Stay {
    total: Stopwatch,
    idle: Stopwatch,
    /// Number of polls since the last job.
    turns: usize,
    /// The number of the last job that this member noticed.
    job: usize,
}

impl Stay {
    fn new(job: usize) -> Self {
        Self { total: Stopwatch::start(), idle: Stopwatch::start(), turns: 0, job }
    }

    /// Waits for a moment.
    fn rest(&mut self) {
        self.turns += 1;
        if self.turns <= SPINS { spin_loop() } else { yield_now() }
    }

    /// Whether it is time to leave. It reads the clock once per job, and at each poll after the member has
    /// stopped spinning.
    fn is_over(&mut self, team: &Team) -> bool {
        let job = team.board.0.jobs.load(Ordering::Relaxed);
        if job != self.job {
            (self.job, self.turns) = (job, 0);
            return self.total.elapsed() >= LONGEST_STAY;
        }
        if self.turns <= SPINS {
            return false;
        }
        // A job on which other threads still work is not a pause.
        if self.turns == SPINS + 1 || team.unfinished.0.load(Ordering::Relaxed) > 0 {
            self.idle = Stopwatch::start();
        }
        self.idle.elapsed() >= LONGEST_IDLE || self.total.elapsed() >= LONGEST_STAY
    }
}

/// Counts a member as gone, also if a part panicked.
struct Leave<'a>(&'a Team);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.left_early.fetch_add(1, Ordering::Relaxed);
    }
}

/// Counts a part as done, also if it panicked.
struct PartDone<'a>(&'a Team);

impl Drop for PartDone<'_> {
    fn drop(&mut self) {
        self.0.unfinished.0.fetch_sub(1, Ordering::Release);
    }
}

/// Ends the job of this leader: waits for all claimed parts. If the leader panicked, some parts can be
/// unclaimed. They are taken back.
struct FinishJob<'a>(&'a Team);

impl Drop for FinishJob<'_> {
    fn drop(&mut self) {
        let Team { unfinished, has_leader, .. } = self.0;
        for word in self.0.unclaimed() {
            let unclaimed = word.swap(0, Ordering::Relaxed).count_ones();
            unfinished.0.fetch_sub(unclaimed as usize, Ordering::Relaxed);
        }
        self.0.wait_until_finished();
        has_leader.0.store(false, Ordering::Release);
    }
}
