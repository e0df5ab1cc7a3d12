//! Memory between two inaccessible pages.
//!
//! The operands of a test are [`Guarded`]: flush against one of the pages. So is every [`kernels::Buffer`], which
//! holds workspace, packed weights, bias and slopes. This program's allocator recognises buffers by their alignment
//! to a cache line, and places them against the upper page as closely as that alignment allows.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The page that data is flush against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Below,
    Above,
}

static ABOVE: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

/// Sets the page that later allocations are flush against.
pub fn lie(side: Side) {
    ABOVE.store(side == Side::Above, Ordering::Relaxed);
}

/// Number of buffers that were placed between guard pages.
pub fn allocations() -> usize {
    ALLOCATIONS.load(Ordering::Relaxed)
}

fn page() -> usize {
    // SAFETY: it reads a constant of the system.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).expect("pages have a size")
}

/// Maps `bytes` (at least one) of junk between two guard pages, or returns null. `align` is at most a page.
fn map(bytes: usize, align: usize) -> *mut u8 {
    let (page, inner) = (page(), bytes.next_multiple_of(page()));
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a mapping of its own, of which the pages between the first and the last are then made accessible; what is
    // filled is these.
    unsafe {
        let all = libc::mmap(std::ptr::null_mut(), inner + 2 * page, libc::PROT_NONE, flags, -1, 0);
        if all == libc::MAP_FAILED {
            return std::ptr::null_mut();
        }
        let start = all.cast::<u8>().add(page);
        if libc::mprotect(start.cast(), inner, libc::PROT_READ | libc::PROT_WRITE) != 0 {
            libc::munmap(all, inner + 2 * page);
            return std::ptr::null_mut();
        }
        start.write_bytes(0xa5, inner);
        let above = ABOVE.load(Ordering::Relaxed);
        start.add(if above { (inner - bytes) / align * align } else { 0 })
    }
}

/// Unmaps the memory of [`map`].
///
/// # Safety
/// `data` is the result of `map(bytes, _)` and not used any more.
unsafe fn unmap(data: *mut u8, bytes: usize) {
    let (page, inner) = (page(), bytes.next_multiple_of(page()));
    // SAFETY: `data` is on the first of the pages between the guard pages, wherever it was placed.
    unsafe {
        let start = data.sub(data.addr() % page);
        libc::munmap(start.sub(page).cast(), inner + 2 * page);
    }
}

/// Whether an allocation belongs to a buffer that can be placed. Buffers of a megabyte and more are aligned
/// to a huge page.
fn placed(layout: Layout) -> bool {
    (64..=page()).contains(&layout.align()) && layout.size() > 0
}

struct GuardPages;

// SAFETY: memory is the system's, or a mapping of its own with at least the size and the alignment that were asked for;
// which of both depends on the layout alone.
unsafe impl GlobalAlloc for GuardPages {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if placed(layout) {
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
            return map(layout.size(), layout.align());
        }
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, data: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises; the layout says whose memory it is.
        unsafe { if placed(layout) { unmap(data, layout.size()) } else { System.dealloc(data, layout) } }
    }
}

#[global_allocator]
static ALLOCATOR: GuardPages = GuardPages;

/// `f32` elements exactly flush against a guard page.
pub struct Guarded {
    data: *mut f32,
    len: usize,
}

impl Guarded {
    /// `len` elements (at least one) of junk.
    pub fn new(len: usize) -> Self {
        let data: *mut f32 = map(len * size_of::<f32>(), align_of::<f32>()).cast();
        assert!(!data.is_null(), "no memory for {len} numbers");
        Self { data, len }
    }

    pub fn copy_of(values: &[f32]) -> Self {
        let mut copy = Self::new(values.len());
        copy.copy_from_slice(values);
        copy
    }
}

impl Deref for Guarded {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        // SAFETY: `map` gave room for `len` numbers, which were written; they are this value's alone.
        unsafe { std::slice::from_raw_parts(self.data, self.len) }
    }
}

impl DerefMut for Guarded {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in `deref`.
        unsafe { std::slice::from_raw_parts_mut(self.data, self.len) }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: it came from `map` with as many bytes, and is not used after this.
        unsafe { unmap(self.data.cast(), self.len * size_of::<f32>()) }
    }
}
