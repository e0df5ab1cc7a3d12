//! [`PixelView`]: the view of a tensor that all drivers use, and the check that it fits the data.

use super::shape::{BLOCK, WIDE_BLOCK};
use super::sizes::checked_product;
use super::{ConvError, Layout, Shape4, Size2};
use std::ops::Range;

/// Distances between the parts of a tensor, in elements.
///
/// A pitch larger than packed describes a channel slice of a wider tensor. With it, an Inception branch
/// writes directly into the concatenation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pitch {
    /// Distance between neighbouring images.
    pub image: usize,
    /// Distance between neighbouring pixels: at least C in NHWC, exactly 1 in NCHW, and exactly 16 in
    /// Nchw16c.
    pub pixel: usize,
}

/// A tensor seen as `images x channels x pixels`, with pixels in row-major order.
///
/// Element `(n, c, p)` is at `n * image + (c / block) * plane + c % block + place(p) * pixel`, where
/// `block` is 1 for NCHW, 16 for Nchw16c and C for NHWC. In Nchw32cBf16, an element holds two channels, and `block` is 32.
/// The place of a pixel is its number, unless rows are further apart than their pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PixelView {
    pub(crate) layout: Layout,
    pub(crate) images: usize,
    pub(crate) channels: usize,
    pub(crate) pixels: usize,
    pub(crate) image: usize,
    pub(crate) plane: usize,
    pub(crate) pixel: usize,
    /// How the rows of a map are apart, if not all pixels are evenly spaced.
    pub(crate) lines: Option<Lines>,
}

/// Rows of pixels that are further apart than their pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lines {
    /// Pixels of a row.
    pub(crate) width: usize,
    /// From the first pixel of a row to that of the next, in distances between two pixels.
    pub(crate) step: usize,
}

/// Some rows and columns of a map, at equal distances.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lattice {
    pub(crate) first: Size2,
    pub(crate) step: Size2,
    /// Numbers of rows and columns.
    pub(crate) size: Size2,
}

impl PixelView {
    /// Whether neighbouring channels of a pixel are adjacent in memory.
    pub(crate) fn channels_last(&self) -> bool {
        self.layout != Layout::Nchw
    }

    /// The offset of an element from the first one.
    pub(crate) fn offset(&self, n: usize, c: usize, p: usize) -> usize {
        let in_image = match self.layout {
            Layout::Nchw => c * self.plane,
            Layout::Nhwc => c,
            Layout::Nchw16c => c / BLOCK * self.plane + c % BLOCK,
            // Drivers address whole words.
            Layout::Nchw32cBf16 => c / WIDE_BLOCK * self.plane + c % WIDE_BLOCK / 2,
        };
        n * self.image + in_image + self.place(p) * self.pixel
    }

    /// The place of pixel `p`, in distances between two pixels.
    fn place(&self, p: usize) -> usize {
        match self.lines {
            None => p,
            Some(Lines { width, step }) => p / width * step + p % width,
        }
    }

    /// Whether `pixels` are evenly spaced.
    pub(crate) fn are_even(&self, pixels: &Range<usize>) -> bool {
        self.lines.is_none_or(|Lines { width, .. }| pixels.len() <= width - pixels.start % width)
    }

    /// The pixels of `lattice`, of a map of evenly spaced pixels that is `width` pixels wide, and the offset of the first.
    /// `None` if the distance between rows is no multiple of that between columns, and in NCHW, whose pixels are adjacent.
    pub(crate) fn lattice(self, lattice: &Lattice, width: usize) -> Option<(Self, usize)> {
        let Lattice { first, step, size } = *lattice;
        if self.lines.is_some() || self.layout == Layout::Nchw {
            return None;
        }
        let first = (first.h * width + first.w) * self.pixel;
        let pixels = size.h * size.w;
        let (apart, lines) = match size {
            Size2 { h: 1, w: 1 } => (1, None),
            Size2 { w: 1, .. } => (step.h * width, None),
            Size2 { h: 1, .. } => (step.w, None),
            _ => {
                let row = step.h * width;
                if !row.is_multiple_of(step.w) {
                    return None;
                }
                let lines = Lines { width: size.w, step: row / step.w };
                (step.w, (lines.step != lines.width).then_some(lines))
            }
        };
        Some((Self { pixels, pixel: apart * self.pixel, lines, ..self }, first))
    }

