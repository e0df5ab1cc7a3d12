//! [`LayerTable`]: the kernels of sums, products, normalisation, local response normalisation and maxout, behind
//! safe, length-checked calls.
//!
//! The table belongs to an [`OpsTable`](super::ops_table::OpsTable), and so to a set that is returned only
//! after its features were detected.

use super::affine::AffineArgs;
use super::boundary::Entry;
use super::combine::CombineArgs;
use super::copy_table::{InputTile, dense, is_empty};
use super::lrn::{LrnArgs, Power};
use super::maxout::MaxoutArgs;
use super::measure::product;
use super::moments::{MomentsArgs, Sums};
use super::output::InPlace;
use super::output::OutputTile;
use crate::describe::{Activation, BLOCK};

/// The kernels of one instruction set.
pub(crate) struct LayerTable {
    /// Sums, and products.
    pub(super) combine: [Entry<CombineArgs>; 2],
    /// Without a centre, and with a centre.
    pub(super) affine: [Entry<AffineArgs>; 2],
    /// Sums alone, and sums with sums of squares.
    pub(super) column_moments: [Entry<MomentsArgs>; 2],
    pub(super) run_moments: [Entry<MomentsArgs>; 2],
    pub(super) lrn_columns: Entry<LrnArgs>,
    pub(super) lrn_rows: Entry<LrnArgs>,
    pub(super) maxout_columns: Entry<MaxoutArgs>,
    pub(super) maxout_rows: Entry<MaxoutArgs>,
}

/// `layer_table!(enter_<isa>, vectors of a block)`.
macro_rules! layer_table {
    ($enter:ident, $block:literal) => {{
        use super::{affine, combine, lrn, maxout, moments};
        super::layer_table::LayerTable {
            combine: [<combine::Combine<false>>::$enter, <combine::Combine<true>>::$enter],
            affine: [<affine::Affine<false>>::$enter, <affine::Affine<true>>::$enter],
            column_moments: [
                <moments::ColumnMoments<$block, false>>::$enter,
                <moments::ColumnMoments<$block, true>>::$enter,
            ],
            run_moments: [<moments::RunMoments<false>>::$enter, <moments::RunMoments<true>>::$enter],
            lrn_columns: lrn::LrnColumns::$enter,
            lrn_rows: lrn::LrnRows::$enter,
            maxout_columns: maxout::MaxoutColumns::$enter,
            maxout_rows: maxout::MaxoutRows::$enter,
        }
    }};
}
pub(super) use layer_table;

/// The numbers of an affine map, one per channel of a tile.
#[derive(Clone, Copy)]
pub(crate) struct Lines<'a> {
    /// The numbers to subtract first, if any.
    pub(crate) centre: Option<&'a [f32]>,
    pub(crate) factor: &'a [f32],
    /// The numbers to add, if any.
    pub(crate) shift: Option<&'a [f32]>,
    /// Any except PReLU. With a centre, only none, ReLU or a clip.
    pub(crate) activation: Activation,
}

impl<'a> Lines<'a> {
    /// A factor per channel, and nothing else.
    pub(crate) fn of_factor(factor: &'a [f32]) -> Self {
        Self { centre: None, factor, shift: None, activation: Activation::None }
    }
}

/// The channel window of a local response normalisation, and the constants of its formula.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Response {
    /// Number of channels of a window before and after the channel itself.
    pub(crate) before: usize,
    pub(crate) after: usize,
    pub(crate) k: f32,
    /// Already divided by the size of the window.
    pub(crate) alpha: f32,
    pub(crate) power: Power,
}

impl LayerTable {
    /// `x = activation(x + addend)` in place, for any activation except PReLU. The columns of a row must be
    /// adjacent.
    ///
    /// # Panics
    /// If they are not, or if the addend is too short. That is a bug in this library.
    pub(crate) fn add(&self, addend: InputTile<'_>, activation: Activation, tile: OutputTile<'_>) {
        self.combine(self.combine[0], addend, activation, tile);
    }

