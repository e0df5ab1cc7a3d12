//! The gradient of a filter with the tile of `tile/taps.rs`, which reads the image in place.
//!
//! ```text
//! for chunk, block of the filter:
//!     for stretch:
//!         for panel of output channels:
//!             pack its gradients, unless they are whole vectors already
//!             for kernel row, run of taps, piece of input channels:
//!                 sums[channels, taps, panel] += lines of the stretch
//! ```

mod lines;
mod work;

use super::windows::{MOST_SEGMENTS, Windows, channels_of_block};
use super::{GradientRegion, WeightsGradient, WeightsOperands, gradients, sums};
use crate::algo::tap_order::{KernelRun, KernelRuns};
use crate::describe::{BLOCK, ConvDesc, Layout, PixelView};
use crate::memory::split_memory;
use crate::tile::shape::even_piece;
use crate::tile::taps::TapsLine;
use crate::tile::taps_table::{ImagePixels, OutputPixels, TapsSums, TapsTile};
use lines::{Stretches, lines_of};
use std::ops::Range;

/// Sums of a block: 160 KB of the second-level cache, unless the kernel is very wide.
const MOST_SUMS: usize = 40 << 10;

pub(super) struct TapsGradient {
    pub(super) tile: &'static TapsTile,
    runs: KernelRuns,
    /// Output channels of a panel: the widest tile that every run has.
    panel: usize,
    /// Whether the gradients of a panel are whole vectors in memory.
    in_place: bool,
    /// Output channels, input channels and kernel rows of a block.
    outs: usize,
    ins: usize,
    kernel_rows: usize,
}

/// The parts of the slab.
struct Slab<'a> {
    /// `[input channel][kernel row][kernel column][output channel]`, for the channels and kernel rows of a block.
    sums: &'a mut [f32],
    bias: &'a mut [f32],
    /// `[pixel][channel of the panel]`.
    gradients: &'a mut [f32],
    /// The lines of a call. They are not made for each call, because filling them takes as long as a short call.
    lines: &'a mut [TapsLine; MOST_SEGMENTS],
}

/// A block of the filter.
struct Block {
    group: usize,
    /// Output channels.
    outs: Range<usize>,
    /// Input channels of the group.
    ins: Range<usize>,
    kernel_rows: Range<usize>,
    bias: bool,
}

/// One panel of one stretch.
struct Panel<'a> {
    /// Columns of the sums.
    columns: Range<usize>,
    go: OutputPixels<'a>,
    /// The view of all gradients, for those that are read in place. Packed gradients have one image.
    view: PixelView,
    packed: bool,
}

impl TapsGradient {
    pub(super) fn new(desc: &ConvDesc, windows: &Windows, tile: &'static TapsTile) -> Self {
        let (width, stride, dilation) = (windows.kernel.w, windows.stride.w, windows.dilation.w);
        let runs = KernelRuns::of_row(width, stride, dilation, tile.runs.len());
        let widest = |run: KernelRun| tile.vectors(run.taps, usize::MAX);
        let vectors = runs.iter().map(widest).min().expect("a kernel row has taps");
        let vectors = vectors.min(desc.outs().div_ceil(tile.lanes));
        let panel = vectors * tile.lanes;
        let whole = desc.groups() == 1 || desc.outs().is_multiple_of(BLOCK);
        let in_place = desc.output_layout() == Layout::Nchw16c && whole;
        let (mut outs, mut ins, mut kernel_rows) = (panel, desc.ins().min(BLOCK), windows.kernel.h);
        let sums = |outs, ins, rows| outs * ins * rows * width;
        while sums(outs, ins, kernel_rows) > MOST_SUMS && kernel_rows > 1 {
            kernel_rows = kernel_rows.div_ceil(2);
        }
        let all_outs = desc.outs().next_multiple_of(panel);
        loop {
            let more_ins = desc.ins().min(2 * ins);
            let more_outs = all_outs.min(2 * outs);
            let ins_first = ins <= outs && more_ins > ins || more_outs == outs;
            let next = if ins_first { (outs, more_ins) } else { (more_outs, ins) };
            if next == (outs, ins) || sums(next.0, next.1, kernel_rows) > MOST_SUMS {
                break;
            }
            (outs, ins) = next;
        }
        Self { tile, runs, panel, in_place, outs, ins, kernel_rows }
    }

    /// Output channels of a panel.
    pub(super) fn columns(&self) -> usize {
        self.panel
    }

    /// Elements of the parts of the slab.
    fn lens(&self, windows: &Windows) -> [usize; 3] {
        let sums = self.outs * self.ins * self.kernel_rows * windows.kernel.w;
        let packed = if self.in_place { 0 } else { windows.pixels_of_stretch() * self.panel };
        [sums, self.outs, packed]
    }

