//! Memory: buffers that kernels stream through, and all allocations that grow with a problem.
//!
//! If the system refuses an allocation, it becomes [`ConvError::OutOfMemory`] and does not abort the process.
//!
//! On virtual machines, page walks and first-touch faults make large buffers slow. Buffers of 1 MB and more
//! are therefore aligned to 2 MB, and advised as huge pages before their first touch (Linux only).

use crate::describe::ConvError;
use aligned_vec::{AVec, RuntimeAlign};
use std::alloc::Layout;
use std::fmt;
use std::ops::{Deref, DerefMut};

const CACHE_LINE: usize = 64;
const HUGE_PAGE: usize = 2 << 20;
/// Bytes from which a buffer is worth a huge page.
const LARGE: usize = 1 << 20;

/// An aligned buffer of `f32`, for activations and for the library's own memory.
///
/// A buffer of less than 1 MB is aligned to a cache line. A larger one is aligned to 2 MB. On Linux it is
/// also advised as huge pages before its first touch.
pub struct Buffer(AVec<f32, RuntimeAlign>);

impl Buffer {
    /// An empty buffer, without any memory.
    pub fn empty() -> Self {
        Self(AVec::new(CACHE_LINE))
    }

    /// A buffer of `len` zeros.
    ///
    /// # Errors
    /// [`ConvError::OutOfMemory`] if the system refuses the allocation.
    pub fn zeroed(len: usize) -> Result<Self, ConvError> {
        Self::zeroed_for("buffer", len)
    }

    /// A buffer with a copy of `values`.
    ///
    /// # Errors
    /// [`ConvError::OutOfMemory`] if the system refuses the allocation.
    pub fn copy_of(values: &[f32]) -> Result<Self, ConvError> {
        let mut buffer = Self::zeroed(values.len())?;
        buffer.copy_from_slice(values);
        Ok(buffer)
    }

    /// [`zeroed`](Self::zeroed), with a name for the error. A `len` that saturated at `usize::MAX` is refused
    /// like any other length that is too large.
    pub(crate) fn zeroed_for(what: &'static str, len: usize) -> Result<Self, ConvError> {
        let mut data = Self::reserved(what, len)?;
        data.resize(len, 0.0);
        Ok(Self(data))
    }

    /// A buffer of `len` elements that `fill` writes in parts. Memory is touched only as it is written.
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

    /// Memory for `len` elements, aligned and advised, but not touched yet.
    fn reserved(what: &'static str, len: usize) -> Result<AVec<f32, RuntimeAlign>, ConvError> {
        let bytes = len.saturating_mul(size_of::<f32>());
        let refused = ConvError::OutOfMemory { what, bytes };
        let align = if bytes >= LARGE { HUGE_PAGE } else { CACHE_LINE };
        // aligned-vec assumes that a `Layout` exists for the requested size.
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

/// Returns how many whole huge pages to request for a buffer of `bytes`.
///
/// A huge page becomes resident as soon as one byte of it is touched, and a network has dozens of buffers.
/// The partly used last page is therefore requested only if its unused part is at most a quarter of the
/// buffer.
fn huge_pages(bytes: usize) -> usize {
    let rest = bytes.next_multiple_of(HUGE_PAGE) - bytes;
    bytes.div_ceil(HUGE_PAGE) - usize::from(rest > bytes / 4)
}

#[cfg(target_os = "linux")]
fn advise_huge(start: *mut f32, bytes: usize) {
    // SAFETY: the range lies in the allocation that the caller has just made, and its start is aligned to a
    // huge page. The advice changes no contents. The system may refuse the advice, which does no harm, so the
    // result is ignored.
    unsafe { libc::madvise(start.cast(), bytes, libc::MADV_HUGEPAGE) };
}

#[cfg(not(target_os = "linux"))]
fn advise_huge(_: *mut f32, _: usize) {}

/// The size of the [`Workspace`] that a plan needs. It can change between versions of this library.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct WorkspaceReq {
    /// Elements per thread.
    pub per_thread_len: usize,
    /// Number of threads that can run at the same time.
    pub threads: usize,
    /// Elements that all threads share.
    pub shared_len: usize,
}

impl WorkspaceReq {
    /// A requirement of `per_thread_len` elements for each of `threads` threads.
    pub const fn new(per_thread_len: usize, threads: usize) -> Self {
        Self { per_thread_len, threads, shared_len: 0 }
    }