    /// `x = x * factor` in place. The columns of a row must be adjacent.
    ///
    /// # Panics
    /// If they are not, or if the factor is too short. That is a bug in this library.
    pub(crate) fn multiply(&self, factor: InputTile<'_>, tile: OutputTile<'_>) {
        self.combine(self.combine[1], factor, Activation::None, tile);
    }

    fn combine(
        &self,
        kernel: Entry<CombineArgs>,
        other: InputTile<'_>,
        activation: Activation,
        tile: OutputTile<'_>,
    ) {
        let mut tile = InPlace::of(&tile);
        assert!(dense(&tile) && activation != Activation::PRelu);
        if is_empty(&tile) {
            return;
        }
        let from = other.measured(tile.rows, tile.columns);
        if tile.row == tile.columns && other.at.row == tile.columns {
            tile = InPlace { columns: tile.rows * tile.columns, rows: 1, ..tile };
        }
        // SAFETY: the tile is borrowed, and the other tile was measured. Both have adjacent columns. The features
        // were detected.
        unsafe { kernel(&CombineArgs { tile, other: from, other_row: other.at.row, activation }) }
    }

    /// `x = activation((x - centre) * factor + shift)` in place. The columns of a row must be adjacent.
    ///
    /// # Panics
    /// If they are not, or if a number is missing. That is a bug in this library.
    pub(crate) fn normalize_in_place(&self, lines: Lines<'_>, per_row: bool, tile: OutputTile<'_>) {
        let out = InPlace::of(&tile);
        let (src, src_row) = (out.base.cast_const(), out.row);
        // SAFETY: the source is the tile itself, which is borrowed.
        unsafe { self.affine(src, src_row, lines, per_row, out) };
    }

    /// `y = activation((x - centre) * factor + shift)`. The columns of a row must be adjacent.
    ///
    /// # Panics
    /// If they are not, if the source is too short, or if a number is missing. That is a bug in this library.
    pub(crate) fn normalize(&self, src: InputTile<'_>, lines: Lines<'_>, per_row: bool, out: OutputTile<'_>) {
        let out = InPlace::of(&out);
        if !is_empty(&out) {
            let from = src.measured(out.rows, out.columns);
            // SAFETY: the output is a borrowed tile, and the source was measured.
            unsafe { self.affine(from, src.at.row, lines, per_row, out) };
        }
    }

    /// # Safety
    /// `out` must be a borrowed tile. `src` must be valid for reading the same columns. Its rows are
    /// `src_row` apart.
    unsafe fn affine(&self, src: *const f32, src_row: usize, lines: Lines<'_>, per_row: bool, out: InPlace) {
        let Lines { centre, factor, shift, activation } = lines;
        assert!(dense(&out) && activation != Activation::PRelu);
        let channels = if per_row { out.rows } else { out.columns };
        for numbers in [centre.unwrap_or(factor), factor, shift.unwrap_or(factor)] {
            assert!(numbers.len() >= channels);
        }
        let kernel = self.affine[usize::from(centre.is_some())];
        let args = AffineArgs {
            out,
            src,
            src_row,
            centre: centre.unwrap_or_default().as_ptr(),
            factor: factor.as_ptr(),
            shift: shift.map_or(std::ptr::null(), <[f32]>::as_ptr),
            activation,
            per_row,
        };
        // SAFETY: the caller guarantees source and output. Columns and numbers were checked above. The
        // features were detected.
        unsafe { kernel(&args) }
    }

    /// Sums up to 16 adjacent channels over `pixels` pixels. With a centre, it also sums the squares.
    ///
    /// # Panics
    /// If the source is too short. That is a bug in this library.
    pub(crate) fn column_moments(
        &self,
        src: InputTile<'_>,
        pixels: usize,
        channels: usize,
        centre: Option<[f32; BLOCK]>,
    ) -> Sums {
        assert!(pixels > 0 && (1..=BLOCK).contains(&channels));
        let mut sums = Sums { plain: [0.0; BLOCK], squares: [0.0; BLOCK] };
        let args = MomentsArgs {
            src: src.measured(pixels, channels),
            len: pixels,
            pixel: src.at.row,
            columns: channels,
            part: part_of(pixels),
            centre: centre.unwrap_or_default(),
            out: &raw mut sums,
        };
        // SAFETY: the source was measured, and the sums are a local variable. The features were detected.
        unsafe { self.column_moments[usize::from(centre.is_some())](&args) };
        sums
    }

