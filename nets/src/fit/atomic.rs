//! [`write_atomically`]: a file that is either the old one or the new one.

use crate::error::NetError;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Symbolic links in a row that are followed: as many as Linux follows.
const MOST_LINKS: usize = 40;
/// Bytes of a file's name in the name of its temporary file, at most. File systems allow 255 for the whole name.
const MOST_PREFIX: usize = 200;

/// Writes a file so that a crash, a full disk or a loss of power leaves either the old content or the new one: to a temporary
/// file in the same directory, which is synchronised with the disk and then renamed.
///
/// The new file has the mode of the old one. If there was none, the umask decides. A symbolic link stays, and the file that it
/// leads to is replaced. A pipe or device has no old content, so it is written directly.
///
/// # Errors
/// [`NetError::Io`] if the file cannot be written. The old file is unchanged then.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), NetError> {
    let error = |cause| NetError::Io { action: "write", path: path.to_owned(), cause };
    match target(path).map_err(error)? {
        Target::Direct => fs::write(path, bytes).map_err(error),
        Target::File(file) => replace(&file, bytes).map_err(error),
    }
}

/// Finds out whether [`write_atomically`] could write a file now, so that a long computation does not end without its result.
/// Nothing is left on the disk.
///
/// # Errors
/// [`NetError::Io`] if it could not.
pub fn check_writable(path: &Path) -> Result<(), NetError> {
    let error = |cause| NetError::Io { action: "write", path: path.to_owned(), cause };
    match target(path).map_err(error)? {
        // Opening a pipe would wait for a reader.
        Target::Direct => Ok(()),
        Target::File(file) => create(&file).map(drop).map_err(error),
    }
}

/// What a path leads to.
enum Target {
    /// A file, or nothing yet: its place without symbolic links in its last part.
    File(PathBuf),
    /// A pipe or a device.
    Direct,
}

fn target(path: &Path) -> io::Result<Target> {
    match fs::metadata(path) {
        Ok(old) if old.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
        Ok(old) if !old.is_file() => return Ok(Target::Direct),
        _ => {}
    }
    let mut file = path.to_owned();
    for _ in 0..MOST_LINKS {
        // An error says that it is no link.
        let Ok(next) = fs::read_link(&file) else { return Ok(Target::File(file)) };
        file = directory(&file).join(next);
    }
    Err(io::Error::other(format!("more than {MOST_LINKS} symbolic links in a row")))
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = create(path)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    // The new name must reach the disk too. Some systems cannot synchronise directories; the file is complete all the same.
    if let Ok(directory) = File::open(directory(path)) {
        let _ = directory.sync_all();
    }
    Ok(())
}

/// Creates a temporary file beside `path` with the mode of the file that it will replace, or the mode that the umask leaves. The
/// default mode of a temporary file would exclude everyone but its owner.
#[cfg(unix)]
fn create(path: &Path) -> io::Result<NamedTempFile> {
    use std::os::unix::fs::PermissionsExt;
    const MODE: u32 = 0o777;
    let new = fs::Permissions::from_mode(0o666);
    let file = named(path, tempfile::Builder::new().permissions(new))?;
    if let Ok(old) = fs::metadata(path) {
        let mode = fs::Permissions::from_mode(old.permissions().mode() & MODE);
        // Best effort: some file systems have no modes.
        let _ = file.as_file().set_permissions(mode);
    }
    Ok(file)
}

#[cfg(not(unix))]
fn create(path: &Path) -> io::Result<NamedTempFile> {
    named(path, &mut tempfile::Builder::new())
}

/// A temporary file whose name says what it is, in case that the process is killed and leaves it.
fn named(path: &Path, builder: &mut tempfile::Builder<'_, '_>) -> io::Result<NamedTempFile> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let prefix = format!(".{name}.");
    // Long names have a limit.
    let prefix = if prefix.len() > MOST_PREFIX { ".nets." } else { &prefix };
    tempfile::Builder::clone(builder).prefix(prefix).suffix(".tmp").tempfile_in(directory(path))
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
        assert_eq!(fs::read(&path).unwrap(), b"new");
        let missing = folder.path().join("missing").join("file");
        for result in [write_atomically(&missing, b"x"), check_writable(&missing)] {
            let error = result.unwrap_err().to_string();
            assert!(error.starts_with("cannot write ") && error.contains("missing"), "{error}");
        }
        assert!(write_atomically(folder.path(), b"x").is_err() && check_writable(folder.path()).is_err());
        check_writable(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        // No temporary file is left.
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    #[cfg(unix)]
    fn a_new_file_has_the_mode_of_any_new_file_and_a_replaced_one_keeps_its_mode() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let mode = |name: &str| fs::metadata(path(name)).unwrap().permissions().mode() & 0o777;
        File::create(path("usual")).unwrap();
        write_atomically(&path("new"), b"x").unwrap();
        assert_eq!(mode("new"), mode("usual"));
        for bits in [0o600, 0o640] {
            fs::set_permissions(path("new"), fs::Permissions::from_mode(bits)).unwrap();
            write_atomically(&path("new"), b"y").unwrap();
            assert_eq!(mode("new"), bits);
        }
    }

    #[test]
    #[cfg(unix)]
    fn links_stay_and_lead_to_the_new_content() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let is_link = |name: &str| fs::symlink_metadata(path(name)).unwrap().file_type().is_symlink();
        fs::create_dir(path("disk")).unwrap();
        // Two relative links in a row, whose end does not exist at first.
        symlink("second", path("first")).unwrap();
        symlink("disk/file", path("second")).unwrap();
        for content in [b"1", b"2"] {
            write_atomically(&path("first"), content).unwrap();
            assert!(is_link("first") && is_link("second"));
            assert_eq!(fs::read(path("disk/file")).unwrap(), content);
        }
        symlink("/dev/null", path("device")).unwrap();
        write_atomically(&path("device"), b"x").unwrap();
        check_writable(&path("device")).unwrap();
        assert!(is_link("device"));
        symlink("loop", path("loop")).unwrap();
        assert!(write_atomically(&path("loop"), b"x").is_err());
    }
}
