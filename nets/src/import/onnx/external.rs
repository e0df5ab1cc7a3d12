//! Tensors stored in a separate file. The location comes from the model and is not trusted: the file must be
//! in the model's directory and contain the stated bytes.

use super::source::ModelSource;
use crate::error::{OnnxError, Place};
use std::path::{Component, Path, PathBuf};

/// The location of a tensor's elements in another file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct External {
    pub(super) location: String,
    pub(super) offset: Option<String>,
    pub(super) length: Option<String>,
}

/// A checked range of a file.
#[derive(Debug)]
pub(super) struct Stretch {
    path: PathBuf,
    offset: u64,
    pub(super) length: u64,
}

impl Stretch {
    /// The `length` bytes after the first `skip` bytes, which must be inside the range.
    pub(super) fn part(self, skip: u64, length: u64) -> Self {
        Self { path: self.path, offset: self.offset + skip, length }
    }
}

/// Checks and returns the location of `tensor`'s elements; `None` for a model in memory, which has no directory.
pub(super) fn locate(
    tensor: &str,
    external: &External,
    source: &ModelSource,
    needed: u64,
) -> Result<Option<Stretch>, OnnxError> {
    let fault = |problem: String| source.error(Place::Tensor(tensor.to_owned()), problem);
    let relative = Path::new(&external.location);
    let plain = relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !plain || external.location.is_empty() {
        let got = &external.location;
        let problem = format!("expected external data in a file below the model's directory, got `{got}`");
        return Err(fault(problem));
    }
    let offset = number(tensor, source, "offset", external.offset.as_deref())?.unwrap_or(0);
    let length = number(tensor, source, "length", external.length.as_deref())?;
    let Some(directory) = source.directory() else { return Ok(None) };
    let path = directory.join(relative);
    let io = |cause| OnnxError::Io { path: path.clone(), cause };
    // A symbolic link could lead outside the directory.
    let real = path.canonicalize().map_err(io)?;
    let home = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    if !real.starts_with(home.canonicalize().map_err(io)?) {
        let problem =
            format!("expected external data below the model's directory, got `{}`", external.location);
        return Err(fault(problem));
    }
    let file = std::fs::metadata(&real).map_err(io)?;
    // Opening a pipe or another special file could block forever.
    let file_len = if file.is_file() { file.len() } else { 0 };
    let length = length.unwrap_or(needed);
    if offset.checked_add(length).is_none_or(|end| end > file_len) || !file.is_file() {
        let name = &external.location;
        let problem =
            format!("expected {length} bytes from {offset} on in `{name}`, got {file_len} bytes in all");
        return Err(fault(problem));
    }
    Ok(Some(Stretch { path, offset, length }))
}

/// Reads the range as [`ModelSource::windows`] does.
pub(super) fn read(stretch: &Stretch, take: &mut dyn FnMut(&[u8], u64)) -> Result<(), OnnxError> {
    ModelSource::open(&stretch.path)?.windows(stretch.offset, stretch.length, take)
}

fn number(
    tensor: &str,
    source: &ModelSource,
    key: &str,
    text: Option<&str>,
) -> Result<Option<u64>, OnnxError> {
    let Some(text) = text else { return Ok(None) };
    let number = text.trim().parse();
    number.map(Some).map_err(|_| {
        let problem = format!("expected the {key} of external data as a number of bytes, got `{text}`");
        source.error(Place::Tensor(tensor.to_owned()), problem)
    })
}
