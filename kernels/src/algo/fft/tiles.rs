//! Lanes of tiles: sixteen tiles of the image are transformed at once, one channel at a time.
//!
//! ```text
//! for group:
//!     for sixteen tiles:
//!         for input channel c: P[c] = half spectra of the rows
//!         for column:
//!             for c: X[c] = transform of the column of P[c]
//!             for output channel o: column of P[o] = inverse transform of (sum over c of X[c] * W[o][c])
//!         for o: out[tiles, o] = act(bias + inverse transforms of the rows of P[o] + residual)
//! ```
//!
//! A column stays in the first-level cache from its transform to the inverse transform. The planes `P` are
//! written and read twice.

use super::plane::Scratch;
use super::schedule::Channels;
use super::spectra::Copies;
use super::{FftConv, Tile, reads};
use crate::algo::grid::TileGrid;
use crate::algo::operands::Operands;
use crate::describe::{BLOCK, PixelRef};
use crate::tile::fft_lanes::LaneRow;
use crate::tile::output::OutputRegion;
use crate::tile::post::Post;
use std::ops::Range;

/// The parts of a slab.
struct Memory<'a> {
    rows: &'a mut [f32],
    passes: &'a mut [f32],
    /// The half spectra of all rows, one plane per channel.
    planes: &'a mut [f32],
    /// A column of the spectra of the input channels.
    columns: &'a mut [f32],
    /// The column of an output channel.
    sum: &'a mut [f32],
    /// A row of outputs of each tile.
    lines: &'a mut [f32],
}

/// The tile of a lane, and the numbers of its transform that are inputs.
struct Lane {
    tile: Tile,
    ys: Range<usize>,
    xs: Range<usize>,
}

/// An output channel, with its bias and slope.
struct Channel {
    index: usize,
    bias: Copies,
    slope: Copies,
}

impl Memory<'_> {
    /// The scratch memory with the plane of `channel`, of `len` elements.
    fn with_plane(&mut self, channel: usize, len: usize) -> Scratch<'_> {
        Scratch { rows: self.rows, plane: &mut self.planes[channel * len..][..len], passes: self.passes }
    }
}

