//! Reading files of data, within limits, and errors about them.

use crate::error::NetError;
use crate::weights::MEMORY_LIMIT;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// An error about a file of data.
pub(super) fn damaged(path: &Path, expected: impl Into<String>, got: impl Into<String>) -> NetError {
    NetError::Data { origin: path.display().to_string(), expected: expected.into(), got: got.into() }
}

pub(super) fn read_error(path: &Path) -> impl Fn(std::io::Error) -> NetError {
    let path = PathBuf::from(path);
    move |cause| NetError::Io { action: "read", path: path.clone(), cause }
}

/// Reads exactly `expected` bytes, up to the end of the source. Memory grows with what is there, not with what is expected.
pub(super) fn read_rest(path: &Path, source: impl Read, expected: u64) -> Result<Vec<u8>, NetError> {
    if expected > MEMORY_LIMIT {
        let what = format!("{}: pictures", path.display());
        return Err(NetError::TooLarge { what, limit: MEMORY_LIMIT, needed: expected });
    }
    let mut bytes = Vec::new();
    source.take(expected + 1).read_to_end(&mut bytes).map_err(read_error(path))?;
    match bytes.len() as u64 {
        len if len == expected => Ok(bytes),
        len if len > expected => Err(damaged(path, format!("{expected} bytes of data"), "more")),
        len => Err(damaged(path, format!("{expected} bytes of data"), len.to_string())),
    }
}

/// Opens a file.
pub(super) fn file(path: &Path) -> Result<File, NetError> {
    File::open(path).map_err(read_error(path))
}
