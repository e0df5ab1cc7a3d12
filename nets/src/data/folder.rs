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
    // It can also be the class of pictures of trains.
    let has_classes = training.is_dir() && sorted(&training)?.iter().any(|path| path.is_dir());
    match (has_classes, validation) {
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

/// All pictures. The classes take turns, each as often as it has pictures: picture `i` of a class of `n` stands at the share
/// `(i + 1/2) / n` of the order. So the first pictures are of all classes, in proportion.
fn dataset(directory: &Path, classes: Vec<Class>) -> Dataset {
    let mut pictures = Vec::new();
    let mut names = Vec::new();
    for (class, label) in classes.into_iter().zip(0u32..) {
        let count = class.files.len() as u64;
        let places = (0..count).map(|index| (2 * index + 1, 2 * count));
        pictures.extend(places.zip(class.files).map(|(place, file)| (place, label, file)));
        names.push(class.name);
    }
    // Compares the shares without rounding, and then the labels.
    pictures.sort_by(|&((a, of_a), label_a, _), &((b, of_b), label_b, _)| {
        let share = (u128::from(a) * u128::from(of_b)).cmp(&(u128::from(b) * u128::from(of_a)));
        share.then(label_a.cmp(&label_b))
    });
    let (labels, files) = pictures.into_iter().map(|(_, label, file)| (label, file)).unzip();
    let (name, pictures) = (directory.display().to_string(), Pictures::Files(files));
    Dataset::new(Store { name, classes: names, pictures, labels })
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

/// What is in a directory, by name. Hidden files and folders belong to other programs.
fn sorted(directory: &Path) -> Result<Vec<PathBuf>, NetError> {
    let entries = std::fs::read_dir(directory).map_err(read_error(directory))?;
    let paths: Result<Vec<PathBuf>, _> = entries.map(|entry| Ok(entry?.path())).collect();
    let mut paths = paths.map_err(read_error(directory))?;
    let is_hidden =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    paths.retain(|path| !is_hidden(path));
    paths.sort();
    Ok(paths)
}
