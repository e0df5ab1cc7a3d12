//! The trained weights of LeNet-5, and 1,000 handwritten digits that were not used for training. Both are
//! embedded in the program. With the feature `train`, so are 9,000 digits to train on.
//!
//! Licence and provenance are next to the files in `nets/data`. The script that made the files is in
//! `nets/train`.

use crate::decode;
use crate::error::{NetError, PictureError};
use crate::graph::Graph;
use crate::weights::WeightSet;

const WEIGHTS: &[u8] = include_bytes!("../data/lenet5.safetensors");
const SHEET: &[u8] = include_bytes!("../data/digits.png");
const LABELS: &str = include_str!("../data/digits-labels.txt");

/// The digits to train on.
#[cfg(feature = "train")]
const TRAINING_SHEET: &[u8] = include_bytes!("../data/digits-train.png");
#[cfg(feature = "train")]
const TRAINING_LABELS: &str = include_str!("../data/digits-train-labels.txt");

/// Digits per row of the sheet, and rows of digits.
const SHEET_SIZE: (usize, usize) = (40, 25);
#[cfg(feature = "train")]
const TRAINING_SHEET_SIZE: (usize, usize) = (100, 90);
/// Height and width of a digit in pixels.
pub const SIDE: usize = 28;
/// Height and width of the input of LeNet-5: a digit with a border of two zeros.
pub const PADDED: usize = 32;

/// Handwritten digits with their labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digits {
    pixels: Vec<u8>,
    labels: Vec<u8>,
}

impl Digits {
    /// Decodes the embedded sheet.
    ///
    /// # Errors
    /// [`NetError::Picture`] if the embedded files are damaged.
    pub fn held_out() -> Result<Self, NetError> {
        Self::from_sheet(SHEET, LABELS, SHEET_SIZE)
    }

    /// Decodes the embedded sheet of the 9,000 digits to train on. The last 1,000, 100 of each class, served to choose the
    /// recipe of the embedded weights.
    ///
    /// # Errors
    /// [`NetError::Picture`] if the embedded files are damaged.
    #[cfg(feature = "train")]
    pub fn training() -> Result<Self, NetError> {
        Self::from_sheet(TRAINING_SHEET, TRAINING_LABELS, TRAINING_SHEET_SIZE)
    }

    /// Decodes a sheet of `columns` times `rows` digits.
    fn from_sheet(sheet: &[u8], labels: &str, (columns, rows): (usize, usize)) -> Result<Self, NetError> {
        let damaged = |reason: String| PictureError::Decode { origin: "embedded digits".to_owned(), reason };
        let sheet = decode::png(sheet).map_err(damaged)?;
        let labels: Vec<u8> = labels.bytes().filter(u8::is_ascii_digit).map(|digit| digit - b'0').collect();
        let (width, height) = (sheet.width, sheet.height);
        if (width, height, labels.len()) != (columns * SIDE, rows * SIDE, columns * rows) {
            let reason = format!("a sheet of {width}x{height} pixels with {} labels", labels.len());
            return Err(damaged(reason).into());
        }
        let sheet = sheet.gray().ok_or_else(|| damaged("a sheet in colour".to_owned()))?;
        let digits = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
        let lines = digits
            .flat_map(|(row, column)| (0..SIDE).map(move |y| ((row * SIDE + y) * columns + column) * SIDE));
        let pixels = lines.flat_map(|start| sheet[start..][..SIDE].iter().copied()).collect();
        Ok(Self { pixels, labels })
    }

    /// Number of digits.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no digits.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The label of each digit, 0 to 9.
    pub fn labels(&self) -> &[u8] {
        &self.labels
    }

    /// The pixels of one digit: 28 rows of 28 bytes, where 255 is ink.
    pub fn pixels(&self, index: usize) -> &[u8] {
        &self.pixels[index * SIDE * SIDE..][..SIDE * SIDE]
    }

    /// The inputs of LeNet-5 for all digits, one [`to_input`] after another.
    pub fn inputs(&self) -> Vec<f32> {
        (0..self.len()).flat_map(|index| to_input(self.pixels(index))).collect()
    }
}

/// The trained weights of LeNet-5. The digits of [`Digits::held_out`] were not used for training.
///
/// # Errors
/// [`NetError::Weights`] if `graph` is not [`zoo::lenet5`](crate::zoo::lenet5).
pub fn trained_weights(graph: &Graph) -> Result<WeightSet, NetError> {
    WeightSet::from_safetensors(graph, WEIGHTS, "embedded weights")
}

/// Converts 28x28 bytes to 32x32 numbers from 0 to 1, with a border of two zeros.
///
/// # Panics
/// If `pixels` does not have 784 bytes.
pub fn to_input(pixels: &[u8]) -> Vec<f32> {
    assert_eq!(pixels.len(), SIDE * SIDE, "pixels of a digit");
    let border = (PADDED - SIDE) / 2;
    let mut input = vec![0.0; PADDED * PADDED];
    for (y, line) in pixels.chunks_exact(SIDE).enumerate() {
        let start = (y + border) * PADDED + border;
        for (number, &byte) in input[start..][..SIDE].iter_mut().zip(line) {
            *number = f32::from(byte) / 255.0;
        }
    }
    input
}
