//! [`DirectTile`]: the tiles of direct convolution of one instruction set, behind a safe, length-checked call.
//!
//! Part of a [`KernelSet`](super::table::KernelSet), which is handed out only after its features were detected.

use super::boundary::Entry;
use super::direct::{DirectArgs, MOST_PIXELS, MOST_TAPS, TapRun};
use super::measure::{product, require, span};
use super::output::OutputTile;
use super::post::Post;
use super::shape::TileShape;
use super::store::SumsArgs;
use crate::describe::{BLOCK, ConvError};
use crate::memory::try_push;
use crate::simd::LINE;

/// The register tile of direct convolution: some pixels of an output row by vectors of output channels.
pub struct DirectTile {
    pub(super) name: &'static str,
    pub(crate) shape: TileShape,
    /// Taps that share the pixels they read, at most.
    pub(crate) taps: usize,
    /// Pixels of the tiles that there are, ascending; the first is 1.
    pub(crate) pixels: &'static [usize],
    /// By pixels, then by vectors: the image read where it lies.
    pub(super) image: &'static [&'static [Entry<DirectArgs>]],
    /// The same on packed rows.
    pub(super) packed: &'static [&'static [Entry<DirectArgs>]],
    pub(super) activate: Entry<SumsArgs>,
}

/// Tiles of a row of the output that follow each other and read it alike.
#[derive(Debug, PartialEq, Eq)]
struct TilesOfRow {
    count: usize,
    /// The first output pixel.
    x: usize,
    /// Which of the sizes there are.
    size: usize,
    /// Where the runs of the first begin.
    runs: usize,
    /// Whether its runs are single taps, a pixel apart and all inside the row.
    window: bool,
}

/// A row of the output, cut into tiles: what each of them reads of a row of the image.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TileRow {
    tiles: Vec<TilesOfRow>,
    /// Tiles in all.
    tile_count: usize,
    /// As many for every tile: one after the other.
    runs: Vec<TapRun>,
    runs_of_tile: usize,
    /// Output pixels.
    pixels: usize,
    /// Pixels from one pixel of a run to the next.
    stride: usize,
    /// One past the last pixel that is read; 0 if all are padding.
    end: usize,
    /// Taps of all runs of a tile.
    taps: usize,
    /// Taps of the longest.
    longest: usize,
    /// Whether no pixel is padding.
    inside: bool,
}

impl TileRow {
    /// `pixels` are those of each tile, among `sizes`; `runs` are those of the first tile, then those of the second, ..
    ///
    /// # Errors
    /// [`ConvError::OutOfMemory`].
    ///
    /// # Panics
    /// If tiles have different runs, or a run begins before the row: a defect of this library.
    pub(crate) fn new(
        sizes: &[usize],
        stride: usize,
        pixels: &[usize],
        runs: Vec<TapRun>,
    ) -> Result<Self, ConvError> {
        let runs_of_tile = runs.len() / pixels.len();
        let taps = || runs[..runs_of_tile].iter().map(|run| run.taps);
        let mut row = Self {
            tiles: Vec::new(),
            tile_count: pixels.len(),
            runs: Vec::new(),
            runs_of_tile,
            pixels: 0,
            stride,
            end: 0,
            taps: taps().sum(),
            longest: taps().max().unwrap_or(0),
            inside: true,
        };
        assert!(row.taps > 0 && row.longest <= MOST_TAPS && runs.len() == pixels.len() * runs_of_tile);
        for (tile, (&pixels, of_tile)) in pixels.iter().zip(runs.chunks_exact(runs_of_tile)).enumerate() {
            assert!(of_tile.iter().map(|run| run.taps).eq(taps()) && pixels <= MOST_PIXELS);
            let size = sizes.iter().position(|&size| size == pixels).expect("a size of the table");
            let before = tile.checked_sub(1).map(|before| &runs[before * runs_of_tile..][..runs_of_tile]);
            if !before.is_some_and(|before| row.continues(size, pixels, before, of_tile)) {
                let window = of_tile.iter().all(|run| run.taps == 1 && run.lo == 0 && run.hi == pixels)
                    && of_tile.windows(2).all(|pair| pair[1].first == pair[0].first + 1);
                let runs = tile * runs_of_tile;
                let tiles = TilesOfRow { count: 0, x: row.pixels, size, runs, window };
                try_push("tiles of a row", &mut row.tiles, tiles)?;
            }
            row.tiles.last_mut().expect("just pushed, if not before").count += 1;
            row.pixels += pixels;
            of_tile.iter().for_each(|run| row.measure(run, pixels));
        }
        row.runs = runs;
        Ok(row)
    }

