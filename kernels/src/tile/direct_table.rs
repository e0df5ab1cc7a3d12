//! [`DirectTile`]: the tiles of direct convolution of one instruction set, behind a safe, length-checked call.
//!
//! Part of a [`KernelSet`](super::table::KernelSet), which is handed out only after its features were detected.

use super::boundary::Entry;
use super::direct::{CHUNK, DirectArgs, MOST_PIXELS, Run};
use super::output::OutTile;
use super::store::SumsArgs;
use super::table::{Post, TileShape};

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

/// The runs of a kernel row for one tile, and how far they reach.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RunList {
    runs: Vec<Run>,
    /// Pixels of the tile that they are for.
    pixels: usize,
    /// Pixels from one pixel of a run to the next.
    stride: usize,
    /// One past the last pixel that is read; 0 if all are padding.
    end: usize,
    /// Taps of all runs.
    taps: usize,
    /// Taps of the longest.
    longest: usize,
    /// Whether no pixel is padding.
    inside: bool,
}

impl RunList {
    /// # Panics
    /// If a run begins before the row: a defect of this library.
    pub(crate) fn new(runs: Vec<Run>, pixels: usize, stride: usize) -> Self {
        let mut list = Self { runs: Vec::new(), pixels, stride, end: 0, taps: 0, longest: 0, inside: true };
        for run in &runs {
            let reach = pixels + run.taps - 1;
            assert!(run.taps > 0 && run.hi <= reach && pixels <= MOST_PIXELS);
            if run.lo < run.hi {
                let position = |j: usize| run.first.checked_add_unsigned(j * stride);
                let (first, last) = (position(run.lo), position(run.hi - 1));
                assert!(first.is_some_and(|x| x >= 0));
                list.end = list.end.max(last.map_or(usize::MAX, |x| x as usize) + 1);
            }
            list.taps += run.taps;
            list.longest = list.longest.max(run.taps);
            list.inside &= run.lo == 0 && run.hi == reach;
        }
        list.runs = runs;
        list
    }

    /// Runs of a kernel row.
    pub(crate) fn len(&self) -> usize {
        self.runs.len()
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
    /// `[chunk][kernel row][run][channel][tap]`, `step` elements each.
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

    /// `out = act(bias + sum + residual)` over all of `k`.
    ///
    /// # Panics
    /// If an operand is too short: a defect of this library.
    pub(crate) fn run(
        &self,
        runs: &RunList,
        k: &DirectK,
        image: DirectImage<'_>,
        weights: DirectWeights<'_>,
        out: OutTile<'_>,
        post: &Post<'_>,
    ) {
        let OutTile { rows: pixels, lo, hi, .. } = out;
        if lo >= hi {
            return;
        }
        let wanted = hi.div_ceil(self.shape.lanes);
        let size =
            self.pixels.iter().position(|&most| most == pixels).expect("a number of pixels of the table");
        let width =
            self.shape.vectors.iter().position(|&most| most >= wanted).expect("at most the whole width");
        let vectors = self.shape.vectors[width];
        assert!(runs.pixels == pixels && runs.longest <= self.taps);
        assert!(k.chunks > 0 && k.first_row + k.rows <= k.kernel_rows);
        assert!(k.last_channels > 0 && k.last_channels <= k.channels);
        if image.packed {
            assert!(image.pixel == 1 && runs.stride == 1 && runs.inside && k.chunks == 1);
        } else {
            assert!(image.channel == 1 && (runs.inside || k.channels <= CHUNK));
        }
        if k.rows > 0 && runs.end > 0 {
            let row = (k.rows - 1) * image.row + (runs.end - 1) * image.pixel;
            let end =
                |chunk: usize, channels: usize| chunk * image.chunk + row + (channels - 1) * image.channel;
            assert!(end(k.chunks - 1, k.last_channels) < image.data.len());
            assert!(k.chunks == 1 || end(k.chunks - 2, k.channels) < image.data.len());
        }
        let steps = ((k.chunks - 1) * k.channels + k.last_channels) * k.kernel_rows * runs.taps;
        assert!((steps - 1) * weights.step + vectors * self.shape.lanes <= weights.data.len());
        let target = post.target(&out, vectors * self.shape.lanes, self.activate);
        let table = if image.packed { self.packed } else { self.image };
        // A hint that is not wanted goes to what is near anyway.
        let (hint, hint_step) =
            if weights.hint.is_empty() { (weights.data, 0) } else { (weights.hint, CHUNK) };
        let args = DirectArgs {
            image: image.data.as_ptr(),
            chunk_step: image.chunk,
            row_step: image.row,
            channel_step: image.channel,
            pixel: image.pixel,
            run_step: runs.stride * image.pixel,
            chunks: k.chunks,
            channels: k.channels,
            last_channels: k.last_channels,
            first_row: k.first_row,
            rows: k.rows,
            kernel_rows: k.kernel_rows,
            runs: runs.runs.as_ptr(),
            run_count: runs.runs.len(),
            row_taps: runs.taps,
            weights: weights.data.as_ptr(),
            w_step: weights.step,
            hint: hint.as_ptr(),
            hint_step,
            first: post.first,
            target,
        };
        // SAFETY: image and weights were measured above, the output tile is inside a region that this call borrows,
        // and the set that holds this table was handed out after its features were detected.
        unsafe { table[size][width](&args) }
    }
}

/// The table of one instruction set: `direct_tile!(enter_isa, name: lanes 16, taps 3, widths [1 2], pixels [1 2 4])`.
macro_rules! direct_tile {
    (@row $enter:ident, $pixels:literal, $taps:literal, $packed:literal, [$($nv:literal)+]) => {
        &[$(boundary::$enter::<super::direct::Direct<$pixels, $nv, $taps, $packed>> as Entry<_>),+]
    };
    (@table $enter:ident, $taps:literal, $packed:literal, $widths:tt, [$($pixels:literal)+]) => {
        &[$(direct_tile!(@row $enter, $pixels, $taps, $packed, $widths)),+]
    };
    (@shape $lanes:literal, [$($nv:literal)+], [$($pixels:literal)+]) => {
        TileShape {
            rows: [$($pixels),+][[$($pixels),+].len() - 1],
            vectors: &[$($nv),+],
            lanes: $lanes,
        }
    };
    (@list [$($pixels:literal)+]) => { &[$($pixels),+] };
    ($enter:ident, $name:literal: lanes $lanes:literal, taps $taps:literal, widths $widths:tt, pixels $pixels:tt) => {
        DirectTile {
            name: $name,
            shape: direct_tile!(@shape $lanes, $widths, $pixels),
            taps: $taps,
            pixels: direct_tile!(@list $pixels),
            image: direct_tile!(@table $enter, $taps, false, $widths, $pixels),
            packed: direct_tile!(@table $enter, $taps, true, $widths, $pixels),
            activate: boundary::$enter::<ActivateSums>,
        }
    };
}
pub(super) use direct_tile;
