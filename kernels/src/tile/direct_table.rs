//! [`DirectTile`]: the tiles of direct convolution of one instruction set, behind a safe, length-checked
//! call.
//!
//! The table belongs to a [`KernelSet`](super::table::KernelSet), which is returned only after its features
//! were detected.

use super::activate::SumsArgs;
use super::boundary::Entry;
use super::direct::{DirectArgs, KernelRows, MOST_PIXELS, MOST_TAPS, TapRun, sums_of_output};
use super::measure::{product, require, span};
use super::output::OutputTile;
use super::post::Post;
use super::shape::{IN_FLIGHT, TileShape};
use crate::describe::{BLOCK, ConvError};
use crate::memory::try_push;
use crate::simd::LINE;
use std::ops::Range;

/// The register tile of direct convolution: pixels of an output row by vectors of output channels.
pub struct DirectTile {
    pub(super) name: &'static str,
    pub(crate) shape: TileShape,
    /// Maximum number of taps that share the pixels they read.
    pub(crate) taps: usize,
    /// The available tile sizes in pixels, ascending. The first is 1. The first `shared` exist for every number of vectors,
    /// the others only for the smallest.
    pub(super) pixels: &'static [usize],
    pub(super) shared: usize,
    /// The entries, by pixels and then by vectors.
    pub(super) entries: &'static [&'static [Entry<DirectArgs>]],
    pub(super) activate: Entry<SumsArgs>,
}

/// Consecutive tiles of an output row that read the image row in the same way.
#[derive(Debug, PartialEq, Eq)]
struct TilesOfRow {
    count: usize,
    /// The first output pixel.
    x: usize,
    /// Index of the tile size.
    size: usize,
    /// Index of the first run of the first tile.
    runs: usize,
    /// Whether its runs are single taps, one pixel apart, and all inside the row.
    window: bool,
}

/// An output row, split into tiles, with what each tile reads of an image row.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TileRow {
    tiles: Vec<TilesOfRow>,
    /// Number of tiles.
    tile_count: usize,
    /// The runs of all tiles, in order. Every tile has the same number of runs.
    runs: Vec<TapRun>,
    runs_of_tile: usize,
    /// Number of output pixels.
    pixels: usize,
    /// Distance between pixels of a run, in pixels.
    stride: usize,
    /// The end of the pixels that are read. It is 0 if all of them are padding.
    end: usize,
    /// Number of taps in all runs of a tile.
    taps: usize,
    /// Number of taps of the longest run.
    longest: usize,
    /// Whether no pixel is padding.
    inside: bool,
}

impl TileRow {
    /// Builds the row of tiles with `pixels` pixels each. Every number of pixels must be one of `tile`. `runs` has the runs of the first tile, then the runs of the second tile, and so on.
    ///
    /// # Errors
    /// [`ConvError::OutOfMemory`].
    ///
    /// # Panics
    /// If tiles have different runs, or a run begins before the row. That is a bug in this library.
    pub(crate) fn new(
        tile: &DirectTile,
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
        for (index, (&pixels, of_tile)) in pixels.iter().zip(runs.chunks_exact(runs_of_tile)).enumerate() {
            assert!(of_tile.iter().map(|run| run.taps).eq(taps()) && pixels <= MOST_PIXELS);
            let size = tile.pixels.iter().position(|&size| size == pixels).expect("a size of the table");
            let before = index.checked_sub(1).map(|before| &runs[before * runs_of_tile..][..runs_of_tile]);
            if !before.is_some_and(|before| row.continues(size, pixels, before, of_tile)) {
                let window = of_tile.iter().all(|run| run.taps == 1 && run.lo == 0 && run.hi == pixels)
                    && of_tile.windows(2).all(|pair| pair[1].first == pair[0].first + 1);
                let runs = index * runs_of_tile;
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

    /// Whether a tile reads the same runs as the tile before it, shifted by one tile.
    fn continues(&self, size: usize, pixels: usize, before: &[TapRun], runs: &[TapRun]) -> bool {
        let further = |run: &TapRun| TapRun { first: run.first + (pixels * self.stride) as isize, ..*run };
        let same_size = self.tiles.last().is_some_and(|tiles| tiles.size == size);
        same_size && before.iter().map(further).eq(runs.iter().copied())
    }

    /// Records how far a run of a tile reads.
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

    /// Number of tiles, and number of runs per tile.
    pub(crate) fn len(&self) -> (usize, usize) {
        (self.tile_count, self.runs_of_tile)
    }
}

/// The image as a tile reads it. The channels of a pixel are adjacent.
#[derive(Clone, Copy)]
pub(crate) struct DirectImage<'a> {
    /// The memory from the first channel of pixel 0 on.
    pub(crate) data: &'a [f32],
    /// Distance between rows of the image.
    pub(crate) line: usize,
    /// Distance between chunks of channels.
    pub(crate) chunk: usize,
    /// Distance between kernel rows.
    pub(crate) row: usize,
    /// Distance between pixels.
    pub(crate) pixel: usize,
    /// Whether each tile prefetches the pixels of the next one into the second-level cache.
    pub(crate) fetch: bool,
    /// Distance to the row of the image whose first pixels the last tile of a row prefetches. Without it, they are those that
    /// follow in memory.
    pub(crate) next_row: Option<usize>,
}

/// The blocking of K: chunks of channels, kernel rows, and runs.
#[derive(Clone, Copy)]
pub(crate) struct DirectK<'a> {
    pub(crate) chunks: usize,
    /// Number of channels of a chunk. The first `skip` channels of the first chunk are left out, and the last chunk has
    /// `last_channels`.
    pub(crate) channels: usize,
    pub(crate) skip: usize,
    pub(crate) last_channels: usize,
    /// For each output row, the kernel rows inside the image, out of `kernel_rows`.
    pub(crate) lines: &'a [KernelRows],
    pub(crate) kernel_rows: usize,
}

/// The weights of a panel from the first chunk on, and the memory to prefetch.
#[derive(Clone, Copy)]
pub(crate) struct DirectWeights<'a> {
    /// The weights, `[chunk][kernel row][run][channel][tap]`. Each entry is `step` elements long.
    pub(crate) data: &'a [f32],
    pub(crate) step: usize,
    /// Memory to prefetch into the second-level cache, one line per channel and run. The prefetches can run
    /// past its end.
    pub(crate) hint: &'a [f32],
}

