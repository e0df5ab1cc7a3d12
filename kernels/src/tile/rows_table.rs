//! [`RowsTile`]: the tiles of direct convolution over rows that store their padding, behind a safe, length-checked
//! call.
//!
//! The table belongs to a [`KernelSet`](super::table::KernelSet), which is returned only after its features were
//! detected.

use super::activate::SumsArgs;
use super::boundary::Entry;
use super::direct::KernelRows;
use super::measure::{product, require, span};
use super::output::OutputTile;
use super::post::Post;
use super::rows::RowsArgs;
use super::shape::{TileShape, even_piece};
use crate::describe::{ConvError, Size2};
use crate::memory::try_collect;

/// Number of distances between outputs that have entries, from 0 on.
pub(crate) const STEPS: usize = 5;

/// The register tile: outputs of a line by vectors of output channels.
pub struct RowsTile {
    pub(super) name: &'static str,
    pub(crate) shape: TileShape,
    /// Entries by the distance between outputs in the image, then by vectors, and then by outputs (from one on). The first
    /// are for listed outputs.
    pub(super) entries: [&'static [&'static [Entry<RowsArgs>]]; STEPS],
    pub(super) activate: Entry<SumsArgs>,
}

/// The distances in an image: between rows of it, kernel rows, channels, and taps of a kernel row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Steps {
    pub(crate) line: usize,
    pub(crate) row: usize,
    pub(crate) channel: usize,
    pub(crate) tap: usize,
}

/// Where the outputs of a line and their taps are in an image.
pub(crate) struct Places {
    steps: Steps,
    /// Offsets of the taps, `[kernel row][channel][kernel column]`.
    taps: Vec<u32>,
    /// Number of taps of a kernel row, in all channels, and the last offset of the first row.
    of_row: usize,
    last_of_row: usize,
    /// Offsets of the outputs of a line. The list is empty if the offset of output `x` is `x * step`.
    pixels: Vec<u32>,
    step: usize,
    /// Number of outputs.
    width: usize,
}

impl Places {
    /// The taps of `channels` channels of a kernel, and outputs at the offsets `pixels`.
    ///
    /// # Errors
    /// [`ConvError::OutOfMemory`].
    ///
    /// # Panics
    /// If an offset does not fit 32 bits, or a later output comes before an earlier. The schedule has checked that.
    pub(crate) fn new(
        (kernel, channels): (Size2, usize),
        steps: Steps,
        pixels: impl ExactSizeIterator<Item = usize> + Clone,
    ) -> Result<Self, ConvError> {
        let short = |offset: usize| u32::try_from(offset).expect("a near tap");
        let of_row = channels * kernel.w;
        let taps = (0..kernel.h * of_row).map(|k| {
            let (row, channel, column) = (k / of_row, k % of_row / kernel.w, k % kernel.w);
            short(row * steps.row + channel * steps.channel + column * steps.tap)
        });
        let width = pixels.len();
        assert!(pixels.clone().is_sorted());
        // One output has any distance.
        let apart = pixels.clone().nth(1).unwrap_or(1);
        let is_even = apart < STEPS && pixels.clone().enumerate().all(|(x, at)| x * apart == at);
        let (step, listed) = if is_even { (apart, 0) } else { (0, width) };
        Ok(Self {
            steps,
            taps: try_collect("offsets of taps", taps)?,
            of_row,
            last_of_row: (channels - 1) * steps.channel + (kernel.w - 1) * steps.tap,
            pixels: try_collect("offsets of outputs", pixels.take(listed).map(short))?,
            step,
            width,
        })
    }
}

/// The lines of outputs of a call, and their image.
#[derive(Clone, Copy)]
pub(crate) struct RowsWindow<'a> {
    pub(crate) places: &'a Places,
    /// The memory from the first tap of the first output on, in row `origin` of the image.
    pub(crate) image: &'a [f32],
    pub(crate) origin: usize,
    /// The kernel rows of each line.
    pub(crate) lines: &'a [KernelRows],
    /// Number of outputs of each line: at most those that have places.
    pub(crate) width: usize,
    /// The kernel rows of this block of K.
    pub(crate) block: (usize, usize),
}

/// The weights of one panel of output channels, or of several that follow each other and have all of their channels.
#[derive(Clone, Copy)]
pub(crate) struct RowsWeights<'a> {
    /// `[panel][tap][column]`, with `step` elements for each tap of all of K.
    pub(crate) data: &'a [f32],
    pub(crate) step: usize,
    pub(crate) panels: usize,
}

impl RowsTile {
    /// `rows_f32_<outputs>x<columns>_<isa>`. Code, tests, benches and reports use this name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Number of output channels of the widest tile.
    pub fn columns(&self) -> usize {
        self.shape.columns()
    }

    /// Number of lanes of a vector.
    #[cfg(feature = "internal")]
    pub fn lanes(&self) -> usize {
        self.shape.lanes
    }

    /// Maximum number of outputs of any tile.
    #[cfg(feature = "internal")]
    pub fn longest(&self) -> usize {
        self.entries[0].iter().map(|sizes| sizes.len()).max().unwrap_or(0)
    }

    /// Maximum number of outputs of a tile of `columns` output channels, one of its widths.
    pub(crate) fn most_outputs(&self, columns: usize) -> usize {
        self.entries[0][self.shape.index_of(columns)].len()
    }

