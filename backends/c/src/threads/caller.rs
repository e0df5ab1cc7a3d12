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

#[cfg(test)]
mod tests {
    use super::*;
    use std::ptr;
    use std::sync::atomic::AtomicBool;
    use std::sync::mpsc;
    use std::time::Duration;

    fn threads(parallelize: Parallelize, context: *mut c_void) -> CallerThreads {
        CallerThreads { threads: 2, parallelize, context }
    }

    /// Starts a thread for the part and returns as soon as the part has begun.
    unsafe extern "C-unwind" fn returns_early(
        context: *mut c_void,
        _: usize,
        part: ck_part,
        task: *mut c_void,
    ) {
        let task = task.expose_provenance();
        // SAFETY: the test waits for the call to return, because `run` waits for it.
        thread::spawn(move || unsafe { part(ptr::with_exposed_provenance_mut(task), 0) });
        // SAFETY: the test passes a receiver.
        let begun = unsafe { &*context.cast::<mpsc::Receiver<()>>() };
        begun.recv().unwrap();
    }

    #[test]
    fn a_callback_that_returns_early_is_waited_for() {
        let (begin, begun) = mpsc::channel();
        let done = AtomicBool::new(false);
        let caller = threads(returns_early, (&raw const begun).cast_mut().cast());
        caller.run(1, &|_| {
            begin.send(()).unwrap();
            thread::sleep(Duration::from_millis(50));
            done.store(true, Ordering::Relaxed);
        });
        assert!(done.load(Ordering::Relaxed));
    }

    unsafe extern "C-unwind" fn one_by_one(_: *mut c_void, parts: usize, part: ck_part, task: *mut c_void) {
        // SAFETY: the task is the one that came with the part.
        (0..parts).for_each(|index| unsafe { part(task, index) });
    }

    #[test]
    fn a_panic_of_a_part_passes_the_callback_and_not_its_frames() {
        let caller = threads(one_by_one, ptr::null_mut());
        let ran = AtomicUsize::new(0);
        let part = |index: usize| {
            ran.fetch_add(1, Ordering::Relaxed);
            assert_ne!(index, 1, "a bug in part {index}");
        };
        let payload = catch_unwind(AssertUnwindSafe(|| caller.run(3, &part))).unwrap_err();
        assert!(payload.downcast_ref::<String>().unwrap().contains("a bug in part 1"));
        assert_eq!(ran.into_inner(), 3, "the other parts ran all the same");
    }
}
