//! Random access to the bytes of a model: in a file, which is never read as a whole, or in memory.

use crate::error::{OnnxError, Place};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes read at a time: whole elements of every type.
const WINDOW: u64 = 1 << 18;

/// The bytes of a model. Clones share the open file or the memory.
#[derive(Debug, Clone)]
pub(super) struct ModelSource {
    bytes: Bytes,
    len: u64,
    /// The name in errors.
    pub(super) origin: String,
}

#[derive(Debug, Clone)]
enum Bytes {
    File(Arc<File>, PathBuf),
    Memory(Arc<[u8]>),
}

impl ModelSource {
    /// Opens a file.
    pub(super) fn open(path: &Path) -> Result<Self, OnnxError> {
        let io = |cause| OnnxError::Io { path: path.to_owned(), cause };
        // Opening a pipe would block until another process writes to it.
        let metadata = std::fs::metadata(path).map_err(io)?;
        if !metadata.is_file() {
            let got = if metadata.is_dir() { "a directory" } else { "a device, pipe or socket" };
            let (origin, place) = (path.display().to_string(), Place::Model);
            return Err(OnnxError::Model {
                origin,
                place,
                problem: format!("expected an ONNX file, got {got}"),
            });
        }
        let file = File::open(path).map_err(io)?;
        let len = file.metadata().map_err(io)?.len();
        let bytes = Bytes::File(Arc::new(file), path.to_owned());
        Ok(Self { bytes, len, origin: path.display().to_string() })
    }

    /// A copy of `bytes`.
    pub(super) fn memory(bytes: &[u8], origin: &str) -> Self {
        Self { bytes: Bytes::Memory(bytes.into()), len: bytes.len() as u64, origin: origin.to_owned() }
    }

    /// The total number of bytes.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The directory that must contain external data; `None` for a model in memory.
    pub(super) fn directory(&self) -> Option<&Path> {
        match &self.bytes {
            Bytes::File(_, path) => Some(path.parent().unwrap_or(Path::new(""))),
            Bytes::Memory(_) => None,
        }
    }

    /// Fills `buffer` with the bytes from `offset` on.
    pub(super) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), OnnxError> {
        let end = offset.checked_add(buffer.len() as u64).filter(|&end| end <= self.len);
        if end.is_none() {
            let problem =
                format!("expected {} bytes, got the end of the file ({} bytes)", buffer.len(), self.len);
            return Err(self.error(Place::Byte(offset), problem));
        }
        match &self.bytes {
            Bytes::File(file, path) => {
                let mut file = &**file;
                let read = file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_exact(buffer));
                read.map_err(|cause| OnnxError::Io { path: path.clone(), cause })
            }
            Bytes::Memory(bytes) => {
                let start = offset as usize; // not beyond the length of a slice, as checked
                buffer.copy_from_slice(&bytes[start..start + buffer.len()]);
                Ok(())
            }
        }
    }

    /// Passes `len` bytes from `offset` on to `take`, window by window, with the number of bytes left after each.
    pub(super) fn windows(
        &self,
        offset: u64,
        len: u64,
        take: &mut dyn FnMut(&[u8], u64),
    ) -> Result<(), OnnxError> {
        let mut window = vec![0; len.min(WINDOW) as usize];
        let mut at = 0;
        while at < len {
            let bytes = &mut window[..(len - at).min(WINDOW) as usize];
            self.read_at(offset.saturating_add(at), bytes)?;
            at += bytes.len() as u64;
            take(bytes, len - at);
        }
        Ok(())
    }

    /// An error in this model.
    pub(super) fn error(&self, place: Place, problem: impl Into<String>) -> OnnxError {
        OnnxError::Model { origin: self.origin.clone(), place, problem: problem.into() }
    }
}