    /// Adds `len` elements that all threads share.
    pub const fn shared(mut self, len: usize) -> Self {
        self.shared_len = self.shared_len.saturating_add(len);
        self
    }

    /// Elements of all threads together, and those that they share. A sum that overflows becomes `usize::MAX`, which no
    /// system can allocate.
    pub const fn len(self) -> usize {
        self.per_thread_len.saturating_mul(self.threads).saturating_add(self.shared_len)
    }

    /// Checks that `scratch` has as many elements.
    pub(crate) fn check(self, scratch: &[f32]) -> Result<(), ConvError> {
        check_workspace(scratch, self.len())
    }

    /// Whether no workspace is needed.
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The smallest requirement that satisfies both. Use it to share one workspace among the layers of a
    /// network.
    pub fn union(self, other: Self) -> Self {
        Self {
            per_thread_len: self.per_thread_len.max(other.per_thread_len),
            threads: self.threads.max(other.threads),
            shared_len: self.shared_len.max(other.shared_len),
        }
    }
}

/// Scratch memory of [`ConvPlan::run`](crate::ConvPlan::run), owned by the caller. Each concurrent run needs
/// its own.
#[derive(Debug)]
pub struct Workspace(Buffer);

impl Workspace {
    /// An empty workspace. It serves plans that need none, and [`reserve`](Self::reserve) can grow it.
    pub fn empty() -> Self {
        Self(Buffer::empty())
    }

    /// A workspace of the size of `req`.
    ///
    /// # Errors
    /// [`ConvError::OutOfMemory`] if the system refuses the allocation.
    pub fn for_req(req: WorkspaceReq) -> Result<Self, ConvError> {
        Buffer::zeroed_for("workspace", req.len()).map(Self)
    }

    /// Grows the workspace to the size of `req`. It never shrinks, and `run` never grows it.
    ///
    /// # Errors
    /// [`ConvError::OutOfMemory`] if the system refuses the allocation. The workspace is unchanged then.
    pub fn reserve(&mut self, req: WorkspaceReq) -> Result<(), ConvError> {
        if self.0.len() < req.len() {
            *self = Self::for_req(req)?;
        }
        Ok(())
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the workspace has no elements.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The memory of the workspace. Its contents have no meaning between runs.
    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        &mut self.0
    }
}

impl AsMut<[f32]> for Workspace {
    fn as_mut(&mut self) -> &mut [f32] {
        self.as_mut_slice()
    }
}

/// Checks that `scratch` has at least `expected` elements.
pub(crate) fn check_workspace(scratch: &[f32], expected: usize) -> Result<(), ConvError> {
    let got = scratch.len();
    if got < expected { Err(ConvError::WorkspaceTooSmall { expected, got }) } else { Ok(()) }
}

/// Splits `memory` into parts of `lens` elements and the rest. Each part begins at a multiple of `unit` elements.
///
/// # Panics
/// If `memory` is too short.
pub(crate) fn split_memory<const COUNT: usize>(
    memory: &mut [f32],
    lens: [usize; COUNT],
    unit: usize,
) -> ([&mut [f32]; COUNT], &mut [f32]) {
    let mut rest = memory;
    let parts = lens.map(|len| {
        let (part, after) = std::mem::take(&mut rest).split_at_mut(len.next_multiple_of(unit));
        rest = after;
        &mut part[..len]
    });
    (parts, rest)
}

/// An empty vector with room for `capacity` elements.
pub(crate) fn try_vec<T>(what: &'static str, capacity: usize) -> Result<Vec<T>, ConvError> {
    let mut vec = Vec::new();
    let bytes = capacity.saturating_mul(size_of::<T>());
    vec.try_reserve_exact(capacity).map_err(|_| ConvError::OutOfMemory { what, bytes })?;
    Ok(vec)
}

/// Like [`Vec::push`], but returns an error if the system refuses the memory.
pub(crate) fn try_push<T>(what: &'static str, vec: &mut Vec<T>, item: T) -> Result<(), ConvError> {
    let bytes = vec.len().saturating_add(1).saturating_mul(size_of::<T>());
    vec.try_reserve(1).map_err(|_| ConvError::OutOfMemory { what, bytes })?;
    vec.push(item);
    Ok(())
}

/// Like [`Iterator::collect`], but returns an error if the system refuses the memory.
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

/// Like `to_vec` of slices, but returns an error if the system refuses the memory.
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
