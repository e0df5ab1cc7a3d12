//! [`ck_status`] and [`ck_error`], and [`guard`]: the border that no panic crosses.

use kernels::ConvError;
use std::any::Any;
use std::ffi::{CStr, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

/// The result of a function that can fail.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ck_status {
    /// The function did what was asked.
    Success = 0,
    /// An argument has an invalid value, or two arguments do not fit together.
    InvalidArgument = 1,
    /// A pointer that must not be null is null.
    NullPointer = 2,
    /// The arguments are valid, but the forced algorithm, the limits or this machine cannot serve them.
    Unsupported = 3,
    /// The system refused memory or threads.
    OutOfMemory = 4,
    /// The workspace is smaller than `ck_plan_workspace_size`.
    WorkspaceTooSmall = 5,
    /// A callback that reads or writes bytes failed.
    Io = 6,
    /// A bug in the library, or a panic in a callback that was written in Rust.
    Internal = 7,
}

/// Bytes of the message of a `ck_error`, the final null byte included.
pub const CK_ERROR_MESSAGE_SIZE: usize = 512;

/// Receives the result of a call, and a sentence that says what was wrong, what was expected and what was given.
///
/// The caller owns the struct and need not initialise it. Every call that gets it writes it: after a success the
/// message is empty. A message that is too long is cut off.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ck_error {
    /// The result of the call.
    pub status: ck_status,
    /// The sentence, in UTF-8 with a final null byte.
    pub message: [c_char; CK_ERROR_MESSAGE_SIZE],
}

/// Why a call failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: ck_status,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self { status: ck_status::InvalidArgument, message: message.into() }
    }

    pub(crate) fn null(what: &str) -> Self {
        Self { status: ck_status::NullPointer, message: format!("{what}: expected a pointer, got NULL") }
    }

    /// The same failure of a part of `what`.
    pub(crate) fn within(self, what: &str) -> Self {
        Self { message: format!("{what}: {}", self.message), ..self }
    }

    fn panicked(payload: &(dyn Any + Send)) -> Self {
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let message = format!("internal error: {}", text.unwrap_or("a panic without a message"));
        Self { status: ck_status::Internal, message }
    }
}

impl From<ConvError> for Failure {
    fn from(error: ConvError) -> Self {
        let status = match error {
            ConvError::InvalidField { .. }
            | ConvError::EmptyOutput { .. }
            | ConvError::SizeOverflow { .. }
            | ConvError::BufferLen { .. }
            | ConvError::ShapeMismatch { .. }
            | ConvError::LayoutMismatch { .. }
            | ConvError::EpilogueMismatch { .. }
            | ConvError::FilterMismatch { .. } => ck_status::InvalidArgument,
            ConvError::Unsupported { .. }
            | ConvError::NothingAllowed
            | ConvError::TooLarge { .. }
            | ConvError::WeightsDropped { .. }
            | ConvError::IsaUnavailable { .. } => ck_status::Unsupported,
            ConvError::OutOfMemory { .. } => ck_status::OutOfMemory,
            ConvError::WorkspaceTooSmall { .. } => ck_status::WorkspaceTooSmall,
            _ => ck_status::Internal,
        };
        Self { status, message: error.to_string() }
    }
}

/// Runs `work`, catches its panic, and writes the result to `error` unless that is null.
pub(crate) fn guard(error: *mut ck_error, work: impl FnOnce() -> Result<(), Failure>) -> ck_status {
    // `AssertUnwindSafe`: the library's own locks recover from poisoning, and what `work` borrows is immutable,
    // or is an output that has no promised contents after a failure.
    let failure = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => None,
        Ok(Err(failure)) => Some(failure),
        Err(payload) => {
            let failure = Failure::panicked(&*payload);
            // The destructor of a payload can panic as well.
            std::mem::forget(payload);
            Some(failure)
        }
    };
    let status = failure.as_ref().map_or(ck_status::Success, |failure| failure.status);
    let message = failure.as_ref().map_or("", |failure| &failure.message);
    if !error.is_null() {
        // SAFETY: the caller promises that `error` is null or points to a `ck_error` that it can write.
        unsafe { write_error(error, status, message) };
    }
    status
}

