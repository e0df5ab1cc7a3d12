//! [`Dataset`]: labelled pictures, in memory or in files. [`Frame`]: the shape in which a network reads them.

use super::random::{Purpose, Random};
use crate::decode::{self, resized};
use crate::digits::{Digits, SIDE};
use crate::error::{NetError, PictureError};
use crate::shape::Shape;
use kernels::Size2;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Labelled pictures. Copies and parts share the pictures.
#[derive(Debug, Clone)]
pub struct Dataset {
    store: Arc<Store>,
    /// The pictures of this part, as indices in the store.
    indices: Vec<u32>,
}

/// The pictures and labels.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) name: String,
    pub(super) classes: Vec<String>,
    pub(super) pictures: Pictures,
    pub(super) labels: Vec<u32>,
}

/// Where the pictures are.
#[derive(Debug)]
pub(super) enum Pictures {
    /// Bytes in the order picture, channel, row, column.
    Bytes { channels: usize, size: Size2, bytes: Vec<u8> },
    /// Picture files, decoded whenever they are needed.
    Files(Vec<PathBuf>),
}

/// The shape of a network's input: channels, rows and columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Channels: 1 for gray, 3 for red, green and blue.
    pub channels: usize,
    /// Rows and columns.
    pub size: Size2,
}

impl Frame {
    /// The frame of a network's input.
    ///
    /// # Errors
    /// [`NetError::Data`] unless the input is a map of 1 or 3 channels.
    pub fn of(network: &str, input: Shape) -> Result<Self, NetError> {
        match input {
            Shape::Map { c: channels @ (1 | 3), h, w } => Ok(Self { channels, size: Size2::new(h, w) }),
            _ => Err(NetError::Data {
                origin: format!("network `{network}`"),
                expected: "an input of pictures with 1 or 3 channels".to_owned(),
                got: input.to_string(),
            }),
        }
    }

    /// Pixels per channel.
    pub fn pixels(&self) -> usize {
        self.size.h * self.size.w
    }

    /// Numbers per picture.
    pub fn len(&self) -> usize {
        self.channels * self.pixels()
    }

    /// Whether it has no pixels.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// As `3x32x32`.
impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}x{}", self.channels, self.size.h, self.size.w)
    }
}

impl Dataset {
    pub(super) fn new(store: Store) -> Self {
        let indices = (0..store.labels.len() as u32).collect();
        Self { store: Arc::new(store), indices }
    }

    /// The embedded digits: 9,000 to train on, or the 1,000 that were held out.
    ///
    /// # Errors
    /// [`NetError::Picture`] if the embedded files are damaged.
    pub fn digits(held_out: bool) -> Result<Self, NetError> {
        let digits = if held_out { Digits::held_out()? } else { Digits::training()? };
        let bytes = (0..digits.len()).flat_map(|index| digits.pixels(index)).copied().collect();
        Ok(Self::new(Store {
            name: "digits".to_owned(),
            classes: (0..10).map(|digit| digit.to_string()).collect(),
            pictures: Pictures::Bytes { channels: 1, size: Size2::square(SIDE), bytes },
            labels: digits.labels().iter().map(|&label| label.into()).collect(),
        }))
    }

    /// The name, for messages.
    pub fn name(&self) -> &str {
        &self.store.name
    }

    /// The names of the classes.
    pub fn classes(&self) -> &[String] {
        &self.store.classes
    }

    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether there are no pictures.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// The label of a picture.
    pub fn label(&self, index: usize) -> u32 {
        self.store.labels[self.indices[index] as usize]
    }

    /// The part with these pictures.
    ///
    /// # Panics
    /// If an index is not below [`len`](Self::len).
    pub fn part(&self, indices: impl IntoIterator<Item = usize>) -> Self {
        let indices = indices.into_iter().map(|index| self.indices[index]).collect();
        Self { store: Arc::clone(&self.store), indices }
    }

    /// Splits into `parts` parts of equal size up to one picture, each with its share of every class.
    pub fn folds(&self, parts: usize, seed: u64) -> Vec<Self> {
        let mut folds = vec![Vec::new(); parts.max(1)];
        for class in 0..self.classes().len() {
            let mut members: Vec<usize> =
                (0..self.len()).filter(|&index| self.label(index) as usize == class).collect();
            Random::new(seed, Purpose::HoldOut, class as u64, 0).shuffle(&mut members);
            for member in members {
                // The smallest so far, so that no fold gets the rest of every class.
                let fold = (0..folds.len()).min_by_key(|&fold| folds[fold].len()).unwrap_or(0);
                folds[fold].push(member);
            }
        }
        folds
            .into_iter()
            .map(|mut fold| {
                fold.sort_unstable();
                self.part(fold)
            })
            .collect()
    }

    /// All pictures of several parts of the same data.
    ///
    /// # Panics
    /// If `parts` is empty.
    pub fn joined(parts: &[Self]) -> Self {
        let indices = parts.iter().flat_map(|part| &part.indices).copied().collect();
        Self { store: Arc::clone(&parts[0].store), indices }
    }

    /// The same pictures in the order of the data.
    pub(super) fn in_order(mut self) -> Self {
        self.indices.sort_unstable();
        self
    }

