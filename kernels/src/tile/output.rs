//! [`OutputRegion`]: the only type through which several threads write one buffer.
//!
//! A region is a box of the output, `images x channels x pixels`. It is created once from an exclusive borrow
//! of the whole tensor. It splits by value into boxes that share no element. Every requested tile is checked
//! to lie inside its box. Two regions therefore never write the same element, whatever the drivers compute.

use super::measure::{require, span};
use super::target::TileAddress;
use crate::describe::{BLOCK, Layout, PixelView, TensorOut, WIDE_BLOCK};
use crate::work::parts::{Axis, Region};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;

/// A box of the output. Only its owner can write to it.
pub(crate) struct OutputRegion<'a> {
    base: *mut f32,
    view: PixelView,
    pub(crate) images: Range<usize>,
    pub(crate) channels: Range<usize>,
    pub(crate) pixels: Range<usize>,
    /// Whether every part has all images.
    all_images: bool,
    /// Whether tiles are written past the caches where they can be.
    stream: bool,
    borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: a region owns its box (see the module docs), so sending it to another thread sends an exclusive
// borrow.
unsafe impl Send for OutputRegion<'_> {}

impl Region for OutputRegion<'_> {
    fn len(&self, axis: Axis) -> usize {
        self.len(axis)
    }

    fn split(self, axis: Axis, count: usize) -> (Self, Self) {
        self.split(axis, count)
    }
}

/// A tile of the output: `rows` rows of columns `lo..hi`, which can be written, and zeros from `hi` to
/// `zeros`.
pub(crate) struct OutputTile<'a> {
    pub(super) place: TileAddress<*mut f32>,
    pub(super) rows: usize,
    pub(super) lo: usize,
    pub(super) hi: usize,
    /// The end of the zeros. It is at least `hi` if there are lanes past the last channel. Otherwise it is
    /// smaller.
    pub(super) zeros: usize,
    /// Whether it is written past the caches where it can be.
    pub(super) stream: bool,
    borrow: PhantomData<&'a mut [f32]>,
}

impl<'a> OutputTile<'a> {
    /// Columns `valid` of a row-major matrix.
    ///
    /// # Panics
    /// If `c` is too short.
    pub(crate) fn of_matrix_columns(
        c: &'a mut [f32],
        rows: usize,
        columns: usize,
        valid: Range<usize>,
    ) -> Self {
        assert!(rows == 0 || valid.end <= columns);
        require("matrix", span([(rows, columns), (valid.end, 1)]), c.len());
        let place = TileAddress { base: c.as_mut_ptr(), row: columns, block: BLOCK };
        Self { place, rows, lo: valid.start, hi: valid.end, zeros: 0, stream: false, borrow: PhantomData }
    }
}

/// A tile that a kernel changes in place. The tables check it before they call a kernel.
pub(crate) struct InPlace {
    pub(super) base: *mut f32,
    pub(super) rows: usize,
    /// Distance between rows.
    pub(super) row: usize,
    pub(super) columns: usize,
    /// Distance between runs of 16 columns.
    pub(super) block: usize,
}

impl InPlace {
    /// The tile as rows of columns, which are all valid.
    pub(super) fn of(tile: &OutputTile<'_>) -> Self {
        assert!(tile.lo == 0);
        let place = tile.place;
        Self { base: place.base, rows: tile.rows, row: place.row, columns: tile.hi, block: place.block }
    }
}

/// The position of a tile in a view, and its distances. It applies to the output and to the residual.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TileOffset {
    /// The element in row 0 and column 0. That column need not be valid.
    pub(crate) offset: usize,
    pub(crate) row: usize,
    pub(crate) block: usize,
}

impl TileOffset {
    /// Rows are pixels, and columns are channels `channel..`. In Nchw16c, a tile wider than a block begins at
    /// a block.
    pub(crate) fn channels_as_columns(view: &PixelView, n: usize, p: usize, channel: usize) -> Self {
        let block = if view.layout == Layout::Nchw16c { view.plane } else { BLOCK };
        Self { offset: view.offset(n, channel, p), row: view.pixel, block }
    }