    /// Whether a tile reads what the one before reads, as many pixels further as that has.
    fn continues(&self, size: usize, pixels: usize, before: &[TapRun], runs: &[TapRun]) -> bool {
        let further = |run: &TapRun| TapRun { first: run.first + (pixels * self.stride) as isize, ..*run };
        let same_size = self.tiles.last().is_some_and(|tiles| tiles.size == size);
        same_size && before.iter().map(further).eq(runs.iter().copied())
    }

    /// How far a run of a tile reads.
    fn measure(&mut self, run: &TapRun, pixels: usize) {
        let reach = pixels + run.taps - 1;
        assert!(run.hi <= reach);
        if run.lo < run.hi {
            let position =
                |j: usize| j.checked_mul(self.stride).and_then(|ahead| run.first.checked_add_unsigned(ahead));
            let (first, last) = (position(run.lo), position(run.hi - 1));
            assert!(first.is_some_and(|x| x >= 0));
            self.end = self.end.max(last.map_or(usize::MAX, |x| x as usize).saturating_add(1));
        }
        self.inside &= run.lo == 0 && run.hi == reach;
    }

    /// Tiles, and runs of each.
    pub(crate) fn len(&self) -> (usize, usize) {
        (self.tile_count, self.runs_of_tile)
    }
}

/// The image (or rows packed from it) as a tile reads it.
#[derive(Clone, Copy)]
pub(crate) struct DirectImage<'a> {
    /// From pixel 0 of the first kernel row that is inside the image on, first channel.
    pub(crate) data: &'a [f32],
    /// From one chunk of channels to the next.
    pub(crate) chunk: usize,
    /// From one kernel row to the next.
    pub(crate) row: usize,
    /// From one channel to the next: 1, but for packed rows.
    pub(crate) channel: usize,
    /// From one pixel to the next: 1 for packed rows.
    pub(crate) pixel: usize,
    /// Whether rows are packed: their pixels neighbours, padding among them.
    pub(crate) packed: bool,
}

/// How K is cut: chunks of channels, kernel rows, runs.
#[derive(Clone, Copy)]
pub(crate) struct DirectK {
    pub(crate) chunks: usize,
    /// Channels of a chunk, and of the last one.
    pub(crate) channels: usize,
    pub(crate) last_channels: usize,
    /// Kernel rows inside the image are `first_row..first_row + rows` of `kernel_rows`.
    pub(crate) first_row: usize,
    pub(crate) rows: usize,
    pub(crate) kernel_rows: usize,
}

/// The weights of a panel from the first chunk on, and what to look ahead at.
#[derive(Clone, Copy)]
pub(crate) struct DirectWeights<'a> {
    /// `[chunk][kernel row][run][channel][tap]` or, of packed rows, `[run][kernel row][channel][tap]`, `step` elements each.
    pub(crate) data: &'a [f32],
    pub(crate) step: usize,
    /// Memory to be hinted into the second cache level, one cache line per channel and run. It may end anywhere.
    pub(crate) hint: &'a [f32],
}

impl DirectTile {
    /// `direct_f32_<pixels>x<columns>_<isa>`, the same in code, tests, benches and reports.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Output channels of the widest tile.
    pub fn columns(&self) -> usize {
        self.shape.columns()
    }