impl DirectTile {
    /// `direct_f32_<pixels>x<columns>_<isa>`. Code, tests, benches and reports use this name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Number of output channels of the widest tile.
    pub fn columns(&self) -> usize {
        self.shape.columns()
    }

    /// The available tile sizes, in pixels, for panels of `columns` output channels.
    pub fn sizes(&self, columns: usize) -> &'static [usize] {
        if self.is_narrow(columns) { self.pixels } else { &self.pixels[..self.shared] }
    }

    /// The time of a tile of `pixels` pixels and `columns` output channels, in FMAs of its vectors. An FMA waits for the one
    /// before it in the same sum, and a tile of one pixel reads as many weights as a tile of two.
    pub(crate) fn time(&self, pixels: usize, columns: usize) -> usize {
        let vectors = self.shape.columns_for(columns) / self.shape.lanes;
        let sums = sums_of_output(self.shape.lanes, pixels, self.taps.min(3)) * vectors;
        pixels.max(IN_FLIGHT.div_ceil(sums)).max(2)
    }

    /// Whether the smallest number of vectors covers `columns`.
    pub(crate) fn is_narrow(&self, columns: usize) -> bool {
        columns <= self.shape.vectors[0] * self.shape.lanes
    }

    /// `out = act(bias + sum + residual)` over all of `k`, for some output rows. The pixels of these rows are the
    /// rows of `out`.
    ///
    /// # Panics
    /// If an operand is too short. That is a bug in this library.
    pub(crate) fn run(
        &self,
        row: &TileRow,
        k: &DirectK<'_>,
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
        assert!(pixels == k.lines.len() * row.pixels && row.longest <= self.taps);
        k.measure(row, &image, &weights, columns);
        let target = post.target(&out, columns, self.activate);
        // Without a hint, the prefetches go to the weights, which are in cache.
        let (hint, hint_step) =
            if weights.hint.is_empty() { (weights.data, 0) } else { (weights.hint, LINE) };
        let all_rows: usize = k.lines.iter().map(|line| line.rows).sum();
        let hints_of_tile = all_rows * row.runs_of_tile * k.all_channels() * hint_step;
        let mut args = DirectArgs {
            image: image.data.as_ptr(),
            line_step: image.line,
            chunk_step: image.chunk,
            row_step: image.row,
            pixel: image.pixel,
            run_step: row.stride * image.pixel,
            chunks: k.chunks,
            channels: k.channels,
            skip: k.skip,
            last_channels: k.last_channels,
            lines: k.lines.as_ptr(),
            line_count: k.lines.len(),
            kernel_rows: k.kernel_rows,
            width: row.pixels,
            runs: row.runs.as_ptr(),
            count: 0,
            run_count: row.runs_of_tile,
            window: false,
            row_taps: row.taps,
            weights: weights.data.as_ptr(),
            w_step: weights.step,
            hint: hint.as_ptr(),
            hint_step,
            fetch: image.fetch,
            fetch_ahead: 0,
            target,
        };
        let run_step = args.run_step;
        let mut call = |tiles: &TilesOfRow, range: Range<usize>, ahead: usize| {
            let x = tiles.x + range.start * self.pixels[tiles.size];
            args.count = range.len();
            args.runs = row.runs[tiles.runs + range.start * row.runs_of_tile..].as_ptr();
            args.window = tiles.window;
            args.fetch_ahead = ahead;
            args.target = target.ahead(x * target.out.row, x * target.residual.row);
            // SAFETY: image and weights were measured above for every tile of the row. `out` lies in a region
            // that this call borrows. The set that holds this table was returned only after its features were
            // detected.
            unsafe { self.entries[tiles.size][width](&args) };
            args.hint = args.hint.wrapping_add(hints_of_tile * range.len());
        };
        for (index, tiles) in row.tiles.iter().enumerate() {
            let pixels = self.pixels[tiles.size];
            let (next_tile, last) = (pixels * run_step, tiles.count - 1);
            match image.next_row {
                Some(next_row) if index + 1 == row.tiles.len() => {
                    if last > 0 {
                        call(tiles, 0..last, next_tile);
                    }
                    call(tiles, last..tiles.count, next_row.wrapping_sub((row.pixels - pixels) * run_step));
                }
                _ => call(tiles, 0..tiles.count, next_tile),
            }
        }
    }
}

