//! The version of the library, in the header and at run time.

use std::ffi::{CStr, c_char};

/// The major version that this header belongs to.
pub const CK_VERSION_MAJOR: u32 = 0;
/// The minor version that this header belongs to. Before version 1.0, another minor version is incompatible.
pub const CK_VERSION_MINOR: u32 = 1;
/// The patch version that this header belongs to.
pub const CK_VERSION_PATCH: u32 = 0;
/// The version that this header belongs to, as `ck_version` returns it: 1000000 * major + 1000 * minor + patch.
pub const CK_VERSION: u32 = 1000;

// The constants are literals because the header needs them as literals.
const _: () = {
    assert!(CK_VERSION == 1_000_000 * CK_VERSION_MAJOR + 1000 * CK_VERSION_MINOR + CK_VERSION_PATCH);
    assert!(CK_VERSION_MAJOR == number(env!("CARGO_PKG_VERSION_MAJOR")));
    assert!(CK_VERSION_MINOR == number(env!("CARGO_PKG_VERSION_MINOR")));
    assert!(CK_VERSION_PATCH == number(env!("CARGO_PKG_VERSION_PATCH")));
};

const fn number(digits: &str) -> u32 {
    let (bytes, mut value, mut i) = (digits.as_bytes(), 0, 0);
    while i < bytes.len() {
        value = 10 * value + (bytes[i] - b'0') as u32;
        i += 1;
    }
    value
}

const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
    Ok(version) => version,
    Err(_) => panic!("a version without a null byte"),
};

/// Returns the version of the library that is running: 1000000 * major + 1000 * minor + patch.
///
/// Compare it with `CK_VERSION` to find out whether header and library belong together.
#[unsafe(no_mangle)]
pub extern "C" fn ck_version() -> u32 {
    CK_VERSION
}

/// Returns the version of the library that is running as text, for example "0.1.0".
#[unsafe(no_mangle)]
pub extern "C" fn ck_version_string() -> *const c_char {
    VERSION.as_ptr()
}