    /// `out = act(bias + sum + residual)` over a block of K, for lines of outputs. Their outputs are the rows of
    /// `out`.
    ///
    /// # Panics
    /// If an operand is too short. That is a bug in this library.
    pub(crate) fn run(
        &self,
        window: &RowsWindow<'_>,
        weights: &RowsWeights<'_>,
        mut out: OutputTile<'_>,
        post: &Post<'_>,
    ) {
        let (width, Places { steps, taps, of_row, pixels, .. }) = (window.width, window.places);
        let RowsWeights { data, step, panels } = *weights;
        let OutputTile { rows, lo, hi, zeros, .. } = out;
        if lo >= hi {
            return;
        }
        out.zeros = zeros.min(panels.saturating_mul(self.columns()));
        let wanted = hi.max(out.zeros).div_ceil(self.shape.lanes).div_ceil(panels);
        let vectors =
            self.shape.vectors.iter().position(|&most| most >= wanted).expect("at most the whole width");
        let columns = self.shape.vectors[vectors] * self.shape.lanes;
        let of_panels = product([panels, columns]);
        assert!(panels == 1 || (lo == 0 && hi == of_panels && out.zeros <= hi));
        assert!(rows == product([window.lines.len(), width]));
        window.measure();
        let panel_step = product([taps.len(), step]);
        let needed = span([(panels, panel_step), (taps.len(), step), (columns, 1)]);
        require("weights of a tile of rows", needed, data.len());
        let mut args = RowsArgs {
            image: window.image.as_ptr().wrapping_sub(window.origin.wrapping_mul(steps.line)),
            lines: window.lines.as_ptr(),
            line_count: window.lines.len(),
            line_step: steps.line,
            row_step: steps.row,
            taps: taps.as_ptr(),
            of_row: *of_row,
            block: window.block,
            pixels: pixels.as_ptr(),
            width,
            first: 0,
            count: 0,
            weights: data.as_ptr(),
            w_step: step,
            panels,
            panel_step,
            target: post.target(&out, of_panels, self.activate),
        };
        if panels > 1 {
            // Each panel has all of its columns.
            (args.target.hi, args.target.zeros) = (columns, 0);
        }
        let table = self.entries[window.places.step][vectors];
        // A line is split evenly: first the larger tiles, then those with one output less.
        let tiles = width.div_ceil(table.len());
        let size = even_piece(width, table.len());
        let larger = width - tiles * (size - 1);
        for (count, size) in [(larger, size), (tiles - larger, size - 1)] {
            if count > 0 {
                args.count = count;
                // SAFETY: the image, the lists and the weights were measured above for every output of the lines.
                // `out` lies in a region that this call borrows. The features were detected.
                unsafe { table[size - 1](&args) };
                args.first += count * size;
            }
        }
    }
}

impl RowsWindow<'_> {
    /// Checks everything that the outputs of the lines read.
    ///
    /// # Panics
    /// If the image is too short.
    fn measure(&self) {
        let Places { steps, taps, of_row, last_of_row, pixels, step, .. } = self.places;
        let rows = taps.len() / of_row;
        let mut needed = 0;
        for line in self.lines {
            assert!(line.rows <= rows && line.first <= rows - line.rows);
            if line.rows > 0 {
                let ahead = line.input_row.checked_sub(self.origin).expect("no row before the first");
                needed = needed.max(span([(ahead + 1, steps.line), (line.rows, steps.row)]));
            }
        }
        assert!(self.block.1 <= rows && 0 < self.width && self.width <= self.places.width);
        if needed > 0 {
            let last = pixels.get(self.width - 1).map_or((self.width - 1) * step, |&pixel| pixel as usize);
            let of_row = last_of_row.saturating_add(last);
            require("image of a tile of rows", needed.saturating_add(of_row), self.image.len());
        }
    }
}

/// The table of one instruction set: `rows_tile!(enter_isa, name: lanes 16, vectors 1 [1 2 3] vectors 2 [1 2])`. For each
/// number of vectors, the list has the numbers of outputs.
macro_rules! rows_tile {
    (@row $enter:ident, $step:literal, $nv:literal, [$($outputs:literal)+]) => {
        &[$(<super::rows::Rows<$outputs, $nv, $step>>::$enter as Entry<_>),+]
    };
    (@table $enter:ident, $step:literal, $($nv:literal $outputs:tt)+) => {
        &[$(rows_tile!(@row $enter, $step, $nv, $outputs)),+]
    };
    (@rows [$($outputs:literal)+]) => {
        [$($outputs),+].len()
    };
    (@last $only:tt) => {
        rows_tile!(@rows $only)
    };
    (@last $first:tt $($others:tt)+) => {
        rows_tile!(@last $($others)+)
    };
    ($enter:ident, $name:literal: lanes $lanes:literal, $(vectors $nv:literal $outputs:tt)+) => {
        RowsTile {
            name: $name,
            shape: TileShape { rows: rows_tile!(@last $($outputs)+), vectors: &[$($nv),+], lanes: $lanes },
            entries: [
                rows_tile!(@table $enter, 0, $($nv $outputs)+),
                rows_tile!(@table $enter, 1, $($nv $outputs)+),
                rows_tile!(@table $enter, 2, $($nv $outputs)+),
                rows_tile!(@table $enter, 3, $($nv $outputs)+),
                rows_tile!(@table $enter, 4, $($nv $outputs)+),
            ],
            activate: ActivateSums::$enter,
        }
    };
}
pub(super) use rows_tile;
