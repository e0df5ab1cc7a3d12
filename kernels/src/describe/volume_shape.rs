//! Extents and memory layouts of volumes.

use super::{BLOCK, ConvError, Layout, Pad2, Shape4, Size2, checked_product};
use std::fmt;

/// Depth, height and width, in elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Size3 {
    /// Number of slices.
    pub d: usize,
    /// Number of rows.
    pub h: usize,
    /// Number of columns.
    pub w: usize,
}

impl Size3 {
    /// A size of `d` slices of `h` rows by `w` columns.
    pub const fn new(d: usize, h: usize, w: usize) -> Self {
        Self { d, h, w }
    }

    /// A size with the same extent on all axes.
    pub const fn cube(side: usize) -> Self {
        Self { d: side, h: side, w: side }
    }

    /// Height and width.
    pub const fn plane(&self) -> Size2 {
        Size2 { h: self.h, w: self.w }
    }
}

impl fmt::Display for Size3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}x{}", self.d, self.h, self.w)
    }
}

/// Zero padding on the six sides of a volume, in elements. It can be asymmetric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Pad3 {
    /// Slices before the first.
    pub front: usize,
    /// Slices after the last.
    pub back: usize,
    /// Rows above the first.
    pub top: usize,
    /// Rows below the last.
    pub bottom: usize,
    /// Columns before the first.
    pub left: usize,
    /// Columns after the last.
    pub right: usize,
}

impl Pad3 {
    /// No padding.
    pub const VALID: Self = Self::all(0);

    /// `p` elements on every side.
    pub const fn all(p: usize) -> Self {
        Self::symmetric(p, p, p)
    }

    /// `d` slices in front and behind, `h` rows above and below, `w` columns left and right.
    pub const fn symmetric(d: usize, h: usize, w: usize) -> Self {
        Self { front: d, back: d, top: h, bottom: h, left: w, right: w }
    }

    /// The padding of each slice.
    pub const fn plane(&self) -> Pad2 {
        Pad2 { top: self.top, bottom: self.bottom, left: self.left, right: self.right }
    }
}

impl fmt::Display for Pad3 {
    /// Writes, for example, `1x1x1`, or `[1,0,0,0,1,1]` in the order front, top, left, back, bottom, right.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { front, back, top, bottom, left, right } = self;
        if (front, top, left) == (back, bottom, right) {
            write!(f, "{front}x{top}x{left}")
        } else {
            write!(f, "[{front},{top},{left},{back},{bottom},{right}]")
        }
    }
}

/// Extents of a tensor of volumes in elements, independent of its layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape5 {
    /// Number of volumes.
    pub n: usize,
    /// Number of channels.
    pub c: usize,
    /// Number of slices.
    pub d: usize,
    /// Number of rows.
    pub h: usize,
    /// Number of columns.
    pub w: usize,
}

impl Shape5 {
    /// A shape of `n` volumes with `c` channels of `d` slices of `h` by `w` elements.
    pub const fn new(n: usize, c: usize, d: usize, h: usize, w: usize) -> Self {
        Self { n, c, d, h, w }
    }

    /// Depth, height and width.
    pub const fn size(&self) -> Size3 {
        Size3 { d: self.d, h: self.h, w: self.w }
    }

    /// Whether any extent is zero.
    pub const fn is_empty(&self) -> bool {
        self.n == 0 || self.c == 0 || self.d == 0 || self.h == 0 || self.w == 0
    }

    /// Number of elements of a packed tensor of this shape. Blocked layouts round the channels up to a multiple of 16.
    ///
    /// # Errors
    /// [`ConvError::SizeOverflow`] if the tensor would exceed `isize::MAX` bytes.
    pub fn len(&self, layout: VolumeLayout) -> Result<usize, ConvError> {
        let volumes = checked_product("elements of a tensor", &[self.n, self.d])?;
        Shape4::new(volumes, self.c, self.h, self.w).len(layout.of_slices())
    }

    /// One slice of one volume.
    pub(crate) fn slice(&self) -> Shape4 {
        Shape4::new(1, self.c, self.h, self.w)
    }
}

impl fmt::Display for Shape5 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}x{}x{}x{}", self.n, self.c, self.d, self.h, self.w)
    }
}

/// Memory layout of volumes. Filters are always in OIDHW order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum VolumeLayout {
    /// `[n][c][d][h][w]`: the default of PyTorch and ONNX.
    Ncdhw,
    /// `[n][d][h][w][c]`: the default of TensorFlow, and PyTorch's `channels_last_3d`.
    Ndhwc,
    /// `[n][d][c][h][w]`: the frames of a video, each of which is a map in [`Layout::Nchw`].
    Ndchw,
    /// `[n][ceil(c/16)][d][h][w][16]`: the blocked layout of oneDNN. The padding lanes after the last channel are ignored
    /// on input and written as zero on output.
    Ncdhw16c,
    /// `[n][d][ceil(c/16)][h][w][16]`: each slice is a map in [`Layout::Nchw16c`]. Between convolutions of this layout
    /// nothing is copied, if their channels are multiples of 16. Padding lanes are as in `Ncdhw16c`.
    Ndchw16c,
}

impl VolumeLayout {
    /// Every layout, for tests and tables.
    pub const ALL: [Self; 5] = [Self::Ncdhw, Self::Ndhwc, Self::Ndchw, Self::Ncdhw16c, Self::Ndchw16c];

    /// The name: `"ncdhw"`, `"ndhwc"`, `"ndchw"`, `"ncdhw16c"` or `"ndchw16c"`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ncdhw => "ncdhw",
            Self::Ndhwc => "ndhwc",
            Self::Ndchw => "ndchw",
            Self::Ncdhw16c => "ncdhw16c",
            Self::Ndchw16c => "ndchw16c",
        }
    }

    /// The layout of a slice, whose planes can be far apart.
    pub(crate) const fn of_slices(self) -> Layout {
        match self {
            Self::Ncdhw | Self::Ndchw => Layout::Nchw,
            Self::Ndhwc => Layout::Nhwc,
            Self::Ncdhw16c | Self::Ndchw16c => Layout::Nchw16c,
        }
    }

    /// The layout of slices one after the other, each of which is a map in `layout`.
    pub(crate) const fn of_maps(layout: Layout) -> Self {
        match layout {
            Layout::Nchw => Self::Ndchw,
            Layout::Nhwc => Self::Ndhwc,
            Layout::Nchw16c | Layout::Nchw32cBf16 => Self::Ndchw16c,
        }
    }
}

impl fmt::Display for VolumeLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Planes of a slice in `layout`: channels, or blocks of 16 channels.
pub(super) const fn planes(layout: Layout, channels: usize) -> usize {
    match layout {
        Layout::Nchw => channels,
        Layout::Nhwc => 1,
        Layout::Nchw16c | Layout::Nchw32cBf16 => channels.div_ceil(BLOCK),
    }
}
