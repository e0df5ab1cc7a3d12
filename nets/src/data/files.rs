//! [`open`]: finds out what a directory contains.

use super::dataset::Dataset;
use super::parts::Parts;
use super::{cifar, folder, idx};
use crate::error::NetError;
use std::path::Path;

/// One of so many pictures of each class is held out if a directory has no part to measure on.
const HOLD_OUT: usize = 10;
/// Which pictures are held out. It is the same for all trainings, so that their results can be compared.
const SEED: u64 = 0;

/// Reads a directory of pictures:
///
/// - MNIST in IDX form: `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, and the same with `t10k`, also with the ending
///   `.gz` (LeCun, Cortes and Burges, "The MNIST database");
/// - CIFAR-10 in binary form: `data_batch_1.bin` to `data_batch_5.bin` and `test_batch.bin`, also in the folder
///   `cifar-10-batches-bin` (Krizhevsky 2009);
/// - folders of pictures, one for each class, in `train` and `val`, or in the directory itself. Of the latter, every tenth
///   picture is held out, always the same. The classes take turns in the order of the pictures, so that the first pictures
///   are of all classes.
///
/// # Errors
/// - [`NetError::Io`] if a file cannot be read.
/// - [`NetError::Data`] if the directory has no data, a file is damaged, a label is no class, or a class has no pictures.
pub fn open(directory: &Path) -> Result<Parts, NetError> {
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
            let mut folds = all.folds(HOLD_OUT, SEED);
            let validation = folds.swap_remove(0);
            Ok(Parts { training: Dataset::joined(&folds).in_order(), validation })
        }
    }
}
