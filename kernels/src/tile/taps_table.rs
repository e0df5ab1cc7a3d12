//! [`GradientKernels`]: the kernels of the gradient of a filter of one instruction set, behind safe, length-checked
//! calls.
//!
//! The table belongs to a [`KernelSet`](super::table::KernelSet), which is returned only after its features were
//! detected.

use super::boundary::Entry;
use super::copy_table::dense;
use super::measure::{product, require, span, span_of_rows};
use super::output::{InPlace, OutputTile};
use super::partial::{MOST_PARTIALS, PartialArgs};
use super::taps::{TapsArgs, TapsLine};
use super::taps_depthwise::DepthwiseTapsArgs;

/// The kernels of the gradient of a filter.
pub(crate) struct GradientKernels {
    pub(crate) taps: TapsTile,
    pub(crate) depthwise: DepthwiseTapsTile,
    pub(super) partials: Entry<PartialArgs>,
}

/// The kernels for one number of taps.
pub(crate) struct TapsOfRun {
    /// The numbers of vectors that have kernels, ascending.
    pub(crate) vectors: &'static [usize],
    /// The kernels by number of vectors, then by number of channels from 1 on.
    pub(super) entries: &'static [&'static [Entry<TapsArgs>]],
}

/// The register tile of the gradient of a filter: taps by input channels by vectors of output channels.
pub(crate) struct TapsTile {
    pub(super) name: &'static str,
    pub(crate) lanes: usize,
    /// The kernels by number of taps, from 1 on.
    pub(crate) runs: &'static [TapsOfRun],
}

/// The tile of the gradient of a filter whose groups have one input channel: taps of one vector of channels.
pub(crate) struct DepthwiseTapsTile {
    pub(super) name: &'static str,
    pub(crate) lanes: usize,
    /// The kernels by number of kernel rows, then by number of kernel columns, both from 1 on.
    pub(super) entries: &'static [&'static [Entry<DepthwiseTapsArgs>]],
}

/// One vector of the pixels of a box.
#[derive(Clone, Copy)]
pub(crate) struct BoxPixels<'a> {
    /// The memory from the first pixel on.
    pub(crate) data: &'a [f32],
    /// Distances between images, rows and pixels.
    pub(crate) steps: [usize; 3],
    /// The distance from a pixel to the one in its place in the next box. It wraps around. That pixel is prefetched, unless
    /// the distance is 0.
    pub(crate) ahead: usize,
}

/// Taps of a kernel.
#[derive(Clone, Copy)]
pub(crate) struct BoxTaps {
    /// Numbers of kernel rows and columns.
    pub(crate) counts: [usize; 2],
    /// Distances between kernel rows and columns in the image.
    pub(crate) steps: [usize; 2],
}

/// The sums of a box. Each is a vector.
pub(crate) struct BoxSums<'a> {
    /// The sums of the taps, and the distances between kernel rows and columns.
    pub(crate) taps: &'a mut [f32],
    pub(crate) steps: [usize; 2],
    /// The sum of the gradients, if it is wanted.
    pub(crate) bias: Option<&'a mut [f32]>,
}

/// The operands of a box of `extents` images, rows and pixels of the output.
pub(crate) struct BoxOperands<'a> {
    pub(crate) extents: [usize; 3],
    /// The gradients of the output.
    pub(crate) go: BoxPixels<'a>,
    /// What the first tap reads of the image.
    pub(crate) x: BoxPixels<'a>,
    pub(crate) taps: BoxTaps,
    pub(crate) sums: BoxSums<'a>,
}

/// The gradient of the output, as a tile reads it.
#[derive(Clone, Copy)]
pub(crate) struct OutputPixels<'a> {
    /// The memory from the first channel of the tile on.
    pub(crate) data: &'a [f32],
    /// Distance between pixels.
    pub(crate) pixel: usize,
    /// Distance between blocks of 16 channels.
    pub(crate) block: usize,
    /// Whether the pixels that each line names are prefetched, if there is one tap.
    pub(crate) looks_ahead: bool,
}

/// The image, as a tile reads it.
#[derive(Clone, Copy)]
pub(crate) struct ImagePixels<'a> {
    /// The memory from the first channel of the tile on.
    pub(crate) data: &'a [f32],
    /// Distance between pixels of a run.
    pub(crate) pixel: usize,
    /// Number of channels, and the distance between them.
    pub(crate) channels: (usize, usize),
    /// The same for the image: one cache line for each pixel.
    pub(crate) looks_ahead: bool,
}

