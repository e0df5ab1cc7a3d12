//! The pixel operand of the matrix product: a stretch of pixels in tiles, read in place or packed.

use crate::describe::{BLOCK, ConvDesc, Layout, PixelRef, Size2};
use crate::tile::gemm_table::{ColumnsOf, RowsOf};
use crate::tile::shape::even_piece;
use std::ops::Range;

/// A stretch of pixels, split into tiles of at most `most` pixels that do not cross a multiple of `unbroken`.
#[derive(Clone)]
pub(crate) struct PixelTiles {
    pub(crate) pixels: Range<usize>,
    pub(crate) most: usize,
    pub(crate) unbroken: usize,
    /// Whether all tiles have about the same size (there is a kernel for every number of rows). Otherwise all
    /// tiles but the last are whole.
    pub(crate) even: bool,
}

impl Iterator for PixelTiles {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let start = self.pixels.start;
        if self.pixels.is_empty() {
            return None;
        }
        let left = (self.unbroken - start % self.unbroken).min(self.pixels.end - start);
        let len = if self.even { even_piece(left, self.most) } else { left.min(self.most) };
        self.pixels.start += len;
        Some(start..start + len)
    }
}

/// How output pixels map to pixels of the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Access {
    /// Number of consecutive output pixels that read evenly spaced input pixels; `usize::MAX` if all do.
    pub(crate) unbroken: usize,
    pub(crate) stride: Size2,
    pub(crate) input_width: usize,
    pub(crate) output_width: usize,
}

impl Access {
    /// The input pixel that output pixel `p` reads.
    fn input_pixel(&self, p: usize) -> usize {
        if self.unbroken == usize::MAX {
            return p;
        }
        let (y, x) = (p / self.output_width, p % self.output_width);
        y * self.stride.h * self.input_width + x * self.stride.w
    }

    /// Output pixels `p..` as the broadcast operand.
    pub(crate) fn rows<'a>(&self, input: &PixelRef<'a>, n: usize, p: usize, channel: usize) -> RowsOf<'a> {
        let view = &input.view;
        let stride = if self.unbroken == usize::MAX { 1 } else { self.stride.w };
        RowsOf {
            data: &input.data[view.offset(n, channel, self.input_pixel(p))..],
            row: view.pixel * stride,
            chunk: Some(if view.layout == Layout::Nchw16c { view.plane } else { BLOCK }),
        }
    }

    /// Output pixels `p..` of NCHW planes as the vector operand, in tiles of `width`. All pixels must be
    /// adjacent.
    pub(crate) fn columns<'a>(
        &self,
        input: &PixelRef<'a>,
        n: usize,
        p: usize,
        channel: usize,
        width: usize,
    ) -> ColumnsOf<'a> {
        let data = &input.data[input.view.offset(n, channel, p)..];
        ColumnsOf { data, step: input.view.plane, tile: width }
    }
}

/// Packs steps `k` of every tile as the broadcast operand, `[tile][k / 16][pixel][16]`, in any layout. In
/// NCHW, where channels are not adjacent, it copies element by element.
pub(crate) fn pack_rows(
    desc: &ConvDesc,
    input: &PixelRef<'_>,
    (n, group): (usize, usize),
    tiles: PixelTiles,
    k: &Range<usize>,
    slab: &mut [f32],
) {
    let channels = desc.ins();
    let len = k.len().next_multiple_of(BLOCK);
    let mut rest = slab;
    for pixels in tiles {
        let rows = pixels.len();
        let (panel, later) = rest.split_at_mut(len * rows);
        rest = later;
        let mut origins = [(0, 0); MOST_ROWS];
        for (origin, p) in origins.iter_mut().zip(pixels) {
            *origin = window_origin(desc, p);
        }
        let mut at = k.start;
        // One tap at a time: its channels are runs of adjacent elements.
        while at < k.end {
            let (tap, first) = (at / channels, at % channels);
            let run = (channels - first).min(k.end - at);
            for (i, &origin) in origins[..rows].iter().enumerate() {
                let from = tap_pixel(desc, origin, tap).map(|p| input.view.offset(n, 0, p));
                copy_run(input, from, group * channels + first, panel, at - k.start, (i, rows), run);
            }
            at += run;
        }
    }
}

/// Rows of the tallest supported tile.
pub(crate) const MOST_ROWS: usize = 32;

/// The input coordinates of the first tap of output pixel `p`; negative in the padding.
fn window_origin(desc: &ConvDesc, p: usize) -> (isize, isize) {
    let width = desc.output().w;
    let at = |out: usize, stride: usize, before: usize| (out * stride) as isize - before as isize;
    (at(p / width, desc.stride().h, desc.pad().top), at(p % width, desc.stride().w, desc.pad().left))
}

/// The input pixel that a window reads through one tap; `None` in the padding.
fn tap_pixel(desc: &ConvDesc, (y, x): (isize, isize), tap: usize) -> Option<usize> {
    let (kh, kw) = (tap / desc.kernel().w, tap % desc.kernel().w);
    // A negative coordinate becomes larger than any extent.
    let y = y.wrapping_add_unsigned(kh * desc.dilation().h) as usize;
    let x = x.wrapping_add_unsigned(kw * desc.dilation().w) as usize;
    (y < desc.input().h && x < desc.input().w).then(|| y * desc.input().w + x)
}