    pub(super) fn workspace_len(&self, windows: &Windows) -> usize {
        self.lens(windows).iter().sum()
    }

    pub(super) fn run(
        &self,
        gradient: &WeightsGradient,
        operands: &WeightsOperands<'_>,
        region: &mut GradientRegion<'_>,
        slab: &mut [f32],
    ) {
        let windows = &gradient.windows;
        let ([sums, bias, gradients], _) = split_memory(slab, self.lens(windows), 1);
        let mut slab = Slab { sums, bias, gradients, lines: &mut [TapsLine::default(); MOST_SEGMENTS] };
        let taps = windows.taps();
        let channels = region.filter.channels.clone();
        let ins = region.filter.pixels.start / taps..region.filter.pixels.end / taps;
        for chunk in region.filter.images.clone() {
            for (group, outs) in gradient.in_groups(&channels) {
                for o in outs.clone().step_by(self.outs) {
                    let outs = o..outs.end.min(o + self.outs);
                    for c in ins.clone().step_by(self.ins) {
                        for kh in (0..windows.kernel.h).step_by(self.kernel_rows) {
                            let block = Block {
                                group,
                                outs: outs.clone(),
                                ins: c..ins.end.min(c + self.ins),
                                kernel_rows: kh..windows.kernel.h.min(kh + self.kernel_rows),
                                bias: region.bias.is_some() && c == ins.start && kh == 0,
                            };
                            self.block(gradient, operands, (&block, chunk), &mut slab);
                            self.write(gradient, &block, chunk, region, &slab);
                        }
                    }
                }
            }
        }
    }

    /// Writes the sums of a block.
    fn write(
        &self,
        gradient: &WeightsGradient,
        block: &Block,
        chunk: usize,
        region: &mut GradientRegion<'_>,
        slab: &Slab<'_>,
    ) {
        let windows = &gradient.windows;
        let (taps, width) = (windows.taps(), windows.kernel.w);
        let mut write = |sums: &[f32], taps| {
            let (filter, outs) = (&mut region.filter, block.outs.clone());
            sums::write(gradient.kernels, (sums, self.outs), filter, chunk, outs, taps);
        };
        if block.kernel_rows.len() == windows.kernel.h {
            write(slab.sums, block.ins.start * taps..block.ins.end * taps);
        } else {
            let rows = block.kernel_rows.start * width..block.kernel_rows.end * width;
            for (c, sums) in block.ins.clone().zip(slab.sums.chunks(rows.len() * self.outs)) {
                write(sums, c * taps + rows.start..c * taps + rows.end);
            }
        }
        if block.bias {
            sums::write_bias(region, chunk, block.outs.clone(), slab.bias);
        }
    }

    /// Sums a block over a chunk.
    fn block(
        &self,
        gradient: &WeightsGradient,
        operands: &WeightsOperands<'_>,
        (block, chunk): (&Block, usize),
        slab: &mut Slab<'_>,
    ) {
        let windows = &gradient.windows;
        let taps = block.kernel_rows.len() * windows.kernel.w;
        slab.sums[..block.ins.len() * taps * self.outs].fill(0.0);
        slab.bias.fill(0.0);
        let stretches = gradient.stretches_of(chunk);
        for stretch in stretches.clone() {
            let next = Some(stretch + 1).filter(|next| stretches.contains(next));
            for o in block.outs.clone().step_by(self.panel) {
                let channels = o..block.outs.end.min(o + self.panel);
                let columns = o - block.outs.start..channels.end - block.outs.start;
                let Slab { sums, bias, gradients, lines } = slab;
                let panel = self.panel(gradient, operands, (channels, columns), stretch, gradients);
                if block.bias {
                    self.bias(windows, &panel, stretch, (bias, lines));
                }
                for kh in block.kernel_rows.clone() {
                    for run in self.runs.iter() {
                        self.taps(
                            gradient,
                            operands,
                            (block, &panel),
                            ((stretch, next), kh, run),
                            (sums, lines),
                        );
                    }
                }
            }
        }
    }

