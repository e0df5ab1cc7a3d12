//! [`Shape`]: the extents of an edge of the graph, with the batch.

use kernels::{ConvError, Layout, Shape4};
use std::fmt;

/// The extents of the activations on an edge of the graph.
///
/// A map has the axes batch, channels, rows and columns, and a vector has the axes batch and elements. Kernels know these
/// two, and their batch axis is implied. A tensor has any axes. Its operator says what they mean, and the extent of any of
/// its axes can depend on the batch.
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
    /// A tensor of any other rank, or one whose first axis is not the batch.
    Tensor(TensorShape),
    /// The unknown output of an operator that this library does not know. The known layers of such a graph
    /// can be counted, but the graph cannot run.
    Unknown,
}

/// The extents of a tensor of up to [`MAX_RANK`](Self::MAX_RANK) axes, in row-major order. Each is below 2^32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TensorShape {
    /// The extent of each axis for a batch of one. Shapes are copied everywhere, errors included, so they are small.
    dims: [u32; Self::MAX_RANK],
    rank: u8,
    /// Bit `i` says that the extent of axis `i` is multiplied by the batch size.
    batched: u8,
}

impl TensorShape {
    /// Maximum number of axes, including the batch.
    pub const MAX_RANK: usize = 6;

    /// A tensor of these extents, whatever the batch size. `None` if there are more than
    /// [`MAX_RANK`](Self::MAX_RANK) axes, or an extent is 2^32 or more.
    pub fn new(extents: &[usize]) -> Option<Self> {
        let mut dims = [1; Self::MAX_RANK];
        for (dim, &extent) in dims.get_mut(..extents.len())?.iter_mut().zip(extents) {
            *dim = u32::try_from(extent).ok()?;
        }
        Some(Self { dims, rank: extents.len() as u8, batched: 0 })
    }

    /// The same extents, but that of `axis` is the number of images times the present extent.
    pub fn times_batch(self, axis: usize) -> Self {
        let known = axis < self.rank();
        Self { batched: if known { self.batched | 1 << axis } else { self.batched }, ..self }
    }

    /// Number of axes.
    pub const fn rank(&self) -> usize {
        self.rank as usize
    }

    /// The extents for one image.
    pub fn dims(&self) -> Vec<usize> {
        self.dims[..self.rank()].iter().map(|&dim| dim as usize).collect()
    }

    /// Whether the extent of an axis is multiplied by the batch size.
    pub const fn depends_on_batch(&self, axis: usize) -> bool {
        axis < self.rank() && self.batched >> axis & 1 == 1
    }

    /// Whether the first axis is exactly the batch, and no other axis depends on it.
    pub const fn is_batch_first(&self) -> bool {
        self.batched == 1 && self.dims[0] == 1
    }

    /// The extents for a batch size. An extent that overflows is `usize::MAX`.
    pub fn full(&self, batch: usize) -> Vec<usize> {
        let extent = |(axis, dim): (usize, usize)| match self.depends_on_batch(axis) {
            true => dim.saturating_mul(batch),
            false => dim,
        };
        self.dims().into_iter().enumerate().map(extent).collect()
    }

    /// Number of elements for a batch size, or `usize::MAX` if it overflows.
    const fn elements(&self, batch: usize) -> usize {
        let (mut axis, mut all) = (0, 1usize);
        while axis < self.rank() {
            all = all.saturating_mul(self.dims[axis] as usize);
            if self.depends_on_batch(axis) {
                all = all.saturating_mul(batch);
            }
            axis += 1;
        }
        all
    }

    /// The shape that stands for `a` with a batch of `one` and for `b` with a batch of `two`, if there is one.
    fn unify(a: Self, b: Self, (one, two): (usize, usize)) -> Option<Self> {
        if a.rank != b.rank || a.batched != 0 || b.batched != 0 {
            return (a == b).then_some(a);
        }
        let mut both = a;
        for axis in 0..a.rank() {
            let (x, y) = (a.dims[axis] as usize, b.dims[axis] as usize);
            if x != y {
                let factor = x / one;
                let is_multiple = factor.checked_mul(one) == Some(x) && factor.checked_mul(two) == Some(y);
                if !is_multiple {
                    return None;
                }
                both.dims[axis] = u32::try_from(factor).ok()?;
                both.batched |= 1 << axis;
            }
        }
        Some(both)
    }
}

