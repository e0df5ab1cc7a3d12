//! [`Wisdom`]: measured times, kept from one plan to the next and, in a file, from one process to the next.
//!
//! A file consists of text lines. The first line names the format and its version. Every other line is one
//! entry, oldest first, with four tab-separated fields: library version, CPU, key of the problem, and the
//! times as a comma-separated list of `algorithm=nanoseconds`. Any line that does not match exactly is
//! ignored and reported, so a damaged file costs time but cannot cause a wrong result. A file of another
//! format version is ignored as a whole.

mod cpu;
#[cfg(feature = "wisdom")]
mod file;
mod key;
mod text;

use crate::describe::Method;
pub(crate) use cpu::model as cpu_model;
pub(crate) use key::{Runs, WisdomKey};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
#[cfg(feature = "wisdom")]
use std::{io, path::Path};

/// Default limit on entries: enough for a few dozen networks.
const CAPACITY: usize = 4096;
/// Maximum number of times in one entry.
const MOST_TIMES: usize = Method::COUNT;

/// Measured times of one problem, in seconds.
pub(crate) type Times = Vec<(Method, f64)>;

/// Measured times of convolutions on this machine.
///
/// An entry is valid for one CPU, instruction set, thread limit, library version, complete problem,
/// [`Numerics`](super::Numerics), set of limits, and number of bytes that other work touches between two runs. Threads can share a `Wisdom` by reference. It holds a bounded
/// number of entries and drops the oldest.
pub struct Wisdom {
    cpu: String,
    capacity: usize,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    /// The number orders entries by age: a larger number is younger.
    by_key: HashMap<WisdomKey, (u64, Times)>,
    next: u64,
}

/// The result of [`Wisdom::load`] and [`Wisdom::parse`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Loaded {
    /// The valid entries; empty if there are none.
    pub wisdom: Wisdom,
    /// One reason for each ignored line, capped at a few dozen.
    pub ignored: Vec<String>,
}

impl Default for Wisdom {
    fn default() -> Self {
        Self::new()
    }
}

impl Wisdom {
    /// An empty `Wisdom` for at most 4096 problems.
    pub fn new() -> Self {
        Self::with_capacity(CAPACITY)
    }

    /// An empty `Wisdom` for at most `capacity` problems (at least one).
    pub fn with_capacity(capacity: usize) -> Self {
        Self { cpu: cpu::model(), capacity: capacity.max(1), entries: Mutex::new(Entries::default()) }
    }

    /// Number of problems with known times.
    pub fn len(&self) -> usize {
        self.lock().by_key.len()
    }

    /// Whether no times are known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the file holds that can be trusted. A file that is not there, or cannot be read, holds nothing, and the reason is given.
    #[cfg(feature = "wisdom")]
    pub fn load(path: impl AsRef<Path>) -> Loaded {
        file::load(path.as_ref())
    }

    /// Reads the valid entries of a file's text. Any bytes are accepted.
    pub fn parse(text: &[u8]) -> Loaded {
        text::parse(text)
    }

    /// Writes all entries to `path`.
    ///
    /// The text goes to a new file in the same directory, which then replaces `path` atomically. If anything
    /// fails, `path` keeps its previous contents.
    ///
    /// # Errors
    /// Of the file system: no such directory, no permission, no room.
    #[cfg(feature = "wisdom")]
    pub fn save(&self, path: impl AsRef<Path>) -> io::Result<()> {
        file::save(self, path.as_ref())
    }

    /// Adds the entries of `other`. Where both know a problem, the times of `other` win, as `other` is
    /// assumed to be younger.
    pub fn merge(&self, other: &Self) {
        for (key, times) in other.in_order() {
            self.remember(key, times);
        }
    }

    /// The times of `key`, if known.
    pub(crate) fn recall(&self, key: &WisdomKey) -> Option<Times> {
        self.lock().by_key.get(key).map(|(_, times)| times.clone())
    }

    /// Stores the times of `key`, and drops the oldest entry if there are too many.
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

    /// All entries, oldest first.
    fn in_order(&self) -> Vec<(WisdomKey, Times)> {
        let entries = self.lock();
        let mut all: Vec<_> = entries.by_key.iter().collect();
        all.sort_by_key(|(_, (number, _))| *number);
        all.into_iter().map(|(key, (_, times))| (key.clone(), times.clone())).collect()
    }

    /// A poisoned lock is still consistent: each insertion is a single map operation.
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
    /// Writes the text of a wisdom file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        text::write(self, f)
    }
}
