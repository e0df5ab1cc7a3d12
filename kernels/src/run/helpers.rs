//! [`Helpers`]: threads of the library's own, for callers whose layers run one by one.

use super::executor::{Executor, MOST_PARTS};
use super::team::Team;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

/// Threads that help whichever thread runs a plan, and stay awake for up to 10 ms after each run.
///
/// Use them where each layer is a call of its own, with other work between the calls, as in an adapter for
/// another library. There, waking a thread of a pool for every layer takes as long as a small layer. A helper
/// polls for the next run instead. It yields its core at each poll once it has found no run for some tens of
/// microseconds, and sleeps when none has come for 10 ms. Where one call runs a whole network,
/// [`Threads::with_team`](crate::Threads::with_team) does the same with the threads of a rayon pool.
///
/// If several threads run plans at the same time, the helpers work for one of them, and the others compute
/// alone. After a `fork`, the child computes alone too.
///
/// ```
/// # use kernels::*;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let helpers = Helpers::new(2)?; // once in the program
/// # let desc = ConvDesc::builder(Shape4::new(4, 16, 8, 8), 16, Size2::square(3)).build()?;
/// # let (filter, input, mut output) = (vec![0.5; 16 * 16 * 9], vec![1.0; 4 * 16 * 64], vec![0.0; 4 * 16 * 36]);
/// let threads = Threads::Executor(&helpers);
/// let plan = ConvPlan::new(&desc, Weights::filter(&filter), &PlanOptions::default().threads(&threads))?;
/// # let mut workspace = Workspace::for_req(plan.workspace_req())?;
/// # let io = ConvIo::new(
/// #     TensorRef::packed(&input, desc.input(), desc.layout())?,
/// #     TensorMut::packed(&mut output, desc.output(), desc.layout())?,
/// # );
/// plan.run(io, &mut workspace, threads)?;
/// # assert!((output[0] - 72.0).abs() < 1e-3);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Helpers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    team: Team,
    bell: Mutex<Bell>,
    rings: Condvar,
}

/// What sleeping helpers wait for.
#[derive(Debug, Default)]
struct Bell {
    /// Number of helpers that shall wake up.
    wanted: usize,
    closed: bool,
}

impl Helpers {
    /// Starts `threads - 1` helpers, so that with the calling thread there are `threads` threads, at most 1024.
    ///
    /// # Errors
    /// If the system cannot start a thread.
    pub fn new(threads: usize) -> io::Result<Self> {
        let members = threads.clamp(1, MOST_PARTS);
        // No thread is at home in this team: whoever runs a plan may recruit.
        let shared =
            Arc::new(Shared { team: Team::new(members, 0), bell: Mutex::default(), rings: Condvar::new() });
        let mut helpers = Self { shared, threads: Vec::new() };
        for place in 1..members {
            let shared = Arc::clone(&helpers.shared);
            let name = format!("convolution {place}");
            helpers.threads.push(Builder::new().name(name).spawn(move || shared.help(place))?);
        }
        Ok(helpers)
    }
}

impl Executor for Helpers {
    fn threads(&self) -> usize {
        self.threads.len() + 1
    }

    fn run(&self, parts: usize, part: &(dyn Fn(usize) + Sync)) {
        // A panic is kept until all parts are done, and then passed on to this thread.
        let panic = Mutex::new(None);
        let work = |number: usize| {
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| part(number))) {
                *panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(payload);
            }
        };
        self.shared.team.run(parts, &work, |missing, lead| {
            self.shared.wake(missing);
            lead();
        });
        if let Some(payload) = panic.into_inner().unwrap_or_else(PoisonError::into_inner) {
            resume_unwind(payload);
        }
    }
}

impl Drop for Helpers {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.team.close();
        self.shared.rings.notify_all();
        for thread in self.threads.drain(..) {
            // A helper does not panic: panics of parts are caught.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Bell> {
        self.bell.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self, missing: usize) {
        let mut bell = self.lock();
        // Whoever was called before and is not up yet counts.
        if bell.wanted < missing {
            bell.wanted = missing;
            self.rings.notify_all();
        }
    }

    /// Helps until there are no more runs, and sleeps between them.
    fn help(&self, place: usize) {
        loop {
            self.team.serve(place);
            let mut bell = self.lock();
            while bell.wanted == 0 && !bell.closed {
                bell = self.rings.wait(bell).unwrap_or_else(PoisonError::into_inner);
            }
            if bell.closed {
                return;
            }
            bell.wanted -= 1;
            drop(bell);
            self.team.come_back();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread::{current, scope, sleep};
    use std::time::{Duration, Instant};

    fn counts(helpers: &Helpers, parts: usize) -> Vec<usize> {
        let counts: Vec<_> = (0..parts).map(|_| AtomicUsize::new(0)).collect();
        helpers.run(parts, &|part| {
            counts[part].fetch_add(1, Ordering::Relaxed);
        });
        counts.into_iter().map(AtomicUsize::into_inner).collect()
    }

    /// Runs jobs until another thread has helped. Each part takes long enough to wake a thread.
    fn expect_help(helpers: &Helpers) {
        let start = Instant::now();
        let here = current().id();
        loop {
            let helped = AtomicUsize::new(0);
            helpers.run(2, &|_| {
                helped.fetch_add(usize::from(current().id() != here), Ordering::Relaxed);
                sleep(Duration::from_millis(2));
            });
            if helped.into_inner() > 0 {
                return;
            }
            assert!(start.elapsed() < Duration::from_secs(60), "the caller is left alone");
        }
    }

    #[test]
    fn every_part_is_done_once() {
        for threads in [0, 1, 2, 3, 5] {
            let helpers = Helpers::new(threads).expect("threads can start");
            assert_eq!(helpers.threads(), threads.max(1));
            for parts in [0, 1, 2, 3, 7, 64, 100, 1025] {
                assert_eq!(counts(&helpers, parts), vec![1; parts], "{threads} threads");
            }
        }
    }

    #[test]
    fn helpers_that_sleep_are_woken() {
        let helpers = Helpers::new(2).expect("threads can start");
        for _ in 0..4 {
            expect_help(&helpers);
            let start = Instant::now();
            while helpers.shared.team.missing(2) == 0 {
                assert!(start.elapsed() < Duration::from_secs(60), "the helper never sleeps");
                sleep(Duration::from_millis(1));
            }
        }
    }

    #[test]
    fn several_callers_at_once() {
        let helpers = Helpers::new(3).expect("threads can start");
        scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..500).for_each(|_| assert_eq!(counts(&helpers, 3), [1; 3])));
            }
        });
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_helpers_stay() {
        let helpers = Helpers::new(2).expect("threads can start");
        for _ in 0..20 {
            let run = || {
                helpers.run(2, &|part| {
                    sleep(Duration::from_millis(1));
                    if part == 1 {
                        resume_unwind(Box::new("as it should"));
                    }
                });
            };
            assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
        }
        expect_help(&helpers);
    }
}