impl fmt::Display for TensorShape {
    /// Writes the extents without a leading batch axis, or with `N` for each axis that depends on the batch.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let skipped = usize::from(self.is_batch_first() && self.rank() > 1);
        if self.rank() == skipped {
            return f.write_str("scalar");
        }
        for axis in skipped..self.rank() {
            let (cross, dim) = (if axis > skipped { "x" } else { "" }, self.dims[axis]);
            match (self.depends_on_batch(axis), dim) {
                (false, _) => write!(f, "{cross}{dim}")?,
                (true, 1) => write!(f, "{cross}N")?,
                (true, _) => write!(f, "{cross}{dim}N")?,
            }
        }
        Ok(())
    }
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

    /// The shape of a tensor of these extents, of which the first is the batch of `batch` images: a vector or a map if
    /// kernels know it, else a tensor. `None` if there are too many axes.
    pub(crate) fn of(dims: &[usize], batch: usize) -> Option<Self> {
        Some(match *dims {
            [n, len] if n == batch => Self::vector(len),
            [n, c, h, w] if n == batch => Self::map(c, h, w),
            _ => Self::Tensor(TensorShape::new(dims)?),
        })
    }

    /// The shape that stands for `a` with a batch of `one` and for `b` with a batch of `two`, if there is one.
    pub(crate) fn unify(a: Self, b: Self, batches: (usize, usize)) -> Option<Self> {
        match (a, b) {
            (Self::Tensor(a), Self::Tensor(b)) => TensorShape::unify(a, b, batches).map(Self::Tensor),
            _ => (a == b).then_some(a),
        }
    }

    /// Channels of a map, or elements of a vector. Biases and slopes have one element for each of them. A tensor has none.
    pub const fn channels(self) -> usize {
        match self {
            Self::Map { c, .. } => c,
            Self::Vector { len } => len,
            Self::Tensor(_) | Self::Unknown => 0,
        }
    }

    /// The extents of one image: three for a map, one for a vector, none for an unknown shape. Those of a tensor are
    /// without the batch if that is its first axis.
    pub fn dims(self) -> Vec<usize> {
        match self {
            Self::Map { c, h, w } => vec![c, h, w],
            Self::Vector { len } => vec![len],
            Self::Tensor(tensor) if tensor.is_batch_first() => tensor.dims()[1..].to_vec(),
            Self::Tensor(tensor) => tensor.dims(),
            Self::Unknown => Vec::new(),
        }
    }

    /// The extents with the batch; `None` for an unknown shape.
    pub fn full(self, batch: usize) -> Option<Vec<usize>> {
        match self {
            Self::Map { c, h, w } => Some(vec![batch, c, h, w]),
            Self::Vector { len } => Some(vec![batch, len]),
            Self::Tensor(tensor) => Some(tensor.full(batch)),
            Self::Unknown => None,
        }
    }

    /// The shape of `batch` images for the kernels. A vector becomes an image of one pixel, and a tensor becomes one row.
    /// An unknown shape becomes empty.
    pub const fn batched(self, batch: usize) -> Shape4 {
        match self {
            Self::Map { c, h, w } => Shape4::new(batch, c, h, w),
            Self::Vector { len } => Shape4::new(batch, len, 1, 1),
            Self::Tensor(tensor) => Shape4::new(1, 1, 1, tensor.elements(batch)),
            Self::Unknown => Shape4::new(batch, 0, 0, 0),
        }
    }

    /// Elements of `batch` images.
    ///
    /// # Errors
    /// [`ConvError::SizeOverflow`] if the elements exceed the address space.
    pub fn elements(self, batch: usize) -> Result<usize, ConvError> {
        self.batched(batch).len(Layout::Nchw)
    }

    /// Elements per image.
    ///
    /// # Errors
    /// [`ConvError::SizeOverflow`] if the elements exceed the address space.
    pub fn len(self) -> Result<usize, ConvError> {
        self.elements(1)
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
            Self::Tensor(tensor) => write!(f, "{tensor}"),
            Self::Unknown => f.write_str("?"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_that_follow_the_batch_are_found() {
        let tensor = |dims: &[usize]| Shape::Tensor(TensorShape::new(dims).unwrap());
        let unify = |a: &[usize], b: &[usize]| Shape::unify(tensor(a), tensor(b), (2, 127));
        let heads = unify(&[24, 7, 2], &[12 * 127, 7, 2]).unwrap();
        assert_eq!(heads.full(3), Some(vec![36, 7, 2]));
        assert_eq!((heads.elements(1).unwrap(), heads.to_string()), (168, "12Nx7x2".to_owned()));
        let first = unify(&[2, 3, 5], &[127, 3, 5]).unwrap();
        assert_eq!((first.dims(), first.to_string()), (vec![3, 5], "3x5".to_owned()));
        assert_eq!(unify(&[4, 2], &[129, 127]), None);
        assert_eq!(tensor(&[]).elements(9).unwrap(), 1);
        assert!(TensorShape::new(&[1 << 32]).is_none());
        assert!(tensor(&[u32::MAX as usize; 3]).len().is_err());
    }
}
