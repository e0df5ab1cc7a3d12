//! The threads that candle computes with.

use kernels::{Helpers, Threads};
use std::sync::OnceLock;

/// Fewer elements than this are moved by the calling thread alone.
pub(crate) const PARALLEL: usize = 1 << 16;

/// candle's number of threads, asked for once: it reads the environment and the machine's description.
fn candle_threads() -> usize {
    static COUNT: OnceLock<usize> = OnceLock::new();
    *COUNT.get_or_init(candle_core::utils::get_num_threads)
}

/// Number of threads of a run: candle's number, or the current rayon pool's if that is smaller.
pub(crate) fn count() -> usize {
    match candle_threads() {
        0 | 1 => 1,
        wanted => wanted.min(Threads::Current.count()),
    }
}

/// The threads of a run. In a rayon pool they are its threads. Elsewhere they are this crate's own, which stay awake
/// between the layers of a model: candle calls one layer after another, and waking a thread for each of them would
/// take as long as a small layer.
pub(crate) fn current() -> Threads<'static> {
    static HELPERS: OnceLock<Option<Helpers>> = OnceLock::new();
    if count() == 1 {
        return Threads::Seq;
    }
    if rayon::current_thread_index().is_some() {
        return Threads::Current;
    }
    // Where the system refuses threads, rayon's may still be there.
    let helpers = HELPERS.get_or_init(|| Helpers::new(candle_threads()).ok());
    helpers.as_ref().map_or(Threads::Current, |helpers| Threads::Executor(helpers))
}