/// Runs `work`, which returns nothing that can fail. Returns `otherwise` if it panics.
pub(crate) fn guard_value<T>(otherwise: T, work: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| {
        std::mem::forget(payload);
        otherwise
    })
}

/// # Safety
/// `error` must point to memory of a `ck_error` that can be written. It can be uninitialised and misaligned.
unsafe fn write_error(error: *mut ck_error, status: ck_status, message: &str) {
    let mut len = message.len().min(CK_ERROR_MESSAGE_SIZE - 1);
    while !message.is_char_boundary(len) {
        len -= 1;
    }
    // SAFETY: both fields lie in the struct, and `len` bytes and the null byte fit into the message.
    unsafe {
        (&raw mut (*error).status).write_unaligned(status);
        let text = (&raw mut (*error).message).cast::<u8>();
        ptr::copy_nonoverlapping(message.as_ptr(), text, len);
        text.add(len).write(0);
    }
}

/// Returns a short text for `status`, a `ck_status`. It is a constant of the library. The sentence about a
/// failed call is in its `ck_error`.
#[unsafe(no_mangle)]
pub extern "C" fn ck_status_string(status: u32) -> *const c_char {
    const TEXTS: [(ck_status, &CStr); 8] = [
        (ck_status::Success, c"success"),
        (ck_status::InvalidArgument, c"invalid argument"),
        (ck_status::NullPointer, c"null pointer"),
        (ck_status::Unsupported, c"unsupported"),
        (ck_status::OutOfMemory, c"out of memory"),
        (ck_status::WorkspaceTooSmall, c"workspace too small"),
        (ck_status::Io, c"input or output failed"),
        (ck_status::Internal, c"internal error"),
    ];
    let found = TEXTS.iter().find(|(known, _)| *known as u32 == status);
    found.map_or(c"unknown status", |(_, text)| text).as_ptr()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::MaybeUninit;
    use std::panic::panic_any;

    /// The status and the message of `work`.
    fn outcome(work: impl FnOnce() -> Result<(), Failure>) -> (ck_status, String) {
        let mut error = MaybeUninit::<ck_error>::uninit();
        let status = guard(error.as_mut_ptr(), work);
        // SAFETY: `guard` has written the status, and a message with a final null byte.
        let (written, message) = unsafe {
            let error = error.as_ptr();
            ((&raw const (*error).status).read(), CStr::from_ptr((&raw const (*error).message).cast()))
        };
        assert_eq!(written, status);
        (status, message.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_panic_becomes_a_status() {
        assert_eq!(outcome(|| Ok(())), (ck_status::Success, String::new()));
        let text = "internal error: seven".to_owned();
        assert_eq!(outcome(|| panic!("seven")), (ck_status::Internal, text.clone()));
        assert_eq!(outcome(|| panic!("{}", "seven")), (ck_status::Internal, text));
        let unknown = "internal error: a panic without a message".to_owned();
        assert_eq!(outcome(|| panic_any(7)), (ck_status::Internal, unknown));
        assert_eq!(guard(ptr::null_mut(), || panic!("nobody listens")), ck_status::Internal);
    }

    #[test]
    fn a_payload_that_panics_when_it_is_dropped_stays_inside() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("dropped");
            }
        }
        assert_eq!(outcome(|| panic_any(Bomb)).0, ck_status::Internal);
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let message = |len: usize| outcome(move || Err(Failure::invalid("\u{e9}".repeat(len)))).1;
        assert_eq!(message(255), "\u{e9}".repeat(255));
        assert_eq!(message(256), "\u{e9}".repeat(255));
    }
}
