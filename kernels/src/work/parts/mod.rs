//! Cutting a box of the output into one part per thread. `run` cuts with these functions, and the cost model
//! counts the largest part with them.

mod strips;
#[cfg(test)]
mod tests;

use crate::describe::ConvDesc;
use std::ops::Range;
use strips::{Strips, best_strips};

/// Maximum number of parts that the cost model visits one by one. A plan can be made for any number of threads.
const MOST_VISITED: usize = 1024;

/// An axis along which a region is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Axis {
    Images,
    Channels,
    Pixels,
}

/// A box that can be cut in two along an axis.
pub(crate) trait Region: Sized {
    /// Number of elements along an axis.
    fn len(&self, axis: Axis) -> usize;

    /// Splits into two regions: the first `count` elements along `axis`, and the rest.
    fn split(self, axis: Axis, count: usize) -> (Self, Self);
}

/// The granularity at which a box can be cut among threads without splitting tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SplitUnits {
    /// Pixels per tile.
    pub(crate) pixels: usize,
    /// Channels per panel.
    pub(crate) channels: usize,
    /// A part with fewer pixels than this takes as long as one with this number.
    pub(crate) few_pixels: usize,
    /// Whether to cut channels before pixels, so that parts share the image: for problems with more weights
    /// than image.
    pub(crate) channels_first: bool,
}

impl SplitUnits {
    /// Cuts pixels before channels, so that parts share the weights.
    pub(crate) const fn new(pixels: usize, channels: usize) -> Self {
        Self { pixels, channels, few_pixels: 1, channels_first: false }
    }

    /// The axes in the order in which they are preferred, with their units: whole images, then the axis whose
    /// parts share more memory.
    fn axes(&self) -> [(Axis, usize); 3] {
        let (pixels, channels) = ((Axis::Pixels, self.pixels), (Axis::Channels, self.channels));
        let (first, second) = if self.channels_first { (channels, pixels) } else { (pixels, channels) };
        [(Axis::Images, 1), first, second]
    }

    /// Units along `axis` that take as long as one unit.
    fn few(&self, axis: Axis) -> usize {
        if axis == Axis::Pixels { self.few_pixels.div_ceil(self.pixels) } else { 1 }
    }
}

/// How a box is shared among threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sharing {
    threads: usize,
    /// The strips that the box is to be cut into, if that is decided.
    strips: Option<Strips>,
}

/// Where a box is cut in two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) axis: Axis,
    /// Elements of the first box along `axis`.
    pub(crate) count: usize,
    pub(crate) first: Sharing,
    pub(crate) second: Sharing,
}

impl Sharing {
    /// Shares a box among `threads` threads.
    pub(crate) fn among(threads: usize) -> Self {
        Self { threads, strips: None }
    }

    /// Number of threads that share the box.
    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// Where a box is cut in two. `len` returns its length along an axis. Returns `None` if the box is the part of
    /// one thread, or cannot be cut.
    pub(crate) fn cut(&self, split_units: &SplitUnits, len: impl Fn(Axis) -> usize) -> Option<Cut> {
        if self.threads < 2 {
            return None;
        }
        let decided = self.strips.filter(|strips| len(strips.axis) > strips.unit);
        let strips = decided.or_else(|| best_strips(split_units, self.threads, &len))?;
        Some(strips.halves(len(strips.axis)))
    }
}

/// A box of the output, without its memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputBox {
    /// The images.
    pub images: Range<usize>,
    /// The output channels.
    pub channels: Range<usize>,
    /// The pixels, row by row. If images are merged, the pixels of all images.
    pub pixels: Range<usize>,
}

impl OutputBox {
    /// The whole output. If `merged`, all images form one row of pixels.
    pub(crate) fn whole(desc: &ConvDesc, merged: bool) -> Self {
        let output = desc.output();
        let pixels = output.h * output.w;
        let (images, pixels) = if merged { (1, output.n * pixels) } else { (output.n, pixels) };
        Self { images: 0..images, channels: 0..output.c, pixels: 0..pixels }
    }

    /// Number of outputs.
    pub fn size(&self) -> usize {
        self.images.len().saturating_mul(self.channels.len()).saturating_mul(self.pixels.len())
    }

    fn axis(&mut self, axis: Axis) -> &mut Range<usize> {
        match axis {
            Axis::Images => &mut self.images,
            Axis::Channels => &mut self.channels,
            Axis::Pixels => &mut self.pixels,
        }
    }

    /// Splits into the first `count` elements along `axis`, and the rest.
    fn split(mut self, axis: Axis, count: usize) -> (Self, Self) {
        let mut first = self.clone();
        let Range { start, end } = *self.axis(axis);
        let middle = start.saturating_add(count).min(end);
        *first.axis(axis) = start..middle;
        *self.axis(axis) = middle..end;
        (first, self)
    }

    fn len(&self, axis: Axis) -> usize {
        match axis {
            Axis::Images => self.images.len(),
            Axis::Channels => self.channels.len(),
            Axis::Pixels => self.pixels.len(),
        }
    }

    /// Calls `each` with the part of each thread that shares this box, cut as `run` cuts it.
    pub(crate) fn each_part(self, sharing: Sharing, split_units: &SplitUnits, each: &mut impl FnMut(Self)) {
        let Some(cut) = sharing.cut(split_units, |axis| self.len(axis)) else {
            return each(self);
        };
        let (first, second) = self.split(cut.axis, cut.count);
        first.each_part(cut.first, split_units, each);
        second.each_part(cut.second, split_units, each);
    }

    /// The largest part of `threads` threads, at most [`MOST_VISITED`].
    pub(crate) fn largest_part(self, split_units: &SplitUnits, threads: usize) -> Self {
        let mut largest: Option<Self> = None;
        self.clone().each_part(Sharing::among(threads.min(MOST_VISITED)), split_units, &mut |part| {
            if largest.as_ref().is_none_or(|largest| largest.size() < part.size()) {
                largest = Some(part);
            }
        });
        largest.unwrap_or(self)
    }
}
