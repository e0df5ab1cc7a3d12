//! [`Windows`]: the pixels that the gradient of a filter sums over, cut into segments, stretches and chunks.
//!
//! All cuts depend on the problem only. A sum therefore has the same order for any number of threads.

use crate::describe::{BLOCK, ConvDesc, Layout, PixelView, Size2};
use std::ops::Range;

/// Maximum number of output pixels of a segment and, if it has several segments, of a stretch. The sums of a stretch
/// stay in registers.
pub(super) const MOST_PIXELS: usize = 256;
/// The same for the register tile of one tap, which reads each gradient for few multiply-adds. Those of 64 channels and 128 pixels
/// are 32 KB, which a first-level cache of 48 KB keeps. 1x1 layers took 1 to 9 % less time with it on Zen 5, and 3x3 layers
/// 3 % more.
pub(super) const MOST_PIXELS_OF_ONE_TAP: usize = 128;
/// Maximum number of segments of a stretch.
pub(super) const MOST_SEGMENTS: usize = 64;
/// Least number of parts that a problem is cut into, so that many threads find work.
const LEAST_PARTS: usize = 32;
/// Stretches of a chunk from which on it is cut. It limits the length of a sum before it is rounded and added.
const MOST_STRETCHES: usize = 256;
/// Maximum number of chunks.
pub(super) const MOST_CHUNKS: usize = 64;
/// Maximum number of elements of the partial sums of all chunks: 64 MB.
const MOST_PARTIAL: usize = 16 << 20;

/// The windows of a convolution along its rows and columns.
///
/// Three kinds of maps are seen as rows: a map of one column, a map whose pixels are read one by one (1x1 at stride 1),
/// and images of one pixel, which become the pixels of one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Windows {
    pub(super) images: usize,
    /// Extents of input and output.
    pub(super) input: Size2,
    pub(super) output: Size2,
    pub(super) kernel: Size2,
    pub(super) stride: Size2,
    pub(super) dilation: Size2,
    /// Padding at the top and on the left.
    pub(super) before: Size2,
    /// Whether the images are the pixels of one image: the views of both tensors are merged.
    pub(crate) merged: bool,
    /// Maximum number of output pixels of a segment and of a stretch.
    pub(super) most_pixels: usize,
}

/// Some adjacent pixels of an output row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) n: usize,
    pub(super) y: usize,
    pub(super) xs: Range<usize>,
}

impl Windows {
    pub(super) fn new(desc: &ConvDesc) -> Self {
        let (input, output, pad) = (desc.input(), desc.output(), desc.pad());
        let plain = Self {
            images: input.n,
            input: input.size(),
            output: output.size(),
            kernel: desc.kernel(),
            stride: desc.stride(),
            dilation: desc.dilation(),
            before: Size2::new(pad.top, pad.left),
            merged: false,
            most_pixels: MOST_PIXELS,
        };
        let one = Size2::square(1);
        let unpadded = plain.kernel == one && plain.before == Size2::square(0);
        if unpadded && plain.input == one && plain.output == one && desc.layout() == desc.output_layout() {
            let row = Size2::new(1, input.n);
            return Self { images: 1, input: row, output: row, stride: one, merged: true, ..plain };
        }
        if unpadded && plain.stride == one && plain.input == plain.output {
            let row = Size2::new(1, input.h * input.w);
            return Self { input: row, output: row, ..plain };
        }
        let is_column =
            plain.kernel.w == 1 && plain.before.w == 0 && plain.input.w == 1 && plain.output.w == 1;
        if is_column {
            let turn = |size: Size2| Size2::new(size.w, size.h);
            return Self {
                input: turn(plain.input),
                output: turn(plain.output),
                kernel: turn(plain.kernel),
                stride: Size2::new(1, plain.stride.h),
                dilation: Size2::new(1, plain.dilation.h),
                before: turn(plain.before),
                ..plain
            };
        }
        plain
    }

    /// Taps of one channel.
    pub(super) fn taps(&self) -> usize {
        self.kernel.h * self.kernel.w
    }

