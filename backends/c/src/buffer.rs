//! [`ck_buffer`]: aligned memory.

use crate::pointer;
use crate::status::{Failure, ck_error, ck_status, guard, guard_value};
use kernels::Buffer;
use std::ptr;

/// The alignment in bytes at which tensors and workspaces are fastest. Every address that is a multiple of 4 is
/// accepted.
pub const CK_ALIGNMENT: usize = 64;

/// Aligned memory for tensors and workspaces, on huge pages where the system has them. Using it is optional: all
/// functions accept any memory.
pub struct ck_buffer {
    start: *mut f32,
    /// Owns the memory that `start` points to. It is only accessed through `start`.
    _memory: Buffer,
}

/// Allocates `len` floats, all zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ck_buffer_create(
    len: usize,
    buffer: *mut *mut ck_buffer,
    error: *mut ck_error,
) -> ck_status {
    guard(error, || {
        let make = || {
            let mut memory = Buffer::zeroed(len).map_err(Failure::from)?;
            Ok(ck_buffer { start: memory.as_mut_ptr(), _memory: memory })
        };
        // SAFETY: the header's introduction says what the caller promises about pointers.
        unsafe { pointer::create("buffer", buffer, make) }
    })
}

/// Returns the first element. Returns NULL if `buffer` is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ck_buffer_data(buffer: *const ck_buffer) -> *mut f32 {
    guard_value(ptr::null_mut(), || {
        // SAFETY: the header's introduction says what the caller promises about pointers.
        unsafe { pointer::borrow("buffer", buffer) }.map_or(ptr::null_mut(), |buffer| buffer.start)
    })
}

/// Frees `buffer`. Does nothing if it is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ck_buffer_destroy(buffer: *mut ck_buffer) {
    // SAFETY: the header's introduction says what the caller promises about handles.
    unsafe { pointer::destroy(buffer) }
}