impl FftConv {
    fn memory_of_tiles<'a>(&self, slab: &'a mut [f32]) -> Memory<'a> {
        let (lengths, lens) = (self.schedule.tiling.lengths(), self.schedule.lens(&self.desc));
        let (scratch, slab) = slab.split_at_mut(lens.scratch);
        let (rows, passes) = scratch.split_at_mut(lengths.rows_len());
        let (planes, slab) = slab.split_at_mut(lens.image);
        let (columns, slab) = slab.split_at_mut(lens.sums);
        let (columns, sum) = columns.split_at_mut(lens.sums - lengths.column_len());
        Memory { rows, passes, planes, columns, sum, lines: &mut slab[..lens.lines] }
    }

    /// Computes all outputs of a region.
    pub(super) fn run_tiles(
        &self,
        operands: &Operands<'_>,
        region: &mut OutputRegion<'_>,
        grid: &TileGrid,
        slab: &mut [f32],
    ) {
        let mut memory = self.memory_of_tiles(slab);
        for group in self.desc.groups_of(&region.channels) {
            for first in (0..grid.len()).step_by(BLOCK) {
                let mut lanes = [const { None }; BLOCK];
                for (lane, index) in lanes.iter_mut().zip(first..grid.len()) {
                    *lane = Some(self.lane(self.tile(grid, index)));
                }
                self.sixteen_tiles(operands, region, group, &lanes, &mut memory);
            }
        }
    }

    fn lane(&self, tile: Tile) -> Lane {
        let (size, kernel, pad) = (self.desc.input(), self.desc.kernel(), self.desc.pad());
        let tiling = &self.schedule.tiling;
        let ys = reads(tile.y, tile.rows, kernel.h, pad.top, size.h, tiling.y.n);
        let xs = reads(tile.x, tile.columns, kernel.w, pad.left, size.w, tiling.x.n);
        Lane { tile, ys, xs }
    }

    fn sixteen_tiles(
        &self,
        operands: &Operands<'_>,
        region: &mut OutputRegion<'_>,
        group: usize,
        lanes: &[Option<Lane>; BLOCK],
        memory: &mut Memory<'_>,
    ) {
        let Channels { ins, outs, .. } = self.schedule.channels;
        let (transform, plane_len) = (self.transform(), self.schedule.tiling.spectrum_len());
        for c in 0..ins {
            transform.forward_rows(&mut memory.with_plane(c, plane_len), |y, stage| {
                self.gather(&operands.input, group * ins + c, lanes, y, stage)
            });
        }
        let channels = group * outs..(group + 1) * outs;
        let channels = channels.start.max(region.channels.start)..channels.end.min(region.channels.end);
        self.multiply(&channels, memory);
        for (plane, channel) in channels.enumerate() {
            let rows = lanes.iter().flatten().map(|lane| lane.tile.rows).max().unwrap_or(0);
            let [bias, slope] = self.spectra.copies(channel);
            let channel = Channel { index: channel, bias, slope };
            let Memory { rows: stage, passes, planes, lines, .. } = memory;
            let plane = &mut planes[plane * plane_len..][..plane_len];
            transform.inverse_rows(&mut Scratch { rows: stage, plane, passes }, rows, |row, sums| {
                self.scatter(operands, region, &channel, (lanes, row), (sums, lines));
            });
        }
    }

    /// Replaces the planes of the input channels of a group by those of the output channels `channels`.
    fn multiply(&self, channels: &Range<usize>, memory: &mut Memory<'_>) {
        let (transform, lengths) = (self.transform(), self.schedule.tiling.lengths());
        let plane_len = lengths.spectrum_len();
        let Memory { rows, passes, planes, columns, sum, .. } = memory;
        for x in 0..lengths.x / 2 + 1 {
            let columns_of_inputs = columns.chunks_exact_mut(lengths.column_len());
            for (column, plane) in columns_of_inputs.zip(planes.chunks_exact_mut(plane_len)) {
                transform.column(&mut Scratch { rows, plane, passes }, x, column, false);
            }
            for (channel, plane) in channels.clone().zip(planes.chunks_exact_mut(plane_len)) {
                self.kernels().column_product(lengths.y, columns, self.spectra.of_column(channel, x), sum);
                transform.column(&mut Scratch { rows, plane, passes }, x, sum, true);
            }
        }
    }

    /// Reads row `y` of all tiles in one channel. Returns whether any tile has the row.
    fn gather(
        &self,
        input: &PixelRef<'_>,
        channel: usize,
        lanes: &[Option<Lane>; BLOCK],
        y: usize,
        stage: &mut [f32],
    ) -> bool {
        let (size, pad) = (self.desc.input(), self.desc.pad());
        let mut rows = [LaneRow::default(); BLOCK];
        let mut any = false;
        for (row, lane) in rows.iter_mut().zip(lanes) {
            let Some(Lane { tile, ys, xs }) = lane else { continue };
            if !ys.contains(&y) || xs.is_empty() {
                continue;
            }
            let pixel = (tile.y + y - pad.top) * size.w + tile.x + xs.start - pad.left;
            let data = &input.data[input.view.offset(tile.n, channel, pixel)..][..xs.len()];
            *row = LaneRow { at: xs.start, data };
            any = true;
        }
        // The other row of the pair may exist, so a row that does not exist is written as zeros.
        let next_pair = 2 * size.w;
        self.kernels().gather_rows(&rows, self.schedule.tiling.x.n, next_pair, stage);
        any
    }

    /// Writes row `row` of all tiles in one channel.
    fn scatter(
        &self,
        operands: &Operands<'_>,
        region: &mut OutputRegion<'_>,
        channel: &Channel,
        (lanes, row): (&[Option<Lane>; BLOCK], usize),
        (sums, lines): (&[f32], &mut [f32]),
    ) {
        let each = lines.len() / BLOCK;
        self.kernels().scatter_rows(sums, self.schedule.tiling.x.outputs, each, lines);
        let c = channel.index;
        for (lane, line) in lanes.iter().zip(lines.chunks_exact(each)) {
            let Some(Lane { tile, .. }) = lane else { continue };
            if row >= tile.rows {
                continue;
            }
            let p = (tile.y + row) * self.desc.output().w + tile.x;
            let post = Post {
                bias: channel.bias.all(),
                slope: channel.slope.all(),
                per_row: false,
                activation: self.desc.epilogue().activation,
                residual: operands.residual_as_rows(tile.n, p, c),
                first: true,
                last: true,
            };
            let out = region.channels_as_rows(tile.n, c..c + 1, p..p + tile.columns);
            self.kernels().finish_row(line, self.transform().scale(), out, &post);
        }
    }
}
