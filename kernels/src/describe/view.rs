//! [`PixelView`]: the view of a tensor that all drivers use.

use super::shape::{BLOCK, WIDE_BLOCK};
use super::{ConvError, Layout, Shape4, Size2};
use std::num::NonZeroUsize;
use std::ops::Range;

/// A tensor seen as `images x channels x pixels`, with pixels in row-major order.
///
/// Element `(n, c, p)` is at `image_at(n) + (c / block) * plane + c % block + place(p) * pixel`, where `block` is 1
/// for NCHW, 16 for Nchw16c and C for NHWC. In Nchw32cBf16, an element holds two channels, and `block` is 32.
/// The place of a pixel is its number, unless rows are further apart than their pixels.
///
/// Images can overlap where they are only read: the slices of a volume that one output slice reads are the channels of an
/// image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PixelView {
    pub(crate) layout: Layout,
    pub(crate) images: usize,
    pub(crate) channels: usize,
    pub(crate) pixels: usize,
    /// Distance between the images of a volume.
    pub(crate) image: usize,
    pub(crate) plane: usize,
    pub(crate) pixel: usize,
    /// Images of a volume. Of a tensor of maps, all images.
    pub(crate) series: usize,
    /// Distance between volumes.
    pub(crate) volume: usize,
    /// How the rows of a map are apart, if not all pixels are evenly spaced.
    pub(crate) lines: Option<Lines>,
}

/// Rows of pixels that are further apart than their pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lines {
    /// Pixels of a row. With it, an optional `Lines` needs no tag of its own.
    pub(crate) width: NonZeroUsize,
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

    /// The offset of image `n` from the first one.
    pub(crate) fn image_at(&self, n: usize) -> usize {
        if n < self.series {
            n * self.image
        } else {
            n / self.series * self.volume + n % self.series * self.image
        }
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
        self.image_at(n) + in_image + self.place(p) * self.pixel
    }

    /// The place of pixel `p`, in distances between two pixels.
    fn place(&self, p: usize) -> usize {
        match self.lines {
            None => p,
            Some(Lines { width, step }) => p / width * step + p % width.get(),
        }
    }

    /// Whether `pixels` are evenly spaced.
    pub(crate) fn are_even(&self, pixels: &Range<usize>) -> bool {
        self.lines.is_none_or(|Lines { width, .. }| pixels.len() <= width.get() - pixels.start % width)
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
                let lines = Lines { width: NonZeroUsize::new(size.w)?, step: row / step.w };
                (step.w, (lines.step != size.w).then_some(lines))
            }
        };
        Some((Self { pixels, pixel: apart * self.pixel, lines, ..self }, first))
    }

    /// Whether all images can be seen as one row of evenly spaced pixels. In NCHW each image then becomes one
    /// pixel, and its `channels * pixels` elements become the channels of that pixel.
    pub(crate) fn can_merge(&self) -> bool {
        let pixels_are_evenly_spaced = match self.layout {
            Layout::Nchw => self.plane == self.pixels,
            Layout::Nhwc => self.pixels == 1 || self.image == self.pixels * self.pixel,
            Layout::Nchw16c | Layout::Nchw32cBf16 => self.pixels == 1,
        };
        self.lines.is_none() && pixels_are_evenly_spaced && self.images <= self.series
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

    /// The axes as numbers of steps and their lengths. The innermost one is a run of adjacent channels.
    fn axes(&self) -> [(usize, usize); 6] {
        let (run, planes) = match self.layout {
            Layout::Nchw => (1, self.channels),
            Layout::Nhwc => (self.channels, 1),
            Layout::Nchw16c => (BLOCK, self.channels.div_ceil(BLOCK)),
            Layout::Nchw32cBf16 => (WIDE_BLOCK / 2, self.channels.div_ceil(WIDE_BLOCK)),
        };
        let volumes = self.images.div_ceil(self.series);
        let (width, step) =
            self.lines.map_or((self.pixels.max(1), self.pixels), |lines| (lines.width.get(), lines.step));
        [
            (run, 1),
            (width.min(self.pixels), self.pixel),
            (self.pixels.div_ceil(width), step.saturating_mul(self.pixel)),
            (planes, self.plane),
            (self.images.min(self.series), self.image),
            (volumes, self.volume),
        ]
    }

    /// Checks that the view has the extents of `shape`, and that its elements lie in `len` elements of memory. If they are
    /// `written`, no two of them can be the same.
    pub(crate) fn check(&self, shape: Shape4, len: usize, written: bool) -> Result<(), ConvError> {
        let extents = (self.images, self.channels, Some(self.pixels));
        if shape.is_empty() || extents != (shape.n, shape.c, shape.h.checked_mul(shape.w)) || self.series == 0
        {
            return Err(ConvError::field("tensor shape", "the extents of the view", shape));
        }
        let mut axes = self.axes();
        axes.sort_unstable_by_key(|&(_, step)| step);
        let overflow = ConvError::SizeOverflow { what: "elements of a tensor" };
        let mut expected = 1usize;
        for (count, step) in axes.into_iter().filter(|&(count, _)| count > 1) {
            // An axis whose steps are longer than everything inside of it meets no element twice.
            if written && step < expected {
                return Err(ConvError::field("pitch", format!("at least {expected}"), step));
            }
            let reach = (count - 1).checked_mul(step).and_then(|reach| reach.checked_add(expected));
            expected = reach.ok_or(overflow.clone())?;
        }
        if len < expected { Err(ConvError::BufferLen { what: "tensor", expected, got: len }) } else { Ok(()) }
    }
}

