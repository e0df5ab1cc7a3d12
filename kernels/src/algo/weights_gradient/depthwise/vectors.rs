//! [`Vector`]: the pixels of a box for one vector of channels, in place or copied.

use super::{DepthwiseGradient, OutputPixels};
use crate::describe::{Layout, PixelRef, Size2};
use crate::tile::copy_table::{CopyTable, InputTile};
use crate::tile::output::OutputTile;
use crate::tile::taps_table::BoxPixels;
use std::ops::Range;

/// The pixels of one vector of channels in one tensor. They begin at pixel `(first.h, first.w)` of image `image`.
pub(super) struct Vector<'a> {
    pub(super) pixels: BoxPixels<'a>,
    image: usize,
    first: Size2,
}

impl<'a> Vector<'a> {
    /// The pixels from pixel `(y, x)` of image `n` on, with these distances between rows and pixels.
    pub(super) fn from(&self, (n, y, x): (usize, usize, usize), stride: Size2) -> BoxPixels<'a> {
        let [image, row, pixel] = self.pixels.steps;
        let at = (n - self.image) * image + (y - self.first.h) * row + (x - self.first.w) * pixel;
        let steps = [image, stride.h * row, stride.w * pixel];
        BoxPixels { data: &self.pixels.data[at..], steps, ..self.pixels }
    }
}

/// A box of output pixels of the vector of channels that begins at this one.
pub(super) type Place<'a> = (&'a OutputPixels, usize);

/// One of the tensors.
pub(super) struct Map<'t> {
    pub(super) tensor: PixelRef<'t>,
    /// Pixels of a row.
    pub(super) width: usize,
    /// The distances between the pixels that neighbouring outputs read.
    pub(super) stride: Size2,
    pub(super) copies: &'static CopyTable,
}

impl<'t> Map<'t> {
    /// The distance from the pixels of one place to those of the next one. It wraps around.
    pub(super) fn distance(&self, [from, to]: [Place<'_>; 2]) -> usize {
        let Self { tensor: PixelRef { view, .. }, width, stride, .. } = self;
        let at = |(pixels, channel): Place<'_>| {
            let pixel = pixels.ys.start * stride.h * width + pixels.xs.start * stride.w;
            view.offset(pixels.images.start, channel, 0).wrapping_add(pixel * view.pixel)
        };
        at(to).wrapping_sub(at(from))
    }

    /// The vector that begins at channel `channel`, where it is in memory.
    fn in_place(&self, channel: usize) -> Vector<'t> {
        let Self { tensor: PixelRef { view, data }, width, .. } = *self;
        let steps = [view.image, width * view.pixel, view.pixel];
        let pixels = BoxPixels { data: &data[view.offset(0, channel, 0)..], steps, ahead: 0 };
        Vector { pixels, image: 0, first: Size2::square(0) }
    }
}

impl DepthwiseGradient {
    /// Whether a vector of channels `channels` is whole in `layout`.
    fn is_whole(&self, layout: Layout, channels: &Range<usize>) -> bool {
        layout == Layout::Nchw16c || layout == Layout::Nhwc && channels.len() == self.tile.lanes
    }

    /// The gradients of one vector of channels.
    pub(super) fn gradients<'a>(
        &self,
        map: &Map<'a>,
        pixels: &OutputPixels,
        channels: &Range<usize>,
        to: &'a mut [f32],
    ) -> Vector<'a> {
        self.vector(map, (&pixels.images, &pixels.ys, &pixels.xs), channels, to)
    }

    /// The pixels of the image for one vector of output channels.
    pub(super) fn pixels<'a>(
        &self,
        map: &Map<'a>,
        pixels: &OutputPixels,
        channels: &Range<usize>,
        to: &'a mut [f32],
    ) -> Vector<'a> {
        let [y, x] = &self.axes;
        let (ys, xs) = (y.inputs(&pixels.ys), x.inputs(&pixels.xs));
        let copied = (&pixels.images, &ys, &xs);
        if self.outs == 1 {
            return self.vector(map, copied, channels, to);
        }
        let view = &map.tensor.view;
        let vector = self.copied(copied);
        let lanes = self.tile.lanes;
        for (index, (n, y, x)) in each(copied).enumerate() {
            for (lane, o) in channels.clone().enumerate() {
                let at = view.offset(n, o / self.outs, y * map.width + x);
                to[index * lanes + lane] = map.tensor.data[at];
            }
        }
        Vector { pixels: BoxPixels { data: to, ..vector.pixels }, ..vector }
    }

    /// The pixels of a box for the channels `channels` of the tensor: in place if these are whole vectors, and copied otherwise.
    fn vector<'a>(
        &self,
        map: &Map<'a>,
        copied: Copied<'_>,
        channels: &Range<usize>,
        to: &'a mut [f32],
    ) -> Vector<'a> {
        match self.is_whole(map.tensor.view.layout, channels) {
            true => map.in_place(channels.start),
            false => self.copy(map, copied, channels, to),
        }
    }

    /// Copies some channels of a box of pixels.
    fn copy<'a>(
        &self,
        Map { tensor, width, copies, .. }: &Map<'_>,
        copied: Copied<'_>,
        channels: &Range<usize>,
        to: &'a mut [f32],
    ) -> Vector<'a> {
        let lanes = self.tile.lanes;
        let (images, ys, xs) = copied;
        let mut row = 0;
        for n in images.clone() {
            for y in ys.clone() {
                let out =
                    OutputTile::of_matrix_columns(&mut to[row * lanes..], xs.len(), lanes, 0..channels.len());
                let tile = InputTile::new(tensor, n, channels.start, y * width + xs.start);
                copies.copy(tile, tensor.view.layout == Layout::Nchw, out);
                row += xs.len();
            }
        }
        let vector = self.copied(copied);
        Vector { pixels: BoxPixels { data: to, ..vector.pixels }, ..vector }
    }

    /// The place of copied pixels, without their data.
    fn copied(&self, (images, ys, xs): Copied<'_>) -> Vector<'static> {
        let lanes = self.tile.lanes;
        let row = xs.len() * lanes;
        Vector {
            pixels: BoxPixels { data: &[], steps: [ys.len() * row, row, lanes], ahead: 0 },
            image: images.start,
            first: Size2::new(ys.start, xs.start),
        }
    }
}

/// Images, rows and columns that are copied.
type Copied<'a> = (&'a Range<usize>, &'a Range<usize>, &'a Range<usize>);

/// Every pixel of a box.
fn each((images, ys, xs): Copied<'_>) -> impl Iterator<Item = (usize, usize, usize)> {
    images.clone().flat_map(move |n| ys.clone().flat_map(move |y| xs.clone().map(move |x| (n, y, x))))
}
