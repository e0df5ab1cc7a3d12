//! Buffers that kernels stream through: aligned, on huge pages where that pays, touched once and kept.
//!
//! On virtual machines page walks and first-touch faults are the hidden cost of large buffers. Those of a
//! megabyte and more are therefore aligned to 2 MB, advised as huge pages before their first touch (Linux; a
//! no-op elsewhere) and written once, at plan time.

use aligned_vec::{AVec, RuntimeAlign};
use std::ops::{Deref, DerefMut};

const CACHE_LINE: usize = 64;
const HUGE_PAGE: usize = 2 << 20;
/// From here on a buffer is worth a huge page.
const LARGE: usize = 1 << 20;

/// `f32`s aligned to a cache line, or to a huge page where that pays: for activations as for the library's own memory.
///
/// A megabyte or more is aligned to 2 MB, advised as huge pages before its first touch (Linux), and touched once.
pub struct Buffer(AVec<f32, RuntimeAlign>);

impl Buffer {
    /// `len` zeros.
    pub fn zeroed(len: usize) -> Self {
        let bytes = len * size_of::<f32>();
        let align = if bytes >= LARGE { HUGE_PAGE } else { CACHE_LINE };
        let capacity = bytes.next_multiple_of(align) / size_of::<f32>();
        let mut data = AVec::with_capacity(align, capacity);
        if bytes >= LARGE {
            advise_huge(data.as_mut_ptr(), huge_pages(bytes) * HUGE_PAGE);
        }
        data.resize(len, 0.0);
        Self(data)
    }

    /// A copy of `values`.
    pub fn copy_of(values: &[f32]) -> Self {
        let mut buffer = Self::zeroed(values.len());
        buffer.copy_from_slice(values);
        buffer
    }

    pub(crate) fn bytes(&self) -> usize {
        self.len() * size_of::<f32>()
    }
}

impl Deref for Buffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.0
    }
}

/// Huge pages at the start of so many bytes. All of a huge page is resident from its first touch on, and a network has
/// dozens of buffers: so the last one, which is not full, is one only if what is left of it is at most a quarter of the
/// bytes.
fn huge_pages(bytes: usize) -> usize {
    let rest = bytes.next_multiple_of(HUGE_PAGE) - bytes;
    bytes.div_ceil(HUGE_PAGE) - usize::from(rest > bytes / 4)
}

#[cfg(target_os = "linux")]
fn advise_huge(start: *mut f32, bytes: usize) {
    // SAFETY: the range is the allocation that the caller has just made, aligned to a huge page; the advice changes
    // no contents. It may be refused, which costs nothing, so the result does not matter.
    unsafe { libc::madvise(start.cast(), bytes, libc::MADV_HUGEPAGE) };
}

#[cfg(not(target_os = "linux"))]
fn advise_huge(_: *mut f32, _: usize) {}

/// What a plan needs of a [`Workspace`], in elements. May change from one version to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WorkspaceReq {
    /// Elements for each thread.
    pub per_thread_len: usize,
    /// Threads that may run at once.
    pub threads: usize,
}

impl WorkspaceReq {
    /// Elements in all.
    pub const fn len(self) -> usize {
        self.per_thread_len * self.threads
    }

    /// Whether none is needed.
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// A requirement that satisfies both: one workspace for a whole network.
    pub fn union(self, other: Self) -> Self {
        Self {
            per_thread_len: self.per_thread_len.max(other.per_thread_len),
            threads: self.threads.max(other.threads),
        }
    }
}

/// Scratch memory of [`ConvPlan::run`](crate::ConvPlan::run), owned by the caller: one per concurrent run.
pub struct Workspace(Buffer);

impl Workspace {
    /// No memory: for plans that need none, or to be grown by [`reserve`](Self::reserve).
    pub fn empty() -> Self {
        Self(Buffer::zeroed(0))
    }

    /// As much as `req` asks for.
    pub fn for_req(req: WorkspaceReq) -> Self {
        Self(Buffer::zeroed(req.len()))
    }

    /// Grows to what `req` asks for; never shrinks. `run` never calls it.
    pub fn reserve(&mut self, req: WorkspaceReq) {
        if self.0.len() < req.len() {
            self.0 = Buffer::zeroed(req.len());
        }
    }

    /// Elements.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no memory.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The memory itself; its contents mean nothing between runs.
    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn huge_pages_are_mostly_full() {
        for (bytes, pages) in
            [(0, 0), (1, 0), (HUGE_PAGE / 5 * 4 - 1, 0), (HUGE_PAGE / 5 * 4 + 4, 1), (HUGE_PAGE, 1)]
        {
            assert_eq!(huge_pages(bytes), pages, "{bytes} bytes");
        }
        assert_eq!(huge_pages(HUGE_PAGE + 4), 1);
        assert_eq!(huge_pages(5 * HUGE_PAGE + 4), 6);
    }
}
