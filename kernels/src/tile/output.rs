//! [`OutputRegion`]: the only type through which several threads write one buffer.
//!
//! A region is a box of the output, `images x channels x pixels`. It is made once from an exclusive borrow of
//! the whole tensor, and splits by value into boxes that share no element. Every tile that is asked of it is
//! checked to lie inside its box; so writes of two regions never meet, whatever the drivers compute.

use super::measure::{require, span};
use super::store::TileAddress;
use crate::describe::{BLOCK, Layout, PixelView, TensorOut};
use crate::work::parts::Axis;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;

/// A box of the output that its owner alone may write.
pub(crate) struct OutputRegion<'a> {
    base: *mut f32,
    view: PixelView,
    pub(crate) images: Range<usize>,
    pub(crate) channels: Range<usize>,
    pub(crate) pixels: Range<usize>,
    borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: a region owns its box (see the module), so moving it to another thread moves an exclusive borrow.
unsafe impl Send for OutputRegion<'_> {}

/// A tile of the output that may be written: `rows` rows of columns `lo..hi`, and zeros from there to `zeros`.
pub(crate) struct OutputTile<'a> {
    pub(super) place: TileAddress<*mut f32>,
    pub(super) rows: usize,
    pub(super) lo: usize,
    pub(super) hi: usize,
    /// At least `hi` where there are lanes past the last channel; else anything less.
    pub(super) zeros: usize,
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
        Self { place, rows, lo: valid.start, hi: valid.end, zeros: 0, borrow: PhantomData }
    }
}

/// A tile to be changed in place. The tables check it before they call a kernel.
pub(crate) struct InPlace {
    pub(super) base: *mut f32,
    pub(super) rows: usize,
    /// From one row to the next.
    pub(super) row: usize,
    pub(super) columns: usize,
    /// From one run of 16 columns to the next.
    pub(super) block: usize,
}

impl InPlace {
    /// The tile as rows of columns, all of them valid.
    pub(super) fn of(tile: &OutputTile<'_>) -> Self {
        assert!(tile.lo == 0);
        let place = tile.place;
        Self { base: place.base, rows: tile.rows, row: place.row, columns: tile.hi, block: place.block }
    }
}

/// Where a tile begins in a view, and how it goes on; the same for output and residual.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TileOffset {
    /// The element of row 0 and column 0, which need not be a valid column.
    pub(crate) offset: usize,
    pub(crate) row: usize,
    pub(crate) block: usize,
}

impl TileOffset {
    /// Pixels are rows, channels `channel..` are columns. In Nchw16c a tile wider than a block begins at one.
    pub(crate) fn channels_as_columns(view: &PixelView, n: usize, p: usize, channel: usize) -> Self {
        let block = if view.layout == Layout::Nchw16c { view.plane } else { BLOCK };
        Self { offset: view.offset(n, channel, p), row: view.pixel, block }
    }

    /// Channels are rows, pixels `p..` are columns.
    pub(crate) fn channels_as_rows(view: &PixelView, n: usize, p: usize, channel: usize) -> Self {
        Self { offset: view.offset(n, channel, p), row: view.plane, block: BLOCK }
    }
}

/// Whether columns `lo..hi` of a tile that begins at `channel` are the channels they seem to be: in Nchw16c a
/// tile that begins inside a block must end in it.
fn columns_are_channels(view: &PixelView, channel: usize, hi: usize) -> bool {
    view.channels_last()
        && (view.layout != Layout::Nchw16c || channel.is_multiple_of(BLOCK) || channel % BLOCK + hi <= BLOCK)
}

