//! [`FewKernels`]: the tiles of convolutions with few output channels, behind one safe, length-checked call.
//!
//! The table belongs to a [`KernelSet`](super::table::KernelSet), which is returned only after its features were
//! detected.

use super::activate::SumsArgs;
use super::boundary::Entry;
use super::few::{FewArgs, MOST_PIXELS, NO_COLUMN};
pub(crate) use super::few::{FewChunks, MOST_OUTPUTS, Piece};
use super::measure::{product, require, span};
use super::output::OutputTile;
use super::post::Post;
use super::target::TileTarget;
use crate::describe::BLOCK;
use std::ops::Range;

/// The tiles of one instruction set.
pub struct FewKernels {
    pub(super) name: &'static str,
    pub(super) lanes: usize,
    /// For each number of output channels.
    pub(super) tiles: [FewTiles; MOST_OUTPUTS],
    pub(super) activate: Entry<SumsArgs>,
}

/// The tiles of one number of output channels.
pub(super) struct FewTiles {
    /// Pixels of the large tile.
    pub(super) pixels: usize,
    pub(super) large: Entry<FewArgs>,
    /// The large tile at an edge. Without it, the pixels there are computed one by one.
    pub(super) edge: Option<Entry<FewArgs>>,
    /// The tile of one pixel, anywhere.
    pub(super) single: Entry<FewArgs>,
}

/// The windows of a row of output pixels.
pub(crate) struct FewWindow<'a> {
    /// The memory from the first block of the group on, in column 0 of the first kernel row.
    pub(crate) image: &'a [f32],
    /// Columns of a row, and columns of padding to the left of it.
    pub(crate) width: usize,
    pub(crate) before: usize,
    /// Distances in columns: between output pixels and between taps.
    pub(crate) stride: usize,
    pub(crate) dilation: usize,
    /// Distances in elements: between columns, kernel rows and blocks of channels.
    pub(crate) column: usize,
    pub(crate) row: usize,
    pub(crate) block: usize,
    pub(crate) taps: usize,
    pub(crate) rows: usize,
    /// The output pixels whose taps are all inside the row.
    pub(crate) inside: Range<usize>,
    /// Whether tiles inside can overlap.
    pub(crate) overlap: bool,
    /// The channels of this block of K.
    pub(crate) chunks: FewChunks,
    /// Whether each tile prefetches the pixels of the next one.
    pub(crate) fetch: bool,
}

/// The weights of a panel from the first kernel row on, `[kernel row][tap][chunk][output][16]`.
#[derive(Clone, Copy)]
pub(crate) struct FewWeights<'a> {
    pub(crate) data: &'a [f32],
    /// Distances between kernel rows and between taps.
    pub(crate) row: usize,
    pub(crate) tap: usize,
    /// Output channels.
    pub(crate) outputs: usize,
}

impl FewWindow<'_> {
    /// The taps inside the row of a pixel whose first tap is in `column`, which wraps.
    fn taps_inside(&self, column: usize) -> Range<usize> {
        let has = |tap: &usize| column.wrapping_add(tap.wrapping_mul(self.dilation)) < self.width;
        let first = (0..self.taps).find(has).unwrap_or(0);
        first..(first..self.taps).find(|tap| !has(tap)).unwrap_or(self.taps)
    }

    /// Checks that the image has all elements that a row of `pixels` outputs reads.
    ///
    /// # Panics
    /// If it has not. That is a bug in this library.
    fn check(&self, pixels: usize) {
        let Self { inside, chunks, .. } = self;
        assert!(
            inside.start <= inside.end && inside.end <= pixels && chunks.partials <= chunks.partial.len()
        );
        // At an edge, a tile tests every column. A pixel that does not exist must not wrap into the image.
        let reach = span([(self.taps, self.dilation)]);
        assert!(reach <= NO_COLUMN && self.width <= NO_COLUMN);
        // Inside, it tests nothing.
        let last = span([(inside.end, self.stride), (self.taps, self.dilation)]);
        let fits = inside.start.saturating_mul(self.stride) >= self.before
            && last <= self.width.saturating_add(self.before);
        assert!(inside.is_empty() || fits, "taps outside the row");
        let rows = [(self.width, self.column), (self.rows, self.row)];
        let of = |blocks, lanes| span([rows[0], rows[1], (blocks, self.block), (lanes, 1)]);
        let whole = if chunks.whole > 0 { chunks.first.saturating_add(chunks.whole) } else { 0 };
        let mut needed = of(whole, BLOCK);
        for piece in chunks.partial[..chunks.partials].as_flattened() {
            assert!(piece.lanes.hi <= BLOCK);
            needed = needed.max(of(piece.block.saturating_add(1), piece.lanes.hi));
        }
        require("image of a tile of few outputs", needed, self.image.len());
    }
}

