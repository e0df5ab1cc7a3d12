//! [`GradTable`]: the kernels of gradients behind safe, length-checked calls.
//!
//! The table belongs to a [`KernelSet`](crate::tile::table::KernelSet), which is returned only after its features were
//! detected.

use super::activate::ActivateArgs;
use super::affine::AffineArgs;
use super::loss::LossArgs;
use super::pool::PoolArgs;
use super::sums::SumsArgs;
use super::{Rows, Tiles};
use crate::describe::{Activation, BLOCK};
use crate::tile::boundary::Entry;
use crate::tile::copy_table::{InputTile, dense, is_empty};
use crate::tile::layer_table::part_of;
use crate::tile::measure::{product, require};
use crate::tile::ops_table::{PoolSpec, Slopes};
use crate::tile::output::{InPlace, OutputTile};

/// Pixels whose losses one call computes at most.
pub(crate) const PIXELS_OF_LOSS: usize = 64;

/// The kernels of one instruction set.
pub(crate) struct GradTable {
    /// From inputs, and from outputs.
    pub(in crate::tile) activate: [Entry<ActivateArgs>; 2],
    /// Without and with a rectifier.
    pub(in crate::tile) affine: [Entry<AffineArgs>; 2],
    /// Sums of products, of the terms of PReLU slopes, and of products behind a rectifier.
    pub(in crate::tile) column_sums: [Entry<SumsArgs>; 3],
    pub(in crate::tile) run_sums: [Entry<SumsArgs>; 3],
    /// Averages, and maxima of any window, of 2x2 and of 3x3 taps.
    pub(in crate::tile) pool_block: [Entry<PoolArgs>; 4],
    /// Averages, and maxima.
    pub(in crate::tile) pool_planes: [Entry<PoolArgs>; 2],
    pub(in crate::tile) loss_columns: Entry<LossArgs>,
    pub(in crate::tile) loss_rows: Entry<LossArgs>,
}

/// `grad_table!(enter_<isa>, vectors of a block)`.
macro_rules! grad_table {
    ($enter:ident, $block:literal) => {{
        use super::grad::{activate, affine, loss, pool, pool_plane, sums};
        super::grad::table::GradTable {
            activate: [<activate::Activate<false>>::$enter, <activate::Activate<true>>::$enter],
            affine: [<affine::Affine<false>>::$enter, <affine::Affine<true>>::$enter],
            column_sums: [
                <sums::ColumnSums<sums::Products, $block>>::$enter,
                <sums::ColumnSums<sums::Negatives, $block>>::$enter,
                <sums::ColumnSums<sums::Gated, $block>>::$enter,
            ],
            run_sums: [
                <sums::RunSums<sums::Products>>::$enter,
                <sums::RunSums<sums::Negatives>>::$enter,
                <sums::RunSums<sums::Gated>>::$enter,
            ],
            pool_block: [
                <pool::PoolBlock<false, $block, 0>>::$enter,
                <pool::PoolBlock<true, $block, 0>>::$enter,
                <pool::PoolBlock<true, $block, 2>>::$enter,
                <pool::PoolBlock<true, $block, 3>>::$enter,
            ],
            pool_planes: [<pool_plane::PoolPlanes<false>>::$enter, <pool_plane::PoolPlanes<true>>::$enter],
            loss_columns: loss::LossColumns::$enter,
            loss_rows: loss::LossRows::$enter,
        }
    }};
}
pub(in crate::tile) use grad_table;

/// A tile of a gradient to write, and the tiles of the same rows and columns that it is computed from.
pub(crate) struct GradTiles<'a, 'b> {
    pub(crate) out: OutputTile<'a>,
    /// Whether to add to what `out` has.
    pub(crate) add: bool,
    /// The gradient of the output of the layer.
    pub(crate) gradient: InputTile<'b>,
    /// The input of the layer, or its output.
    pub(crate) value: InputTile<'b>,
}

/// The numbers of the gradient of a normalisation, one per channel of a tile:
/// `g * factor + (x - centre) * slope + shift`.
#[derive(Clone, Copy)]
pub(crate) struct GradLines<'a> {
    pub(crate) centre: &'a [f32],
    pub(crate) factor: &'a [f32],
    pub(crate) slope: &'a [f32],
    pub(crate) shift: &'a [f32],
}

