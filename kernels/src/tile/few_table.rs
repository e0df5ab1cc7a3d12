//! [`FewKernels`]: the tiles of convolutions with few output channels, behind one safe, length-checked call.
//!
//! The table belongs to a [`KernelSet`](super::table::KernelSet), which is returned only after its features were
//! detected.

use super::boundary::Entry;
use super::few::FewArgs;
pub(crate) use super::few::MOST_OUTPUTS;
use super::measure::{product, require, span};
use super::output::OutputTile;
use super::post::Post;
use super::store::SumsArgs;
use crate::describe::BLOCK;

/// The tiles of one instruction set.
pub struct FewKernels {
    pub(super) name: &'static str,
    pub(super) lanes: usize,
    /// For each number of output channels: the pixels of the large tile, that tile, and the tile of one pixel.
    pub(super) tiles: [(usize, Entry<FewArgs>, Entry<FewArgs>); MOST_OUTPUTS],
    pub(super) activate: Entry<SumsArgs>,
}

/// The taps of some adjacent output pixels of a row.
#[derive(Clone, Copy)]
pub(crate) struct FewWindow<'a> {
    /// The memory from the first channel of the first tap of pixel 0 on.
    pub(crate) image: &'a [f32],
    /// Distances in the image: between output pixels, taps, kernel rows and chunks of channels.
    pub(crate) pixel: usize,
    pub(crate) tap: usize,
    pub(crate) row: usize,
    pub(crate) chunk: usize,
    pub(crate) taps: usize,
    pub(crate) rows: usize,
    /// Input channels of this block of K.
    pub(crate) channels: usize,
}

/// The weights of a panel from the first tap on, `[kernel row][tap][chunk][output][16]`.
#[derive(Clone, Copy)]
pub(crate) struct FewWeights<'a> {
    pub(crate) data: &'a [f32],
    /// Distances between kernel rows and between taps.
    pub(crate) row: usize,
    pub(crate) tap: usize,
    /// Output channels.
    pub(crate) outputs: usize,
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

    /// Pixels of the large tile for `outputs` output channels.
    pub(crate) fn pixels(&self, outputs: usize) -> usize {
        self.tiles[outputs - 1].0
    }

    /// `out = act(bias + window * weights + residual)` for adjacent pixels, the rows of `out`. Between blocks of K, the
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
        let (pixels, outputs) = (out.rows, weights.outputs);
        if pixels == 0 {
            return;
        }
        assert!(out.hi <= outputs && outputs <= MOST_OUTPUTS && !post.per_row && window.channels > 0);
        let (chunks, tail) = (window.channels / BLOCK, window.channels % BLOCK);
        if window.rows > 0 && window.taps > 0 {
            let of = |chunks, channels| {
                let across = [(pixels, window.pixel), (window.taps, window.tap), (window.rows, window.row)];
                span([across[0], across[1], across[2], (chunks, window.chunk), (channels, 1)])
            };
            let needed = of(chunks, BLOCK).max(of(chunks + 1, tail));
            require("image of a tile of few outputs", needed, window.image.len());
            let of_tap = product([window.channels.div_ceil(BLOCK), outputs, BLOCK]);
            let needed = span([(window.rows, weights.row), (window.taps, weights.tap), (of_tap, 1)]);
            require("weights of a tile of few outputs", needed, weights.data.len());
        }
        let partial = !(post.first && post.last);
        require("partial sums", if partial { self.sums_len(pixels) } else { 0 }, sums.len());
        // A vector has at least as many lanes as there are outputs.
        let target = post.target(&out, self.lanes, self.activate);
        let mut args = FewArgs {
            image: window.image.as_ptr(),
            pixel: window.pixel,
            tap_step: window.tap,
            row_step: window.row,
            chunk_step: window.chunk,
            taps: window.taps,
            rows: window.rows,
            chunks,
            tail,
            weights: weights.data.as_ptr(),
            w_row: weights.row,
            w_tap: weights.tap,
            count: 0,
            sums: sums.as_mut_ptr(),
            target,
        };
        let (of_tile, large, single) = self.tiles[outputs - 1];
        let mut start = 0;
        for (entry, of_tile) in [(large, of_tile), (single, 1)] {
            args.count = (pixels - start) / of_tile;
            args.image = window.image.as_ptr().wrapping_add(start.wrapping_mul(window.pixel));
            args.sums = sums.as_mut_ptr().wrapping_add(start * outputs * self.lanes);
            args.target = target.ahead(start * target.out.row, start * target.residual.row);
            // SAFETY: the operands were measured above. The output tile lies in a region that this call borrows. The
            // set that holds this table was returned only after its features were detected.
            unsafe { entry(&args) };
            start += args.count * of_tile;
        }
    }
}

/// `few_kernels!(enter_<isa>, name: lanes, pixels of the large tile for one to four outputs)`.
macro_rules! few_kernels {
    ($enter:ident, $name:literal: lanes $lanes:literal, pixels [$one:literal $two:literal $three:literal $four:literal]) => {{
        use super::few::Few;
        super::few_table::FewKernels {
            name: $name,
            lanes: $lanes,
            tiles: [
                ($one, <Few<$one, 1>>::$enter, <Few<1, 1>>::$enter),
                ($two, <Few<$two, 2>>::$enter, <Few<1, 2>>::$enter),
                ($three, <Few<$three, 3>>::$enter, <Few<1, 3>>::$enter),
                ($four, <Few<$four, 4>>::$enter, <Few<1, 4>>::$enter),
            ],
            activate: super::store::ActivateSums::$enter,
        }
    }};
}
pub(super) use few_kernels;
