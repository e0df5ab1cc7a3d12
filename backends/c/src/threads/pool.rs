//! [`ck_pool`]: threads of the library, for callers without a pool of their own.

use super::ck_threads;
use crate::pointer;
use crate::status::{Failure, ck_error, ck_status, guard, guard_value};
use kernels::{Team, Threads};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::ffi::c_void;
use std::ptr::{self, NonNull};

/// The most threads of a pool.
const MOST_THREADS: usize = 1024;

/// A pool of threads that sleep between runs. Any number of threads can use it at the same time.
pub struct ck_pool(Kind);

enum Kind {
    Pool(ThreadPool),
    /// The threads that stay awake during a call of [`ck_pool_keep_awake`].
    Team(NonNull<Team>),
    /// Instead of a team of one.
    CallingThread,
}

/// The function that `ck_pool_keep_awake` calls. `threads` are the threads that stay awake; the pointer becomes
/// invalid when the function returns.
pub type ck_work = Option<unsafe extern "C-unwind" fn(context: *mut c_void, threads: *const ck_threads)>;

impl ck_pool {
    pub(super) fn threads(&self) -> Threads<'_> {
        match &self.0 {
            Kind::Pool(pool) => Threads::Pool(pool),
            // SAFETY: a pool of this kind exists only during the call that borrows the team.
            Kind::Team(team) => Threads::Team(unsafe { team.as_ref() }),
            Kind::CallingThread => Threads::Seq,
        }
    }
}

/// Starts a pool of `threads` threads, at most 1024. 0 stands for one thread for each core that this process can use.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ck_pool_create(
    threads: usize,
    pool: *mut *mut ck_pool,
    error: *mut ck_error,
) -> ck_status {
    guard(error, || {
        let make = || {
            if threads > MOST_THREADS {
                let message = format!("threads: expected at most {MOST_THREADS}, got {threads}");
                return Err(Failure::invalid(message));
            }
            let count = match threads {
                0 => std::thread::available_parallelism().map_or(1, usize::from),
                count => count,
            };
            let builder = ThreadPoolBuilder::new().num_threads(count);
            let pool = builder.thread_name(|index| format!("convkernels-{index}")).build();
            pool.map(|pool| ck_pool(Kind::Pool(pool))).map_err(|error| Failure {
                status: ck_status::OutOfMemory,
                message: format!("pool: expected {count} threads, got an error of the system: {error}"),
            })
        };
        // SAFETY: the header's introduction says what the caller promises about pointers.
        unsafe { pointer::create("pool", pool, make) }
    })
}

/// Returns the number of threads. Use it for `max_threads` of plans. Returns 0 if `pool` is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ck_pool_threads(pool: *const ck_pool) -> usize {
    guard_value(0, || {
        // SAFETY: the header's introduction says what the caller promises about pointers.
        unsafe { pointer::borrow("pool", pool) }.map_or(0, |pool| pool.threads().count())
    })
}

/// Calls `work(context, threads)` while the pool's idle threads stay awake.
///
/// Runs inside `work` that use `threads` start without waking a thread, which saves tens of microseconds each. Use
/// it around one forward pass: the threads poll for runs and do nothing else. `work` is called on a thread of the
/// pool. It must not throw, and must not leave by `longjmp`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ck_pool_keep_awake(
    pool: *const ck_pool,
    work: ck_work,
    context: *mut c_void,
    error: *mut ck_error,
) -> ck_status {
    guard(error, || {
        // SAFETY: the header's introduction says what the caller promises about pointers.
        let pool = unsafe { pointer::borrow("pool", pool) }?;
        let work = work.ok_or_else(|| Failure::null("work"))?;
        let context = Context(context);
        let threads = match &pool.0 {
            Kind::Pool(pool) => Threads::Pool(pool),
            _ => pool.threads(),
        };
        threads.with_team(|team| {
            let kind = match team {
                Threads::Team(team) => Kind::Team(NonNull::from(team)),
                _ => Kind::CallingThread,
            };
            let pool = ck_pool(kind);
            let threads = ck_threads { threads: 0, parallelize: None, context: ptr::null_mut(), pool: &pool };
            // SAFETY: the function is the caller's, which promised that it can be called with this context.
            unsafe { work(context.get(), &threads) };
        });
        Ok(())
    })
}

/// The caller's pointer, which the library only passes on.
struct Context(*mut c_void);

// SAFETY: the header says that `work` is called on another thread.
unsafe impl Send for Context {}

impl Context {
    fn get(self) -> *mut c_void {
        self.0
    }
}

/// Ends the threads of `pool` and frees it. Does nothing if it is NULL. No run may use the pool any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ck_pool_destroy(pool: *mut ck_pool) {
    // SAFETY: the header's introduction says what the caller promises about handles.
    unsafe { pointer::destroy(pool) }
}
