//! [`Threads`], and how the output is cut among them: into boxes, deterministically, without allocating.
//!
//! `rayon::join` is used, not `scope.spawn`, which boxes its tasks. The library builds no pool.

use crate::algo::Grain;
use crate::tile::output::{Axis, OutputRegion};

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

/// Where to cut for `parts` threads: whole images if that is even; else pixels, whose parts share the weights, or
/// channels, whose parts share the image; else whatever is least uneven. `None` if nothing can be cut.
fn cut(grain: &Grain, parts: usize, len: impl Fn(Axis) -> usize) -> Option<(Axis, usize)> {
    if parts < 2 {
        return None;
    }
    let pixels = (Axis::Pixels, grain.pixels);
    let channels = (Axis::Channels, grain.channels);
    let (first, second) = if grain.channels_first { (channels, pixels) } else { (pixels, channels) };
    let axes = [(Axis::Images, 1), first, second];
    // Of all threads' time, how much of it they work, in 1/1024.
    let busy = |&(axis, unit): &(Axis, usize)| {
        let units = len(axis).div_ceil(unit);
        if units < 2 { 0 } else { 1024 * units / (parts * units.div_ceil(parts)) }
    };
    let even = axes.iter().find(|&axis| busy(axis) >= EVEN);
    // The first of the best.
    let best = || axes.iter().rev().max_by_key(|&axis| busy(axis)).filter(|&axis| busy(axis) > 0);
    even.or_else(best).copied()
}

/// Of `parts` threads and an axis of `len`, cut in units: how many threads get the first part, and its length.
fn first_of_two(len: usize, unit: usize, parts: usize) -> (usize, usize) {
    let (left, units) = (parts / 2, len.div_ceil(unit));
    (left, (units * left).div_ceil(parts).min(units - 1).max(1) * unit)
}

/// Extents of a box of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extents {
    pub(crate) images: usize,
    pub(crate) pixels: usize,
    pub(crate) channels: usize,
}

impl Extents {
    fn len(&mut self, axis: Axis) -> &mut usize {
        match axis {
            Axis::Images => &mut self.images,
            Axis::Pixels => &mut self.pixels,
            Axis::Channels => &mut self.channels,
        }
    }

    /// The box of the thread that has the most to do, if so many share this one as [`Split::run`] cuts it.
    pub(crate) fn largest_part(self, grain: &Grain, mut parts: usize) -> Self {
        let mut part = self;
        while let Some((axis, unit)) = cut(grain, parts, |axis| *{ part }.len(axis)) {
            let len = *part.len(axis);
            let (left, count) = first_of_two(len, unit, parts);
            let first = count.min(len) as f64 / left as f64;
            let second = len.saturating_sub(count) as f64 / (parts - left) as f64;
            (*part.len(axis), parts) =
                if first >= second { (count.min(len), left) } else { (len - count, parts - left) };
        }
        part
    }
}

/// Threads that work 97 % of the time are even enough.
const EVEN: usize = 993;
