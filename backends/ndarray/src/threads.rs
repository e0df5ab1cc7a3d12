//! [`Threads`]: who computes.

/// The threads of a call. The bits of an output do not depend on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Threads {
    /// The calling thread alone.
    #[default]
    Seq,
    /// The rayon pool that the caller is in, or rayon's global pool outside of any pool. Use
    /// `ThreadPool::install` for another pool.
    Rayon,
}

impl Threads {
    pub(crate) fn count(self) -> usize {
        self.of_library().count()
    }

    pub(crate) fn of_library(self) -> kernels::Threads<'static> {
        match self {
            Self::Seq => kernels::Threads::Seq,
            Self::Rayon => kernels::Threads::Current,
        }
    }
}