/// A rectifier behind a batch normalisation: gradients pass where `lo < (x - centre) * factor + shift < hi`, with one
/// factor and shift per channel.
#[derive(Clone, Copy)]
pub(crate) struct GateLines<'a> {
    pub(crate) factor: &'a [f32],
    pub(crate) shift: &'a [f32],
    /// `lo` and `hi`.
    pub(crate) limits: [f32; 2],
}

/// The numbers of sums over pixels.
#[derive(Clone, Copy)]
pub(crate) struct SumLines<'a> {
    /// The number to subtract from each channel.
    pub(crate) centre: &'a [f32],
    /// A rectifier, for sums of products.
    pub(crate) gate: Option<GateLines<'a>>,
}

/// The terms that are summed over pixels.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SumOf {
    /// `g` and `g * (x - centre)`.
    Products,
    /// `g * min(x, 0)`. The second sum is zero.
    Negatives,
}

/// Labels of the pixels of a tile, and the factor of the gradient.
pub(crate) struct LossOf<'a> {
    pub(crate) labels: &'a [u32],
    pub(crate) weight: f32,
    /// Whether channels are rows (NCHW). Otherwise they are columns.
    pub(crate) per_row: bool,
}

impl SumLines<'_> {
    /// The numbers of the channels from the `first` on.
    pub(crate) fn from(self, first: usize) -> Self {
        let gate = self.gate.map(|gate| GateLines {
            factor: &gate.factor[first..],
            shift: &gate.shift[first..],
            limits: gate.limits,
        });
        Self { centre: &self.centre[first..], gate }
    }
}

/// The first `count` numbers, and zeros.
fn block_of(numbers: &[f32], count: usize) -> [f32; BLOCK] {
    let mut block = [0.0; BLOCK];
    block[..count].copy_from_slice(&numbers[..count]);
    block
}

/// The index of the kernel that sums.
fn kernel_of(of: SumOf, lines: SumLines<'_>) -> usize {
    match of {
        SumOf::Products if lines.gate.is_some() => 2,
        SumOf::Products | SumOf::Negatives => of as usize,
    }
}

impl GradTiles<'_, '_> {
    /// The tiles as pointers. None of them is empty.
    ///
    /// # Panics
    /// If a source is too short. That is a bug in this library.
    fn measured(self) -> Tiles {
        let out = InPlace::of(&self.out);
        let rows =
            |tile: InputTile<'_>| Rows { base: tile.measured(out.rows, out.columns), row: tile.at.row };
        Tiles { gradient: rows(self.gradient), value: rows(self.value), out, add: self.add }
    }

    fn is_empty(&self) -> bool {
        is_empty(&InPlace::of(&self.out))
    }
}

impl GradTable {
    /// `dx = g * act'(value)`. The values are outputs of the activation if `by_output`, and inputs otherwise.
    ///
    /// # Panics
    /// If the columns of a row are not adjacent, a source is too short or a slope is missing. That is a bug in this
    /// library.
    pub(crate) fn activate(
        &self,
        activation: Activation,
        slopes: Slopes<'_>,
        by_output: bool,
        tiles: GradTiles<'_, '_>,
    ) {
        if tiles.is_empty() {
            return;
        }
        let mut tiles = tiles.measured();
        let Slopes { values, per_row } = slopes;
        let out = &tiles.out;
        assert!(dense(out));
        if activation == Activation::PRelu {
            assert!(!by_output && values.len() >= if per_row { out.rows } else { out.columns });
        } else if [out.row, tiles.gradient.row, tiles.value.row] == [out.columns; 3] {
            // There are no gaps between rows, and all rows are treated alike, so they are one long row.
            tiles.out = InPlace { columns: out.rows * out.columns, rows: 1, ..tiles.out };
        }
        let args = ActivateArgs { tiles, activation, slope: values.as_ptr(), per_row };
        // SAFETY: the output is a borrowed tile, and the sources and slopes were measured. All have adjacent columns. The
        // features were detected.
        unsafe { self.activate[usize::from(by_output)](&args) }
    }

