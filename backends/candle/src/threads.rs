//! The threads that candle computes with.

use kernels::Threads;
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

/// The threads of a run.
pub(crate) fn current() -> Threads<'static> {
    if count() == 1 { Threads::Seq } else { Threads::Current }
}
