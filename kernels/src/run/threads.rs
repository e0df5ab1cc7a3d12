//! [`Threads`], and how the output is cut among them: into boxes, deterministically, without allocating.
//!
//! `rayon::join` is used, not `scope.spawn`, which boxes its tasks. The library builds no pool.

use crate::tile::output::OutputRegion;
use crate::work::parts::{Grain, cut, first_of_two};

/// Whose threads run a plan.
#[derive(Debug, Clone, Copy, Default)]
pub enum Threads<'a> {
    /// The calling thread alone.
    #[default]
    Seq,
    /// The rayon pool that the caller is in; outside of any, rayon's global pool.
    Current,
    /// This pool. Entering one from outside costs a few microseconds: better enter it once and use `Current`.
    Pool(&'a rayon::ThreadPool),
}

impl Threads<'_> {
    /// Threads there are.
    pub(crate) fn available(&self) -> usize {
        match self {
            Self::Seq => 1,
            Self::Current => rayon::current_num_threads(),
            Self::Pool(pool) => pool.current_num_threads(),
        }
    }

    pub(crate) fn run(&self, work: impl FnOnce() + Send) {
        match self {
            Self::Seq | Self::Current => work(),
            Self::Pool(pool) => pool.install(work),
        }
    }
}

/// A partition of the output: `parts` boxes, each with its slab of the workspace.
pub(crate) struct Split {
    pub(crate) parts: usize,
    pub(crate) grain: Grain,
    pub(crate) slab_len: usize,
}

impl Split {
    /// Cuts the region in two, as evenly as whole tiles allow, until every part has its box; then runs them.
    pub(crate) fn run<'a, F>(&self, region: OutputRegion<'a>, slabs: &mut [f32], work: &F)
    where
        F: Fn(OutputRegion<'a>, &mut [f32]) + Sync,
    {
        self.part(self.parts, region, slabs, work);
    }

    fn part<'a, F>(&self, parts: usize, region: OutputRegion<'a>, slabs: &mut [f32], work: &F)
    where
        F: Fn(OutputRegion<'a>, &mut [f32]) + Sync,
    {
        let Some((axis, unit)) = cut(&self.grain, parts, |axis| region.len(axis)) else {
            return work(region, &mut slabs[..self.slab_len]);
        };
        let (left, count) = first_of_two(region.len(axis), unit, parts);
        let (first, second) = region.split(axis, count);
        let (slabs_left, slabs_right) = slabs.split_at_mut(left * self.slab_len);
        rayon::join(
            || self.part(left, first, slabs_left, work),
            || self.part(parts - left, second, slabs_right, work),
        );
    }
}
