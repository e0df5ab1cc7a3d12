//! [`Threads`], and how the output is split among them: into boxes, deterministically and without allocating.
//!
//! With rayon, the split uses `rayon::join` and not `scope.spawn`, which allocates its tasks. The library
//! builds no pool.

use super::executor::{Executor, MOST_PARTS};
#[cfg(feature = "rayon")]
use super::{gather, team::Team};
use crate::work::parts::{Cut, Region, Sharing, SplitUnits};
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// The threads that run a plan.
#[derive(Clone, Copy, Default)]
#[non_exhaustive]
pub enum Threads<'a> {
    /// The calling thread alone.
    #[default]
    Seq,
    /// The rayon pool that the caller is in. While this thread waits for others, it can execute other jobs of the
    /// pool, as in `rayon::join`. Outside of any pool, this thread computes one part, and rayon's global pool the
    /// others.
    #[cfg(feature = "rayon")]
    Current,
    /// A rayon pool. If the caller is in no pool, it computes one part itself, and threads of the pool are woken for
    /// the others, each with a small allocation. For several runs, enter the pool once with
    /// [`with_team`](Self::with_team) or [`install`](rayon::ThreadPool::install), or use
    /// [`Helpers`](crate::Helpers).
    #[cfg(feature = "rayon")]
    Pool(&'a rayon::ThreadPool),
    /// Threads that stay awake between runs. [`with_team`](Self::with_team) passes them to its closure.
    #[cfg(feature = "rayon")]
    Team(&'a Team),
    /// The caller's own threads.
    Executor(&'a dyn Executor),
}

impl fmt::Debug for Threads<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seq => f.write_str("Seq"),
            #[cfg(feature = "rayon")]
            Self::Current => f.write_str("Current"),
            #[cfg(feature = "rayon")]
            Self::Pool(pool) => f.debug_tuple("Pool").field(pool).finish(),
            #[cfg(feature = "rayon")]
            Self::Team(team) => f.debug_tuple("Team").field(team).finish(),
            Self::Executor(executor) => f.debug_tuple("Executor").field(&executor.threads()).finish(),
        }
    }
}

