//! Extents and memory layouts.

use std::fmt;

/// Channels per block of [`Layout::Nchw16c`]: one AVX-512 vector, two AVX2 vectors or four NEON vectors.
pub const BLOCK: usize = 16;

/// Channels per block of [`Layout::Nchw32cBf16`].
pub(crate) const WIDE_BLOCK: usize = 32;

/// Height and width, in elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Size2 {
    /// Number of rows.
    pub h: usize,
    /// Number of columns.
    pub w: usize,
}

impl Size2 {
    /// A size of `h` rows by `w` columns.
    pub const fn new(h: usize, w: usize) -> Self {
        Self { h, w }
    }

    /// A size with the same extent on both axes.
    pub const fn square(side: usize) -> Self {
        Self { h: side, w: side }
    }
}

impl fmt::Display for Size2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.h, self.w)
    }
}

/// Zero padding on the four sides of an image, in elements. It can be asymmetric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Pad2 {
    /// Rows above the first.
    pub top: usize,
    /// Rows below the last.
    pub bottom: usize,
    /// Columns before the first.
    pub left: usize,
    /// Columns after the last.
    pub right: usize,
}

impl Pad2 {
    /// No padding: `VALID` in TensorFlow and ONNX.
    pub const VALID: Self = Self { top: 0, bottom: 0, left: 0, right: 0 };

    /// `p` elements on every side.
    pub const fn all(p: usize) -> Self {
        Self { top: p, bottom: p, left: p, right: p }
    }

    /// `h` rows above and below, `w` columns left and right.
    pub const fn symmetric(h: usize, w: usize) -> Self {
        Self { top: h, bottom: h, left: w, right: w }
    }

    /// ONNX `SAME_UPPER` (TensorFlow `SAME`): the output extent is `ceil(in / stride)`, and an odd element is
    /// added at the end.
    ///
    /// Saturates instead of overflowing. The descriptor's builder then reports the size.
    pub fn same_upper(input: Size2, kernel: Size2, stride: Size2, dilation: Size2) -> Self {
        let h = same_total(input.h, kernel.h, stride.h, dilation.h);
        let w = same_total(input.w, kernel.w, stride.w, dilation.w);
        Self { top: h / 2, bottom: h - h / 2, left: w / 2, right: w - w / 2 }
    }

    /// ONNX `SAME_LOWER`: the output extent is `ceil(in / stride)`, and an odd element is added at the
    /// beginning.
    pub fn same_lower(input: Size2, kernel: Size2, stride: Size2, dilation: Size2) -> Self {
        let up = Self::same_upper(input, kernel, stride, dilation);
        Self { top: up.bottom, bottom: up.top, left: up.right, right: up.left }
    }

    /// Whether no side is padded.
    pub const fn is_zero(&self) -> bool {
        self.top == 0 && self.bottom == 0 && self.left == 0 && self.right == 0
    }
}

impl fmt::Display for Pad2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.top == self.bottom && self.left == self.right {
            write!(f, "{}x{}", self.top, self.left)
        } else {
            write!(f, "[{},{},{},{}]", self.top, self.left, self.bottom, self.right)
        }
    }
}

fn same_total(input: usize, kernel: usize, stride: usize, dilation: usize) -> usize {
    if stride == 0 || input == 0 {
        return 0; // the builder reports both
    }
    let output = input.div_ceil(stride);
    let covered = (output - 1)
        .saturating_mul(stride)
        .saturating_add(dilation.saturating_mul(kernel.saturating_sub(1)))
        .saturating_add(1);
    covered.saturating_sub(input)
}

/// Extents of an activation tensor in elements, independent of its layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape4 {
    /// Number of images.
    pub n: usize,
    /// Number of channels.
    pub c: usize,
    /// Number of rows.
    pub h: usize,
    /// Number of columns.
    pub w: usize,
}

impl Shape4 {
    /// A shape of `n` images with `c` channels of `h` by `w` elements.
    pub const fn new(n: usize, c: usize, h: usize, w: usize) -> Self {
        Self { n, c, h, w }
    }

    /// Height and width.
    pub const fn size(&self) -> Size2 {
        Size2 { h: self.h, w: self.w }
    }

    /// Whether any extent is zero.
    pub const fn is_empty(&self) -> bool {
        self.n == 0 || self.c == 0 || self.h == 0 || self.w == 0
    }
}

impl fmt::Display for Shape4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}x{}x{}", self.n, self.c, self.h, self.w)
    }
}

/// Memory layout of activations. Filters are always in OIHW order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Layout {
    /// `[n][c][h][w]`: the default of PyTorch and ONNX.
    Nchw,
    /// `[n][h][w][c]`: the default of TensorFlow, and PyTorch's `channels_last`.
    Nhwc,
    /// `[n][ceil(c/16)][h][w][16]`: the blocked layout for running a whole network. The padding lanes after
    /// the last channel are ignored on input and written as zero on output.
    Nchw16c,
    /// `[n][c/32][h][w][32]` in bf16, two numbers to an element of `f32`: what convolutions with
    /// [`Products::Bf16`](super::Products::Bf16) read in place. Channels are a multiple of 32. Only these
    /// convolutions and copies accept it.
    Nchw32cBf16,
}

impl Layout {
    /// Every layout of `f32` numbers, for tests and tables.
    pub const ALL: [Self; 3] = [Self::Nchw, Self::Nhwc, Self::Nchw16c];

    /// The name: `"nchw"`, `"nhwc"`, `"nchw16c"` or `"nchw32c_bf16"`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nchw => "nchw",
            Self::Nhwc => "nhwc",
            Self::Nchw16c => "nchw16c",
            Self::Nchw32cBf16 => "nchw32c_bf16",
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
