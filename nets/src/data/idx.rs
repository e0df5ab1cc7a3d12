//! MNIST in IDX form.
//!
//! A file begins with two zeros, the type of its elements (8 for bytes) and the number of its extents. The extents follow,
//! four bytes each, the most significant byte first. Then come the elements.

use super::dataset::{Dataset, Pictures, Store};
use super::parts::Parts;
use super::reading::{damaged, file, read_error, read_rest};
use crate::error::NetError;
use flate2::read::MultiGzDecoder;
use kernels::Size2;
use std::io::Read;
use std::path::{Path, PathBuf};

const CLASSES: usize = 10;

/// The four files of a directory.
pub(super) struct Files([PathBuf; 4]);

/// Finds the files. Both spellings of the extension are in use.
pub(super) fn find(directory: &Path) -> Option<Files> {
    let find = |stem: &str, kind: &str| {
        let names =
            ["-", "."].into_iter().flat_map(|dot| ["", ".gz"].map(|end| format!("{stem}{dot}{kind}{end}")));
        names.map(|name| directory.join(name)).find(|path| path.is_file())
    };
    // Only the first decides, so that a missing one of the others is reported.
    let first = find("train-images", "idx3-ubyte")?;
    let or_named =
        |stem: &str, kind: &str| find(stem, kind).unwrap_or_else(|| directory.join(format!("{stem}-{kind}")));
    Some(Files([
        first,
        or_named("train-labels", "idx1-ubyte"),
        or_named("t10k-images", "idx3-ubyte"),
        or_named("t10k-labels", "idx1-ubyte"),
    ]))
}

impl Files {
    pub(super) fn read(&self) -> Result<Parts, NetError> {
        let [images, labels, test_images, test_labels] = &self.0;
        Ok(Parts { training: dataset(images, labels)?, validation: dataset(test_images, test_labels)? })
    }
}

fn dataset(images: &Path, labels: &Path) -> Result<Dataset, NetError> {
    let ([count, h, w], bytes) = read(images)?;
    let ([label_count], label_bytes) = read(labels)?;
    if label_count != count {
        return Err(damaged(
            labels,
            format!("{count} labels, one for each picture"),
            label_count.to_string(),
        ));
    }
    if let Some((index, label)) =
        label_bytes.iter().enumerate().find(|&(_, &label)| usize::from(label) >= CLASSES)
    {
        let expected = format!("labels from 0 to {}", CLASSES - 1);
        return Err(damaged(labels, expected, format!("{label} for picture {index}")));
    }
    let directory = images.parent().unwrap_or(Path::new("."));
    Ok(Dataset::new(Store {
        name: directory.display().to_string(),
        classes: (0..CLASSES).map(|digit| digit.to_string()).collect(),
        pictures: Pictures::Bytes { channels: 1, size: Size2::new(h, w), bytes },
        labels: label_bytes.into_iter().map(u32::from).collect(),
    }))
}

/// The extents and elements of a file.
fn read<const N: usize>(path: &Path) -> Result<([usize; N], Vec<u8>), NetError> {
    let source = file(path)?;
    let is_packed = path.extension().is_some_and(|extension| extension == "gz");
    match is_packed {
        true => parse(path, MultiGzDecoder::new(source)),
        false => parse(path, source),
    }
}

fn parse<const N: usize>(path: &Path, mut source: impl Read) -> Result<([usize; N], Vec<u8>), NetError> {
    let mut word = |what: &str| {
        let mut bytes = [0; 4];
        match source.read_exact(&mut bytes) {
            Ok(()) => Ok(u32::from_be_bytes(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                Err(damaged(path, what, "a file that ends before it"))
            }
            Err(error) => Err(read_error(path)(error)),
        }
    };
    let expected = 0x0800 + N as u32;
    let magic = word("an IDX header")?;
    if magic != expected {
        return Err(damaged(path, format!("the magic number {expected:#010x}"), format!("{magic:#010x}")));
    }
    let mut extents = [0; N];
    for extent in &mut extents {
        *extent = word("the extents of an IDX header")? as usize;
    }
    let len = extents.iter().try_fold(1u64, |len, &extent| len.checked_mul(extent as u64));
    let len = len.filter(|&len| len > 0);
    let len = len.ok_or_else(|| damaged(path, "extents of a set of pictures", format!("{extents:?}")))?;
    Ok((extents, read_rest(path, source, len)?))
}
