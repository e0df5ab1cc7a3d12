//! The caller's own threads, behind a callback.

use kernels::Executor;
use std::any::Any;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Computes the part `index` of `task`. The library passes a function of this type to `ck_parallelize`.
pub type ck_part = unsafe extern "C" fn(task: *mut c_void, index: usize);

/// Calls `part(task, 0)`, `part(task, 1)`, ..., `part(task, parts - 1)`, in any order and on any threads, and returns
/// when all calls have returned.
///
/// The library calls it once per run, on the thread that called the run. Once it has returned, `part` must not be
/// called again. A callback that calls a part twice, or calls a part that does not exist, or leaves out parts, is
/// slow, but the output is right. It must not throw, and must not leave by `longjmp`.
pub type ck_parallelize =
    Option<unsafe extern "C-unwind" fn(context: *mut c_void, parts: usize, part: ck_part, task: *mut c_void)>;

type Parallelize =
    unsafe extern "C-unwind" fn(context: *mut c_void, parts: usize, part: ck_part, task: *mut c_void);

/// An [`Executor`] on a callback.
pub(crate) struct CallerThreads {
    pub(crate) threads: usize,
    pub(crate) parallelize: Parallelize,
    pub(crate) context: *mut c_void,
}

// SAFETY: the library calls `run` on the thread that called the run, so the context does not leave that thread
// unless the callback takes it along.
unsafe impl Sync for CallerThreads {}

/// What `task` points to during a callback.
struct Task<'a> {
    part: &'a (dyn Fn(usize) + Sync),
    /// Calls of [`run_part`] that have not returned.
    active: AtomicUsize,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// Waits for the active calls when it is dropped. A callback that returns too early, or that panics, then cannot
/// free what they use.
struct Joined<'a>(&'a AtomicUsize);

impl Drop for Joined<'_> {
    fn drop(&mut self) {
        while self.0.load(Ordering::Acquire) > 0 {
            thread::yield_now();
        }
    }
}

impl Executor for CallerThreads {
    fn threads(&self) -> usize {
        self.threads
    }

    fn run(&self, parts: usize, part: &(dyn Fn(usize) + Sync)) {
        let task = Task { part, active: AtomicUsize::new(0), panic: Mutex::new(None) };
        {
            let _joined = Joined(&task.active);
            // SAFETY: the callback is a function of the caller, which promised that it can be called with this
            // context. `task` lives until the callback has returned.
            unsafe { (self.parallelize)(self.context, parts, run_part, (&raw const task).cast_mut().cast()) };
        }
        let panic = task.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }
}

/// # Safety
/// `task` must be null or the `task` of a callback that has not returned.
unsafe extern "C" fn run_part(task: *mut c_void, index: usize) {
    if task.is_null() {
        return;
    }
    // SAFETY: the caller promises that it is a task, and the task outlives the callback.
    let task = unsafe { &*task.cast_const().cast::<Task<'_>>() };
    task.active.fetch_add(1, Ordering::Relaxed);
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| (task.part)(index))) {
        *task.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(payload);
    }
    // The last access of this call to the task. The thread that waits sees everything that the part wrote.
    task.active.fetch_sub(1, Ordering::Release);
}
