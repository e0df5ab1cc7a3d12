//! The gradient of a filter whose groups have one input channel. Vectors are channels.
//!
//! ```text
//! for chunk, block of channels:
//!     for box of output pixels:                       // some hundred pixels, whose sums stay in registers
//!         for vector of channels:
//!             copy its pixels, unless they are whole vectors already
//!             for part of the box where the same taps are inside the image:
//!                 for batch of these taps: sums[taps] += box
//! ```

use super::edges::{Axis, Inside};
use super::windows::{Windows, part_of};
use super::{GradientRegion, WeightsGradient, WeightsOperands, sums};
use crate::describe::{BLOCK, ConvDesc, Layout, PixelRef, Size2};
use crate::memory::split_memory;
use crate::tile::copy_table::InputTile;
use crate::tile::output::OutputTile;
use crate::tile::shape::even_piece;
use crate::tile::taps_table::{BoxPixels, BoxSums, BoxTaps, DepthwiseTapsTile};
use std::ops::Range;

/// Maximum number of output pixels of a box.
const MOST_PIXELS: usize = 512;
/// Sums of a block of channels, unless one vector has more.
const MOST_SUMS: usize = 32 << 10;

pub(super) struct DepthwiseGradient {
    pub(super) tile: &'static DepthwiseTapsTile,
    /// Output channels per group.
    outs: usize,
    /// Whether vectors of channels are adjacent in both tensors, except for the last one in NHWC.
    in_place: bool,
    /// Images, rows and columns of the largest box.
    most: [usize; 3],
    /// Vectors of a block of channels.
    vectors: usize,
}

/// What the gradient of one vector of channels computes, without padding.
#[derive(Debug, Clone, Copy)]
pub(super) struct DepthwiseWork {
    /// Multiply-adds of vectors.
    pub(super) products: f64,
    pub(super) calls: f64,
    pub(super) boxes: f64,
    /// Pixels of the image that all boxes read.
    pub(super) inputs: f64,
}

/// A box of output pixels.
#[derive(Debug, Clone, PartialEq, Eq)]
struct OutputPixels {
    images: Range<usize>,
    ys: Range<usize>,
    xs: Range<usize>,
}

/// The pixels of one vector of channels in one tensor. They begin at pixel `(first.h, first.w)` of image `image`.
struct Vector<'a> {
    pixels: BoxPixels<'a>,
    image: usize,
    first: Size2,
}

impl<'a> Vector<'a> {
    /// The pixels from pixel `(y, x)` of image `n` on, with these distances between rows and pixels.
    fn from(&self, (n, y, x): (usize, usize, usize), stride: Size2) -> BoxPixels<'a> {
        let [image, row, pixel] = self.pixels.steps;
        let at = (n - self.image) * image + (y - self.first.h) * row + (x - self.first.w) * pixel;
        BoxPixels { data: &self.pixels.data[at..], steps: [image, stride.h * row, stride.w * pixel] }
    }
}

impl DepthwiseGradient {
    pub(super) fn new(desc: &ConvDesc, windows: &Windows, tile: &'static DepthwiseTapsTile) -> Self {
        let Size2 { h, w } = windows.output;
        let columns = even_piece(w, MOST_PIXELS);
        let rows = if columns < w { 1 } else { even_piece(h, (MOST_PIXELS / w).max(1)) };
        let images =
            if rows < h || columns < w { 1 } else { (MOST_PIXELS / (h * w)).clamp(1, windows.images) };
        let vectors = (MOST_SUMS / (windows.taps() + 1) / tile.lanes).max(1);
        let layouts = [desc.layout(), desc.output_layout()];
        let in_place = desc.outs() == 1 && !layouts.contains(&Layout::Nchw);
        // Blocks of channels are read plane by plane, as prefetchers expect.
        let are_planes = desc.outs() == 1 && layouts == [Layout::Nchw16c; 2];
        let vectors = if are_planes { 1 } else { vectors.min(desc.output().c.div_ceil(tile.lanes)) };
        Self { tile, outs: desc.outs(), in_place, most: [images, rows, columns], vectors }
    }