impl FewKernels {
    /// `few_f32_<pixels>x<outputs>_<isa>`, the tile with the most outputs. Code, tests, benches and reports use this
    /// name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Number of lanes of a vector.
    pub(crate) fn lanes(&self) -> usize {
        self.lanes
    }

    /// Elements of the partial sums of `pixels` pixels.
    pub(crate) fn sums_len(&self, pixels: usize) -> usize {
        pixels.saturating_mul(MOST_OUTPUTS * self.lanes)
    }

    /// The tiles of `outputs` output channels for a row of `pixels` pixels. The taps of the pixels `inside` are all
    /// inside the image. If tiles can `overlap`, the last of these pixels are those of a large tile, too, which computes some
    /// pixels again, unless they share a tile with the right edge.
    pub(crate) fn of_row(
        &self,
        outputs: usize,
        pixels: usize,
        inside: Range<usize>,
        overlap: bool,
    ) -> impl Iterator<Item = Tiles> {
        self.tiles[outputs - 1].of_row(pixels, inside, overlap)
    }

    /// `out = act(bias + window * weights + residual)` for a row of pixels, the rows of `out`. Between blocks of K, the
    /// sums are in `sums`.
    ///
    /// # Panics
    /// If an operand is too short. That is a bug in this library.
    pub(crate) fn run(
        &self,
        window: &FewWindow<'_>,
        weights: FewWeights<'_>,
        sums: &mut [f32],
        out: OutputTile<'_>,
        post: &Post<'_>,
    ) {
        let (pixels, outputs, chunks) = (out.rows, weights.outputs, &window.chunks);
        assert!(out.hi <= outputs && (1..=MOST_OUTPUTS).contains(&outputs) && !post.per_row);
        window.check(pixels);
        if window.rows > 0 && window.taps > 0 {
            let of_tap = product([chunks.whole.saturating_add(chunks.partials), outputs, BLOCK]);
            let needed = span([(window.rows, weights.row), (window.taps, weights.tap), (of_tap, 1)]);
            require("weights of a tile of few outputs", needed, weights.data.len());
        }
        let partial = !(post.first && post.last);
        require("partial sums", if partial { self.sums_len(pixels) } else { 0 }, sums.len());
        // A vector has at least as many lanes as there are outputs.
        // Sums of earlier blocks are not in the output, so the last block is the first to be written.
        let written = Post { first: true, ..*post }.target(&out, self.lanes, self.activate);
        let target = TileTarget { first: post.first, ..written };
        let args = FewArgs {
            image: window.image.as_ptr(),
            pixel: window.stride.wrapping_mul(window.column),
            tap_step: window.dilation.wrapping_mul(window.column),
            row_step: window.row,
            block_step: window.block,
            taps: window.taps,
            rows: window.rows,
            chunks: *chunks,
            width: window.width,
            dilation: window.dilation,
            pixels: 0,
            columns: [NO_COLUMN; MOST_PIXELS],
            weights: weights.data.as_ptr(),
            w_row: weights.row,
            w_tap: weights.tap,
            count: 0,
            fetch: window.fetch,
            sums: sums.as_mut_ptr(),
            target,
        };
        self.tiles_of_row(args, (pixels, outputs), window);
    }

