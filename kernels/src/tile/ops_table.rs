//! [`OpsTable`]: the kernels of activation, softmax and pooling behind safe, length-checked calls.
//!
//! The table belongs to a [`KernelSet`](super::table::KernelSet), which is returned only after its features
//! were detected.

use super::boundary::Entry;
use super::elementwise::ActivateArgs;
use super::layer_table::LayerTable;
use super::measure::{product, require, span};
use super::output::InPlace;
use super::output::OutputTile;
use super::pool::{GlobalArgs, PoolArgs};
use super::pool_plane::PlanesArgs;
use super::window::WindowAxis;
use crate::describe::{Activation, BLOCK};
use std::ops::Range;

/// Number of channels of the wide kernel of global pooling, for layouts with more than one block of adjacent
/// channels.
pub(crate) const WIDE: usize = 4 * BLOCK;

/// Name of the input of pooling in errors.
const IMAGE: &str = "image of a pooling tile";

/// The kernels of one instruction set.
pub(crate) struct OpsTable {
    pub(super) activate: Entry<ActivateArgs>,
    pub(super) softmax_columns: Entry<InPlace>,
    pub(super) softmax_rows: Entry<InPlace>,
    pub(super) sum: PoolTable,
    pub(super) max: PoolTable,
    pub(crate) layers: LayerTable,
}

/// The pooling kernels of one reduction.
pub(super) struct PoolTable {
    /// Kernels as `(width, stride, kernel)` of the window. The last one takes every other window.
    pub(super) windows: [(usize, usize, Entry<PoolArgs>); 4],
    pub(super) global: Entry<GlobalArgs>,
    pub(super) global_wide: Entry<GlobalArgs>,
    pub(super) planes: Entry<PlanesArgs>,
    pub(super) global_planes: Entry<PlanesArgs>,
}

/// `ops_table!(enter_<isa>, vectors of a block)`.
macro_rules! ops_table {
    ($enter:ident, $block:literal) => {{
        use super::layer_table::layer_table;
        use super::ops_table::{PoolTable, pool_table};
        use super::{elementwise, reduce};
        OpsTable {
            activate: elementwise::Activate::$enter,
            softmax_columns: elementwise::SoftmaxColumns::$enter,
            softmax_rows: elementwise::SoftmaxRows::$enter,
            sum: pool_table!($enter, reduce::Sum, $block),
            max: pool_table!($enter, reduce::Max, $block),
            layers: layer_table!($enter, $block),
        }
    }};
}

macro_rules! pool_table {
    ($enter:ident, $reduce:path, $block:literal) => {{
        use super::{pool, pool_plane};
        PoolTable {
            windows: [
                (3, 1, <pool::PoolBlock<$reduce, $block, 3, 1>>::$enter),
                (3, 2, <pool::PoolBlock<$reduce, $block, 3, 2>>::$enter),
                (2, 2, <pool::PoolBlock<$reduce, $block, 2, 2>>::$enter),
                (0, 0, <pool::PoolBlock<$reduce, $block, 0, 0>>::$enter),
            ],
            global: <pool::GlobalBlock<$reduce, $block, 4>>::$enter,
            global_wide: <pool::GlobalBlock<$reduce, { 4 * $block }, 1>>::$enter,
            planes: <pool_plane::PoolPlanes<$reduce>>::$enter,
            global_planes: <pool_plane::GlobalPlanes<$reduce>>::$enter,
        }
    }};
}
pub(super) use {ops_table, pool_table};

/// PReLU slopes of a tile.
#[derive(Clone, Copy)]
pub(crate) struct Slopes<'a> {
    /// One slope per channel of the tile. It is empty unless the activation is PReLU.
    pub(crate) values: &'a [f32],
    /// Whether channels are rows (NCHW). Otherwise they are columns.
    pub(crate) per_row: bool,
}

/// The windows of a pooling layer and their reduction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct PoolSpec {
    pub(crate) h: WindowAxis,
    pub(crate) w: WindowAxis,
    /// Whether to take the maximum. Otherwise the average is taken.
    pub(crate) max: bool,
    pub(crate) count_include_pad: bool,
    /// Whether an average is multiplied by its divisor, which makes it a sum.
    pub(crate) sum: bool,
}

impl PoolSpec {
    /// Whether a single window covers the whole image.
    pub(crate) fn is_global(&self) -> bool {
        self.h.is_global() && self.w.is_global()
    }

    fn input_pixels(&self) -> usize {
        product([self.h.input(), self.w.input()])
    }
}