impl Threads<'_> {
    /// Calls `work` while idle threads of this pool stay awake, ready to help.
    ///
    /// Runs inside `work` that use the [`Threads`] passed to it start without waking a thread, which saves
    /// tens of microseconds per layer. Use it around one forward pass, not around a whole program: the
    /// threads poll for the next run and do nothing else. At most one thread per available core takes part. A
    /// thread that finds no run for some tens of microseconds yields its core. Nothing is allocated, except
    /// when the process asks for its number of cores for the first time.
    ///
    /// # What `work` may do
    /// `work` may wait for anything that another thread can do: a job of this pool or of another one
    /// (`rayon::join`, `scope`, `broadcast`, `yield_now`, `install`), a channel, a thread, or another team.
    /// If the awaited work needs a thread that helps here, it is delayed, but not for ever. A helper returns
    /// to its pool at the first of these events:
    /// - `work` returns.
    /// - No run has come for 10 ms.
    /// - The helper has stayed for 500 ms.
    ///
    /// Later runs get other helpers, but must wake them, as with [`Threads::Current`].
    ///
    /// Do not hold a lock that other jobs of the pool need, neither around this call nor around a run in it.
    /// While either of them waits for a helper, this thread can execute such a job, as in every wait of
    /// rayon.
    ///
    /// `work` may pass its [`Threads`] on to other threads. If several of them run a plan at the same time,
    /// the helpers work for one of them, and the others compute alone.
    ///
    /// # Panics
    /// If `work` panics, or if a run panics on a helper.
    #[cfg(feature = "rayon")]
    pub fn with_team<R: Send>(self, work: impl FnOnce(Threads<'_>) -> R + Send) -> R {
        match self {
            Self::Seq | Self::Team(_) | Self::Executor(_) => work(self),
            Self::Current => with_team_of_current_pool(work),
            Self::Pool(pool) => pool.install(|| with_team_of_current_pool(work)),
        }
    }

    /// Calls `work` with these threads.
    #[cfg(not(feature = "rayon"))]
    pub(crate) fn with_team<R: Send>(self, work: impl FnOnce(Threads<'_>) -> R + Send) -> R {
        work(self)
    }

    /// Returns the number of threads. Pass it to
    /// [`PlanOptions::max_threads`](crate::PlanOptions::max_threads).
    pub fn count(&self) -> usize {
        match self {
            Self::Seq => 1,
            #[cfg(feature = "rayon")]
            Self::Current => rayon::current_num_threads(),
            #[cfg(feature = "rayon")]
            Self::Pool(pool) => pool.current_num_threads(),
            #[cfg(feature = "rayon")]
            Self::Team(team) => team.members(),
            Self::Executor(executor) => executor.threads().clamp(1, MOST_PARTS),
        }
    }
}

#[cfg(feature = "rayon")]
fn with_team_of_current_pool<R: Send>(work: impl FnOnce(Threads<'_>) -> R + Send) -> R {
    match rayon::current_num_threads().min(Team::most_members()) {
        0 | 1 => work(Threads::Seq),
        members => gather::gather(members, |team| work(Threads::Team(team))),
    }
}

/// Offers all parts but one to the threads of a pool, and computes that one here.
#[cfg(feature = "rayon")]
fn in_place<'scope>(scope: &rayon::Scope<'scope>, parts: usize, part: &'scope (dyn Fn(usize) + Sync)) {
    (1..parts).for_each(|number| scope.spawn(move |_| part(number)));
    if parts > 0 {
        part(0);
    }
}

/// A partition of the output into `parts` boxes. Each box has its own slab of the workspace.
pub(crate) struct Split {
    pub(crate) parts: usize,
    pub(crate) split_units: SplitUnits,
    pub(crate) slab_len: usize,
}

impl Split {
    /// Splits the region in two, as evenly as whole tiles allow, and each half again, until there are `parts`
    /// boxes. Then runs `work` on each box.
    ///
    /// Inlined, because the copies of a region take longer than the smallest convolutions.
    #[inline]
    pub(crate) fn run<R, F>(&self, threads: Threads<'_>, region: R, slabs: &mut [f32], work: &F)
    where
        R: Region + Send,
        F: Fn(R, &mut [f32]) + Sync,
    {
        if self.parts <= 1 {
            return work(region, &mut slabs[..self.slab_len]);
        }
        self.run_parts(threads, Assignment { sharing: Sharing::among(self.parts), region, slabs }, work);
    }

    fn run_parts<R, F>(&self, threads: Threads<'_>, whole: Assignment<'_, R>, work: &F)
    where
        R: Region + Send,
        F: Fn(R, &mut [f32]) + Sync,
    {
        match threads {
            Threads::Seq => self.run_on(|parts, part| (0..parts).for_each(part), whole, work),
            #[cfg(feature = "rayon")]
            Threads::Team(team) => self.run_on(|parts, part| gather::run(team, parts, &part), whole, work),
            // A thread outside of any pool computes a part itself. If it slept while the pool computed, one thread
            // more would have to be woken, and the system often starts that thread on the core of the waking one.
            #[cfg(feature = "rayon")]
            Threads::Pool(pool) if self.is_outside() => {
                self.run_on(
                    |parts, part| pool.in_place_scope(|scope| in_place(scope, parts, part)),
                    whole,
                    work,
                );
            }
            #[cfg(feature = "rayon")]
            Threads::Current if self.is_outside() => {
                self.run_on(
                    |parts, part| rayon::in_place_scope(|scope| in_place(scope, parts, part)),
                    whole,
                    work,
                );
            }
            #[cfg(feature = "rayon")]
            Threads::Pool(pool) => pool.install(|| self.fork(whole, work)),
            #[cfg(feature = "rayon")]
            Threads::Current => self.fork(whole, work),
            Threads::Executor(executor) => {
                self.run_on(|parts, part| executor.run(parts, part), whole, work);
            }
        }
    }

    /// Whether this thread belongs to no pool, and can take a part in one.
    #[cfg(feature = "rayon")]
    fn is_outside(&self) -> bool {
        self.parts <= MOST_PARTS && rayon::current_thread_index().is_none()
    }

    /// Splits the box in two and offers one half to the other threads of the pool. Repeats this for each
    /// half.
    #[cfg(feature = "rayon")]
    fn fork<R, F>(&self, assigned: Assignment<'_, R>, work: &F)
    where
        R: Region + Send,
        F: Fn(R, &mut [f32]) + Sync,
    {
        let Some(point) = self.split_point(&assigned) else {
            return work(assigned.region, &mut assigned.slabs[..self.slab_len]);
        };
        let (first, second) = assigned.split(point, self.slab_len);
        rayon::join(|| self.fork(first, work), || self.fork(second, work));
    }

    /// [`run_in`](Self::run_in) with a list that is not much longer than necessary. It is on the stack.
    fn run_on<R, F>(
        &self,
        execute: impl FnOnce(usize, &(dyn Fn(usize) + Sync)),
        whole: Assignment<'_, R>,
        work: &F,
    ) where
        R: Region + Send,
        F: Fn(R, &mut [f32]) + Sync,
    {
        match self.parts {
            0..=64 => self.run_in::<64, R, F>(execute, whole, work),
            65..=256 => self.run_in::<256, R, F>(execute, whole, work),
            _ => self.run_in::<MOST_PARTS, R, F>(execute, whole, work),
        }
    }

    /// Assigns each box to the number of a part, then lets `execute` call all parts. There are at most `MOST` parts.
    fn run_in<const MOST: usize, R, F>(
        &self,
        execute: impl FnOnce(usize, &(dyn Fn(usize) + Sync)),
        whole: Assignment<'_, R>,
        work: &F,
    ) where
        R: Region + Send,
        F: Fn(R, &mut [f32]) + Sync,
    {
        let mut parts = 0;
        let mut assigned = [const { Mutex::new(None) }; MOST];
        self.for_each_box(whole, &mut |Assignment { region, slabs, .. }| {
            assigned[parts] = Mutex::new(Some((region, slabs)));
            parts += 1;
        });
        let assigned = &assigned[..parts];
        let part = |number: usize| {
            // A caller's executor can call a part twice, or a part that does not exist.
            let assigned = assigned.get(number);
            let part = assigned.and_then(|part| part.lock().unwrap_or_else(PoisonError::into_inner).take());
            if let Some((region, slabs)) = part {
                work(region, &mut slabs[..self.slab_len]);
            }
        };
        execute(parts, &part);
        // It can also have left out some parts.
        (0..parts).for_each(part);
    }

    fn for_each_box<'s, R: Region>(
        &self,
        assigned: Assignment<'s, R>,
        each: &mut impl FnMut(Assignment<'s, R>),
    ) {
        let Some(point) = self.split_point(&assigned) else {
            return each(assigned);
        };
        let (first, second) = assigned.split(point, self.slab_len);
        self.for_each_box(first, each);
        self.for_each_box(second, each);
    }

    /// Returns where to split a box in two; `None` if it cannot be split.
    fn split_point(&self, assigned: &Assignment<'_, impl Region>) -> Option<Cut> {
        assigned.sharing.cut(&self.split_units, |axis| assigned.region.len(axis))
    }
}

/// A box of the output, how threads share it, and their slabs.
struct Assignment<'s, R> {
    sharing: Sharing,
    region: R,
    slabs: &'s mut [f32],
}

impl<R: Region> Assignment<'_, R> {
    fn split(self, cut: Cut, slab_len: usize) -> (Self, Self) {
        let (first, second) = self.region.split(cut.axis, cut.count);
        let (first_slabs, second_slabs) = self.slabs.split_at_mut(cut.first.threads() * slab_len);
        (
            Self { sharing: cut.first, region: first, slabs: first_slabs },
            Self { sharing: cut.second, region: second, slabs: second_slabs },
        )
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::algo::weights_gradient::GradientRegion;
    use crate::tile::output::OutputRegion;

    /// A thread of the caller can have a small stack.
    #[test]
    fn the_list_of_parts_is_small() {
        type Part<'a, R> = Mutex<Option<(R, &'a mut [f32])>>;
        let sizes = [64, 256, MOST_PARTS].map(|parts| parts * size_of::<Part<'_, OutputRegion<'_>>>());
        assert!(sizes[0] <= 12 << 10 && sizes[1] <= 47 << 10 && sizes[2] <= 188 << 10, "{sizes:?}");
        // A gradient of weights has two regions, and at most this many parts.
        assert!(256 * size_of::<Part<'_, GradientRegion<'_>>>() <= 94 << 10);
    }
}
