//! Threads to compare the calling thread with.

use kernels::{Executor, Threads};

/// A pool of any kind.
pub enum Pool {
    #[cfg(feature = "rayon")]
    Rayon(rayon::ThreadPool),
    Scoped(Scoped),
}

/// Threads that are started for each run, as a caller without a pool would.
pub struct Scoped(pub usize);

impl Executor for Scoped {
    fn threads(&self) -> usize {
        self.0
    }

    fn run(&self, parts: usize, part: &(dyn Fn(usize) + Sync)) {
        std::thread::scope(|scope| {
            let threads: Vec<_> = (1..parts).map(|number| scope.spawn(move || part(number))).collect();
            part(0);
            // A scope waits for closures, not for the end of threads, whose own memory the leak detector would still see.
            threads.into_iter().for_each(|thread| thread.join().expect("a part does not panic"));
        });
    }
}

impl Pool {
    pub fn threads(&self) -> Threads<'_> {
        match self {
            #[cfg(feature = "rayon")]
            Self::Rayon(pool) => Threads::Pool(pool),
            Self::Scoped(scoped) => Threads::Executor(scoped),
        }
    }
}

/// Pools of rayon with 2, 3 and 8 threads, and an executor of 3. Without rayon, executors only.
pub fn pools() -> Vec<Pool> {
    #[cfg(feature = "rayon")]
    let pools = {
        let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let pools = [2, 3, 8].map(|threads| pool(threads).expect("threads can be started"));
        pools.map(Pool::Rayon).into_iter().chain([Pool::Scoped(Scoped(3))]).collect()
    };
    #[cfg(not(feature = "rayon"))]
    let pools = [2, 3, 8].map(|threads| Pool::Scoped(Scoped(threads))).into();
    pools
}
