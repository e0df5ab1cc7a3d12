//! Files of wisdom.

use super::text::parse;
use super::{Loaded, Wisdom};
#[cfg(unix)]
use std::fs;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

/// Maximum bytes read from a file: many times the size of a full [`Wisdom`].
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

/// Writes a new file in the same directory, syncs it, and renames it over the old one.
pub(super) fn save(wisdom: &Wisdom, path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = create(folder, path)?;
    file.write_all(wisdom.to_string().as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// Creates a temporary file in `folder` with the mode of the file at `path`. If `path` does not exist, the
/// umask decides, as for any new file. The default mode of a temporary file would exclude everyone but its
/// owner.
#[cfg(unix)]
fn create(folder: &Path, path: &Path) -> io::Result<tempfile::NamedTempFile> {
    use std::os::unix::fs::PermissionsExt;
    let new = fs::Permissions::from_mode(0o666);
    let file = tempfile::Builder::new().permissions(new).tempfile_in(folder)?;
    if let Ok(old) = fs::metadata(path) {
        let mode = old.permissions().mode() & 0o777;
        // Best effort: some file systems do not support modes.
        let _ = file.as_file().set_permissions(fs::Permissions::from_mode(mode));
    }
    Ok(file)
}

#[cfg(not(unix))]
fn create(folder: &Path, _: &Path) -> io::Result<tempfile::NamedTempFile> {
    tempfile::NamedTempFile::new_in(folder)
}
