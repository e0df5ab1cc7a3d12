//! [`PaddedRows`]: rows of an image, copied into the workspace with their padding.

use crate::describe::{BLOCK, ConvDesc, Layout, PixelRef};
use crate::tile::copy_table::{CopyTable, Padded};
use std::ops::Range;

/// The form of the copied rows. Rows and pixels are counted from the first row and column of the padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PaddedRows {
    /// Pixels of a row with its padding, and channels.
    pixels: usize,
    channels: usize,
    /// The elements of a pixel, `[row][pixel][channel]`, if they are copied together. Otherwise the rows of the
    /// channels follow each other, `[row][channel][pixel]`.
    pixel: Option<usize>,
}

impl PaddedRows {
    pub(crate) fn new(desc: &ConvDesc) -> Self {
        let between = (desc.output().w - 1).saturating_mul(desc.stride().w);
        let window = (desc.kernel().w - 1).saturating_mul(desc.dilation().w);
        let channels = desc.ins();
        let pixel = match desc.layout() {
            Layout::Nhwc if desc.groups() == 1 => Some(channels),
            Layout::Nchw16c if desc.groups() == 1 && channels <= BLOCK => Some(BLOCK),
            _ => None,
        };
        Self { pixels: between.saturating_add(window).saturating_add(1), channels, pixel }
    }

    /// Pixels of a row with its padding.
    pub(crate) fn pixels(&self) -> usize {
        self.pixels
    }

    /// Elements of a row of all channels.
    pub(crate) fn row_len(&self) -> usize {
        self.pixels.saturating_mul(self.pixel.unwrap_or(self.channels))
    }

    /// Number of pieces of a row that are copied one by one.
    pub(crate) fn lines(&self) -> usize {
        if self.pixel.is_some() { 1 } else { self.channels }
    }

    /// Distances between the channels, and between the pixels.
    pub(crate) fn steps(&self) -> (usize, usize) {
        self.pixel.map_or((self.pixels, 1), |pixel| (1, pixel))
    }

    /// Whether rows of an image in `layout` are copied as they are.
    pub(crate) fn is_plain(&self, layout: Layout) -> bool {
        self.pixel.is_some() || layout == Layout::Nchw
    }

    /// Copies the channels from `channel` on of `rows` of image `n`. Rows in the padding become zeros.
    pub(crate) fn pack(
        &self,
        desc: &ConvDesc,
        copy: &CopyTable,
        input: &PixelRef<'_>,
        (n, channel, rows): (usize, usize, Range<usize>),
        slab: &mut [f32],
    ) {
        let (top, height, len) = (desc.pad().top, desc.input().h, self.row_len());
        let inside = |row: usize| row.clamp(top, top + height) - top;
        let image = inside(rows.start)..inside(rows.end);
        // The rows of padding above come first, unless all rows are below the image.
        let above = if image.is_empty() { rows.len() } else { top.saturating_sub(rows.start) };
        let below = above + image.len();
        slab[..above * len].fill(0.0);
        if !image.is_empty() {
            self.copy(desc, copy, input, (n, channel, image), &mut slab[above * len..]);
        }
        slab[below * len..rows.len() * len].fill(0.0);
    }

    /// Copies rows of the image.
    fn copy(
        &self,
        desc: &ConvDesc,
        copy: &CopyTable,
        input: &PixelRef<'_>,
        (n, channel, rows): (usize, usize, Range<usize>),
        slab: &mut [f32],
    ) {
        let (width, view) = (desc.input().w, &input.view);
        let (left, pixel) = (desc.pad().left, self.steps().1);
        // With gaps between the pixels, the elements of a row are not adjacent.
        if self.is_plain(view.layout) && view.pixel == pixel {
            let data = &input.data[view.offset(n, channel, rows.start * width)..];
            let rows = (rows.len(), width * pixel);
            let planes = (self.lines(), view.plane);
            let (width, before, line) = (width * pixel, left * pixel, self.pixels * pixel);
            return copy.pad(&Padded { data, rows, planes, width, before, line }, slab);
        }
        for (row, line) in rows.zip(slab.chunks_exact_mut(self.row_len())) {
            for i in 0..self.channels {
                let from = &input.data[view.offset(n, channel + i, row * width)..];
                self.gather(from, view.pixel, (left, width), &mut line[i * self.steps().0..]);
            }
        }
    }

    /// Copies a row of one channel to `line`. Pixels of `from` are `apart` elements apart.
    fn gather(&self, from: &[f32], apart: usize, (left, width): (usize, usize), line: &mut [f32]) {
        let mut to = line.iter_mut().step_by(self.steps().1).take(self.pixels);
        to.by_ref().take(left).for_each(|to| *to = 0.0);
        let inside = to.by_ref().take(width).zip(from.iter().step_by(apart));
        inside.for_each(|(to, &from)| *to = from);
        to.for_each(|to| *to = 0.0);
    }
}