    /// Whether all images can be seen as one row of evenly spaced pixels. In NCHW each image then becomes one
    /// pixel, and its `channels * pixels` elements become the channels of that pixel.
    pub(crate) fn can_merge(&self) -> bool {
        self.lines.is_none()
            && match self.layout {
                Layout::Nchw => self.plane == self.pixels,
                Layout::Nhwc => self.pixels == 1 || self.image == self.pixels * self.pixel,
                Layout::Nchw16c | Layout::Nchw32cBf16 => self.pixels == 1,
            }
    }

    /// The row of pixels that [`can_merge`](Self::can_merge) allows.
    pub(crate) fn merged(self) -> Self {
        debug_assert!(self.can_merge());
        let row = Self { images: 1, pixels: self.images, pixel: self.image, ..self };
        match self.layout {
            Layout::Nchw => {
                Self { layout: Layout::Nhwc, channels: self.channels * self.pixels, plane: 1, ..row }
            }
            Layout::Nhwc => Self { pixels: self.images * self.pixels, pixel: self.pixel_of_row(), ..row },
            Layout::Nchw16c | Layout::Nchw32cBf16 => row,
        }
    }

    /// The pixel pitch of a merged row of NHWC images, which have one pixel each or are packed.
    fn pixel_of_row(&self) -> usize {
        if self.pixels == 1 { self.image } else { self.pixel }
    }
}

/// Checks shape, layout and pitch against the length of the data, for shared and mutable borrows.
pub(super) fn check(
    data_len: usize,
    shape: Shape4,
    layout: Layout,
    pitch: Option<Pitch>,
) -> Result<PixelView, ConvError> {
    if shape.is_empty() {
        return Err(ConvError::field("tensor shape", "every extent at least 1", shape));
    }
    let packed_len = shape.len(layout)?;
    let pixels = shape.h * shape.w;
    let packed_image = packed_len / shape.n;
    let packed_pixel = match layout {
        Layout::Nchw => 1,
        Layout::Nhwc => shape.c,
        // A pixel of a block is 16 elements in both: 16 numbers, or 32 in pairs.
        Layout::Nchw16c | Layout::Nchw32cBf16 => BLOCK,
    };
    let Pitch { image, pixel } = match pitch {
        None => {
            if data_len != packed_len {
                return Err(ConvError::BufferLen { what: "tensor", expected: packed_len, got: data_len });
            }
            Pitch { image: packed_image, pixel: packed_pixel }
        }
        Some(pitch) => pitch,
    };
    if layout == Layout::Nhwc {
        if pixel < packed_pixel {
            return Err(ConvError::field(
                "pitch.pixel",
                format!("at least the {packed_pixel} channels"),
                pixel,
            ));
        }
    } else if pixel != packed_pixel {
        return Err(ConvError::field("pitch.pixel", format!("{packed_pixel} in {layout}"), pixel));
    }
    let span = match layout {
        Layout::Nchw | Layout::Nchw16c | Layout::Nchw32cBf16 => packed_image,
        Layout::Nhwc => checked_product("pitch.pixel", &[pixels - 1, pixel])?
            .checked_add(shape.c)
            .ok_or(ConvError::SizeOverflow { what: "pitch.pixel" })?,
    };
    if image < span {
        return Err(ConvError::field("pitch.image", format!("at least {span}, one image"), image));
    }
    let expected = checked_product("pitch.image", &[shape.n - 1, image])?
        .checked_add(span)
        .ok_or(ConvError::SizeOverflow { what: "pitch.image" })?;
    if data_len < expected {
        return Err(ConvError::BufferLen { what: "tensor", expected, got: data_len });
    }
    // A pitch of an axis of extent 1 is never used, so the caller can pass any number. Replace it by one that
    // cannot overflow.
    let image = if shape.n == 1 { span } else { image };
    let pixel = if pixels == 1 { packed_pixel } else { pixel };
    let plane = match layout {
        Layout::Nchw => pixels,
        Layout::Nhwc => 1,
        Layout::Nchw16c | Layout::Nchw32cBf16 => pixels * BLOCK,
    };
    Ok(PixelView { layout, images: shape.n, channels: shape.c, pixels, image, plane, pixel, lines: None })
}
