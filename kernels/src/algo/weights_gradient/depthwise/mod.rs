//! The gradient of a filter whose groups have one input channel. Vectors are channels.
//!
//! ```text
//! for chunk, block of channels:
//!     for box of output pixels:                       // some hundred pixels, whose sums stay in registers
//!         for vector of channels:
//!             copy its pixels, unless they are whole vectors already; or prefetch those of the next vector or box
//!             for part of the box where the same taps are inside the image:
//!                 for batch of these taps: sums[taps] += box
//! ```

mod vectors;

use super::edges::Axis;
use super::windows::{Windows, part_of};
use super::{GradientRegion, WeightsGradient, WeightsOperands, are_far, sums};
use crate::describe::{BLOCK, ConvDesc, Layout, Size2};
use crate::memory::split_memory;
use crate::tile::shape::even_piece;
use crate::tile::taps_table::{BoxOperands, BoxPixels, BoxSums, BoxTaps, DepthwiseTapsTile};
use std::ops::Range;
use vectors::{Map, Vector};

/// Maximum number of output pixels of a box.
const MOST_PIXELS: usize = 512;
/// Sums of a block of channels, unless one vector has more.
const MOST_SUMS: usize = 32 << 10;
pub(super) struct DepthwiseGradient {
    pub(super) tile: &'static DepthwiseTapsTile,
    axes: [Axis; 2],
    /// Output channels per group.
    outs: usize,
    /// Whether vectors of channels are adjacent in both tensors, except for the last one in NHWC.
    in_place: bool,
    /// Images, rows and columns of the largest box.
    most: [usize; 3],
    /// Vectors of a block of channels.
    vectors: usize,
    /// Whether the pixels of the next box are prefetched.
    is_far: bool,
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
        // A plane of a vector is too short for the prefetchers of the CPU. Measured on Zen 4 with 32 MiB of third-level cache:
        // 25 MB take 0.55 to 0.6 of the time with prefetches, 16 MB the same time, and 3 to 12 MB up to 1.15 of it, because
        // every prefetch takes the place of a load.
        let is_far = in_place && are_far(desc);
        Self {
            tile,
            axes: Axis::of(windows),
            outs: desc.outs(),
            in_place,
            most: [images, rows, columns],
            vectors,
            is_far,
        }
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
        let ([y, x], most) = (&self.axes, self.tile.most());
        let [images, rows, columns] = self.counts(windows);
        let along = |axis: &Axis, len: usize, boxes: usize, most: usize| {
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
        let [y, x] = &self.axes;
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
        let map = |tensor, size: Size2, stride| Map {
            tensor,
            width: size.w,
            stride,
            copies: &gradient.kernels.copy,
        };
        let go_map = map(operands.grad_output, windows.output, Size2::square(1));
        let x_map = map(operands.input, windows.input, windows.stride);
        for chunk in region.filter.images.clone() {
            let boxes = gradient.stretches_of(chunk);
            for block in channels.clone().step_by(self.vectors * lanes) {
                let block = block..channels.end.min(block + self.vectors * lanes);
                sums.fill(0.0);
                bias.fill(0.0);
                for index in boxes.clone() {
                    let pixels_of = self.box_of(windows, index);
                    for (v, o) in block.clone().step_by(lanes).enumerate() {
                        let channels = o..block.end.min(o + lanes);
                        let mut go = self.gradients(&go_map, &pixels_of, &channels, gradients);
                        let mut x = self.pixels(&x_map, &pixels_of, &channels, pixels);
                        if self.is_far {
                            let (next, channel) = following(&boxes, &block, (index, channels.end));
                            let places = [(&pixels_of, o), (&self.box_of(windows, next), channel)];
                            go.pixels.ahead = go_map.distance(places);
                            x.pixels.ahead = x_map.distance(places);
                        }
                        let of_vector = BoxSums {
                            taps: &mut sums[v * taps * lanes..][..taps * lanes],
                            steps: [windows.kernel.w * lanes, lanes],
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
        let ([y_axis, x_axis], most) = (&self.axes, self.tile.most());
        let n = pixels.images.start;
        let [_, row, pixel] = x.pixels.steps;
        let steps = [windows.dilation.h * row, windows.dilation.w * pixel];
        for rows in y_axis.cut(pixels.ys.clone()) {
            for columns in x_axis.cut_whole_first(pixels.xs.clone()) {
                let extents = [pixels.images.len(), rows.outputs.len(), columns.outputs.len()];
                let order = Order::of(extents);
                let (y, column) = (rows.outputs.start, columns.outputs.start);
                let go = go.from((n, y, column), Size2::square(1));
                // The first batch of taps adds the gradients to the bias.
                let mut bias = sums.bias.as_deref_mut();
                for kh in batches(&rows.taps, order.most(most)[0]) {
                    for kw in batches(&columns.taps, order.most(most)[1]) {
                        let at = (n, y_axis.position(y, kh.start), x_axis.position(column, kw.start));
                        let x = x.from(at, windows.stride);
                        let taps = BoxTaps { counts: [kh.len(), kw.len()], steps };
                        let first = kh.start * sums.steps[0] + kw.start * sums.steps[1];
                        let sums =
                            BoxSums { taps: &mut sums.taps[first..], steps: sums.steps, bias: bias.take() };
                        let mut operands = BoxOperands { extents, go, x, taps, sums };
                        order.apply(&mut operands);
                        self.tile.run(&mut operands);
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
        let x = BoxPixels { data: &[1.0; BLOCK], steps: [0; 3], ahead: 0 };
        let taps = BoxTaps { counts: [1, 1], steps: [0; 2] };
        let sums = BoxSums { taps: bias, steps: [0; 2], bias: None };
        self.tile.run(&mut BoxOperands { extents, go, x, taps, sums });
    }
}

/// The box and the first channel of the vector that follows the one that ends at channel `end` in box `index`.
fn following(boxes: &Range<usize>, block: &Range<usize>, (index, end): (usize, usize)) -> (usize, usize) {
    match () {
        () if end < block.end => (index, end),
        () if index + 1 < boxes.end => (index + 1, block.start),
        () => (boxes.start, block.end),
    }
}

/// The loops of a kernel over a box. The innermost one is long, and shares loads if it goes along a kernel row or column.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Images, rows, columns.
    Rows,
    /// Images, columns, rows: for the left and the right edge of an image. The taps turn, too.
    Columns,
    /// Columns, rows, images: for the corners.
    Images,
}

impl Order {
    fn of([_, rows, columns]: [usize; 3]) -> Self {
        match (rows, columns) {
            (1, 1) => Self::Images,
            _ if rows > columns => Self::Columns,
            _ => Self::Rows,
        }
    }

    /// The most kernel rows and columns of one call, if a kernel has `most`.
    fn most(self, [rows, columns]: [usize; 2]) -> [usize; 2] {
        if self == Self::Columns { [columns, rows] } else { [rows, columns] }
    }

    /// Puts the loops in this order. The products stay the same.
    fn apply(self, BoxOperands { extents, go, x, taps, sums }: &mut BoxOperands<'_>) {
        let inner = match self {
            Self::Rows => return,
            Self::Columns => 1,
            Self::Images => 0,
        };
        for of_axes in [extents, &mut go.steps, &mut x.steps] {
            of_axes.swap(inner, 2);
        }
        if self == Self::Columns {
            for of_taps in [&mut taps.counts, &mut taps.steps, &mut sums.steps] {
                of_taps.swap(0, 1);
            }
        }
    }
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