    /// `out = act(bias + sum + residual)` over all of `k`, for a row of the output: its pixels are the rows of `out`.
    ///
    /// # Panics
    /// If an operand is too short: a defect of this library.
    pub(crate) fn run(
        &self,
        row: &TileRow,
        k: &DirectK,
        image: DirectImage<'_>,
        weights: DirectWeights<'_>,
        mut out: OutputTile<'_>,
        post: &Post<'_>,
    ) {
        let OutputTile { rows: pixels, lo, hi, zeros, .. } = out;
        if lo >= hi {
            return;
        }
        out.zeros = zeros.min(self.columns());
        let wanted = hi.max(out.zeros).div_ceil(self.shape.lanes);
        let width =
            self.shape.vectors.iter().position(|&most| most >= wanted).expect("at most the whole width");
        let columns = self.shape.vectors[width] * self.shape.lanes;
        assert!(row.pixels == pixels && row.longest <= self.taps);
        k.measure(row, &image, &weights, columns);
        let target = post.target(&out, columns, self.activate);
        // A hint that is not wanted goes to what is near anyway.
        let (hint, hint_step) =
            if weights.hint.is_empty() { (weights.data, 0) } else { (weights.hint, LINE) };
        let hints_of_tile = k.rows * row.runs_of_tile * k.all_channels() * hint_step;
        let table = if image.packed { self.packed } else { self.image };
        let mut args = DirectArgs {
            image: image.data.as_ptr(),
            chunk_step: image.chunk,
            row_step: image.row,
            channel_step: image.channel,
            pixel: image.pixel,
            run_step: row.stride * image.pixel,
            chunks: k.chunks,
            channels: k.channels,
            last_channels: k.last_channels,
            first_row: k.first_row,
            rows: k.rows,
            kernel_rows: k.kernel_rows,
            runs: row.runs.as_ptr(),
            count: 0,
            run_count: row.runs_of_tile,
            window: false,
            row_taps: row.taps,
            weights: weights.data.as_ptr(),
            w_step: weights.step,
            hint: hint.as_ptr(),
            hint_step,
            target,
        };
        for tile in &row.tiles {
            args.count = tile.count;
            args.runs = row.runs[tile.runs..].as_ptr();
            args.window = tile.window;
            args.target = target.ahead(tile.x * target.out.row, tile.x * target.residual.row);
            // SAFETY: image and weights were measured above for every tile of the row, `out` is inside a region that
            // this call borrows, and the set that holds this table was handed out after its features were detected.
            unsafe { table[tile.size][width](&args) };
            args.hint = args.hint.wrapping_add(hints_of_tile * tile.count);
        }
    }
}

impl DirectK {
    /// Channels of all chunks.
    fn all_channels(&self) -> usize {
        (self.chunks - 1).saturating_mul(self.channels).saturating_add(self.last_channels)
    }

    /// # Panics
    /// If what a row of tiles of `columns` columns reads is not all there.
    fn measure(&self, row: &TileRow, image: &DirectImage<'_>, weights: &DirectWeights<'_>, columns: usize) {
        assert!(self.chunks > 0 && self.rows <= self.kernel_rows);
        assert!(self.first_row <= self.kernel_rows - self.rows);
        assert!(self.last_channels > 0 && self.last_channels <= self.channels);
        if image.packed {
            assert!(image.pixel == 1 && row.stride == 1 && row.inside && self.chunks == 1);
        } else {
            assert!(image.channel == 1 && (row.inside || self.channels <= BLOCK));
        }
        if self.rows > 0 && row.end > 0 {
            let span_of = |chunks, channels| {
                let positions = [(self.rows, image.row), (row.end, image.pixel)];
                span([positions[0], positions[1], (chunks, image.chunk), (channels, image.channel)])
            };
            let whole = span_of(self.chunks - 1, self.channels);
            let needed = whole.max(span_of(self.chunks, self.last_channels));
            require("image of a direct tile", needed, image.data.len());
        }
        let steps = product([self.all_channels(), self.kernel_rows, row.taps]);
        require("weights of a direct tile", span([(steps, weights.step), (columns, 1)]), weights.data.len());
    }
}

/// The table of one instruction set: `direct_tile!(enter_isa, name: lanes 16, taps 3, widths [1 2], pixels [1 2 4])`.
macro_rules! direct_tile {
    (@row $enter:ident, $pixels:literal, $taps:literal, $packed:literal, [$($nv:literal)+]) => {
        &[$(<super::direct::Direct<$pixels, $nv, $taps, $packed>>::$enter as Entry<_>),+]
    };
    (@table $enter:ident, $taps:literal, $packed:literal, $widths:tt, [$($pixels:literal)+]) => {
        &[$(direct_tile!(@row $enter, $pixels, $taps, $packed, $widths)),+]
    };
    (@list [$($pixels:literal)+]) => { &[$($pixels),+] };
    ($enter:ident, $name:literal: lanes $lanes:literal, taps $taps:literal, widths $widths:tt, pixels $pixels:tt) => {
        DirectTile {
            name: $name,
            shape: tile_shape!($lanes, $widths, $pixels),
            taps: $taps,
            pixels: direct_tile!(@list $pixels),
            image: direct_tile!(@table $enter, $taps, false, $widths, $pixels),
            packed: direct_tile!(@table $enter, $taps, true, $widths, $pixels),
            activate: ActivateSums::$enter,
        }
    };
}
pub(super) use direct_tile;
