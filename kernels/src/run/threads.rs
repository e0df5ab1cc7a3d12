//! [`Threads`], and how the output is cut among them: into boxes, deterministically, without allocating.
//!
//! `rayon::join` is used, not `scope.spawn`, which boxes its tasks. The library builds no pool.

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
    /// The rayon pool that the caller is in; outside of any, rayon's global pool.
    Current,
    /// This pool. To enter one from outside wakes a thread up: better once for several runs, see [`together`](Self::together).
    Pool(&'a rayon::ThreadPool),
    /// These, which are awake: what [`together`](Self::together) gives its closure.
    Team(&'a Team),
}

impl Threads<'_> {
    /// Does `work` with the idle ones of these threads at hand: between runs inside of it that use the [`Threads`] it is given,
    /// nobody has to be woken up. For a few milliseconds of many small runs, as a forward pass of a network; the threads of
    /// the pool do nothing else meanwhile. No more of them than the process may use cores; they let other processes have the core
    /// while there is nothing to do. Allocates nothing, but when the process asks for its
    /// number of cores for the first time.
    pub fn together<R: Send>(self, work: impl FnOnce(Threads<'_>) -> R + Send) -> R {
        match self {
            Self::Seq | Self::Team(_) => work(self),
            Self::Current => Team::lead(work),
            Self::Pool(pool) => pool.install(|| Team::lead(work)),
        }
    }

    /// Threads there are.
    pub(crate) fn available(&self) -> usize {
        match self {
            Self::Seq => 1,
            Self::Current => rayon::current_num_threads(),
            Self::Pool(pool) => pool.current_num_threads(),
            Self::Team(team) => team.members(),
        }
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
        let whole = Part { threads: self.parts, region, slabs };
        match threads {
            Threads::Team(team) if self.parts > 1 => self.run_on(team, whole, work),
            Threads::Pool(pool) if self.parts > 1 => pool.install(|| self.fork(whole, work)),
            _ => self.fork(whole, work),
        }
    }

    /// Half of the parts may be stolen by another thread of the pool, and half of each half.
    fn fork<'a, F>(&self, part: Part<'a, '_>, work: &F)
    where
        F: Fn(OutputRegion<'a>, &mut [f32]) + Sync,
    {
        let Some(seam) = self.seam(&part) else {
            return work(part.region, &mut part.slabs[..self.slab_len]);
        };
        let (first, second) = part.split(seam, self.slab_len);
        rayon::join(|| self.fork(first, work), || self.fork(second, work));
    }

    /// Deals all parts out, then has the team run them.
    fn run_on<'a, F>(&self, team: &Team, whole: Part<'a, '_>, work: &F)
    where
        F: Fn(OutputRegion<'a>, &mut [f32]) + Sync,
    {
        let mut count = 0;
        let mut hands = [const { Mutex::new(None) }; MOST_PARTS];
        self.deal(whole, &mut |part| {
            hands[count] = Mutex::new(Some(part));
            count += 1;
        });
        team.run(count, &|number| {
            let part = hands[number].lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(Part { region, slabs, .. }) = part {
                work(region, &mut slabs[..self.slab_len]);
            }
        });
    }

    fn deal<'a, 's>(&self, part: Part<'a, 's>, each: &mut impl FnMut(Part<'a, 's>)) {
        let Some(seam) = self.seam(&part) else {
            return each(part);
        };
        let (first, second) = part.split(seam, self.slab_len);
        self.deal(first, each);
        self.deal(second, each);
    }

    /// Where to cut a part in two; `None` if nothing can be cut.
    fn seam(&self, part: &Part<'_, '_>) -> Option<Seam> {
        let (axis, unit) = split_axis(&self.split_units, part.threads, |axis| part.region.len(axis))?;
        let (threads, count) = first_half(part.region.len(axis), unit, part.threads);
        Some(Seam { axis, count, threads })
    }
}

/// A box of the output, and the slabs of the threads that share it.
struct Part<'a, 's> {
    threads: usize,
    region: OutputRegion<'a>,
    slabs: &'s mut [f32],
}

/// How far the first of two parts goes, and how many threads share it.
struct Seam {
    axis: Axis,
    count: usize,
    threads: usize,
}

impl Part<'_, '_> {
    fn split(self, Seam { axis, count, threads }: Seam, slab_len: usize) -> (Self, Self) {
        let (first, second) = self.region.split(axis, count);
        let (slabs, later) = self.slabs.split_at_mut(threads * slab_len);
        (
            Self { threads, region: first, slabs },
            Self { threads: self.threads - threads, region: second, slabs: later },
        )
    }
}