    /// The gradients of a panel. They are packed into `to` unless they are read in place.
    fn panel<'a>(
        &self,
        gradient: &WeightsGradient,
        operands: &WeightsOperands<'a>,
        (channels, columns): (Range<usize>, Range<usize>),
        stretch: usize,
        to: &'a mut [f32],
    ) -> Panel<'a> {
        let go = &operands.grad_output;
        if self.in_place {
            let data = &go.data[go.view.offset(0, channels.start, 0)..];
            let pixels =
                OutputPixels { data, pixel: go.view.pixel, block: go.view.plane, looks_ahead: false };
            return Panel { columns, go: pixels, view: go.view, packed: false };
        }
        let windows = (&gradient.windows, stretch);
        gradients::pack(&gradient.kernels.copy, go, windows, &channels, self.panel, to);
        let pixels = OutputPixels { data: to, pixel: self.panel, block: BLOCK, looks_ahead: false };
        Panel { columns, go: pixels, view: go.view, packed: true }
    }

    /// Sums the gradients of a panel: the products with an image of ones.
    fn bias(
        &self,
        windows: &Windows,
        panel: &Panel<'_>,
        stretch: usize,
        (sums, lines): (&mut [f32], &mut [TapsLine; MOST_SEGMENTS]),
    ) {
        let mut count = 0;
        for (go, segment) in panel.places(windows, stretch) {
            lines[count] =
                TapsLine { go, hi: segment.xs.len(), count: segment.xs.len(), ..TapsLine::default() };
            count += 1;
        }
        let x = ImagePixels { data: &[1.0], pixel: 0, channels: (1, 0), looks_ahead: false };
        self.each_width(1, panel, |vectors, column, go| {
            let data = &mut sums[panel.columns.start + column..];
            self.tile.run(vectors, &lines[..count], go, x, TapsSums { data, taps: (1, 0), channel: 0 });
        });
    }

    /// Adds the products of one run of taps in kernel row `kh`.
    fn taps(
        &self,
        gradient: &WeightsGradient,
        operands: &WeightsOperands<'_>,
        (block, panel): (&Block, &Panel<'_>),
        ((stretch, next), kh, run): (Stretches, usize, KernelRun),
        (sums, lines): (&mut [f32], &mut [TapsLine; MOST_SEGMENTS]),
    ) {
        let (windows, view) = (&gradient.windows, &operands.input.view);
        // The first panel that reads a channel of the image prefetches it, and so do the first taps with the gradients.
        let x_looks_ahead = run.taps == 1 && panel.columns.start == 0 && view.channels_last();
        let is_first = kh == block.kernel_rows.start && run.first == 0;
        let go_looks_ahead = run.taps == 1 && !panel.packed && is_first;
        let next = next.filter(|_| x_looks_ahead || go_looks_ahead);
        let count = lines_of(windows, (panel, view), ((stretch, next), kh, run), lines);
        if count == 0 {
            return;
        }
        let width = windows.kernel.w;
        let row_of = |c: usize| {
            let of_channel = (c - block.ins.start) * block.kernel_rows.len() + (kh - block.kernel_rows.start);
            of_channel * width + run.first
        };
        let channel = block.kernel_rows.len() * width * self.outs;
        let first = block.group * gradient.desc.ins();
        let all = first + block.ins.start..first + block.ins.end;
        let step = if view.channels_last() { 1 } else { view.plane };
        self.each_width(run.taps, panel, |vectors, column, mut go| {
            go.looks_ahead = go_looks_ahead;
            let most = self.tile.channels(run.taps, vectors);
            let mut left = all.clone();
            while !left.is_empty() {
                let len = even_piece(channels_of_block(view, &left).len(), most);
                let data = &operands.input.data[view.offset(0, left.start, 0)..];
                let pixel = windows.stride.w * view.pixel;
                let x = ImagePixels { data, pixel, channels: (len, step), looks_ahead: x_looks_ahead };
                let at = row_of(left.start - first) * self.outs + panel.columns.start + column;
                let taps = (run.taps, run.step * self.outs);
                let sums = TapsSums { data: &mut sums[at..], taps, channel };
                self.tile.run(vectors, &lines[..count], go, x, sums);
                go.looks_ahead = false;
                left.start += len;
            }
        });
    }

    /// Calls `each` with every tile of a panel: its vectors, its first column in the panel, and its gradients.
    fn each_width(
        &self,
        taps: usize,
        panel: &Panel<'_>,
        mut each: impl FnMut(usize, usize, OutputPixels<'_>),
    ) {
        for (column, vectors) in self.widths(taps, panel.columns.len()) {
            let start = column / BLOCK * panel.go.block + column % BLOCK;
            each(vectors, column, OutputPixels { data: &panel.go.data[start..], ..panel.go });
        }
    }

    /// The tiles of a panel of `all` channels: the first column and the vectors of each.
    fn widths(&self, taps: usize, all: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let tile = self.tile;
        let mut next = 0;
        std::iter::from_fn(move || {
            let column = next;
            let vectors = (column < all).then(|| tile.vectors(taps, all - column))?;
            next += vectors * tile.lanes;
            Some((column, vectors))
        })
    }
}
