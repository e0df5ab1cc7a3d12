//! [`Places`]: where the storages of a program are in memory.

use super::layout::BLOCK;
use super::lower::Arg;
use super::operand::{Operand, Place};
use super::storage::Storages;
use kernels::{Layout, Pitch, Shape4};

/// The memory of all storages.
pub(crate) struct Places {
    /// The offset of each storage in the arena.
    pub(crate) offsets: Vec<usize>,
    /// Number of elements of the arena.
    pub(crate) len: usize,
    /// The storages of the caller's inputs and outputs.
    pub(crate) inputs: Vec<usize>,
    pub(crate) outputs: Vec<usize>,
}

impl Places {
    pub(crate) fn operand(&self, storages: &Storages, arg: &Arg) -> Operand {
        let Arg { value, shape, layout } = *arg;
        let (range, storage) = (storages.range(value), storages.of(value));
        let among = |given: &[usize]| given.iter().position(|&other| other == storage);
        let place = match (among(&self.inputs), among(&self.outputs)) {
            (Some(index), _) => Place::Input(index),
            (None, Some(index)) => Place::Output(index, range),
            (None, None) => {
                let start = self.offsets[storage];
                Place::Arena(start + range.start..start + range.end)
            }
        };
        let held = storages.value(value).shape;
        let images = if layout == Layout::Nhwc { shape.w } else { shape.n };
        let image = match held.n != images {
            // The numbers, which have no gaps, are seen as other images than were written.
            true => held.n * held.c * held.h * held.w / images,
            false => storages.pitch(value).image,
        };
        let pitch = match layout {
            // The images become the pixels of one row.
            Layout::Nhwc => Pitch { image: shape.w * image, pixel: image },
            Layout::Nchw16c | Layout::Nchw32cBf16 => Pitch { image, pixel: BLOCK },
            _ => Pitch { image, pixel: 1 },
        };
        Operand { place, shape, layout, pitch }
    }

    /// The operand of a value that is written by an operation whose first source is `read`.
    pub(crate) fn target(&self, storages: &Storages, read: Option<&Arg>, write: usize) -> Operand {
        let value = storages.value(write);
        // An operation that reads a row also writes a row.
        let row = read.filter(|read| read.layout == Layout::Nhwc);
        let (shape, layout) = match row {
            Some(read) => {
                let Shape4 { n, c, h, w } = value.shape;
                (Shape4::new(1, n * c * h * w / read.shape.w, 1, read.shape.w), Layout::Nhwc)
            }
            None => (value.shape, value.layout),
        };
        self.operand(storages, &Arg { value: write, shape, layout })
    }
}
