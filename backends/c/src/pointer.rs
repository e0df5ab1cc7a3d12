//! Pointers from C: checked before they are used.

use crate::status::Failure;
use std::ops::Range;

/// Checks that `pointer` is neither null nor misaligned.
pub(crate) fn check<T>(what: &str, pointer: *const T) -> Result<(), Failure> {
    if pointer.is_null() {
        return Err(Failure::null(what));
    }
    if !pointer.is_aligned() {
        let (align, address) = (align_of::<T>(), pointer.addr());
        let message = format!("{what}: expected an address that is a multiple of {align}, got {address:#x}");
        return Err(Failure::invalid(message));
    }
    Ok(())
}

/// Borrows what `pointer` points to.
///
/// # Safety
/// Unless `pointer` is null or misaligned, it must point to a valid `T` that nobody changes during `'a`.
pub(crate) unsafe fn borrow<'a, T>(what: &str, pointer: *const T) -> Result<&'a T, Failure> {
    check(what, pointer)?;
    // SAFETY: not null and aligned, as checked; the caller promises the rest.
    Ok(unsafe { &*pointer })
}

/// Copies what `pointer` points to.
///
/// # Safety
/// Unless `pointer` is null or misaligned, it must point to a valid `T`.
pub(crate) unsafe fn read<T: Copy>(what: &str, pointer: *const T) -> Result<T, Failure> {
    check(what, pointer)?;
    // SAFETY: not null and aligned, as checked; the caller promises the rest.
    Ok(unsafe { pointer.read() })
}

/// Writes the result of `make` to `target`.
///
/// # Safety
/// Unless `target` is null or misaligned, it must point to memory for a `T` that can be written.
pub(crate) unsafe fn write<T>(
    what: &str,
    target: *mut T,
    make: impl FnOnce() -> Result<T, Failure>,
) -> Result<(), Failure> {
    check(what, target)?;
    let value = make()?;
    // SAFETY: not null and aligned, as checked; the caller promises the rest.
    unsafe { target.write(value) };
    Ok(())
}

/// Writes a handle to the result of `make`, or null after a failure.
///
/// # Safety
/// As [`write()`].
pub(crate) unsafe fn create<T>(
    what: &str,
    handle: *mut *mut T,
    make: impl FnOnce() -> Result<T, Failure>,
) -> Result<(), Failure> {
    check(what, handle)?;
    // SAFETY: not null and aligned, as checked; the caller promises the rest.
    unsafe { handle.write(std::ptr::null_mut()) };
    let value = Box::into_raw(Box::new(make()?));
    // SAFETY: as above.
    unsafe { handle.write(value) };
    Ok(())
}

/// Frees what [`create`] made. Does nothing if `handle` is null.
///
/// # Safety
/// `handle` must be null or come from [`create`], and nobody may use it afterwards.
pub(crate) unsafe fn destroy<T>(handle: *mut T) {
    crate::status::guard_value((), || {
        if !handle.is_null() {
            // SAFETY: the caller promises that the handle came from `Box::into_raw` and is not used again.
            drop(unsafe { Box::from_raw(handle) });
        }
    });
}

/// The addresses of `len` elements from `pointer` on.
///
/// Checks null, alignment and overflow. A null pointer is allowed if `len` is 0.
pub(crate) fn span<T>(what: &str, pointer: *const T, len: usize) -> Result<Range<usize>, Failure> {
    if len == 0 {
        return Ok(0..0);
    }
    check(what, pointer)?;
    let bytes = len.checked_mul(size_of::<T>()).filter(|&bytes| bytes <= isize::MAX as usize);
    let start = pointer.addr();
    match bytes.and_then(|bytes| start.checked_add(bytes)) {
        Some(end) => Ok(start..end),
        None => {
            let message =
                format!("{what}: expected a length that fits the address space, got {len} elements");
            Err(Failure::invalid(message))
        }
    }
}

/// Borrows `len` elements. A null pointer is allowed if `len` is 0.
///
/// # Safety
/// Unless [`span`] refuses the arguments, `pointer` must point to `len` valid elements that nobody changes
/// during `'a`.
pub(crate) unsafe fn slice<'a, T>(what: &str, pointer: *const T, len: usize) -> Result<&'a [T], Failure> {
    if span(what, pointer, len)?.is_empty() {
        return Ok(&[]);
    }
    // SAFETY: not null, aligned and without overflow, as checked; the caller promises the rest.
    Ok(unsafe { std::slice::from_raw_parts(pointer, len) })
}

/// Borrows `len` elements mutably. A null pointer is allowed if `len` is 0.
///
/// # Safety
/// As [`slice`], and nobody else may access the elements during `'a`.
pub(crate) unsafe fn slice_mut<'a, T>(
    what: &str,
    pointer: *mut T,
    len: usize,
) -> Result<&'a mut [T], Failure> {
    if span(what, pointer, len)?.is_empty() {
        return Ok(&mut []);
    }
    // SAFETY: not null, aligned and without overflow, as checked; the caller promises the rest.
    Ok(unsafe { std::slice::from_raw_parts_mut(pointer, len) })
}