    /// Returns the sum of a run of adjacent elements. With a centre, it also returns the sum of squares.
    pub(crate) fn run_moments(&self, run: &[f32], centre: Option<f32>) -> (f32, f32) {
        let mut sums = Sums { plain: [0.0; BLOCK], squares: [0.0; BLOCK] };
        let args = MomentsArgs {
            src: run.as_ptr(),
            len: run.len(),
            pixel: 1,
            columns: BLOCK,
            part: part_of(run.len() / BLOCK),
            centre: [centre.unwrap_or_default(); BLOCK],
            out: &raw mut sums,
        };
        // SAFETY: the run is borrowed, and the sums are a local variable. The features were detected.
        unsafe { self.run_moments[usize::from(centre.is_some())](&args) };
        (sums.plain[0], sums.squares[0])
    }

    /// Local response normalisation of the channels of `out`, which are channels `first..` of `channels`. The
    /// source begins with channel 0 of the same pixel. Channels are rows or columns, as in the source.
    ///
    /// # Panics
    /// If the source is too short. That is a bug in this library.
    pub(crate) fn lrn(
        &self,
        response: &Response,
        src: InputTile<'_>,
        (first, channels): (usize, usize),
        per_row: bool,
        out: OutputTile<'_>,
    ) {
        let out = InPlace::of(&out);
        if is_empty(&out) {
            return;
        }
        let (own, pixels) = if per_row { (out.rows, out.columns) } else { (out.columns, out.rows) };
        assert!(own <= channels && first <= channels - own);
        assert!(dense(&out) || (!per_row && first.is_multiple_of(BLOCK)));
        let base = if per_row { src.measured(channels, pixels) } else { src.measured(pixels, channels) };
        let args = LrnArgs {
            out,
            src: base,
            src_row: src.at.row,
            src_block: src.at.block,
            first,
            channels,
            before: response.before.min(channels),
            after: response.after.min(channels),
            k: response.k,
            alpha: response.alpha,
            power: response.power,
        };
        let kernel = if per_row { self.lrn_rows } else { self.lrn_columns };
        // SAFETY: the output is a borrowed tile, and all channels of its pixels were measured. The features
        // were detected.
        unsafe { kernel(&args) }
    }

    /// For each channel of `out`, the largest of `pieces` input channels. The first input channel of the
    /// first output channel is channel `first`. The source begins with channel 0 of the same pixel.
    ///
    /// # Panics
    /// If the source is too short. That is a bug in this library.
    pub(crate) fn maxout(
        &self,
        pieces: usize,
        src: InputTile<'_>,
        first: usize,
        per_row: bool,
        out: OutputTile<'_>,
    ) {
        let out = InPlace::of(&out);
        if is_empty(&out) {
            return;
        }
        assert!(dense(&out) || !per_row);
        let (channels, pixels) = if per_row { (out.rows, out.columns) } else { (out.columns, out.rows) };
        let end = product([channels, pieces]).saturating_add(first);
        let base = if per_row { src.measured(end, pixels) } else { src.measured(pixels, end) };
        let (src_row, src_block) = (src.at.row, src.at.block);
        let kernel = if per_row { self.maxout_rows } else { self.maxout_columns };
        // SAFETY: the output is a borrowed tile, and the input channels of its pixels were measured. The
        // features were detected.
        unsafe { kernel(&MaxoutArgs { out, src: base, src_row, src_block, first, pieces }) }
    }
}

/// About the square root of `terms`, rounded up to a multiple of 16.
pub(super) fn part_of(terms: usize) -> usize {
    (terms.isqrt() + 1).next_multiple_of(16)
}
