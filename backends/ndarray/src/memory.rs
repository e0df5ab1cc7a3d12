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
        let buffer = match self.0.take() {
            Some(buffer) if buffer.len() >= len => buffer,
            _ => Buffer::zeroed(len)?,
        };
        Ok(&mut self.0.insert(buffer)[..len])
    }
}

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
        lock(&self.pool.0).push(std::mem::take(&mut self.scratch));
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

/// Plans `desc` for at most `threads` threads. The algorithm is the best one for one thread, because another
/// algorithm would change the bits of the output.
pub(crate) fn plan<'a>(
    weights: impl Into<PlanWeights<'a>>,
    desc: &ConvDesc,
    threads: usize,
) -> Result<ConvPlan, ConvError> {
    let options = PlanOptions::default();
    if threads == 1 {
        return ConvPlan::new(desc, weights, &options);
    }
    let algorithm = ConvPlan::choice(desc, &options)?.algorithm;
    ConvPlan::new(desc, weights, &options.force(algorithm).max_threads(threads))
}

/// Returns a copy of an array's elements in standard order.
pub(crate) fn copied<D: Dimension>(
    what: &'static str,
    array: ArrayView<'_, f32, D>,
) -> Result<Vec<f32>, ConvError> {
    let mut copy = Vec::new();
    let refused = ConvError::OutOfMemory { what, bytes: array.len().saturating_mul(size_of::<f32>()) };
    copy.try_reserve_exact(array.len()).map_err(|_| refused)?;
    copy.extend(array.iter());
    Ok(copy)
}

/// Returns a vector of zeros for an array of `shape`. The system provides zeroed pages, which are not touched
/// here.
pub(crate) fn zeros(shape: Shape4) -> Result<Vec<f32>, ConvError> {
    let len = shape.len(Layout::Nchw)?;
    // `vec!` aborts if there is not enough memory, so it is asked for in advance.
    let refused = ConvError::OutOfMemory { what: "output", bytes: len * size_of::<f32>() };
    Vec::<f32>::new().try_reserve_exact(len).map_err(|_| refused)?;
    Ok(vec![0.0; len])
}
