//! [`Shape`]: the shape of one image's activations on an edge of the graph.

use kernels::{ConvError, Layout, Shape4};
use std::fmt;

/// Extents of the activations of one image. The batch size is added when a graph runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shape {
    /// Feature maps.
    Map {
        /// Number of channels.
        c: usize,
        /// Number of rows.
        h: usize,
        /// Number of columns.
        w: usize,
    },
    /// A flat vector, the input and output of fully connected layers.
    Vector {
        /// Number of elements.
        len: usize,
    },
    /// The unknown output of an operator that this library does not know. The known layers of such a graph
    /// can be counted, but the graph cannot run.
    Unknown,
}

impl Shape {
    /// `c` feature maps of `h` by `w` elements.
    pub const fn map(c: usize, h: usize, w: usize) -> Self {
        Self::Map { c, h, w }
    }

    /// A vector of `len` elements.
    pub const fn vector(len: usize) -> Self {
        Self::Vector { len }
    }

    /// Channels of a map, or elements of a vector. Biases and slopes have one element for each of them.
    pub const fn channels(self) -> usize {
        match self {
            Self::Map { c, .. } => c,
            Self::Vector { len } => len,
            Self::Unknown => 0,
        }
    }

    /// The extents: three for a map, one for a vector, none for an unknown shape.
    pub fn dims(self) -> Vec<usize> {
        match self {
            Self::Map { c, h, w } => vec![c, h, w],
            Self::Vector { len } => vec![len],
            Self::Unknown => Vec::new(),
        }
    }

    /// The shape of `batch` images for the kernels. A vector becomes an image of one pixel, an unknown shape
    /// becomes empty.
    pub const fn batched(self, batch: usize) -> Shape4 {
        match self {
            Self::Map { c, h, w } => Shape4::new(batch, c, h, w),
            Self::Vector { len } => Shape4::new(batch, len, 1, 1),
            Self::Unknown => Shape4::new(batch, 0, 0, 0),
        }
    }

    /// Elements per image.
    ///
    /// # Errors
    /// [`ConvError::SizeOverflow`] if the elements exceed the address space.
    pub fn len(self) -> Result<usize, ConvError> {
        self.batched(1).len(Layout::Nchw)
    }

    /// Whether any extent is zero.
    pub const fn is_empty(self) -> bool {
        self.batched(1).is_empty()
    }
}

/// A map with the extents of one image of `shape`.
impl From<Shape4> for Shape {
    fn from(shape: Shape4) -> Self {
        Self::map(shape.c, shape.h, shape.w)
    }
}

impl fmt::Display for Shape {
    /// Writes, for example, `6x28x28`, `84` or `?`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Map { c, h, w } => write!(f, "{c}x{h}x{w}"),
            Self::Vector { len } => write!(f, "{len}"),
            Self::Unknown => f.write_str("?"),
        }
    }
}