/// The sums of a tile. Their columns are output channels.
pub(crate) struct TapsSums<'a> {
    /// The memory from the first sum of the tile on.
    pub(crate) data: &'a mut [f32],
    /// Number of taps, and the distance between them.
    pub(crate) taps: (usize, usize),
    /// Distance between channels.
    pub(crate) channel: usize,
}

/// Partial sums of a gradient.
#[derive(Clone, Copy)]
pub(crate) struct Partials<'a> {
    /// The memory from the first partial sum of the first element on.
    pub(crate) data: &'a [f32],
    /// Distance between rows.
    pub(crate) row: usize,
    /// Number of partial sums of an element, and the distance between them.
    pub(crate) parts: (usize, usize),
}

impl TapsTile {
    /// `taps_f32_<taps times channels>x<columns>_<isa>`. Code, tests, benches and reports use this name.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// The most vectors of a tile with `taps` taps that `left` channels fill.
    pub(crate) fn vectors(&self, taps: usize, left: usize) -> usize {
        let wanted = left.div_ceil(self.lanes);
        let fitting = self.runs[taps - 1].vectors.iter().rev().find(|&&vectors| vectors <= wanted);
        *fitting.expect("every number of taps has a tile of one vector")
    }

    /// The most channels of a tile with `taps` taps by `vectors` vectors.
    pub(crate) fn channels(&self, taps: usize, vectors: usize) -> usize {
        self.runs[taps - 1].entries[self.runs[taps - 1].index_of(vectors)].len()
    }

    /// `sums += gradients * pixels` for the pixels of all lines.
    ///
    /// # Panics
    /// If an operand is too short, or no kernel has this number of taps, channels or vectors. That is a bug in this
    /// library.
    pub(crate) fn run(
        &self,
        vectors: usize,
        lines: &[TapsLine],
        go: OutputPixels<'_>,
        x: ImagePixels<'_>,
        sums: TapsSums<'_>,
    ) {
        let (taps, channels, columns) = (sums.taps.0, x.channels.0, vectors * self.lanes);
        let of_run = &self.runs[taps - 1];
        let kernel = of_run.entries[of_run.index_of(vectors)][channels - 1];
        for line in lines {
            assert!(line.lo <= line.hi && line.hi < line.count.saturating_add(taps));
            let of_pixel = span_of_rows((line.count, go.pixel), (columns, go.block));
            require("gradients of a tile", of_pixel.saturating_add(line.go), go.data.len());
            let of_run = span([(line.hi - line.lo, x.pixel), x.channels]);
            require("pixels of a tile", of_run.saturating_add(line.x), x.data.len());
        }
        let needed = span([sums.taps, (channels, sums.channel), (columns, 1)]);
        require("sums of a tile", needed, sums.data.len());
        let args = TapsArgs {
            lines: lines.as_ptr(),
            line_count: lines.len(),
            go: go.data.as_ptr(),
            go_pixel: go.pixel,
            go_block: go.block,
            go_looks_ahead: go.looks_ahead,
            x: x.data.as_ptr(),
            x_pixel: x.pixel,
            x_channel: x.channels.1,
            x_looks_ahead: x.looks_ahead,
            sums: sums.data.as_mut_ptr(),
            sums_tap: sums.taps.1,
            sums_channel: sums.channel,
        };
        // SAFETY: every operand was measured. The set that holds this table was returned only after its features were
        // detected.
        unsafe { kernel(&args) }
    }
}

impl DepthwiseTapsTile {
    /// `depthwise_taps_f32_<taps>x<columns>_<isa>`. Code, tests, benches and reports use this name.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// The most kernel rows and columns of one call.
    pub(crate) fn most(&self) -> [usize; 2] {
        [self.entries.len(), self.entries[0].len()]
    }

