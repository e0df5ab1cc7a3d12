//! Synchronisation primitives of a team: from the standard library, or from `loom` when a model checker
//! explores the team (`models.rs`). The code of the team is the same for both.

#[cfg(not(all(test, loom)))]
pub(super) use standard::*;

#[cfg(all(test, loom))]
pub(super) use modelled::*;

#[cfg(not(all(test, loom)))]
mod standard {
    pub(in crate::run) use std::hint::spin_loop;
    pub(in crate::run) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
    pub(in crate::run) use std::thread::yield_now;
    use std::time::{Duration, Instant};

    /// [`std::cell::UnsafeCell`] with the interface of loom's cell, which checks every access.
    pub(in crate::run) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(in crate::run) fn new(value: T) -> Self {
            Self(std::cell::UnsafeCell::new(value))
        }

        pub(in crate::run) fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
            read(self.0.get())
        }

        pub(in crate::run) fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
            write(self.0.get())
        }
    }

    pub(in crate::run) struct Stopwatch(Instant);

    impl Stopwatch {
        pub(in crate::run) fn start() -> Self {
            Self(Instant::now())
        }

        pub(in crate::run) fn elapsed(&self) -> Duration {
            self.0.elapsed()
        }
    }
}

#[cfg(all(test, loom))]
mod modelled {
    pub(in crate::run) use loom::cell::UnsafeCell;
    pub(in crate::run) use loom::hint::spin_loop;
    pub(in crate::run) use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
    pub(in crate::run) use loom::thread::yield_now;
    use std::cell::Cell;
    use std::time::Duration;

    /// No time passes in a model, so each reading of the stopwatch adds six milliseconds.
    pub(in crate::run) struct Stopwatch(Cell<u32>);

    impl Stopwatch {
        pub(in crate::run) fn start() -> Self {
            Self(Cell::new(0))
        }

        pub(in crate::run) fn elapsed(&self) -> Duration {
            self.0.set(self.0.get() + 1);
            Duration::from_millis(6) * self.0.get()
        }
    }
}