    /// Checks that a network with this output and input can be trained on the pictures.
    ///
    /// # Errors
    /// [`NetError::Data`] for another number of classes, for pictures in colour if the network reads gray, and for pictures
    /// in memory that are larger than the input.
    pub fn check(&self, network: &str, output: usize, frame: Frame) -> Result<(), NetError> {
        let wrong = |expected: String, got: String| {
            let origin = format!("data `{}` for network `{network}`", self.name());
            Err(NetError::Data { origin, expected, got })
        };
        if self.is_empty() {
            return wrong("at least one picture".to_owned(), "none".to_owned());
        }
        let classes = self.classes().len();
        if classes != output {
            return wrong(format!("{output} classes, as many as outputs"), classes.to_string());
        }
        match self.store.pictures {
            Pictures::Bytes { channels, .. } if channels > frame.channels => {
                wrong("gray pictures, as the network reads them".to_owned(), "pictures in colour".to_owned())
            }
            Pictures::Bytes { size, .. } if size.h > frame.size.h || size.w > frame.size.w => wrong(
                format!("pictures of at most {}x{} pixels", frame.size.h, frame.size.w),
                format!("{}x{}", size.h, size.w),
            ),
            _ => Ok(()),
        }
    }

    /// Reads every picture file once, so that a damaged one is found before a long training. Pictures in memory are not read.
    ///
    /// # Errors
    /// Those of [`read`](Self::read) for the first file that cannot be read.
    pub fn check_files(&self, frame: Frame) -> Result<(), NetError> {
        let Pictures::Files(_) = self.store.pictures else { return Ok(()) };
        let mut picture = vec![0.0; frame.len()];
        (0..self.len()).try_for_each(|index| self.read(index, frame, &mut picture))
    }

    /// Writes the bytes of a picture, divided by 255, in the order channel, row, column.
    ///
    /// A smaller picture is surrounded by zeros. Gray becomes three equal channels if the network reads colours. A picture
    /// file is scaled so that it covers the frame, and its middle is cut out.
    ///
    /// # Errors
    /// [`NetError::Io`] and [`NetError::Picture`] for a file that cannot be read.
    pub fn read(&self, index: usize, frame: Frame, numbers: &mut [f32]) -> Result<(), NetError> {
        let index = self.indices[index] as usize;
        match &self.store.pictures {
            Pictures::Bytes { channels, size, bytes } => {
                let len = channels * size.h * size.w;
                framed(&bytes[index * len..][..len], *size, frame, numbers);
                Ok(())
            }
            Pictures::Files(paths) => read_file(&paths[index], frame, numbers),
        }
    }
}

/// Puts a picture in the middle of a frame.
fn framed(bytes: &[u8], size: Size2, frame: Frame, numbers: &mut [f32]) {
    numbers.fill(0.0);
    let (top, left) = ((frame.size.h - size.h) / 2, (frame.size.w - size.w) / 2);
    let planes = bytes.chunks_exact(size.h * size.w);
    for (channel, plane) in numbers.chunks_exact_mut(frame.pixels()).zip(planes.cycle()) {
        for (y, row) in plane.chunks_exact(size.w).enumerate() {
            let start = (top + y) * frame.size.w + left;
            let places = channel[start..][..size.w].iter_mut();
            places.zip(row).for_each(|(number, &byte)| *number = f32::from(byte) / 255.0);
        }
    }
}

/// Longer side to shorter side beyond which a picture is refused.
const MOST_ASPECT: usize = 64;

fn read_file(path: &Path, frame: Frame, numbers: &mut [f32]) -> Result<(), NetError> {
    let bytes = std::fs::read(path);
    let bytes = bytes.map_err(|cause| NetError::Io { action: "read", path: path.to_owned(), cause })?;
    let damaged = |reason: String| PictureError::Decode { origin: path.display().to_string(), reason };
    let picture = decode::picture(&bytes).map_err(damaged)?;
    let from = Size2::new(picture.height, picture.width);
    if from.h.max(from.w) / from.h.min(from.w) > MOST_ASPECT {
        return Err(damaged(format!("one of {}x{} pixels", from.w, from.h)).into());
    }
    let scale = f64::max(frame.size.h as f64 / from.h as f64, frame.size.w as f64 / from.w as f64);
    let side = |side: usize, least: usize| ((side as f64 * scale).round() as usize).max(least);
    let to = Size2::new(side(from.h, frame.size.h), side(from.w, frame.size.w));
    let (top, left) = ((to.h - frame.size.h) / 2, (to.w - frame.size.w) / 2);
    for (colour, channel) in numbers.chunks_exact_mut(frame.pixels()).enumerate() {
        let plane = match frame.channels {
            1 => resized(from, |x, y| f32::from(picture.brightness(x, y)), to),
            _ => resized(from, |x, y| f32::from(picture.rgb(x, y)[colour]), to),
        };
        for (y, row) in channel.chunks_exact_mut(frame.size.w).enumerate() {
            for (x, number) in row.iter_mut().enumerate() {
                *number = plane.at(left + x, top + y).round() / 255.0;
            }
        }
    }
    Ok(())
}
