//! Files of wisdom.

use super::text::parse;
use super::{Loaded, Wisdom};
#[cfg(unix)]
use std::fs;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

/// Bytes of a file that are read at most: many times the entries that are kept.
const MOST_BYTES: u64 = 16 << 20;

pub(super) fn load(path: &Path) -> Loaded {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MOST_BYTES).read_to_end(&mut bytes));
    match read {
        Ok(_) => parse(&bytes),
        Err(error) => {
            let reason = format!("{}: {error}", path.display());
            Loaded { wisdom: Wisdom::new(), ignored: vec![reason] }
        }
    }
}

/// A new file in the same directory, complete and on the disk, takes the place of the old one.
pub(super) fn save(wisdom: &Wisdom, path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = create(folder, path)?;
    file.write_all(wisdom.to_string().as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// A temporary file in `folder` that may be read and written as the file at `path`, or, if there is none, as any new file
/// under the umask: by itself a temporary file is its owner's alone.
#[cfg(unix)]
fn create(folder: &Path, path: &Path) -> io::Result<tempfile::NamedTempFile> {
    use std::os::unix::fs::PermissionsExt;
    let new = fs::Permissions::from_mode(0o666);
    let file = tempfile::Builder::new().permissions(new).tempfile_in(folder)?;
    if let Ok(old) = fs::metadata(path) {
        let mode = old.permissions().mode() & 0o777;
        // A file system that has no modes has none to keep.
        let _ = file.as_file().set_permissions(fs::Permissions::from_mode(mode));
    }
    Ok(file)
}

#[cfg(not(unix))]
fn create(folder: &Path, _: &Path) -> io::Result<tempfile::NamedTempFile> {
    tempfile::NamedTempFile::new_in(folder)
}
