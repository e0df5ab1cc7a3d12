//! [`open`]: finds out what a directory contains.

use super::dataset::Dataset;
use super::{cifar, folder, idx};
use crate::error::NetError;
use crate::weights::MEMORY_LIMIT;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// A training part, and another part to measure on.
#[derive(Debug, Clone)]
pub struct Parts {
    /// What is trained on.
    pub training: Dataset,
    /// What is only measured on.
    pub validation: Dataset,
}

impl Parts {
    /// The embedded digits: 9,000 to train on, 1,000 held out.
    ///
    /// # Errors
    /// [`NetError::Picture`] if the embedded files are damaged.
    pub fn digits() -> Result<Self, NetError> {
        Ok(Self { training: Dataset::digits(false)?, validation: Dataset::digits(true)? })
    }
}

/// One of so many pictures of each class is held out if a directory has no part to measure on.
const HOLD_OUT: usize = 10;

/// Reads a directory of pictures:
///
/// - MNIST in IDX form: `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, and the same with `t10k`, also with the ending
///   `.gz` (LeCun, Cortes and Burges, "The MNIST database");
/// - CIFAR-10 in binary form: `data_batch_1.bin` to `data_batch_5.bin` and `test_batch.bin`, also in the folder
///   `cifar-10-batches-bin` (Krizhevsky 2009);
/// - folders of pictures, one for each class, in `train` and `val`, or in the directory itself. Of the latter, every tenth
///   picture is held out, chosen by `seed`.
///
/// # Errors
/// - [`NetError::Io`] if a file cannot be read.
/// - [`NetError::Data`] if the directory has no data, a file is damaged, a label is no class, or a class has no pictures.
pub fn open(directory: &Path, seed: u64) -> Result<Parts, NetError> {
    if let Some(files) = idx::find(directory) {
        return files.read();
    }
    for directory in [directory.to_owned(), directory.join("cifar-10-batches-bin")] {
        if directory.join(cifar::FIRST).is_file() {
            return cifar::read(&directory);
        }
    }
    match folder::read(directory)? {
        (training, Some(validation)) => Ok(Parts { training, validation }),
        (all, None) => {
            let mut folds = all.folds(HOLD_OUT, seed);
            let validation = folds.swap_remove(0);
            Ok(Parts { training: Dataset::joined(&folds), validation })
        }
    }
}

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