    /// Whether tensors are read where they are.
    pub(super) fn is_in_place(&self) -> bool {
        self.in_place
    }

    /// Number of boxes of each axis.
    fn counts(&self, windows: &Windows) -> [usize; 3] {
        let extents = [windows.images, windows.output.h, windows.output.w];
        std::array::from_fn(|axis| extents[axis].div_ceil(self.most[axis]))
    }

    /// Number of boxes.
    pub(super) fn boxes(&self, windows: &Windows) -> usize {
        self.counts(windows).iter().product()
    }

    fn box_of(&self, windows: &Windows, index: usize) -> OutputPixels {
        let [_, rows, columns] = self.counts(windows);
        let images = index / columns / rows * self.most[0];
        OutputPixels {
            images: images..windows.images.min(images + self.most[0]),
            ys: part_of(windows.output.h, index / columns % rows, rows),
            xs: part_of(windows.output.w, index % columns, columns),
        }
    }

    /// Adds up what one vector of channels computes.
    pub(super) fn work(&self, windows: &Windows) -> DepthwiseWork {
        let ([y, x], most) = (Axis::of(windows), self.tile.most());
        let [images, rows, columns] = self.counts(windows);
        let along = |axis: Axis, len: usize, boxes: usize, most: usize| {
            let mut sums = [0.0; 3];
            for outputs in (0..boxes).map(|index| part_of(len, index, boxes)) {
                sums[2] += axis.inputs(&outputs).len() as f64;
                for inside in axis.cut(outputs) {
                    sums[0] += (inside.outputs.len() * inside.taps.len()) as f64;
                    sums[1] += inside.taps.len().div_ceil(most) as f64;
                }
            }
            sums
        };
        let of_rows = along(y, windows.output.h, rows, most[0]);
        let of_columns = along(x, windows.output.w, columns, most[1]);
        let all = windows.images as f64;
        DepthwiseWork {
            products: all * of_rows[0] * of_columns[0],
            calls: images as f64 * of_rows[1] * of_columns[1],
            boxes: (images * rows * columns) as f64,
            inputs: all * of_rows[2] * of_columns[2],
        }
    }

    /// Elements of the parts of the slab: sums, sums of the bias, gradients and pixels.
    fn lens(&self, windows: &Windows) -> [usize; 4] {
        let (lanes, [images, rows, columns]) = (self.tile.lanes, self.most);
        let [y, x] = Axis::of(windows);
        let inputs = y.most_inputs(rows) * x.most_inputs(columns);
        let of_vectors = self.vectors * lanes;
        [
            of_vectors * windows.taps(),
            of_vectors,
            images * rows * columns * lanes,
            images.saturating_mul(inputs).saturating_mul(lanes),
        ]
    }

    pub(super) fn workspace_len(&self, windows: &Windows) -> usize {
        self.lens(windows).iter().fold(0, |all, len| all.saturating_add(*len))
    }

    pub(super) fn run(
        &self,
        gradient: &WeightsGradient,
        operands: &WeightsOperands<'_>,
        region: &mut GradientRegion<'_>,
        slab: &mut [f32],
    ) {
        let windows = &gradient.windows;
        let (taps, lanes) = (windows.taps(), self.tile.lanes);
        let ([sums, bias, gradients, pixels], _) = split_memory(slab, self.lens(windows), 1);
        let channels = region.filter.channels.clone();
        for chunk in region.filter.images.clone() {
            for block in channels.clone().step_by(self.vectors * lanes) {
                let block = block..channels.end.min(block + self.vectors * lanes);
                sums.fill(0.0);
                bias.fill(0.0);
                for index in gradient.stretches_of(chunk) {
                    let pixels_of = self.box_of(windows, index);
                    for (v, o) in block.clone().step_by(lanes).enumerate() {
                        let channels = o..block.end.min(o + lanes);
                        let go = self.gradients(gradient, operands, &pixels_of, &channels, gradients);
                        let x = self.pixels(gradient, operands, &pixels_of, &channels, pixels);
                        let of_vector = BoxSums {
                            taps: &mut sums[v * taps * lanes..][..taps * lanes],
                            row: windows.kernel.w * lanes,
                            bias: region.bias.is_some().then_some(&mut bias[v * lanes..]),
                        };
                        self.sum(windows, &pixels_of, (&go, &x), of_vector);
                    }
                }
                for (v, o) in block.clone().step_by(lanes).enumerate() {
                    let (channels, of_vector) = (o..block.end.min(o + lanes), &sums[v * taps * lanes..]);
                    sums::write(
                        gradient.kernels,
                        (of_vector, lanes),
                        &mut region.filter,
                        chunk,
                        channels,
                        0..taps,
                    );
                }
                sums::write_bias(region, chunk, block, bias);
            }
        }
    }