    /// Number of segments of an output row.
    pub(super) fn segments_of_row(&self) -> usize {
        self.output.w.div_ceil(self.most_pixels)
    }

    /// Number of segments of all rows of all images.
    pub(super) fn segments(&self) -> usize {
        self.images.saturating_mul(self.output.h).saturating_mul(self.segments_of_row())
    }

    fn segment(&self, index: usize) -> Segment {
        let of_row = self.segments_of_row();
        let (row, part) = (index / of_row, index % of_row);
        let xs = part_of(self.output.w, part, of_row);
        Segment { n: row / self.output.h, y: row % self.output.h, xs }
    }

    /// The output columns of the segments of a row.
    pub(super) fn row_segments(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (len, parts) = (self.output.w, self.segments_of_row());
        (0..parts).map(move |part| part_of(len, part, parts))
    }

    /// Segments of one stretch.
    pub(super) fn segments_of_stretch(&self) -> usize {
        let longest = self.output.w.div_ceil(self.segments_of_row());
        (self.most_pixels / longest).clamp(1, MOST_SEGMENTS)
    }

    /// Number of stretches of all images.
    pub(super) fn stretches(&self) -> usize {
        self.segments().div_ceil(self.segments_of_stretch())
    }

    /// The segments of a stretch, at most [`MOST_SEGMENTS`].
    pub(super) fn stretch(&self, index: usize) -> impl Iterator<Item = Segment> + use<> {
        let len = self.segments_of_stretch();
        let first = index * len;
        let windows = *self;
        (first..self.segments().min(first + len)).map(move |index| windows.segment(index))
    }

    /// Number of output pixels of the longest stretch.
    pub(super) fn pixels_of_stretch(&self) -> usize {
        self.output.w.div_ceil(self.segments_of_row()) * self.segments_of_stretch().min(self.segments())
    }

    /// The kernel column or row `tap` of output `at` reads this input column or row, if it is not padding.
    pub(super) fn column(&self, x: usize, tap: usize) -> Option<usize> {
        let column = (x * self.stride.w + tap * self.dilation.w).checked_sub(self.before.w)?;
        (column < self.input.w).then_some(column)
    }

    /// The pixels of a run of `taps` taps from `first` on, for the outputs `xs` of a row, that are inside the image. If the
    /// first is not less than the second, there are none.
    pub(super) fn inside(&self, xs: &Range<usize>, first: usize, taps: usize) -> (usize, usize) {
        let stride = self.stride.w;
        // Pixel `j` of the run is in column `ahead + j * stride - before`.
        let (ahead, before) = (xs.start * stride + first * self.dilation.w, self.before.w);
        let reach = xs.len() + taps - 1;
        let lo = before.saturating_sub(ahead).div_ceil(stride).min(reach);
        let hi = (before + self.input.w).saturating_sub(ahead).div_ceil(stride).min(reach);
        (lo, hi)
    }

    /// Number of output rows whose kernel row `tap` is inside the image.
    pub(super) fn rows_inside(&self, tap: usize) -> usize {
        let ahead = tap * self.dilation.h;
        let first = self.before.h.saturating_sub(ahead).div_ceil(self.stride.h);
        let end = (self.before.h + self.input.h).saturating_sub(ahead).div_ceil(self.stride.h);
        end.min(self.output.h).saturating_sub(first)
    }

    /// Like [`column`](Self::column), for rows.
    pub(super) fn row(&self, y: usize, tap: usize) -> Option<usize> {
        let row = (y * self.stride.h + tap * self.dilation.h).checked_sub(self.before.h)?;
        (row < self.input.h).then_some(row)
    }
}

/// Number of chunks of `stretches` stretches, for `units` units into which the filter can be split and `filter_len`
/// elements.
pub(super) fn chunks_of(stretches: usize, units: usize, filter_len: usize) -> usize {
    let wanted = LEAST_PARTS.div_ceil(units).max(stretches.div_ceil(MOST_STRETCHES));
    let most = MOST_CHUNKS.min(stretches).min((MOST_PARTIAL / filter_len).max(1));
    wanted.min(most)
}

