//! [`Wisdom`]: what was timed, remembered from one plan to the next and, in a file, from one process to the next.
//!
//! A file is lines of text. The first names the format and its version. Each of the others is an entry, the oldest first, its
//! fields between tabs: library version, CPU, key of the problem, and the times, `algorithm=nanoseconds` between commas.
//! Whatever is not just that is ignored with a reason: the worst that a file can do is not to help. A file of another version
//! of the format is ignored as a whole.

mod cpu;
#[cfg(feature = "wisdom")]
mod file;
mod key;
mod text;

use crate::describe::Algorithm;
pub(crate) use cpu::model as cpu_model;
pub(crate) use key::WisdomKey;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
#[cfg(feature = "wisdom")]
use std::{io, path::Path};

/// Entries that are kept, unless told otherwise: those of some dozen networks.
const CAPACITY: usize = 4096;
/// Algorithms that an entry may have times of.
const MOST_TIMES: usize = Algorithm::ALL.len();

/// Times of one problem, in seconds.
pub(crate) type Times = Vec<(Algorithm, f64)>;

/// Times of problems on this machine, by everything that they depend on: CPU, instruction set, threads, library version, the
/// whole problem, numerics and limits.
///
/// Shared by reference between threads. Holds a bounded number of entries; the oldest give way.
pub struct Wisdom {
    cpu: String,
    capacity: usize,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    /// With the number of the entry: higher is younger.
    by_key: HashMap<WisdomKey, (u64, Times)>,
    next: u64,
}

/// What [`Wisdom::load`] and [`Wisdom::parse`] give.
#[derive(Debug)]
#[non_exhaustive]
pub struct Loaded {
    /// All that could be trusted; empty if nothing could.
    pub wisdom: Wisdom,
    /// Why the rest was not, at most a few dozen lines.
    pub ignored: Vec<String>,
}

impl Default for Wisdom {
    fn default() -> Self {
        Self::new()
    }
}

impl Wisdom {
    /// Knows nothing yet.
    pub fn new() -> Self {
        Self::with_capacity(CAPACITY)
    }

    /// Knows nothing yet, and remembers at most so many problems (at least one).
    pub fn with_capacity(capacity: usize) -> Self {
        Self { cpu: cpu::model(), capacity: capacity.max(1), entries: Mutex::new(Entries::default()) }
    }

    /// Problems that it knows.
    pub fn len(&self) -> usize {
        self.lock().by_key.len()
    }

    /// Whether it knows none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the file holds that can be trusted. A file that is not there, or cannot be read, holds nothing, and the reason is given.
    #[cfg(feature = "wisdom")]
    pub fn load(path: impl AsRef<Path>) -> Loaded {
        file::load(path.as_ref())
    }

    /// The same of the file's text, which may be anything.
    pub fn parse(text: &[u8]) -> Loaded {
        text::parse(text)
    }

    /// Writes everything to `path`, which then has it all or, whatever happens, what it had before: the text goes to a new
    /// file beside it, which takes its place.
    ///
    /// # Errors
    /// Of the file system: no such directory, no permission, no room.
    #[cfg(feature = "wisdom")]
    pub fn save(&self, path: impl AsRef<Path>) -> io::Result<()> {
        file::save(self, path.as_ref())
    }

    /// Adds what `other` knows. Of a problem that both know, the times of `other` are kept: it is taken to be the younger.
    pub fn merge(&self, other: &Self) {
        for (key, times) in other.in_order() {
            self.remember(key, times);
        }
    }

    /// Times of `key`, if they are known.
    pub(crate) fn recall(&self, key: &WisdomKey) -> Option<Times> {
        self.lock().by_key.get(key).map(|(_, times)| times.clone())
    }

    /// Times of `key`, from now on.
    pub(crate) fn remember(&self, key: WisdomKey, times: Times) {
        let mut entries = self.lock();
        let number = entries.next;
        entries.next += 1;
        entries.by_key.insert(key, (number, times));
        if entries.by_key.len() > self.capacity {
            let oldest = entries.by_key.iter().min_by_key(|(_, (number, _))| *number);
            let oldest = oldest.map(|(key, _)| key.clone());
            oldest.and_then(|key| entries.by_key.remove(&key));
        }
    }

    /// All entries, the oldest first.
    fn in_order(&self) -> Vec<(WisdomKey, Times)> {
        let entries = self.lock();
        let mut all: Vec<_> = entries.by_key.iter().collect();
        all.sort_by_key(|(_, (number, _))| *number);
        all.into_iter().map(|(key, (_, times))| (key.clone(), times.clone())).collect()
    }

    /// What a thread that panicked left is whole: entries are put in one by one.
    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Wisdom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wisdom").field("cpu", &self.cpu).field("entries", &self.len()).finish()
    }
}

impl fmt::Display for Wisdom {
    /// The text of a file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        text::write(self, f)
    }
}