    /// Adds the products of one vector of a box.
    fn sum(
        &self,
        windows: &Windows,
        pixels: &OutputPixels,
        (go, x): (&Vector<'_>, &Vector<'_>),
        mut sums: BoxSums<'_>,
    ) {
        let ([y_axis, x_axis], lanes) = (Axis::of(windows), self.tile.lanes);
        let (most, n) = (self.tile.most(), pixels.images.start);
        let [_, row, pixel] = x.pixels.steps;
        let steps = [windows.dilation.h * row, windows.dilation.w * pixel];
        // The longest part of the rows reads memory in order. The others, which take a pixel here and there, then find it in
        // the caches.
        let columns = || x_axis.cut(pixels.xs.clone());
        let longest = columns().map(|columns| columns.outputs.len()).max();
        let is_longest = |columns: &Inside| Some(columns.outputs.len()) == longest;
        for rows in y_axis.cut(pixels.ys.clone()) {
            for columns in columns().filter(is_longest).chain(columns().filter(|part| !is_longest(part))) {
                let extents = [pixels.images.len(), rows.outputs.len(), columns.outputs.len()];
                let (y, column) = (rows.outputs.start, columns.outputs.start);
                let go = go.from((n, y, column), Size2::square(1));
                // The first batch of taps adds the gradients to the bias.
                let mut bias = sums.bias.as_deref_mut();
                for kh in batches(&rows.taps, most[0]) {
                    for kw in batches(&columns.taps, most[1]) {
                        let at = (n, y_axis.position(y, kh.start), x_axis.position(column, kw.start));
                        let taps = BoxTaps { counts: [kh.len(), kw.len()], steps };
                        let first = kh.start * sums.row + kw.start * lanes;
                        let x = x.from(at, windows.stride);
                        let (extents, go, x) = along_the_longer(extents, go, x);
                        let of_taps = &mut sums.taps[first..];
                        let sums = BoxSums { taps: of_taps, row: sums.row, bias: bias.take() };
                        self.tile.run(extents, go, x, taps, sums);
                    }
                }
                if let Some(bias) = bias {
                    self.sum_bias(extents, go, bias);
                }
            }
        }
    }

    /// Adds the gradients of outputs that read only padding: the products with ones.
    fn sum_bias(&self, extents: [usize; 3], go: BoxPixels<'_>, bias: &mut [f32]) {
        let ones = BoxPixels { data: &[1.0; BLOCK], steps: [0; 3] };
        let taps = BoxTaps { counts: [1, 1], steps: [0, 0] };
        self.tile.run(extents, go, ones, taps, BoxSums { taps: bias, row: 0, bias: None });
    }

    /// Whether a vector of channels `channels` is whole in `view`.
    fn is_whole(&self, layout: Layout, channels: &Range<usize>) -> bool {
        layout == Layout::Nchw16c || layout == Layout::Nhwc && channels.len() == self.tile.lanes
    }

