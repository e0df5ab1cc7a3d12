//! The memory of outputs: uninitialised until a kernel writes it, and made resident at once.
//!
//! An output is new memory in each call. The system provides a page of it when the first byte is written, which
//! takes longer than computing the page if a convolution is cheap. Asking for all pages at once is several times
//! faster.

use crate::spec::failed;
use candle_core::Result;
use kernels::ConvError;
use std::mem::MaybeUninit;

/// Memory for `len` elements that nothing has written yet.
fn reserved(len: usize) -> Result<Vec<f32>> {
    let mut vec = Vec::new();
    let bytes = len.saturating_mul(size_of::<f32>());
    let refused = |_| failed(ConvError::OutOfMemory { what: "output", bytes });
    vec.try_reserve_exact(len).map_err(refused)?;
    populate(vec.spare_capacity_mut());
    Ok(vec)
}

/// Returns `len` elements that `write` writes.
///
/// # Safety
/// If `write` returns `Ok`, it must have written every element.
#[allow(clippy::disallowed_methods, reason = "a run writes its output once; `resize` would touch it twice")]
pub(crate) unsafe fn written_by(
    len: usize,
    write: impl FnOnce(&mut [MaybeUninit<f32>]) -> Result<()>,
) -> Result<Vec<f32>> {
    let mut vec = reserved(len)?;
    write(&mut vec.spare_capacity_mut()[..len])?;
    // SAFETY: the capacity is at least `len`, and the caller promises that `write` has written all elements.
    unsafe { vec.set_len(len) };
    Ok(vec)
}

/// Smaller outputs are left alone: allocators keep such memory.
#[cfg(target_os = "linux")]
const LARGE: usize = 256 << 10;

/// A multiple of the page size of every Linux system.
#[cfg(target_os = "linux")]
const ALIGN: usize = 64 << 10;

#[cfg(target_os = "linux")]
fn populate(memory: &mut [MaybeUninit<f32>]) {
    let bytes = size_of_val(memory);
    let start = memory.as_mut_ptr().cast::<u8>();
    let skip = start.align_offset(ALIGN);
    if bytes < LARGE || skip >= bytes {
        return;
    }
    let len = (bytes - skip) / ALIGN * ALIGN;
    // SAFETY: the range lies inside `memory`, which is borrowed mutably, and begins at a page. The call changes no
    // contents. It may fail, for example on systems before Linux 5.14, which does no harm.
    unsafe { libc::madvise(start.add(skip).cast(), len, libc::MADV_POPULATE_WRITE) };
}

#[cfg(not(target_os = "linux"))]
fn populate(_: &mut [MaybeUninit<f32>]) {}