    /// Calls the tiles of a row. `args` has everything that they have in common.
    fn tiles_of_row(&self, mut args: FewArgs, (pixels, outputs): (usize, usize), window: &FewWindow<'_>) {
        let FewArgs { image, weights, sums, target, .. } = args;
        for Tiles { entry, start, count, pixels, .. } in
            self.of_row(outputs, pixels, window.inside.clone(), window.overlap)
        {
            let column = |x: usize| x.wrapping_mul(window.stride).wrapping_sub(window.before);
            // One pixel visits only the taps that it has.
            let taps =
                if pixels == 1 && count == 1 { window.taps_inside(column(start)) } else { 0..window.taps };
            let ahead = taps.start.wrapping_mul(window.dilation);
            let first = |t: usize| column(start + t).wrapping_add(ahead);
            args.count = count;
            args.pixels = pixels;
            args.columns = std::array::from_fn(|t| if t < pixels { first(t) } else { NO_COLUMN });
            args.taps = taps.len();
            args.image = image.wrapping_add(first(0).wrapping_mul(window.column));
            args.weights = weights.wrapping_add(taps.start * args.w_tap);
            args.sums = sums.wrapping_add(start * outputs * self.lanes);
            args.target = target.ahead(start * target.out.row, start * target.residual.row);
            // SAFETY: `run` measured the operands. The output tile lies in a region that its call borrows. The set that
            // holds this table was returned only after its features were detected.
            unsafe { entry(&args) };
        }
    }
}

/// Adjacent tiles of a row.
pub(crate) struct Tiles {
    entry: Entry<FewArgs>,
    start: usize,
    pub(crate) count: usize,
    /// Pixels of each tile.
    pub(crate) pixels: usize,
    /// Whether they are the large tiles inside the row.
    pub(crate) large: bool,
}

impl FewTiles {
    /// The tiles of a row of `pixels` outputs: tiles at the left edge, large tiles inside, and tiles at the right edge.
    fn of_row(&self, pixels: usize, inside: Range<usize>, overlap: bool) -> impl Iterator<Item = Tiles> {
        let count = inside.len() / self.pixels;
        let first = if count > 0 { inside.start } else { pixels };
        // Where large tiles end that do not overlap.
        let end = first + count * self.pixels;
        let mut start = 0;
        std::iter::from_fn(move || {
            let left = if start < first { first } else { pixels } - start;
            let large =
                |start, count| Tiles { entry: self.large, start, count, pixels: self.pixels, large: true };
            let tiles = match (left, self.edge) {
                (0, _) => return None,
                _ if start == first => large(start, count),
                (_, edge)
                    if (overlap && count > 0 && start == end && start < inside.end)
                        && (edge.is_none() || inside.end == pixels) =>
                {
                    large(inside.end - self.pixels, 1)
                }
                (2.., Some(entry)) => {
                    Tiles { entry, start, count: 1, pixels: left.min(self.pixels), large: false }
                }
                _ => Tiles { entry: self.single, start, count: 1, pixels: 1, large: false },
            };
            start = tiles.start + tiles.count * tiles.pixels;
            Some(tiles)
        })
    }
}

/// `few_kernels!(enter_<isa>, name: lanes, pixels of the large tile for one to four outputs)`.
macro_rules! few_kernels {
    ($enter:ident, $name:literal: lanes $lanes:literal, pixels [$one:literal $two:literal $three:literal $four:literal]) => {{
        use super::few::Few;
        use super::few_table::FewTiles;
        macro_rules! tiles {
            ($pixels:literal, $outputs:literal, $edge:expr) => {
                FewTiles {
                    pixels: $pixels,
                    large: <Few<$pixels, $outputs, false>>::$enter,
                    edge: $edge,
                    single: <Few<1, $outputs, false>>::$enter,
                }
            };
        }
        super::few_table::FewKernels {
            name: $name,
            lanes: $lanes,
            tiles: [
                // With one output, the tests of the columns would take longer than the products.
                tiles!($one, 1, None),
                tiles!($two, 2, Some(<Few<$two, 2, true>>::$enter)),
                tiles!($three, 3, Some(<Few<$three, 3, true>>::$enter)),
                tiles!($four, 4, Some(<Few<$four, 4, true>>::$enter)),
            ],
            activate: super::activate::ActivateSums::$enter,
        }
    }};
}
pub(super) use few_kernels;
