//! CIFAR-10 in binary form: records of a label and the bytes of a picture, in the order channel, row, column.

use super::dataset::{Dataset, Pictures, Store};
use super::parts::Parts;
use super::reading::{damaged, file, read_error, read_rest};
use crate::error::NetError;
use kernels::Size2;
use std::path::Path;

/// The first file of the training part.
pub(super) const FIRST: &str = "data_batch_1.bin";
const CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
const SIDE: usize = 32;
const PICTURE: usize = 3 * SIDE * SIDE;
const RECORD: usize = 1 + PICTURE;

/// Reads the files that are there of the five of the training part, and the test part.
pub(super) fn read(directory: &Path) -> Result<Parts, NetError> {
    let training = (1..=5).map(|number| directory.join(format!("data_batch_{number}.bin")));
    let training: Vec<_> = training.filter(|path| path.is_file()).collect();
    let (mut labels, mut bytes) = (Vec::new(), Vec::new());
    for path in &training {
        append(path, &mut labels, &mut bytes)?;
    }
    let (mut test_labels, mut test_bytes) = (Vec::new(), Vec::new());
    append(&directory.join("test_batch.bin"), &mut test_labels, &mut test_bytes)?;
    let dataset = |labels, bytes| {
        Dataset::new(Store {
            name: directory.display().to_string(),
            classes: CLASSES.map(str::to_owned).to_vec(),
            pictures: Pictures::Bytes { channels: 3, size: Size2::square(SIDE), bytes },
            labels,
        })
    };
    Ok(Parts { training: dataset(labels, bytes), validation: dataset(test_labels, test_bytes) })
}

fn append(path: &Path, labels: &mut Vec<u32>, bytes: &mut Vec<u8>) -> Result<(), NetError> {
    let file = file(path)?;
    let len = file.metadata().map_err(read_error(path))?.len();
    if len == 0 || !len.is_multiple_of(RECORD as u64) {
        return Err(damaged(path, format!("records of {RECORD} bytes"), format!("{len} bytes")));
    }
    let records = read_rest(path, file, len)?;
    for (index, record) in records.chunks_exact(RECORD).enumerate() {
        if usize::from(record[0]) >= CLASSES.len() {
            let expected = format!("labels from 0 to {}", CLASSES.len() - 1);
            return Err(damaged(path, expected, format!("{} for picture {index}", record[0])));
        }
        labels.push(record[0].into());
        bytes.extend_from_slice(&record[1..]);
    }
    Ok(())
}