/// A view and its data.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PixelRef<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) view: PixelView,
}

impl PixelRef<'_> {
    /// The view, merged by [`PixelView::merged`] if `merge`.
    pub(crate) fn merged_if(self, merge: bool) -> Self {
        if merge { Self { view: self.view.merged(), ..self } } else { self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two volumes of three slices of four pixels and two channels, in the order `[n][c][d][p]`.
    fn slices() -> (Shape4, PixelView) {
        let view = PixelView {
            layout: Layout::Nchw,
            images: 6,
            channels: 2,
            pixels: 4,
            image: 4,
            plane: 12,
            pixel: 1,
            series: 3,
            volume: 24,
            lines: None,
        };
        (Shape4::new(6, 2, 2, 2), view)
    }

    #[test]
    fn slices_of_volumes_are_images() {
        let (shape, view) = slices();
        let mut offsets: Vec<usize> = (0..6)
            .flat_map(|n| (0..2).flat_map(move |c| (0..4).map(move |p| view.offset(n, c, p))))
            .collect();
        assert_eq!((view.offset(2, 1, 3), view.offset(4, 0, 1)), (23, 29));
        offsets.sort_unstable();
        assert_eq!(offsets, (0..48).collect::<Vec<_>>());
        assert_eq!(view.check(shape, 48, true), Ok(()));
        assert!(!view.can_merge());
    }

    #[test]
    fn views_outside_of_their_data_are_refused() {
        let (shape, view) = slices();
        let short = ConvError::BufferLen { what: "tensor", expected: 48, got: 47 };
        assert_eq!(view.check(shape, 47, false), Err(short));
        let far = PixelView { volume: usize::MAX, ..view };
        assert_eq!(
            far.check(shape, 48, false),
            Err(ConvError::SizeOverflow { what: "elements of a tensor" })
        );
        assert!(view.check(Shape4 { n: 7, ..shape }, 480, false).is_err());
    }

    #[test]
    fn written_elements_differ() {
        let (shape, view) = slices();
        // Slices that overlap can be read.
        let overlapping = PixelView { image: 2, ..view };
        assert_eq!(overlapping.check(shape, 48, false), Ok(()));
        assert!(overlapping.check(shape, 48, true).is_err());
        assert!(PixelView { volume: 11, ..view }.check(shape, 48, true).is_err());
    }
}