fn inside(inner: &Range<usize>, outer: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

impl<'a> OutputRegion<'a> {
    /// The whole of `output`, with its images merged or not. Its memory may be uninitialised.
    pub(crate) fn new(output: impl Into<TensorOut<'a>>, merge: bool) -> Self {
        let output = output.into();
        let view = if merge { output.view().merged() } else { output.view() };
        Self {
            base: output.into_ptr(),
            images: 0..view.images,
            channels: 0..view.channels,
            pixels: 0..view.pixels,
            view,
            borrow: PhantomData,
        }
    }

    /// The memory order; that of the merged view if the images were merged.
    #[cfg_attr(not(feature = "ops"), allow(dead_code))] // the other layers use it
    pub(crate) fn layout(&self) -> Layout {
        self.view.layout
    }

    /// Elements along an axis.
    pub(crate) fn len(&self, axis: Axis) -> usize {
        match axis {
            Axis::Images => self.images.len(),
            Axis::Channels => self.channels.len(),
            Axis::Pixels => self.pixels.len(),
        }
    }

    /// Two regions: the first `count` elements along `axis`, and the rest.
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

    /// Rows are pixels `p..p + rows` of image `n`, columns `lo..hi` are channels `channel + lo..channel + hi`; what writes
    /// the last channel writes zeros after it, to the end of its block.
    ///
    /// # Panics
    /// If the tile is not inside the region: a defect of this library.
    pub(crate) fn channels_as_columns(
        &mut self,
        n: usize,
        p: Range<usize>,
        channel: usize,
        columns: Range<usize>,
    ) -> OutputTile<'_> {
        let (lo, hi) = (columns.start, columns.end);
        assert!(self.images.contains(&n) && inside(&p, &self.pixels));
        // A sum that saturates is inside of no region.
        assert!(inside(&(channel.saturating_add(lo)..channel.saturating_add(hi)), &self.channels));
        assert!(columns_are_channels(&self.view, channel, hi));
        let at = TileOffset::channels_as_columns(&self.view, n, p.start, channel);
        // The lanes past the last channel belong to whoever has the last channel.
        let last = self.view.layout == Layout::Nchw16c && channel + hi == self.view.channels;
        let zeros = if last { (channel + hi).next_multiple_of(BLOCK) - channel } else { 0 };
        OutputTile { zeros, ..self.tile(at, p.len(), lo, hi) }
    }

    /// Rows are channels, columns are pixels `p.start..p.end` of image `n`.
    ///
    /// # Panics
    /// If the tile is not inside the region: a defect of this library.
    pub(crate) fn channels_as_rows(
        &mut self,
        n: usize,
        channels: Range<usize>,
        p: Range<usize>,
    ) -> OutputTile<'_> {
        assert!(self.images.contains(&n) && inside(&p, &self.pixels));
        assert!(inside(&channels, &self.channels) && !self.view.channels_last());
        let at = TileOffset::channels_as_rows(&self.view, n, p.start, channels.start);
        self.tile(at, channels.len(), 0, p.len())
    }

    fn tile(&mut self, at: TileOffset, rows: usize, lo: usize, hi: usize) -> OutputTile<'_> {
        let place = TileAddress { base: self.base.wrapping_add(at.offset), row: at.row, block: at.block };
        OutputTile { place, rows, lo, hi, zeros: 0, borrow: PhantomData }
    }

    /// Writes one element.
    ///
    /// # Panics
    /// If it is not inside the region: a defect of this library.
    pub(crate) fn put(&mut self, n: usize, c: usize, p: usize, value: f32) {
        assert!(self.images.contains(&n) && self.channels.contains(&c) && self.pixels.contains(&p));
        // SAFETY: the element is in this region's box, inside the buffer that the view was checked against.
        unsafe { *self.base.add(self.view.offset(n, c, p)) = value };
    }

    /// `len` neighbouring elements, from channel `c` (NHWC, Nchw16c) or pixel `p` (NCHW) on.
    ///
    /// # Panics
    /// If they are not inside the region: a defect of this library.
    pub(crate) fn run_mut(&mut self, n: usize, c: usize, p: usize, len: usize) -> &mut [MaybeUninit<f32>] {
        assert!(self.images.contains(&n) && self.channels.contains(&c) && self.pixels.contains(&p));
        let last = match self.view.layout {
            Layout::Nchw => p.saturating_add(len) <= self.pixels.end,
            Layout::Nhwc => c.saturating_add(len) <= self.channels.end,
            // The lanes past the last channel belong to whoever has the last channel.
            Layout::Nchw16c => {
                len <= BLOCK - c % BLOCK
                    && (c + len <= self.channels.end || self.channels.end == self.view.channels)
            }
        };
        assert!(last);
        // SAFETY: the elements are neighbours, in this region's box (or are padding lanes that no other region
        // has), inside the buffer that the view was checked against; `self` is borrowed as long as they are.
        unsafe { std::slice::from_raw_parts_mut(self.base.add(self.view.offset(n, c, p)).cast(), len) }
    }

    /// Writes zero to the lanes of Nchw16c past the last channel, if this region has that channel.
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