/// Part `part` of `parts` parts of `len` elements. The first parts are one longer if `len` does not divide.
pub(super) fn part_of(len: usize, part: usize, parts: usize) -> Range<usize> {
    let (each, longer) = (len / parts, len % parts);
    let start = part * each + part.min(longer);
    start..start + each + usize::from(part < longer)
}

/// The channels from `first` on that are adjacent in memory or evenly spaced: at most `most`, and at most up to the end
/// of a block.
pub(super) fn channels_of_block(view: &PixelView, channels: &Range<usize>) -> Range<usize> {
    let end = (channels.start / BLOCK + 1) * BLOCK;
    let end = if view.layout == Layout::Nchw16c { end } else { channels.start + BLOCK };
    channels.start..end.min(channels.end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::describe::{Pad2, Shape4};

    fn windows(shape: Shape4, kernel: Size2, pad: usize, stride: usize) -> Windows {
        let desc = ConvDesc::builder(shape, 3, kernel).pad(Pad2::all(pad)).stride(Size2::square(stride));
        Windows::new(&desc.build().unwrap())
    }

    /// Every output pixel is in exactly one segment of one stretch of one chunk.
    #[test]
    fn the_pixels_are_cut_without_gaps() {
        for (shape, kernel, stride) in [
            (Shape4::new(3, 2, 5, 7), 3, 1),
            (Shape4::new(2, 2, 9, 300), 3, 1),
            (Shape4::new(2, 2, 40, 41), 1, 1),
            (Shape4::new(2, 2, 1, 1000), 1, 2),
            (Shape4::new(200, 2, 1, 1), 1, 1),
        ] {
            let windows = windows(shape, Size2::square(kernel), kernel / 2, stride);
            let pixels = windows.images * windows.output.h * windows.output.w;
            for chunks in 1..=windows.stretches().min(5) {
                let mut next = 0;
                let all = windows.stretches();
                for stretch in (0..chunks).flat_map(|chunk| part_of(all, chunk, chunks)) {
                    let mut len = 0;
                    for Segment { n, y, xs } in windows.stretch(stretch) {
                        assert_eq!((n * windows.output.h + y) * windows.output.w + xs.start, next);
                        (next, len) = (next + xs.len(), len + xs.len());
                    }
                    assert!(len > 0 && len <= windows.pixels_of_stretch().min(MOST_PIXELS));
                }
                assert_eq!(next, pixels, "{windows:?}");
            }
        }
    }

    #[test]
    fn rows_inside_are_those_that_are_read() {
        for (height, kernel, pad, stride) in
            [(5, 3, 1, 1), (9, 4, 2, 2), (1, 11, 5, 1), (7, 3, 0, 3), (2, 6, 3, 2)]
        {
            let windows = windows(Shape4::new(1, 2, height, 8), Size2::square(kernel), pad, stride);
            for tap in 0..kernel {
                let read = (0..windows.output.h).filter(|&y| windows.row(y, tap).is_some());
                assert_eq!(windows.rows_inside(tap), read.count(), "{windows:?}, tap {tap}");
            }
        }
    }

    #[test]
    fn maps_become_rows() {
        let row = windows(Shape4::new(2, 2, 7, 9), Size2::square(1), 0, 1);
        assert_eq!((row.output, row.images, row.merged), (Size2::new(1, 63), 2, false));
        let column = windows(Shape4::new(2, 2, 40, 1), Size2::new(5, 1), 0, 3);
        assert_eq!((column.output, column.kernel, column.stride.w), (Size2::new(1, 12), Size2::new(1, 5), 3));
        let pixels = windows(Shape4::new(50, 2, 1, 1), Size2::square(1), 0, 1);
        assert_eq!((pixels.output, pixels.images, pixels.merged), (Size2::new(1, 50), 1, true));
        assert_eq!(windows(Shape4::new(2, 2, 7, 9), Size2::square(1), 0, 2).output, Size2::new(4, 5));
    }
}