impl DirectK<'_> {
    /// Number of channels that are summed.
    fn all_channels(&self) -> usize {
        (self.chunks - 1).saturating_mul(self.channels).saturating_add(self.last_channels) - self.skip
    }

    /// Checks everything that rows of tiles of `columns` columns read.
    ///
    /// # Panics
    /// If an operand is too short.
    fn measure(&self, row: &TileRow, image: &DirectImage<'_>, weights: &DirectWeights<'_>, columns: usize) {
        assert!(self.chunks > 0 && self.last_channels > 0 && self.last_channels <= self.channels);
        assert!(self.skip < if self.chunks == 1 { self.last_channels } else { self.channels });
        assert!(row.inside || self.channels <= BLOCK);
        let mut needed = 0;
        for line in self.lines {
            assert!(line.rows <= self.kernel_rows && line.first <= self.kernel_rows - line.rows);
            if line.rows > 0 && row.end > 0 {
                let before = line.input_row.saturating_mul(image.line);
                needed = needed.max((line.rows - 1).saturating_mul(image.row).saturating_add(before));
            }
        }
        if self.lines.iter().any(|line| line.rows > 0) && row.end > 0 {
            let span_of =
                |chunks, channels| span([(row.end, image.pixel), (chunks, image.chunk), (channels, 1)]);
            let whole = span_of(self.chunks - 1, self.channels);
            let of_row = whole.max(span_of(self.chunks, self.last_channels));
            require("image of a direct tile", needed.saturating_add(of_row), image.data.len());
        }
        let steps = product([self.all_channels(), self.kernel_rows, row.taps]);
        require("weights of a direct tile", span([(steps, weights.step), (columns, 1)]), weights.data.len());
    }
}

/// The table of one instruction set:
/// `direct_tile!(enter_isa, name: lanes 16, taps 3, widths [1 2], pixels [1 2 4], narrow [6 8])`.
macro_rules! direct_tile {
    (@row $enter:ident, $pixels:literal, $taps:literal, [$($nv:literal)+]) => {
        &[$(<super::direct::Direct<$pixels, $nv, $taps>>::$enter as Entry<_>),+]
    };
    (@table $enter:ident, $taps:literal, $widths:tt, [$($pixels:literal)+], $narrow:tt, [$($more:literal)*]) => {
        &[
            $(direct_tile!(@row $enter, $pixels, $taps, $widths),)+
            $(direct_tile!(@row $enter, $more, $taps, $narrow)),*
        ]
    };
    (@list [$($pixels:literal)+], [$($more:literal)*]) => { &[$($pixels),+ $(, $more)*] };
    (@count [$($pixels:literal)+]) => { [$($pixels),+].len() };
    (
        $enter:ident,
        $name:literal: lanes $lanes:literal, taps $taps:literal, widths $widths:tt, pixels $pixels:tt, narrow $narrow:tt
    ) => {
        DirectTile {
            name: $name,
            shape: tile_shape!($lanes, $widths, $pixels),
            taps: $taps,
            pixels: direct_tile!(@list $pixels, $narrow),
            shared: direct_tile!(@count $pixels),
            entries: direct_tile!(@table $enter, $taps, $widths, $pixels, [1], $narrow),
            activate: ActivateSums::$enter,
        }
    };
}
pub(super) use direct_tile;
