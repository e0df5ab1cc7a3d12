//! Thread pools: one for each number of threads, made at the first use and kept.

use kernels::Threads;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::collections::BTreeMap;
use std::process;
use std::sync::{Mutex, PoisonError};

/// A pool of more threads is refused: each thread costs a stack.
const MOST_THREADS: usize = 256;

/// Multiply-accumulates that justify waking the threads of a pool: about 50 microseconds of one core.
const MACS_OF_A_POOL: u64 = 4_000_000;

/// The threads for this much work: the calling one alone for little work.
pub(crate) fn for_work(threads: Threads<'_>, macs: u64) -> Threads<'_> {
    if is_worth_waking(macs) { threads } else { Threads::Seq }
}

/// Whether this much work justifies waking the threads of a pool.
pub(crate) fn is_worth_waking(macs: u64) -> bool {
    macs >= MACS_OF_A_POOL
}

/// By process and number of threads. A forked child has none of its parent's threads, and makes new pools.
static POOLS: Mutex<BTreeMap<(u32, usize), &'static ThreadPool>> = Mutex::new(BTreeMap::new());

/// Returns `threads` threads. Pools live as long as the process.
///
/// # Errors
/// `ValueError` for a number that is not 1 to 256, `RuntimeError` if the system starts no threads.
pub(crate) fn threads(count: usize) -> PyResult<Threads<'static>> {
    Ok(pool_of(count)?.map_or(Threads::Seq, Threads::Pool))
}

/// Returns the pool of `threads` threads; `None` stands for the calling thread alone.
///
/// # Errors
/// As [`threads`].
pub(crate) fn pool_of(count: usize) -> PyResult<Option<&'static ThreadPool>> {
    check(count)?;
    (count > 1).then(|| pool(count)).transpose()
}

/// Checks a number of threads, and starts none.
///
/// # Errors
/// `ValueError` for a number that is not 1 to 256.
pub(crate) fn check(count: usize) -> PyResult<()> {
    if (1..=MOST_THREADS).contains(&count) {
        return Ok(());
    }
    let text = format!("threads: expected a number from 1 to {MOST_THREADS}, got {count}");
    Err(PyValueError::new_err(text))
}

fn pool(threads: usize) -> PyResult<&'static ThreadPool> {
    let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (process::id(), threads);
    if let Some(pool) = pools.get(&key) {
        return Ok(pool);
    }
    let built =
        ThreadPoolBuilder::new().num_threads(threads).thread_name(|i| format!("convkernels-{i}")).build();
    let pool = built.map_err(|error| {
        PyRuntimeError::new_err(format!("threads: expected the system to start {threads}, got: {error}"))
    })?;
    let pool: &'static ThreadPool = Box::leak(Box::new(pool));
    pools.insert(key, pool);
    Ok(pool)
}