/// Copies `run` channels of one pixel to steps `step..` of row `i` of a panel with `rows` rows. In the
/// padding it writes zeros.
fn copy_run(
    input: &PixelRef<'_>,
    pixel: Option<usize>,
    channel: usize,
    panel: &mut [f32],
    step: usize,
    (i, rows): (usize, usize),
    run: usize,
) {
    if let (Layout::Nchw, Some(pixel)) = (input.view.layout, pixel) {
        for (c, k) in (channel..channel + run).zip(step..) {
            let to = k / BLOCK * (rows * BLOCK) + i * BLOCK + k % BLOCK;
            panel[to] = input.data[pixel + c * input.view.plane];
        }
        return;
    }
    let mut done = 0;
    while done < run {
        let (c, k) = (channel + done, step + done);
        let mut len = (run - done).min(BLOCK - k % BLOCK);
        let mut offset = c;
        if input.view.layout == Layout::Nchw16c {
            len = len.min(BLOCK - c % BLOCK);
            offset = c / BLOCK * input.view.plane + c % BLOCK;
        }
        let to = k / BLOCK * (rows * BLOCK) + i * BLOCK + k % BLOCK;
        let target = &mut panel[to..to + len];
        match pixel {
            None => target.fill(0.0),
            Some(pixel) => {
                let from = &input.data[pixel + offset..][..len];
                // A whole chunk is the common case. A copy of known length compiles to a few moves.
                match (<&mut [f32; BLOCK]>::try_from(&mut *target), <&[f32; BLOCK]>::try_from(from)) {
                    (Ok(target), Ok(from)) => *target = *from,
                    _ => target.copy_from_slice(from),
                }
            }
        }
        done += len;
    }
}

/// Packs steps `k` of every tile as the vector operand, `[tile][k][width]`, for NCHW. Columns after the last
/// pixel of a tile are zero.
pub(crate) fn pack_columns(
    desc: &ConvDesc,
    input: &PixelRef<'_>,
    (n, group): (usize, usize),
    tiles: PixelTiles,
    k: &Range<usize>,
    (width, slab): (usize, &mut [f32]),
) {
    let window = desc.kernel().h * desc.kernel().w;
    let group = input.view.offset(n, group * desc.ins(), 0);
    for (pixels, panel) in tiles.zip(slab.chunks_exact_mut(k.len() * width)) {
        if pixels.len() < width {
            panel.fill(0.0);
        }
        let mut lines = [Line::default(); MOST_COLUMNS];
        let count = output_lines(desc, &pixels, &mut lines);
        for tap in 0..window {
            // The channels that have this tap in the block. They all use the same position of the line.
            let first = k.start.saturating_sub(tap).div_ceil(window);
            let last = k.end.saturating_sub(tap).div_ceil(window);
            for line in &lines[..count] {
                let (lo, hi, source) = line.through(desc, tap);
                for channel in first..last {
                    let row = (channel * window + tap - k.start) * width + line.column;
                    let to = &mut panel[row..row + line.len];
                    if hi - lo < line.len {
                        to.fill(0.0);
                    }
                    if lo < hi {
                        let from = &input.data[group + channel * input.view.plane + source..];
                        copy_strided(from, desc.stride().w, &mut to[lo..hi]);
                    }
                }
            }
        }
    }
}

/// Columns of the widest tile that pixels are packed for.
pub(crate) const MOST_COLUMNS: usize = 64;

/// The part of a tile in one row of the output.
#[derive(Clone, Copy, Default)]
struct Line {
    /// The first column of the tile, and the number of columns.
    column: usize,
    len: usize,
    /// The input coordinates of the first window; negative in the padding.
    origin: (isize, isize),
}

/// Splits a tile into the rows of the output that it covers, and returns their number.
fn output_lines(desc: &ConvDesc, pixels: &Range<usize>, lines: &mut [Line; MOST_COLUMNS]) -> usize {
    let (width, mut count, mut p) = (desc.output().w, 0, pixels.start);
    while p < pixels.end {
        let len = (width - p % width).min(pixels.end - p);
        lines[count] = Line { column: p - pixels.start, len, origin: window_origin(desc, p) };
        (count, p) = (count + 1, p + len);
    }
    count
}

impl Line {
    /// Returns the pixels `lo..hi` of the line that are inside the input through `tap`, and the first input
    /// pixel that they read.
    fn through(&self, desc: &ConvDesc, tap: usize) -> (usize, usize, usize) {
        let (kh, kw) = (tap / desc.kernel().w, tap % desc.kernel().w);
        let (shape, stride) = (desc.input(), desc.stride().w);
        let y = self.origin.0.wrapping_add_unsigned(kh * desc.dilation().h) as usize;
        let x = self.origin.1.wrapping_add_unsigned(kw * desc.dilation().w);
        if y >= shape.h {
            return (0, 0, 0);
        }
        let before = if x < 0 { x.unsigned_abs().div_ceil(stride).min(self.len) } else { 0 };
        let room = shape.w.saturating_add_signed(x.saturating_neg());
        let inside = if room > (self.len - 1) * stride { self.len } else { room.div_ceil(stride) };
        let first = x.wrapping_add_unsigned(before * stride) as usize;
        if before < inside { (before, inside, y * shape.w + first) } else { (0, 0, 0) }
    }
}

/// Copies every `stride`-th element of `from`.
fn copy_strided(from: &[f32], stride: usize, to: &mut [f32]) {
    if stride == 1 {
        to.copy_from_slice(&from[..to.len()]);
    } else {
        to.iter_mut().zip(from.iter().step_by(stride)).for_each(|(to, &from)| *to = from);
    }
}
