//! [`write_atomically`]: a file that is either the old one or the new one.

use crate::error::NetError;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use tempfile::NamedTempFile;

/// Writes a file so that a crash, a full disk or a loss of power leaves either the old content or the new one: to a temporary
/// file in the same directory, which is synchronised with the disk and then renamed.
///
/// # Errors
/// [`NetError::Io`] if the file cannot be written. The old file is unchanged then.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), NetError> {
    let error = |cause| NetError::Io { action: "write", path: path.to_owned(), cause };
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut file = NamedTempFile::new_in(directory).map_err(error)?;
    file.write_all(bytes).map_err(error)?;
    file.as_file().sync_all().map_err(error)?;
    file.persist(path).map_err(|failed| error(failed.error))?;
    // The new name must reach the disk too. Some systems cannot synchronise directories; the file is complete all the same.
    if let Ok(directory) = File::open(directory) {
        let _ = directory.sync_all();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_file_stays_if_the_new_one_cannot_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write_atomically(&path, b"old").unwrap();
        write_atomically(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        let missing = folder.path().join("missing").join("file");
        let error = write_atomically(&missing, b"x").unwrap_err().to_string();
        assert!(error.starts_with("cannot write ") && error.contains("missing"), "{error}");
        // No temporary file is left.
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
