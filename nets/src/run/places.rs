//! [`Places`]: where the storages of a program are in memory.

use super::layout::BLOCK;
use super::lower::{Arg, INPUT};
use super::operand::{Operand, Place};
use super::storage::Storages;
use kernels::{Layout, Pitch, Shape4};

/// The memory of all storages.
pub(crate) struct Places {
    /// The offset of each storage in the arena.
    pub(crate) offsets: Vec<usize>,
    /// Number of elements of the arena.
    pub(crate) len: usize,
    /// The storage of the caller's output, if there is one.
    pub(crate) output: Option<usize>,
}

impl Places {
    pub(crate) fn operand(&self, storages: &Storages, arg: &Arg) -> Operand {
        let Arg { value, shape, layout } = *arg;
        let range = storages.range(value);
        let place = match storages.of(value) {
            storage if storage == storages.of(INPUT) => Place::Input,
            storage if Some(storage) == self.output => Place::Output(range),
            storage => {
                let start = self.offsets[storage];
                Place::Arena(start + range.start..start + range.end)
            }
        };
        let image = storages.pitch(value).image;
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
        let row = read.is_some_and(|read| read.layout == Layout::Nhwc);
        let (shape, layout) = match row {
            true => (Shape4::new(1, value.shape.c, 1, value.shape.n), Layout::Nhwc),
            false => (value.shape, value.layout),
        };
        self.operand(storages, &Arg { value: write, shape, layout })
    }
}
