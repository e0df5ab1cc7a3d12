//! Memory that is kept between calls, and outputs.

use crate::error::Error;
use kernels::{Buffer, ConvDesc, ConvError, ConvPlan, Layout, PlanOptions, PlanWeights, Shape4, Workspace};
use ndarray::{ArrayView, Dimension};
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The most recently used values of a function of `K`.
pub(crate) struct Recent<K, V>(Mutex<Vec<(K, V)>>);

/// Maximum number of values in a [`Recent`].
const MOST_RECENT: usize = 32;

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: PartialEq, V: Clone> Recent<K, V> {
    /// Returns the value of `key`, from memory or newly made.
    pub(crate) fn get(&self, key: K, make: impl FnOnce() -> Result<V, Error>) -> Result<V, Error> {
        {
            let mut values = lock(&self.0);
            if let Some(index) = values.iter().position(|(other, _)| *other == key) {
                values[index..].rotate_left(1);
                return Ok(values[values.len() - 1].1.clone());
            }
        }
        // The lock is not held here, so that other threads can use the values that exist.
        let value = make()?;
        let mut values = lock(&self.0);
        if values.len() >= MOST_RECENT {
            values.remove(0);
        }
        values.push((key, value.clone()));
        Ok(value)
    }
}

/// The memory of one call at a time.
#[derive(Default)]
pub(crate) struct Scratch {
    pub(crate) workspace: Option<Workspace>,
    /// A part of the image, copied.
    pub(crate) block: Room,
    /// The result of the first of two passes.
    pub(crate) middle: Room,
    pub(crate) edges: Edges,
    /// Outputs on their way to an array that the library cannot write.
    pub(crate) output: Room,
}

impl Scratch {
    /// Number of elements.
    fn len(&self) -> usize {
        let workspace = self.workspace.as_ref().map_or(0, Workspace::len);
        let rooms = [&self.block, &self.middle, &self.edges.input, &self.edges.output, &self.output];
        workspace + rooms.map(Room::len).iter().sum::<usize>()
    }
}

/// Columns at an edge of an image.
#[derive(Default)]
pub(crate) struct Edges {
    /// A copy of the columns that are read.
    pub(crate) input: Room,
    pub(crate) output: Room,
}

/// A buffer that grows.
#[derive(Default)]
pub(crate) struct Room(Option<Buffer>);

impl Room {
    /// Returns `len` elements of any contents.
    pub(crate) fn of(&mut self, len: usize) -> Result<&mut [f32], ConvError> {
        // A buffer that is too small is freed before the larger one is there.
        let buffer = match self.0.take().filter(|buffer| buffer.len() >= len) {
            Some(buffer) => buffer,
            None => Buffer::zeroed(len)?,
        };
        Ok(&mut self.0.insert(buffer)[..len])
    }

    fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |buffer| buffer.len())
    }
}

/// Maximum number of elements that a [`Pool`] keeps: 256 MiB. A single huge image would otherwise hold its
/// memory for as long as the filter lives.
const MOST_KEPT: usize = (256 << 20) / size_of::<f32>();

/// Scratch memory that calls leave for later calls.
#[derive(Default)]
pub(crate) struct Pool(Mutex<Vec<Scratch>>);

impl Pool {
    /// Borrows scratch memory until the lease is dropped.
    pub(crate) fn lease(&self) -> Lease<'_> {
        Lease { scratch: lock(&self.0).pop().unwrap_or_default(), pool: self }
    }
}

pub(crate) struct Lease<'a> {
    scratch: Scratch,
    pool: &'a Pool,
}

impl Deref for Lease<'_> {
    type Target = Scratch;
    fn deref(&self) -> &Scratch {
        &self.scratch
    }
}

impl DerefMut for Lease<'_> {
    fn deref_mut(&mut self) -> &mut Scratch {
        &mut self.scratch
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let scratch = std::mem::take(&mut self.scratch);
        let mut kept = lock(&self.pool.0);
        if kept.iter().map(Scratch::len).sum::<usize>() + scratch.len() <= MOST_KEPT {
            kept.push(scratch);
        }
    }
}