    /// Rows are channels, and columns are pixels `p..`.
    pub(crate) fn channels_as_rows(view: &PixelView, n: usize, p: usize, channel: usize) -> Self {
        Self { offset: view.offset(n, channel, p), row: view.plane, block: BLOCK }
    }
}

/// Some rows of a map that is `width` pixels wide, and `pixels` pixels of each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PixelBox {
    pub(crate) first: usize,
    /// At least one.
    pub(crate) rows: usize,
    pub(crate) pixels: usize,
    pub(crate) width: usize,
}

/// Whether columns `lo..hi` of a tile that begins at `channel` are consecutive channels. In Nchw16c, a tile
/// that begins inside a block must end in that block.
fn columns_are_channels(view: &PixelView, channel: usize, hi: usize) -> bool {
    view.channels_last()
        && (view.layout != Layout::Nchw16c || channel.is_multiple_of(BLOCK) || channel % BLOCK + hi <= BLOCK)
}

fn inside(inner: &Range<usize>, outer: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

impl<'a> OutputRegion<'a> {
    /// The whole of `output`. If `merge`, its images are merged. Its memory can be uninitialised.
    pub(crate) fn new(output: impl Into<TensorOut<'a>>, merge: bool) -> Self {
        let output = output.into();
        let view = if merge { output.view().merged() } else { output.view() };
        Self {
            base: output.into_ptr(),
            images: 0..view.images,
            channels: 0..view.channels,
            pixels: 0..view.pixels,
            all_images: false,
            stream: false,
            view,
            borrow: PhantomData,
        }
    }

    /// The whole of `output`, to be cut along channels and pixels only: for sums over all images.
    #[cfg_attr(not(feature = "ops"), allow(dead_code))] // used by `ops` only
    pub(crate) fn of_all_images(output: impl Into<TensorOut<'a>>, merge: bool) -> Self {
        Self { all_images: true, ..Self::new(output, merge) }
    }

    /// The same region. Its tiles are written past the caches if `stream`, as far as their channels are adjacent.
    pub(crate) fn streamed(self, stream: bool) -> Self {
        Self { stream: stream && self.view.channels_last(), ..self }
    }

    /// Whether tiles can be written past the caches. A [`fence`](crate::simd::fence) must then follow.
    pub(crate) fn is_streamed(&self) -> bool {
        self.stream
    }

    /// The memory layout. If images were merged, it is the layout of the merged view.
    pub(crate) fn layout(&self) -> Layout {
        self.view.layout
    }

    /// Number of elements along an axis, as far as it can be cut.
    pub(crate) fn len(&self, axis: Axis) -> usize {
        match axis {
            Axis::Images if self.all_images => 1,
            Axis::Images => self.images.len(),
            Axis::Channels => self.channels.len(),
            Axis::Pixels => self.pixels.len(),
        }
    }

    /// Splits into two regions: the first `count` elements along `axis`, and the rest.
    pub(crate) fn split(self, axis: Axis, count: usize) -> (Self, Self) {
        fn cut(range: &Range<usize>, count: usize) -> (Range<usize>, Range<usize>) {
            let middle = range.start + count.min(range.len());
            (range.start..middle, middle..range.end)
        }
        let whole = |range: &Range<usize>| (range.clone(), range.clone());
        let (mut images, mut channels, mut pixels) =
            (whole(&self.images), whole(&self.channels), whole(&self.pixels));
        match axis {
            Axis::Images => images = cut(&self.images, count),
            Axis::Channels => channels = cut(&self.channels, count),
            Axis::Pixels => pixels = cut(&self.pixels, count),
        }
        let part = |images, channels, pixels| Self { images, channels, pixels, ..self };
        (part(images.0, channels.0, pixels.0), part(images.1, channels.1, pixels.1))
    }

    /// A tile whose rows are pixels `p` of image `n`. Its columns `lo..hi` are channels
    /// `channel + lo..channel + hi`. The tile with the last channel also writes zeros from there to the end
    /// of its block.
    ///
    /// # Panics
    /// If the tile is not inside the region. That is a bug in this library.
    pub(crate) fn channels_as_columns(
        &mut self,
        n: usize,
        p: Range<usize>,
        channel: usize,
        columns: Range<usize>,
    ) -> OutputTile<'_> {
        let (lo, hi) = (columns.start, columns.end);
        assert!(self.images.contains(&n) && inside(&p, &self.pixels) && self.view.are_even(&p));
        // A sum that saturates lies outside every region.
        assert!(inside(&(channel.saturating_add(lo)..channel.saturating_add(hi)), &self.channels));
        assert!(columns_are_channels(&self.view, channel, hi));
        let at = TileOffset::channels_as_columns(&self.view, n, p.start, channel);
        // The lanes past the last channel belong to the region that has the last channel.
        let last = self.view.layout == Layout::Nchw16c && channel + hi == self.view.channels;
        let zeros = if last { (channel + hi).next_multiple_of(BLOCK) - channel } else { 0 };
        OutputTile { zeros, ..self.tile(at, p.len(), lo, hi) }
    }

    /// A tile like that of [`channels_as_columns`](Self::channels_as_columns), of the pixels of a box. Returns also the
    /// distance between the rows of the map, in rows of the tile.
    ///
    /// # Panics
    /// If the box is not inside the region. That is a bug in this library.
    pub(crate) fn box_as_columns(
        &mut self,
        n: usize,
        of: PixelBox,
        channel: usize,
        columns: Range<usize>,
    ) -> (OutputTile<'_>, usize) {
        let PixelBox { first, rows, pixels, width } = of;
        // A product that saturates lies outside every region.
        let last = first.saturating_add((rows - 1).saturating_mul(width));
        assert!(inside(&(last..last.saturating_add(pixels)), &self.pixels));
        let line = match self.view.lines {
            None => width,
            Some(lines) => {
                assert!(lines.width.get() == width && first % width + pixels <= width);
                lines.step
            }
        };
        let tile = self.channels_as_columns(n, first..first + 1, channel, columns);
        (OutputTile { rows: (rows - 1) * line + pixels, ..tile }, line)
    }

    /// The most pixels from the beginning of a row on that are evenly spaced.
    pub(crate) fn even_pixels(&self) -> usize {
        self.view.lines.map_or(usize::MAX, |lines| lines.width.get())
    }

    /// The most rows of `width` pixels whose pixels are evenly spaced, at most `most`.
    pub(crate) fn even_rows(&self, width: usize, most: usize) -> usize {
        most.min(self.even_pixels() / width)
    }

    /// A tile like that of [`channels_as_columns`](Self::channels_as_columns), of `count` pixels `first`, `first + step`, ...
    /// of image `n` and `columns` channels.
    ///
    /// # Panics
    /// If the tile is not inside the region. That is a bug in this library.
    pub(crate) fn pixels_apart(
        &mut self,
        n: usize,
        (first, step, count): (usize, usize, usize),
        channel: usize,
        columns: usize,
    ) -> OutputTile<'_> {
        // A product that saturates lies outside every region.
        let end = first.saturating_add(count.saturating_sub(1).saturating_mul(step)).saturating_add(1);
        assert!(count > 0 && step > 0 && inside(&(first..end), &self.pixels));
        assert!(self.view.lines.is_none());
        let first = self.channels_as_columns(n, first..first + 1, channel, 0..columns);
        let place = TileAddress { row: step * first.place.row, ..first.place };
        OutputTile { place, rows: count, ..first }
    }

    /// A tile whose rows are channels, and whose columns are pixels `p` of image `n`.
    ///
    /// # Panics
    /// If the tile is not inside the region. That is a bug in this library.
    pub(crate) fn channels_as_rows(
        &mut self,
        n: usize,
        channels: Range<usize>,
        p: Range<usize>,
    ) -> OutputTile<'_> {
        assert!(self.images.contains(&n) && inside(&p, &self.pixels) && self.view.are_even(&p));
        assert!(inside(&channels, &self.channels) && !self.view.channels_last());
        let at = TileOffset::channels_as_rows(&self.view, n, p.start, channels.start);
        self.tile(at, channels.len(), 0, p.len())
    }

    /// A tile of bf16 numbers in [`Layout::Nchw32cBf16`]: the 32 channels from `channel` on of pixels `p` of image
    /// `n`. Its rows are pixels, and its columns 16 elements of two numbers each.
    ///
    /// # Panics
    /// If the tile is not inside the region. That is a bug in this library.
    pub(crate) fn words(&mut self, n: usize, p: Range<usize>, channel: usize) -> OutputTile<'_> {
        assert!(self.view.layout == Layout::Nchw32cBf16 && channel.is_multiple_of(WIDE_BLOCK));
        assert!(self.images.contains(&n) && inside(&p, &self.pixels) && self.view.are_even(&p));
        assert!(inside(&(channel..channel.saturating_add(WIDE_BLOCK)), &self.channels));
        let at =
            TileOffset { offset: self.view.offset(n, channel, p.start), row: self.view.pixel, block: BLOCK };
        self.tile(at, p.len(), 0, WIDE_BLOCK / 2)
    }

    fn tile(&mut self, at: TileOffset, rows: usize, lo: usize, hi: usize) -> OutputTile<'_> {
        let place = TileAddress { base: self.base.wrapping_add(at.offset), row: at.row, block: at.block };
        OutputTile { place, rows, lo, hi, zeros: 0, stream: self.stream, borrow: PhantomData }
    }

    /// Writes one element.
    ///
    /// # Panics
    /// If the element is not inside the region. That is a bug in this library.
    pub(crate) fn put(&mut self, n: usize, c: usize, p: usize, value: f32) {
        assert!(self.images.contains(&n) && self.channels.contains(&c) && self.pixels.contains(&p));
        // SAFETY: the element lies in the box of this region, and the view was checked against the length of
        // the buffer.
        unsafe { *self.base.add(self.view.offset(n, c, p)) = value };
    }

    /// `len` adjacent elements, from channel `c` (NHWC, Nchw16c) or pixel `p` (NCHW) on.
    ///
    /// # Panics
    /// If they are not inside the region. That is a bug in this library.
    pub(crate) fn run_mut(&mut self, n: usize, c: usize, p: usize, len: usize) -> &mut [MaybeUninit<f32>] {
        assert!(self.images.contains(&n) && self.channels.contains(&c) && self.pixels.contains(&p));
        let last = match self.view.layout {
            Layout::Nchw => p.saturating_add(len) <= self.pixels.end && self.view.lines.is_none(),
            Layout::Nhwc => c.saturating_add(len) <= self.channels.end,
            // The lanes past the last channel belong to the region that has the last channel.
            // Such a tensor is written in whole rows (`words`).
            Layout::Nchw32cBf16 => false,
            Layout::Nchw16c => {
                len <= BLOCK - c % BLOCK
                    && (c + len <= self.channels.end || self.channels.end == self.view.channels)
            }
        };
        assert!(last);
        // SAFETY: the elements are adjacent. They lie in the box of this region, or are padding lanes that no
        // other region has. The view was checked against the length of the buffer. The result borrows `self`
        // for as long as it lives.
        unsafe { std::slice::from_raw_parts_mut(self.base.add(self.view.offset(n, c, p)).cast(), len) }
    }

    /// Writes zeros to the lanes of Nchw16c past the last channel, if this region has that channel.
    pub(crate) fn zero_padding_lanes(&mut self) {
        let channels = self.view.channels;
        let used = channels % BLOCK;
        if self.view.layout != Layout::Nchw16c || used == 0 || self.channels.end != channels {
            return;
        }
        if self.channels.is_empty() {
            return;
        }
        for n in self.images.clone() {
            for p in self.pixels.clone() {
                let lanes = self.run_mut(n, channels - 1, p, BLOCK - used + 1);
                lanes[1..].fill(MaybeUninit::new(0.0));
            }
        }
    }
}
