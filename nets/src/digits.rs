//! LeNet-5's trained weights and 1,000 handwritten digits that it has never seen, embedded in the program.
//!
//! Licence and provenance are beside the files in `nets/data`; `nets/train` holds the script that made them.

use crate::decode;
use crate::error::{NetError, PictureError};
use crate::graph::Graph;
use crate::weights::WeightSet;

const WEIGHTS: &[u8] = include_bytes!("../data/lenet5.safetensors");
const SHEET: &[u8] = include_bytes!("../data/digits.png");
const LABELS: &str = include_str!("../data/digits-labels.txt");

/// Digits in a row of the sheet, and rows of digits.
const SHEET_SIZE: (usize, usize) = (40, 25);
/// Rows and columns of a digit.
pub const SIDE: usize = 28;
/// Rows and columns of what LeNet-5 reads: the digit with a border of two zeros.
pub const PADDED: usize = 32;

/// Digits held out from training, with what they are.
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
        let damaged = |reason: String| PictureError::Decode { origin: "embedded digits".to_owned(), reason };
        let sheet = decode::png(SHEET).map_err(damaged)?;
        let (columns, rows) = SHEET_SIZE;
        let labels: Vec<u8> = LABELS.bytes().filter(u8::is_ascii_digit).map(|digit| digit - b'0').collect();
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

    /// How many there are.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// What each digit is, 0 to 9.
    pub fn labels(&self) -> &[u8] {
        &self.labels
    }

    /// The pixels of one digit, 28 rows of 28, 255 is ink.
    pub fn pixels(&self, index: usize) -> &[u8] {
        &self.pixels[index * SIDE * SIDE..][..SIDE * SIDE]
    }

    /// All digits as LeNet-5 reads them, one [`to_input`] after the other.
    pub fn inputs(&self) -> Vec<f32> {
        (0..self.len()).flat_map(|index| to_input(self.pixels(index))).collect()
    }
}

/// The weights that were trained on other digits than [`Digits::held_out`].
///
/// # Errors
/// [`NetError::Weights`] if `graph` is not [`zoo::lenet5`](crate::zoo::lenet5).
pub fn trained_weights(graph: &Graph) -> Result<WeightSet, NetError> {
    WeightSet::from_safetensors(graph, WEIGHTS, "embedded weights")
}

/// 28x28 bytes to 32x32 numbers from 0 to 1, with a border of two zeros.
///
/// # Panics
/// If there are not 784 bytes.
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
