//! Folders of pictures, one for each class.

use super::dataset::{Dataset, Pictures, Store};
use super::reading::{damaged, read_error};
use crate::error::NetError;
use std::path::{Path, PathBuf};

/// Endings of the picture files that are read.
const ENDINGS: [&str; 9] = ["png", "jpg", "jpeg", "gif", "bmp", "webp", "ppm", "pgm", "pnm"];
/// Names of the folder with the pictures to measure on.
const VALIDATION: [&str; 3] = ["val", "validation", "test"];

/// Reads the training part, and the validation part if there is one.
pub(super) fn read(directory: &Path) -> Result<(Dataset, Option<Dataset>), NetError> {
    let training = directory.join("train");
    let validation = VALIDATION.into_iter().map(|name| directory.join(name)).find(|path| path.is_dir());
    match (training.is_dir(), validation) {
        (true, Some(validation)) => {
            let training = classes(&training)?;
            let validation_classes = classes(&validation)?;
            let names =
                |classes: &[Class]| classes.iter().map(|class| class.name.clone()).collect::<Vec<_>>();
            let (expected, got) = (names(&training), names(&validation_classes));
            if expected != got {
                let expected = format!("the classes of the training part ({})", expected.join(", "));
                return Err(damaged(&validation, expected, got.join(", ")));
            }
            Ok((dataset(directory, training), Some(dataset(directory, validation_classes))))
        }
        (true, None) => Ok((dataset(directory, classes(&training)?), None)),
        (false, _) => Ok((dataset(directory, classes(directory)?), None)),
    }
}

/// A class and its picture files.
struct Class {
    name: String,
    files: Vec<PathBuf>,
}

fn dataset(directory: &Path, classes: Vec<Class>) -> Dataset {
    let labels = classes.iter().zip(0u32..).flat_map(|(class, label)| class.files.iter().map(move |_| label));
    let labels = labels.collect();
    let (names, files): (Vec<_>, Vec<_>) = classes.into_iter().map(|class| (class.name, class.files)).unzip();
    let pictures = Pictures::Files(files.into_iter().flatten().collect());
    Dataset::new(Store { name: directory.display().to_string(), classes: names, pictures, labels })
}

/// The classes in alphabetical order, so that labels do not depend on the file system.
fn classes(directory: &Path) -> Result<Vec<Class>, NetError> {
    let mut classes = Vec::new();
    for path in sorted(directory)?.into_iter().filter(|path| path.is_dir()) {
        let files: Vec<PathBuf> = sorted(&path)?.into_iter().filter(|path| is_picture(path)).collect();
        if files.is_empty() {
            let expected = format!("pictures ({}) of the class", ENDINGS.join(", "));
            return Err(damaged(&path, expected, "none"));
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        classes.push(Class { name, files });
    }
    if classes.len() < 2 {
        let expected = "MNIST in IDX form, CIFAR-10 in binary form, or a folder of pictures for each of at least two classes";
        return Err(damaged(directory, expected, format!("{} folders", classes.len())));
    }
    Ok(classes)
}

fn is_picture(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str()).map(str::to_lowercase);
    path.is_file() && ending.is_some_and(|ending| ENDINGS.contains(&&*ending))
}

fn sorted(directory: &Path) -> Result<Vec<PathBuf>, NetError> {
    let entries = std::fs::read_dir(directory).map_err(read_error(directory))?;
    let paths: Result<Vec<PathBuf>, _> = entries.map(|entry| Ok(entry?.path())).collect();
    let mut paths = paths.map_err(read_error(directory))?;
    paths.sort();
    Ok(paths)
}
