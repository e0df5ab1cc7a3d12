//! Memory: buffers that kernels stream through, and the one place where what grows with a problem is allocated.
//!
//! An allocation that the system refuses is [`ConvError::OutOfMemory`], never the end of the process.
//!
//! On virtual machines page walks and first-touch faults are the hidden cost of large buffers. Those of a
//! megabyte and more are therefore aligned to 2 MB, advised as huge pages before their first touch (Linux; a
//! no-op elsewhere) and written once, at plan time.

use crate::describe::ConvError;
use aligned_vec::{AVec, RuntimeAlign};
use std::alloc::Layout;
use std::fmt;
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
    /// No elements, and no memory.
    pub fn empty() -> Self {
        Self(AVec::new(CACHE_LINE))
    }

    /// `len` zeros.
    ///
    /// # Errors
    /// [`ConvError::OutOfMemory`].
    pub fn zeroed(len: usize) -> Result<Self, ConvError> {
        Self::zeroed_for("buffer", len)
    }

    /// A copy of `values`.
    ///
    /// # Errors
    /// [`ConvError::OutOfMemory`].
    pub fn copy_of(values: &[f32]) -> Result<Self, ConvError> {
        let mut buffer = Self::zeroed(values.len())?;
        buffer.copy_from_slice(values);
        Ok(buffer)
    }

    /// [`zeroed`](Self::zeroed), with a name for the error. A `len` that saturated is refused like any other that is too
    /// large.
    pub(crate) fn zeroed_for(what: &'static str, len: usize) -> Result<Self, ConvError> {
        let mut data = Self::reserved(what, len)?;
        data.resize(len, 0.0);
        Ok(Self(data))
    }

    /// `len` elements that `fill` writes, part by part. Memory is touched only as it is written.
    pub(crate) fn from_parts<E: From<ConvError>>(
        what: &'static str,
        len: usize,
        mut fill: impl FnMut(&mut [f32]) -> Result<(), E>,
    ) -> Result<Self, E> {
        const PART: usize = 16 << 10;
        let mut data = Self::reserved(what, len)?;
        let mut part = try_vec(what, len.min(PART))?;
        part.resize(len.min(PART), 0.0);
        while data.len() < len {
            let part = &mut part[..PART.min(len - data.len())];
            fill(part)?;
            data.extend_from_slice(part);
        }
        Ok(Self(data))
    }

    /// Room for `len` elements, aligned and advised, and not touched yet.
    fn reserved(what: &'static str, len: usize) -> Result<AVec<f32, RuntimeAlign>, ConvError> {
        let bytes = len.saturating_mul(size_of::<f32>());
        let refused = ConvError::OutOfMemory { what, bytes };
        let align = if bytes >= LARGE { HUGE_PAGE } else { CACHE_LINE };
        // aligned-vec takes it for granted that an allocation has a layout.
        let rounded = bytes.checked_next_multiple_of(align);
        let Some(rounded) = rounded.filter(|&bytes| Layout::from_size_align(bytes, align).is_ok()) else {
            return Err(refused);
        };
        let mut data = AVec::new(align);
        data.try_reserve_exact(rounded / size_of::<f32>()).map_err(|_| refused)?;
        if bytes >= LARGE {
            advise_huge(data.as_mut_ptr(), huge_pages(bytes) * HUGE_PAGE);
        }
        Ok(data)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.len() * size_of::<f32>()
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("len", &self.len()).finish_non_exhaustive()
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
#[non_exhaustive]
pub struct WorkspaceReq {
    /// Elements for each thread.
    pub per_thread_len: usize,
    /// Threads that may run at once.
    pub threads: usize,
}

impl WorkspaceReq {
    /// `per_thread_len` elements for each of `threads` threads.
    pub const fn new(per_thread_len: usize, threads: usize) -> Self {
        Self { per_thread_len, threads }
    }

    /// Elements in all; `usize::MAX`, which no system has, if that many cannot be counted.
    pub const fn len(self) -> usize {
        self.per_thread_len.saturating_mul(self.threads)
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
#[derive(Debug)]
pub struct Workspace(Buffer);

impl Workspace {
    /// No memory: for plans that need none, or to be grown by [`reserve`](Self::reserve).
    pub fn empty() -> Self {
        Self(Buffer::empty())
    }

    /// As much as `req` asks for.
    ///
    /// # Errors
    /// [`ConvError::OutOfMemory`].
    pub fn for_req(req: WorkspaceReq) -> Result<Self, ConvError> {
        Buffer::zeroed_for("workspace", req.len()).map(Self)
    }

    /// Grows to what `req` asks for; never shrinks. `run` never calls it.
    ///
    /// # Errors
    /// [`ConvError::OutOfMemory`]; the workspace is then as it was.
    pub fn reserve(&mut self, req: WorkspaceReq) -> Result<(), ConvError> {
        if self.0.len() < req.len() {
            *self = Self::for_req(req)?;
        }
        Ok(())
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

impl AsMut<[f32]> for Workspace {
    fn as_mut(&mut self) -> &mut [f32] {
        self.as_mut_slice()
    }
}

/// An empty vector with room for `capacity` elements.
pub(crate) fn try_vec<T>(what: &'static str, capacity: usize) -> Result<Vec<T>, ConvError> {
    let mut vec = Vec::new();
    let bytes = capacity.saturating_mul(size_of::<T>());
    vec.try_reserve_exact(capacity).map_err(|_| ConvError::OutOfMemory { what, bytes })?;
    Ok(vec)
}

/// `push`.
pub(crate) fn try_push<T>(what: &'static str, vec: &mut Vec<T>, item: T) -> Result<(), ConvError> {
    let bytes = vec.len().saturating_add(1).saturating_mul(size_of::<T>());
    vec.try_reserve(1).map_err(|_| ConvError::OutOfMemory { what, bytes })?;
    vec.push(item);
    Ok(())
}

/// `collect`.
pub(crate) fn try_collect<T>(
    what: &'static str,
    items: impl Iterator<Item = T>,
) -> Result<Vec<T>, ConvError> {
    let mut vec = try_vec(what, items.size_hint().0)?;
    for item in items {
        try_push(what, &mut vec, item)?;
    }
    Ok(vec)
}

/// `to_vec`.
pub(crate) fn try_copy<T: Copy>(what: &'static str, items: &[T]) -> Result<Vec<T>, ConvError> {
    let mut vec = try_vec(what, items.len())?;
    vec.extend_from_slice(items);
    Ok(vec)
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