impl OpsTable {
    /// `x = activation(x)` in place. The columns of a row must be adjacent, so in Nchw16c they are at most
    /// one block.
    ///
    /// # Panics
    /// If they are not, or if a slope is missing. That is a bug in this library.
    pub(crate) fn activate(&self, activation: Activation, slopes: Slopes<'_>, tile: OutputTile<'_>) {
        let mut tile = InPlace::of(&tile);
        assert!(tile.columns <= BLOCK || tile.block == BLOCK);
        let Slopes { values, per_row } = slopes;
        if activation == Activation::PRelu {
            assert!(values.len() >= if per_row { tile.rows } else { tile.columns });
        } else if tile.row == tile.columns {
            // There are no gaps between rows, and all rows are treated alike, so they are one long row.
            tile = InPlace { columns: tile.rows * tile.columns, rows: 1, ..tile };
        }
        // SAFETY: the tile is borrowed, its columns are adjacent, and the slopes were measured. The features
        // were detected.
        unsafe { (self.activate)(&ActivateArgs { tile, activation, slope: values.as_ptr(), per_row }) }
    }

    /// Softmax in place. It takes each column if channels are rows, and each row otherwise.
    pub(crate) fn softmax(&self, tile: OutputTile<'_>, channels_are_rows: bool) {
        let tile = InPlace::of(&tile);
        assert!(!channels_are_rows || tile.columns <= BLOCK || tile.block == BLOCK);
        let kernel = if channels_are_rows { self.softmax_rows } else { self.softmax_columns };
        // SAFETY: the tile is borrowed, and its columns lie as `block` says. The features were detected.
        unsafe { kernel(&tile) }
    }

    fn pool_table(&self, spec: &PoolSpec) -> &PoolTable {
        if spec.max { &self.max } else { &self.sum }
    }

    /// Computes output rows `y` of an image whose channels are columns. `input` begins at the first of these
    /// channels in the first pixel of the image. Pixels are `pixel` apart. There are at most [`BLOCK`]
    /// columns, or [`WIDE`] adjacent columns if the window covers the whole image.
    ///
    /// # Panics
    /// If an operand is too short. That is a bug in this library.
    pub(crate) fn pool_block(
        &self,
        spec: &PoolSpec,
        input: &[f32],
        pixel: usize,
        y: Range<usize>,
        out: OutputTile<'_>,
    ) {
        let table = self.pool_table(spec);
        let out = InPlace::of(&out);
        assert!(y.end <= spec.h.output() && out.rows == product([y.len(), spec.w.output()]));
        require(IMAGE, span([(spec.input_pixels(), pixel), (out.columns, 1)]), input.len());
        if spec.is_global() {
            assert!(out.columns <= BLOCK || (out.columns == WIDE && out.block == BLOCK));
            let kernel = if out.columns <= BLOCK { table.global } else { table.global_wide };
            let pixels = spec.input_pixels();
            let args = GlobalArgs {
                input: input.as_ptr(),
                pixels,
                pixel,
                block: (pixels.isqrt() + 1).next_multiple_of(16),
                scale: if spec.sum { 1.0 } else { 1.0 / pixels as f32 },
                out: out.base,
                columns: out.columns,
            };
            // SAFETY: the input was measured above, and the output is a borrowed tile. The features were
            // detected.
            unsafe { kernel(&args) };
            return;
        }
        assert!(out.columns <= BLOCK);
        let dense = spec.w.dilation() == 1;
        let known = table.windows.iter().find(|(width, stride, _)| {
            *width == 0 || (dense && (*width, *stride) == (spec.w.kernel(), spec.w.stride()))
        });
        let (_, _, kernel) = known.expect("the last is for every window");
        let args = pool_args(spec, input, pixel, y, &out);
        // SAFETY: the input was measured above, and the output is a borrowed tile. The features were
        // detected.
        unsafe { kernel(&args) }
    }

    /// Computes output rows `y` of NCHW planes. `input` begins with the first plane, and planes are `plane`
    /// apart. `out` has one row per plane.
    ///
    /// # Panics
    /// If an operand is too short. That is a bug in this library.
    pub(crate) fn pool_planes(
        &self,
        spec: &PoolSpec,
        input: &[f32],
        plane: usize,
        y: Range<usize>,
        out: OutputTile<'_>,
    ) {
        let out = InPlace::of(&out);
        assert!(y.end <= spec.h.output() && out.columns == product([y.len(), spec.w.output()]));
        assert!(out.block == BLOCK);
        if out.rows == 0 || out.columns == 0 {
            return;
        }
        require(IMAGE, span([(out.rows, plane), (spec.input_pixels(), 1)]), input.len());
        let table = self.pool_table(spec);
        let kernel = if spec.is_global() { table.global_planes } else { table.planes };
        let pool = pool_args(spec, input, 1, y, &out);
        // SAFETY: the input was measured above. The output is a borrowed tile with adjacent columns. The
        // features were detected.
        unsafe { kernel(&PlanesArgs { pool, planes: out.rows, plane, out_plane: out.row }) }
    }
}

fn pool_args(spec: &PoolSpec, input: &[f32], pixel: usize, y: Range<usize>, out: &InPlace) -> PoolArgs {
    PoolArgs {
        h: spec.h,
        w: spec.w,
        count_include_pad: spec.count_include_pad,
        sum: spec.sum,
        input: input.as_ptr(),
        pixel,
        y,
        out: out.base,
        out_pixel: out.row,
        columns: out.columns,
    }
}