    /// `g = g * act'(value)` in place, where the values are outputs of the activation.
    ///
    /// # Panics
    /// As [`activate`](Self::activate).
    pub(crate) fn activate_in_place(
        &self,
        activation: Activation,
        gradient: OutputTile<'_>,
        value: InputTile<'_>,
    ) {
        let mut out = InPlace::of(&gradient);
        if is_empty(&out) {
            return;
        }
        assert!(dense(&out) && activation != Activation::PRelu);
        let mut value = Rows { base: value.measured(out.rows, out.columns), row: value.at.row };
        if [out.row, value.row] == [out.columns; 2] {
            out = InPlace { columns: out.rows * out.columns, rows: 1, ..out };
            value.row = 0;
        }
        let gradient = Rows { base: out.base.cast_const(), row: out.row };
        let tiles = Tiles { out, add: false, gradient, value };
        let args = ActivateArgs { tiles, activation, slope: std::ptr::null(), per_row: false };
        // SAFETY: the gradient is a borrowed tile, and the values were measured. Both have adjacent columns. The kernel reads
        // each element of the gradient before it writes that element. The features were detected.
        unsafe { self.activate[1](&args) }
    }

    /// `dx = g * factor + (value - centre) * slope + shift`, where `gate` first sets some `g` to zero.
    ///
    /// # Panics
    /// If the columns of a row are not adjacent, a source is too short or a number is missing. That is a bug in this
    /// library.
    pub(crate) fn affine(
        &self,
        lines: GradLines<'_>,
        gate: Option<GateLines<'_>>,
        per_row: bool,
        tiles: GradTiles<'_, '_>,
    ) {
        if tiles.is_empty() {
            return;
        }
        let tiles = tiles.measured();
        assert!(dense(&tiles.out));
        let channels = if per_row { tiles.out.rows } else { tiles.out.columns };
        let GradLines { centre, factor, slope, shift } = lines;
        let [gate_factor, gate_shift] = gate.map_or([factor, shift], |gate| [gate.factor, gate.shift]);
        let all = [centre, factor, slope, shift, gate_factor, gate_shift];
        assert!(all.iter().all(|numbers| numbers.len() >= channels));
        let args = AffineArgs {
            tiles,
            centre: centre.as_ptr(),
            factor: factor.as_ptr(),
            slope: slope.as_ptr(),
            shift: shift.as_ptr(),
            gate: [gate_factor.as_ptr(), gate_shift.as_ptr()],
            limits: gate.map_or([0.0; 2], |gate| gate.limits),
            per_row,
        };
        // SAFETY: as in `activate`. Every channel has its numbers.
        unsafe { self.affine[usize::from(gate.is_some())](&args) }
    }

