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

use super::windows::{MOST_SEGMENTS, Segment, Windows, channels_of_block};
use super::{GradientRegion, WeightsGradient, WeightsOperands, gradients, sums};
use crate::algo::tap_order::{KernelRun, KernelRuns};
use crate::describe::{BLOCK, ConvDesc, Layout, PixelView};
use crate::memory::split_memory;
use crate::tile::shape::even_piece;
use crate::tile::taps::TapsLine;
use crate::tile::taps_table::{ImagePixels, OutputPixels, TapsSums, TapsTile};
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

/// Sums that keep the FMA pipes busy.
const IN_FLIGHT: f64 = 8.0;

/// What the gradient of one group computes, without padding.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct TapsWork {
    /// Multiply-adds of vectors.
    pub(super) products: f64,
    /// Multiply-adds that would be needed to hide the latency of those in flight.
    pub(super) stalls: f64,
    /// Pixels of the image that belong to fewer outputs than there are taps in a run, for each call.
    pub(super) edges: f64,
    /// Lines of all calls, and calls.
    pub(super) lines: f64,
    pub(super) calls: f64,
    /// Vectors of gradients that are copied, and segments of which they are copied.
    pub(super) packed: f64,
    pub(super) packed_rows: f64,
}

/// What a run of taps visits in a row.
#[derive(Debug, Clone, Copy, Default)]
struct Visited {
    /// Pairs of an output pixel and a tap.
    products: f64,
    /// Pixels of the image that belong to as many outputs as there are taps, and the others.
    whole: f64,
    edges: f64,
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

    /// Adds up what the gradient of one group computes.
    pub(super) fn work(&self, desc: &ConvDesc, windows: &Windows) -> TapsWork {
        let (outs, ins) = (desc.outs(), desc.ins());
        let inside = (0..windows.kernel.h).map(|kh| windows.images.saturating_mul(windows.rows_inside(kh)));
        let (mut rows, mut stretches) = (0.0, 0.0);
        for of_row in inside {
            rows += of_row as f64;
            stretches += windows.stretches().min(of_row.saturating_mul(windows.segments_of_row())) as f64;
        }
        let mut work = TapsWork::default();
        for run in self.runs.iter() {
            let line = self.visited(windows, run);
            // All panels are alike, except for the last one.
            let panels = [(outs / self.panel, self.panel), (1, outs % self.panel)];
            for (panels, columns) in panels {
                for (_, vectors) in self.widths(run.taps, columns) {
                    let most = self.tile.channels(run.taps, vectors);
                    let pieces = (ins / BLOCK * BLOCK.div_ceil(most) + (ins % BLOCK).div_ceil(most)) as f64;
                    let calls = panels as f64 * pieces;
                    let sums = (run.taps * vectors * ins) as f64 / pieces;
                    work.products += panels as f64 * rows * line.products * (vectors * ins) as f64;
                    work.stalls += calls * rows * line.whole * (IN_FLIGHT - sums).max(0.0);
                    work.edges += calls * rows * line.edges;
                    work.lines += calls * rows * windows.segments_of_row() as f64;
                    work.calls += calls * stretches;
                }
            }
        }
        let pixels = (windows.images * windows.output.h * windows.output.w) as f64;
        if !self.in_place {
            let blocks = ins.div_ceil(self.ins) as f64;
            work.packed = blocks * pixels * outs.div_ceil(self.tile.lanes) as f64;
            work.packed_rows = blocks * windows.segments() as f64 * outs.div_ceil(self.panel) as f64;
        }
        work
    }

    /// What one run of taps visits in the segments of a row.
    fn visited(&self, windows: &Windows, run: KernelRun) -> Visited {
        let mut visited = Visited::default();
        for segment in windows.row_segments() {
            let (lo, hi) = windows.inside(&segment, run.first, run.taps);
            let count = segment.len();
            let of_tap =
                |tap: usize| count.min(hi.saturating_sub(tap)).saturating_sub(lo.saturating_sub(tap));
            visited.products += (0..run.taps).map(of_tap).sum::<usize>() as f64;
            let whole = hi.min(count).saturating_sub(lo.max(run.taps - 1));
            visited.whole += whole as f64;
            visited.edges += (hi.saturating_sub(lo) - whole) as f64;
        }
        visited
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

impl Panel<'_> {
    /// The segments of a stretch, each with the offset of its first pixel.
    fn places(&self, windows: &Windows, stretch: usize) -> impl Iterator<Item = (usize, Segment)> {
        let (windows, packed, view, pixel) = (*windows, self.packed, self.view, self.go.pixel);
        windows.stretch(stretch).scan(0, move |row, segment| {
            let p = if packed { *row } else { segment.y * windows.output.w + segment.xs.start };
            let offset = if packed { 0 } else { view.image_at(segment.n) };
            *row += segment.xs.len();
            Some((offset + p * pixel, segment))
        })
    }
}

/// A stretch, and a later one that is prefetched meanwhile.
type Stretches = (usize, Option<usize>);

/// The lines of a run of taps in kernel row `kh`, for a stretch and a later one. Returns their number.
fn lines_of(
    windows: &Windows,
    (panel, view): (&Panel<'_>, &PixelView),
    ((stretch, next), kh, run): (Stretches, usize, KernelRun),
    lines: &mut [TapsLine; MOST_SEGMENTS],
) -> usize {
    let lines_in = |stretch| {
        panel.places(windows, stretch).filter_map(|(go, segment)| {
            let line = line_of(windows, &segment, kh, run)?;
            // The line has the position of the pixel in the image.
            Some(TapsLine { go, x: view.image_at(segment.n) + line.x * view.pixel, ..line })
        })
    };
    let mut later = next.into_iter().flat_map(lines_in);
    let mut count = 0;
    for line in lines_in(stretch) {
        let later = later.next().unwrap_or(line);
        let (go_ahead, x_ahead) = (later.go.wrapping_sub(line.go), later.x.wrapping_sub(line.x));
        lines[count] = TapsLine { go_ahead, x_ahead, ..line };
        count += 1;
    }
    count
}

/// What a run of taps in kernel row `kh` reads for a segment. `x` is the position of its first pixel in the image.
/// Returns `None` if it reads padding only.
fn line_of(windows: &Windows, segment: &Segment, kh: usize, run: KernelRun) -> Option<TapsLine> {
    let row = windows.row(segment.y, kh)?;
    let (lo, hi) = windows.inside(&segment.xs, run.first, run.taps);
    let column = segment.xs.start * windows.stride.w + run.first * windows.dilation.w + lo * windows.stride.w;
    let x = row * windows.input.w + column.checked_sub(windows.before.w)?;
    (lo < hi).then_some(TapsLine { x, lo, hi, count: segment.xs.len(), ..TapsLine::default() })
}