    /// The gradients of one vector of channels.
    fn gradients<'a>(
        &self,
        gradient: &WeightsGradient,
        operands: &WeightsOperands<'a>,
        pixels: &OutputPixels,
        channels: &Range<usize>,
        to: &'a mut [f32],
    ) -> Vector<'a> {
        let (go, width) = (&operands.grad_output, gradient.windows.output.w);
        if self.is_whole(go.view.layout, channels) {
            return in_place(go, width, channels.start);
        }
        let copied = (&pixels.images, &pixels.ys, &pixels.xs);
        self.copy(gradient, (go, width), copied, channels, to)
    }

    /// The pixels of the image for one vector of output channels.
    fn pixels<'a>(
        &self,
        gradient: &WeightsGradient,
        operands: &WeightsOperands<'a>,
        pixels: &OutputPixels,
        channels: &Range<usize>,
        to: &'a mut [f32],
    ) -> Vector<'a> {
        let (input, width) = (&operands.input, gradient.windows.input.w);
        if self.outs == 1 && self.is_whole(input.view.layout, channels) {
            return in_place(input, width, channels.start);
        }
        let [y, x] = Axis::of(&gradient.windows);
        let (ys, xs) = (y.inputs(&pixels.ys), x.inputs(&pixels.xs));
        let copied = (&pixels.images, &ys, &xs);
        if self.outs == 1 {
            return self.copy(gradient, (input, width), copied, channels, to);
        }
        let vector = self.copied(copied);
        let lanes = self.tile.lanes;
        for (index, (n, y, x)) in each(copied).enumerate() {
            for (lane, o) in channels.clone().enumerate() {
                let at = input.view.offset(n, o / self.outs, y * width + x);
                to[index * lanes + lane] = input.data[at];
            }
        }
        Vector { pixels: BoxPixels { data: to, ..vector.pixels }, ..vector }
    }

    /// Copies some channels of a box of pixels.
    fn copy<'a>(
        &self,
        gradient: &WeightsGradient,
        (from, width): (&PixelRef<'_>, usize),
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
                let tile = InputTile::new(from, n, channels.start, y * width + xs.start);
                gradient.kernels.copy.copy(tile, from.view.layout == Layout::Nchw, out);
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
            pixels: BoxPixels { data: &[], steps: [ys.len() * row, row, lanes] },
            image: images.start,
            first: Size2::new(ys.start, xs.start),
        }
    }
}

/// Swaps the rows and the pixels of a box with more rows than pixels, such as an edge of an image. The inner loop is then the
/// longer one.
fn along_the_longer<'a>(
    [images, rows, pixels]: [usize; 3],
    go: BoxPixels<'a>,
    x: BoxPixels<'a>,
) -> ([usize; 3], BoxPixels<'a>, BoxPixels<'a>) {
    if pixels >= rows {
        return ([images, rows, pixels], go, x);
    }
    let turned = |pixels: BoxPixels<'a>| {
        let [image, row, pixel] = pixels.steps;
        BoxPixels { steps: [image, pixel, row], ..pixels }
    };
    ([images, pixels, rows], turned(go), turned(x))
}

/// Images, rows and columns that are copied.
type Copied<'a> = (&'a Range<usize>, &'a Range<usize>, &'a Range<usize>);

/// Every pixel of a box.
fn each((images, ys, xs): Copied<'_>) -> impl Iterator<Item = (usize, usize, usize)> {
    images.clone().flat_map(move |n| ys.clone().flat_map(move |y| xs.clone().map(move |x| (n, y, x))))
}

/// The vector that begins at channel `channel`, where it is in memory.
fn in_place<'a>(tensor: &PixelRef<'a>, width: usize, channel: usize) -> Vector<'a> {
    let view = &tensor.view;
    let data = &tensor.data[view.offset(0, channel, 0)..];
    let steps = [view.image, width * view.pixel, view.pixel];
    Vector { pixels: BoxPixels { data, steps }, image: 0, first: Size2::square(0) }
}

/// Splits taps into even batches of at most `most`.
fn batches(taps: &Range<usize>, most: usize) -> impl Iterator<Item = Range<usize>> + use<> {
    let (start, len) = (taps.start, taps.len());
    let count = len.div_ceil(most);
    (0..count).map(move |batch| {
        let part = part_of(len, batch, count);
        start + part.start..start + part.end
    })
}