    /// `sums += gradients * pixels`, and `bias += gradients`.
    ///
    /// # Panics
    /// If an operand is too short, or no kernel has this number of taps. That is a bug in this library.
    pub(crate) fn run(&self, operands: &mut BoxOperands<'_>) {
        let BoxOperands { extents: [images, rows, pixels], go, x, taps, sums } = operands;
        let (images, rows, pixels) = (*images, *rows, *pixels);
        let [kernel_rows, kernel_columns] = taps.counts;
        let kernel = self.entries[kernel_rows - 1][kernel_columns - 1];
        let [image, row, pixel] = go.steps;
        let needed = span([(images, image), (rows, row), (pixels, pixel), (self.lanes, 1)]);
        require("gradients of a box", needed, go.data.len());
        let [image, row, pixel] = x.steps;
        let [kernel_row, kernel_column] = taps.steps;
        let of_taps = [(kernel_rows, kernel_row), (kernel_columns, kernel_column)];
        let needed =
            span([(images, image), (rows, row), (pixels, pixel), of_taps[0], of_taps[1], (self.lanes, 1)]);
        require("pixels of a box", needed, x.data.len());
        let [kernel_row, kernel_column] = sums.steps;
        let of_taps = [(kernel_rows, kernel_row), (kernel_columns, kernel_column)];
        require("sums of a box", span([of_taps[0], of_taps[1], (self.lanes, 1)]), sums.taps.len());
        let bias = sums.bias.as_mut().map_or(std::ptr::null_mut(), |bias| {
            require("sums of a bias", self.lanes, bias.len());
            bias.as_mut_ptr()
        });
        let args = DepthwiseTapsArgs {
            images,
            rows,
            pixels,
            go: go.data.as_ptr(),
            go_steps: go.steps,
            go_ahead: go.ahead,
            x: x.data.as_ptr(),
            x_steps: x.steps,
            x_ahead: x.ahead,
            tap_steps: taps.steps,
            sums: sums.taps.as_mut_ptr(),
            sums_steps: sums.steps,
            bias,
        };
        // SAFETY: every operand was measured. The set that holds this table was returned only after its features were
        // detected.
        unsafe { kernel(&args) }
    }
}

impl TapsOfRun {
    fn index_of(&self, vectors: usize) -> usize {
        self.vectors.iter().position(|&width| width == vectors).expect("a width of the table")
    }
}

impl GradientKernels {
    /// `out (+)=` the sum of the partial sums of each element.
    ///
    /// # Panics
    /// If an operand is too short, or there are too many partial sums. That is a bug in this library.
    pub(crate) fn add_partials(&self, from: &Partials<'_>, accumulate: bool, out: OutputTile<'_>) {
        let mut out = InPlace::of(&out);
        let Partials { data, mut row, parts: (count, step) } = *from;
        assert!(dense(&out) && (1..=MOST_PARTIALS).contains(&count));
        if product([out.rows, out.columns]) == 0 {
            return;
        }
        let needed = span([(count, step), (out.rows, row), (out.columns, 1)]);
        require("partial sums", needed, data.len());
        if out.row == out.columns && row == out.columns {
            row *= out.rows;
            out = InPlace { columns: out.rows * out.columns, rows: 1, ..out };
        }
        // SAFETY: the output is a borrowed tile with adjacent columns, and the partial sums were measured. The features
        // were detected.
        unsafe { (self.partials)(&PartialArgs { out, from: data.as_ptr(), row, step, count, accumulate }) }
    }
}

/// The kernels of one instruction set: `gradient_kernels!(enter_isa, name depthwise_name: lanes 16, taps 1 [1 x [1 2 3] 2 x [1 2]] ...)`. For each
/// number of taps, the numbers of vectors, and for each of them the numbers of channels from 1 on.
macro_rules! gradient_kernels {
    ($enter:ident, $name:literal $depthwise:literal: lanes $lanes:literal, $(taps $taps:tt [$($nv:literal by $channels:tt)+])+) => {
        super::taps_table::GradientKernels {
            taps: super::taps_table::TapsTile {
                name: $name,
                lanes: $lanes,
                runs: &[$(super::taps_table::TapsOfRun {
                    vectors: &[$($nv),+],
                    entries: &[$(gradient_kernels!(@row $enter, $taps, $nv, $channels)),+],
                }),+],
            },
            depthwise: super::taps_table::DepthwiseTapsTile {
                name: $depthwise,
                lanes: $lanes,
                entries: &[
                    gradient_kernels!(@box $enter, 1),
                    gradient_kernels!(@box $enter, 2),
                    gradient_kernels!(@box $enter, 3),
                ],
            },
            partials: super::partial::AddPartials::$enter,
        }
    };
    (@box $enter:ident, $kh:literal) => {
        &[
            <super::taps_depthwise::DepthwiseTaps<$kh, 1>>::$enter as Entry<_>,
            <super::taps_depthwise::DepthwiseTaps<$kh, 2>>::$enter as Entry<_>,
            <super::taps_depthwise::DepthwiseTaps<$kh, 3>>::$enter as Entry<_>,
            <super::taps_depthwise::DepthwiseTaps<$kh, 4>>::$enter as Entry<_>,
        ]
    };
    (@row $enter:ident, $taps:literal, $nv:literal, [$($mc:literal)+]) => {
        &[$(<super::taps::Taps<$taps, $mc, $nv>>::$enter as Entry<_>),+]
    };
}
pub(super) use gradient_kernels;
