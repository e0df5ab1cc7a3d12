//! [`ck_threads`]: the threads of a run. [`ck_pool`]: a pool of the library.

mod caller;
mod pool;

use crate::pointer;
use crate::status::Failure;
use caller::CallerThreads;
pub use caller::{ck_parallelize, ck_part};
use kernels::Threads;
pub use pool::*;
use std::ffi::c_void;

/// The threads of a run: a pool of the caller, or a pool of the library. Set the whole struct to zero first.
///
/// Functions that take a pointer to it accept NULL, which stands for the calling thread alone. A run uses at most
/// `max_threads` of its plan. The bits of an output do not depend on the threads.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ck_threads {
    /// How many calls `parallelize` makes at the same time, the calling thread included. More than 64 count as 64.
    pub threads: usize,
    /// Runs parts on the caller's threads. NULL with a `pool`.
    pub parallelize: ck_parallelize,
    /// The first argument of `parallelize`.
    pub context: *mut c_void,
    /// A pool of the library. NULL with `parallelize`.
    pub pool: *const ck_pool,
}

/// A checked [`ck_threads`].
pub(crate) enum Workers<'a> {
    CallingThread,
    Caller(CallerThreads),
    Pool(&'a ck_pool),
}

impl<'a> Workers<'a> {
    /// # Safety
    /// As the header demands of `threads`.
    pub(crate) unsafe fn read(threads: *const ck_threads) -> Result<Self, Failure> {
        if threads.is_null() {
            return Ok(Self::CallingThread);
        }
        // SAFETY: the caller promises it.
        let ck_threads { threads, parallelize, context, pool } =
            unsafe { pointer::read("threads", threads) }?;
        match (parallelize, pool.is_null()) {
            // SAFETY: the caller promises it.
            (None, false) => Ok(Self::Pool(unsafe { pointer::borrow("threads.pool", pool) }?)),
            (Some(_), true) if threads == 0 => {
                Err(Failure::invalid("threads.threads: expected at least 1, got 0"))
            }
            (Some(parallelize), true) => Ok(Self::Caller(CallerThreads { threads, parallelize, context })),
            (None, true) => Err(Failure::null("threads.parallelize, or threads.pool")),
            (Some(_), false) => {
                Err(Failure::invalid("threads: expected either parallelize or pool, got both"))
            }
        }
    }

    pub(crate) fn threads(&self) -> Threads<'_> {
        match self {
            Self::CallingThread => Threads::Seq,
            Self::Caller(caller) => Threads::Executor(caller),
            Self::Pool(pool) => pool.threads(),
        }
    }
}
