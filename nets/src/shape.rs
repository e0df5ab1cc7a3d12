//! [`Shape`]: what flows along an edge of a graph, for one image.

use kernels::{ConvError, Layout, Shape4};
use std::fmt;

/// Extents of the activations of one image; the batch is added when a graph is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shape {
    /// Feature maps.
    Map {
        /// Channels.
        c: usize,
        /// Rows.
        h: usize,
        /// Columns.
        w: usize,
    },
    /// A flat vector, as fully connected layers take and give.
    Vector {
        /// Elements.
        len: usize,
    },
    /// Not known: what comes out of an operator that this library does not know. Such a graph can be counted, as far as
    /// its layers are known, but not run.
    Unknown,
}

impl Shape {
    /// `c` feature maps of `h` by `w`.
    pub const fn map(c: usize, h: usize, w: usize) -> Self {
        Self::Map { c, h, w }
    }

    /// A vector of `len` elements.
    pub const fn vector(len: usize) -> Self {
        Self::Vector { len }
    }

    /// Channels of a map, elements of a vector: what a bias or a slope has one number for.
    pub const fn channels(self) -> usize {
        match self {
            Self::Map { c, .. } => c,
            Self::Vector { len } => len,
            Self::Unknown => 0,
        }
    }

    /// The extents: three of a map, one of a vector, none of a shape that is not known.
    pub fn dims(self) -> Vec<usize> {
        match self {
            Self::Map { c, h, w } => vec![c, h, w],
            Self::Vector { len } => vec![len],
            Self::Unknown => Vec::new(),
        }
    }

    /// `batch` of these as the kernels see them; a vector is an image of one pixel, a shape that is not known is empty.
    pub const fn batched(self, batch: usize) -> Shape4 {
        match self {
            Self::Map { c, h, w } => Shape4::new(batch, c, h, w),
            Self::Vector { len } => Shape4::new(batch, len, 1, 1),
            Self::Unknown => Shape4::new(batch, 0, 0, 0),
        }
    }

    /// Elements of one image.
    ///
    /// # Errors
    /// [`ConvError::SizeOverflow`] if they cannot be addressed.
    pub fn len(self) -> Result<usize, ConvError> {
        self.batched(1).len(Layout::Nchw)
    }

    /// Whether any extent is zero.
    pub const fn is_empty(self) -> bool {
        self.batched(1).is_empty()
    }
}

/// A map of the kernels' extents, the batch left out.
impl From<Shape4> for Shape {
    fn from(shape: Shape4) -> Self {
        Self::map(shape.c, shape.h, shape.w)
    }
}

impl fmt::Display for Shape {
    /// `6x28x28`, `84` or `?`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Map { c, h, w } => write!(f, "{c}x{h}x{w}"),
            Self::Vector { len } => write!(f, "{len}"),
            Self::Unknown => f.write_str("?"),
        }
    }
}
