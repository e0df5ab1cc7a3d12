//! Packed weights as bytes, written and read through callbacks.

use crate::filter::ck_filter;
use crate::pointer;
use crate::status::{Failure, ck_error, ck_status, guard};
use kernels::{Filter, PackedError};
use std::ffi::c_void;
use std::io::{self, Read, Write};

/// Takes `len` bytes and returns how many it could write. Fewer than `len` is a failure. A call of
/// `fwrite(bytes, 1, len, context)` is right. The callback must not use the filter that is written.
pub type ck_write =
    Option<unsafe extern "C-unwind" fn(context: *mut c_void, bytes: *const c_void, len: usize) -> usize>;

/// Reads at most `len` bytes and returns how many it has read. 0 is the end, or a failure. A call of
/// `fread(bytes, 1, len, context)` is right.
pub type ck_read =
    Option<unsafe extern "C-unwind" fn(context: *mut c_void, bytes: *mut c_void, len: usize) -> usize>;

struct Writer {
    write: unsafe extern "C-unwind" fn(*mut c_void, *const c_void, usize) -> usize,
    context: *mut c_void,
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // SAFETY: the function is the caller's, which promised that it can be called with this context.
        let written = unsafe { (self.write)(self.context, bytes.as_ptr().cast(), bytes.len()) };
        if written == bytes.len() {
            return Ok(written);
        }
        Err(io::Error::other(format!("expected to write {} bytes, got {written}", bytes.len())))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Reader {
    read: unsafe extern "C-unwind" fn(*mut c_void, *mut c_void, usize) -> usize,
    context: *mut c_void,
}

impl Read for Reader {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        // SAFETY: the function is the caller's, which promised that it can be called with this context.
        let read = unsafe { (self.read)(self.context, bytes.as_mut_ptr().cast(), bytes.len()) };
        if read <= bytes.len() {
            return Ok(read);
        }
        Err(io::Error::other(format!("expected at most {} bytes, got {read}", bytes.len())))
    }
}

impl From<PackedError> for Failure {
    fn from(error: PackedError) -> Self {
        let status = match &error {
            PackedError::Io(_) => ck_status::Io,
            PackedError::Version { .. } | PackedError::Machine { .. } => ck_status::Unsupported,
            PackedError::Memory(_) => ck_status::OutOfMemory,
            _ => ck_status::InvalidArgument,
        };
        Self { status, message: error.to_string() }
    }
}

/// Writes every packed form of `filter`, with the version of the library, the machine and checksums.
///
/// Another process on the same machine can then plan without packing. A write that fails is `CK_STATUS_IO`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ck_filter_write_packed(
    filter: *const ck_filter,
    write: ck_write,
    context: *mut c_void,
    error: *mut ck_error,
) -> ck_status {
    guard(error, || {
        // SAFETY: the header's introduction says what the caller promises about pointers.
        let filter = unsafe { pointer::borrow("filter", filter) }?;
        let write = write.ok_or_else(|| Failure::null("write"))?;
        Ok(filter.0.write_packed(&mut Writer { write, context })?)
    })
}

/// Adds forms that `ck_filter_write_packed` wrote for the same weights. It reads exactly the bytes of one filter.
///
/// Bytes of another version or machine are `CK_STATUS_UNSUPPORTED`. Bytes of other weights and damaged bytes are
/// `CK_STATUS_INVALID_ARGUMENT`. The filter is unchanged after a failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ck_filter_read_packed(
    filter: *const ck_filter,
    read: ck_read,
    context: *mut c_void,
    error: *mut ck_error,
) -> ck_status {
    guard(error, || {
        // SAFETY: the header's introduction says what the caller promises about pointers.
        let filter = unsafe { pointer::borrow("filter", filter) }?;
        let read = read.ok_or_else(|| Failure::null("read"))?;
        Ok(filter.0.read_packed(&mut Reader { read, context })?)
    })
}

/// Makes a filter of bytes that `ck_filter_write_packed` wrote. It does not have the original weights, so its plans can
/// only use the forms in the bytes.
///
/// The failures are those of `ck_filter_read_packed`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ck_filter_create_from_packed(
    read: ck_read,
    context: *mut c_void,
    filter: *mut *mut ck_filter,
    error: *mut ck_error,
) -> ck_status {
    guard(error, || {
        let make = || {
            let read = read.ok_or_else(|| Failure::null("read"))?;
            Ok(ck_filter(Filter::from_packed(&mut Reader { read, context })?))
        };
        // SAFETY: the header's introduction says what the caller promises about pointers.
        unsafe { pointer::create("filter", filter, make) }
    })
}