/// Returns a workspace that is large enough for `plan`.
pub(crate) fn workspace_for<'a>(
    kept: &'a mut Option<Workspace>,
    plan: &ConvPlan,
) -> Result<&'a mut Workspace, ConvError> {
    let workspace = kept.get_or_insert_with(Workspace::empty);
    workspace.reserve(plan.workspace_req())?;
    Ok(workspace)
}

/// Plans `desc` for at most `threads` threads. The algorithm and its products are the best ones for one thread, because
/// others would change the bits of the output.
pub(crate) fn plan<'a>(
    weights: impl Into<PlanWeights<'a>>,
    desc: &ConvDesc,
    threads: usize,
) -> Result<ConvPlan, ConvError> {
    plan_with(weights, desc, &PlanOptions::default(), threads)
}

/// [`plan`] with options for one thread.
pub(crate) fn plan_with<'a>(
    weights: impl Into<PlanWeights<'a>>,
    desc: &ConvDesc,
    options: &PlanOptions,
    threads: usize,
) -> Result<ConvPlan, ConvError> {
    if threads == 1 {
        return ConvPlan::new(desc, weights, options);
    }
    let method = ConvPlan::choice(desc, options)?.method;
    ConvPlan::new(desc, weights, &options.force(method).max_threads(threads))
}

/// Returns an empty vector with room for `len` elements.
pub(crate) fn reserved<T>(what: &'static str, len: usize) -> Result<Vec<T>, ConvError> {
    let mut vec = Vec::new();
    let refused = ConvError::OutOfMemory { what, bytes: len.saturating_mul(size_of::<T>()) };
    vec.try_reserve_exact(len).map_err(|_| refused)?;
    Ok(vec)
}

/// Like [`Iterator::collect`], which aborts if there is not enough memory.
pub(crate) fn collected<T>(
    what: &'static str,
    items: impl ExactSizeIterator<Item = T>,
) -> Result<Vec<T>, ConvError> {
    let mut all = reserved(what, items.len())?;
    all.extend(items);
    Ok(all)
}

/// Returns a copy of an array's elements in standard order.
pub(crate) fn copied<D: Dimension>(
    what: &'static str,
    array: ArrayView<'_, f32, D>,
) -> Result<Vec<f32>, ConvError> {
    collected(what, array.iter().copied())
}

/// Returns a vector of zeros for an array of `shape`. The system provides zeroed pages, which are not touched
/// here.
pub(crate) fn zeros(shape: Shape4) -> Result<Vec<f32>, ConvError> {
    let len = shape.len(Layout::Nchw)?;
    // `vec!` aborts if there is not enough memory, so it is asked for in advance.
    reserved::<f32>("output", len)?;
    Ok(vec![0.0; len])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_keeps_scratch_up_to_a_limit() {
        let pool = Pool::default();
        let used = |len: usize| pool.lease().block.of(len).map(|room| room.len());
        let kept = || lock(&pool.0).iter().map(Scratch::len).collect::<Vec<_>>();
        assert_eq!(used(MOST_KEPT / 2), Ok(MOST_KEPT / 2));
        assert_eq!(kept(), [MOST_KEPT / 2]);
        {
            let (mut first, mut second) = (pool.lease(), pool.lease());
            first.middle.of(100).unwrap();
            second.output.of(MOST_KEPT / 2).unwrap();
            second.edges.input.of(1).unwrap();
        }
        assert_eq!(kept(), [MOST_KEPT / 2 + 1], "both of them would be more than the limit");
        assert_eq!(used(MOST_KEPT + 1), Ok(MOST_KEPT + 1), "a call can use more");
        assert!(kept().is_empty());
    }

    #[test]
    fn refused_memory_is_an_error() {
        let refused = |what, bytes| ConvError::OutOfMemory { what, bytes };
        assert_eq!(collected("row", (0..usize::MAX).map(|_| 0.5f64)), Err(refused("row", usize::MAX)));
        assert_eq!(reserved::<f32>("copy", 1 << 61).unwrap_err(), refused("copy", 1 << 63));
        assert_eq!(Room::default().of(1 << 61).unwrap_err(), refused("buffer", 1 << 63));
    }
}