    /// Sums of up to 16 adjacent channels over `pixels` pixels.
    ///
    /// # Panics
    /// If a source is too short or a number is missing. That is a bug in this library.
    pub(crate) fn column_sums(
        &self,
        of: SumOf,
        [gradient, value]: [InputTile<'_>; 2],
        (pixels, channels): (usize, usize),
        lines: SumLines<'_>,
    ) -> [[f32; BLOCK]; 2] {
        assert!(pixels > 0 && (1..=BLOCK).contains(&channels));
        let rows = |tile: InputTile<'_>| Rows { base: tile.measured(pixels, channels), row: tile.at.row };
        let mut sums = [[0.0; BLOCK]; 2];
        let args = SumsArgs {
            gradient: rows(gradient),
            value: rows(value),
            len: pixels,
            columns: channels,
            part: part_of(pixels),
            centre: block_of(lines.centre, channels),
            gate: lines.gate.map_or([[0.0; BLOCK]; 2], |gate| {
                [gate.factor, gate.shift].map(|numbers| block_of(numbers, channels))
            }),
            limits: lines.gate.map_or([0.0; 2], |gate| gate.limits),
            out: &raw mut sums,
        };
        // SAFETY: the sources were measured, and the sums are a local variable. The features were detected.
        unsafe { self.column_sums[kernel_of(of, lines)](&args) };
        sums
    }

    /// Sums of a run of adjacent elements of one channel.
    ///
    /// # Panics
    /// If the runs have different lengths, or a number is missing. That is a bug in this library.
    pub(crate) fn run_sums(
        &self,
        of: SumOf,
        gradient: &[f32],
        value: &[f32],
        lines: SumLines<'_>,
    ) -> [f32; 2] {
        assert!(gradient.len() == value.len());
        let mut sums = [[0.0; BLOCK]; 2];
        let args = SumsArgs {
            gradient: Rows { base: gradient.as_ptr(), row: 0 },
            value: Rows { base: value.as_ptr(), row: 0 },
            len: gradient.len(),
            columns: BLOCK,
            part: part_of(gradient.len() / BLOCK),
            centre: [lines.centre[0]; BLOCK],
            gate: lines
                .gate
                .map_or([[0.0; BLOCK]; 2], |gate| [[gate.factor[0]; BLOCK], [gate.shift[0]; BLOCK]]),
            limits: lines.gate.map_or([0.0; 2], |gate| gate.limits),
            out: &raw mut sums,
        };
        // SAFETY: both runs are borrowed, and the sums are a local variable. The features were detected.
        unsafe { self.run_sums[kernel_of(of, lines)](&args) };
        [sums[0][0], sums[1][0]]
    }

    /// The gradient of pooling an image. Its rows are pixels, and adjacent channels are columns; or they are planes if
    /// `per_row`. The sources begin at the first channel of the first pixel of their image.
    ///
    /// # Panics
    /// If a source is too short. That is a bug in this library.
    pub(crate) fn pool(&self, spec: &PoolSpec, per_row: bool, tiles: GradTiles<'_, '_>) {
        let GradTiles { out, add, gradient, value } = tiles;
        let out = InPlace::of(&out);
        if is_empty(&out) {
            return;
        }
        let pixels = product([spec.h.input(), spec.w.input()]);
        let outputs = product([spec.h.output(), spec.w.output()]);
        let (channels, own) = if per_row { (out.rows, out.columns) } else { (out.columns, out.rows) };
        assert!(own == pixels && dense(&out));
        let rows = |tile: InputTile<'_>, pixels: usize| {
            let (rows, columns) = if per_row { (channels, pixels) } else { (pixels, channels) };
            Rows { base: tile.measured(rows, columns), row: tile.at.row }
        };
        let dense = spec.h.dilation() == 1 && spec.w.dilation() == 1;
        let kernel = match (spec.max, per_row, spec.h.kernel(), spec.w.kernel()) {
            (max, true, ..) => self.pool_planes[usize::from(max)],
            (true, false, 2, 2) if dense => self.pool_block[2],
            (true, false, 3, 3) if dense => self.pool_block[3],
            (max, false, ..) => self.pool_block[usize::from(max)],
        };
        let args = PoolArgs {
            h: spec.h,
            w: spec.w,
            count_include_pad: spec.count_include_pad,
            sum: spec.sum,
            value: if spec.max { rows(value, pixels) } else { Rows { base: std::ptr::null(), row: 0 } },
            gradient: rows(gradient, outputs),
            out: out.base,
            out_row: out.row,
            channels,
            add,
        };
        // SAFETY: the output is a borrowed tile of all pixels, and the sources were measured. The features were detected.
        unsafe { kernel(&args) }
    }

    /// The losses of at most [`PIXELS_OF_LOSS`] pixels, and the gradient of their logits, which are the value of `tiles`.
    /// The tile has all channels. Its gradient is not read.
    ///
    /// # Panics
    /// If the logits are too short, a pixel has no label or loss, or a label is no channel. That is a bug in this library.
    pub(crate) fn loss(&self, of: &LossOf<'_>, tiles: GradTiles<'_, '_>, losses: &mut [f32]) {
        let GradTiles { out, add, value, .. } = tiles;
        let out = InPlace::of(&out);
        if is_empty(&out) {
            return;
        }
        let (channels, pixels) = if of.per_row { (out.rows, out.columns) } else { (out.columns, out.rows) };
        assert!(pixels <= PIXELS_OF_LOSS && losses.len() == pixels && (!of.per_row || dense(&out)));
        require("labels", pixels, of.labels.len());
        assert!(of.labels[..pixels].iter().all(|label| (*label as usize) < channels));
        let (mut sums, mut gaps) = ([0.0; PIXELS_OF_LOSS], [0.0; PIXELS_OF_LOSS]);
        let logits = Rows { base: value.measured(out.rows, out.columns), row: value.at.row };
        let args = LossArgs {
            tiles: Tiles { out, add, gradient: logits, value: logits },
            block: value.at.block,
            labels: of.labels.as_ptr(),
            weight: of.weight,
            sums: sums.as_mut_ptr(),
            gaps: gaps.as_mut_ptr(),
        };
        let kernel = if of.per_row { self.loss_rows } else { self.loss_columns };
        // SAFETY: the output is a borrowed tile, and the logits and labels were measured. The two arrays have an element
        // for each pixel. The features were detected.
        unsafe { kernel(&args) }
        for ((loss, sum), gap) in losses.iter_mut().zip(sums).zip(gaps) {
            *loss = (f64::from(sum).ln() + f64::from(gap)) as f32;
        }
    }
}
