//! [`Threads`], and how the output is cut among them: into boxes, deterministically, without allocating.
//!
//! `rayon::join` is used, not `scope.spawn`, which boxes its tasks. The library builds no pool.

use super::gather;
use super::team::{MOST_PARTS, Team};
use crate::tile::output::OutputRegion;
use crate::work::parts::{Axis, SplitUnits, first_half, split_axis};
use std::sync::{Mutex, PoisonError};

/// Whose threads run a plan.
#[derive(Debug, Clone, Copy, Default)]
pub enum Threads<'a> {
    /// The calling thread alone.
    #[default]
    Seq,
    /// The rayon pool that the caller is in; outside of any, rayon's global pool. While it waits for other threads, this thread
    /// may do other jobs of the pool, as in `rayon::join`.
    Current,
    /// This pool. Entering a pool from outside wakes a thread: for several runs, enter it once, with
    /// [`with_team`](Self::with_team) or [`install`](rayon::ThreadPool::install).
    Pool(&'a rayon::ThreadPool),
    /// Threads that are awake: what [`with_team`](Self::with_team) passes to its closure.
    Team(&'a Team),
}

impl Threads<'_> {
    /// Calls `work` while idle threads of this pool stay awake, ready to help.
    ///
    /// Runs inside `work` that use the [`Threads`] passed to it start without waking a thread, which saves tens of
    /// microseconds per layer. Use it around one forward pass, not around a whole program: the threads poll for the next
    /// run and do nothing else. At most one thread per available core takes part. A thread that finds no run for some tens of
    /// microseconds yields its core. Nothing is allocated, except when the process asks for its number of cores for the
    /// first time.
    ///
    /// # What `work` may do
    /// `work` may wait for anything that some other thread can do: for jobs of this pool or of another
    /// (`rayon::join`, `scope`, `broadcast`, `yield_now`, `install`), a channel, a thread, another team. Such work is
    /// delayed if it needs a thread that helps here, but not for ever. A helper goes back to its pool when `work` returns, after
    /// 10 ms without a run, or after 500 ms in all, whichever comes first. Runs after that get other help, but have to wake
    /// threads, as with [`Threads::Current`].
    ///
    /// Do not hold a lock that other jobs of the pool need, neither around this call nor around a run in it. As everything
    /// that waits in rayon, both may do such a job on this thread while they wait for a helper to end.
    ///
    /// `work` may pass its [`Threads`] on to other threads. If several of them run a plan at once, the helpers work for one of
    /// them, and the others compute alone.
    ///
    /// # Panics
    /// If `work` does, or if a run does on a helper.
    pub fn with_team<R: Send>(self, work: impl FnOnce(Threads<'_>) -> R + Send) -> R {
        match self {
            Self::Seq | Self::Team(_) => work(self),
            Self::Current => with_team_of_current_pool(work),
            Self::Pool(pool) => pool.install(|| with_team_of_current_pool(work)),
        }
    }

    /// The number of threads.
    pub(crate) fn available(&self) -> usize {
        match self {
            Self::Seq => 1,
            Self::Current => rayon::current_num_threads(),
            Self::Pool(pool) => pool.current_num_threads(),
            Self::Team(team) => team.members(),
        }
    }
}

fn with_team_of_current_pool<R: Send>(work: impl FnOnce(Threads<'_>) -> R + Send) -> R {
    match rayon::current_num_threads().min(Team::most_members()) {
        0 | 1 => work(Threads::Seq),
        members => gather::gather(members, |team| work(Threads::Team(team))),
    }
}

/// A partition of the output: `parts` boxes, each with its slab of the workspace.
pub(crate) struct Split {
    pub(crate) parts: usize,
    pub(crate) split_units: SplitUnits,
    pub(crate) slab_len: usize,
}

impl Split {
    /// Cuts the region in two, as evenly as whole tiles allow, until every part has its box; then runs them on `threads`.
    pub(crate) fn run<'a, F>(
        &self,
        threads: Threads<'_>,
        region: OutputRegion<'a>,
        slabs: &mut [f32],
        work: &F,
    ) where
        F: Fn(OutputRegion<'a>, &mut [f32]) + Sync,
    {
        let whole = Assignment { threads: self.parts, region, slabs };
        match threads {
            Threads::Team(team) if self.parts > 1 => self.run_on(team, whole, work),
            Threads::Pool(pool) if self.parts > 1 => pool.install(|| self.fork(whole, work)),
            _ => self.fork(whole, work),
        }
    }

    /// Another thread of the pool may steal one half of the box, and of each half one half again.
    fn fork<'a, F>(&self, assigned: Assignment<'a, '_>, work: &F)
    where
        F: Fn(OutputRegion<'a>, &mut [f32]) + Sync,
    {
        let Some(point) = self.split_point(&assigned) else {
            return work(assigned.region, &mut assigned.slabs[..self.slab_len]);
        };
        let (first, second) = assigned.split(point, self.slab_len);
        rayon::join(|| self.fork(first, work), || self.fork(second, work));
    }

    /// Assigns all boxes to the numbers of a job's parts, then has the team run the job.
    fn run_on<'a, F>(&self, team: &Team, whole: Assignment<'a, '_>, work: &F)
    where
        F: Fn(OutputRegion<'a>, &mut [f32]) + Sync,
    {
        let mut parts = 0;
        let mut assigned = [const { Mutex::new(None) }; MOST_PARTS];
        self.for_each_box(whole, &mut |part| {
            assigned[parts] = Mutex::new(Some(part));
            parts += 1;
        });
        gather::run(team, parts, &|part| {
            let part = assigned[part].lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(Assignment { region, slabs, .. }) = part {
                work(region, &mut slabs[..self.slab_len]);
            }
        });
    }

    fn for_each_box<'a, 's>(&self, assigned: Assignment<'a, 's>, each: &mut impl FnMut(Assignment<'a, 's>)) {
        let Some(point) = self.split_point(&assigned) else {
            return each(assigned);
        };
        let (first, second) = assigned.split(point, self.slab_len);
        self.for_each_box(first, each);
        self.for_each_box(second, each);
    }

    /// Where to cut a box in two; `None` if it cannot be cut.
    fn split_point(&self, assigned: &Assignment<'_, '_>) -> Option<SplitPoint> {
        let (axis, unit) = split_axis(&self.split_units, assigned.threads, |axis| assigned.region.len(axis))?;
        let (threads, count) = first_half(assigned.region.len(axis), unit, assigned.threads);
        Some(SplitPoint { axis, count, threads })
    }
}

/// A box of the output, the number of threads that share it, and their slabs.
struct Assignment<'a, 's> {
    threads: usize,
    region: OutputRegion<'a>,
    slabs: &'s mut [f32],
}

/// How far the first of two boxes goes along `axis`, and how many threads share it.
struct SplitPoint {
    axis: Axis,
    count: usize,
    threads: usize,
}

impl Assignment<'_, '_> {
    fn split(self, SplitPoint { axis, count, threads }: SplitPoint, slab_len: usize) -> (Self, Self) {
        let (first, second) = self.region.split(axis, count);
        let (first_slabs, second_slabs) = self.slabs.split_at_mut(threads * slab_len);
        (
            Self { threads, region: first, slabs: first_slabs },
            Self { threads: self.threads - threads, region: second, slabs: second_slabs },
        )
    }
}
