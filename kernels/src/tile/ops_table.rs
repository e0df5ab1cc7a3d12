//! [`OpsTable`]: the kernels of activation, softmax and pooling behind safe, length-checked calls.
//!
//! Part of a [`KernelSet`](super::table::KernelSet), which is handed out only after its features were detected.

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

/// Channels of the wide global kernel, for layouts whose channels go on for longer than a block.
pub(crate) const WIDE: usize = 4 * BLOCK;

/// What errors call the input of pooling.
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
    /// By width and stride of the window: `(width, stride, kernel)`; the last is for every other window.
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
    /// One per channel of the tile, empty unless the activation is PReLU.
    pub(crate) values: &'a [f32],
    /// Whether channels are rows (NCHW) rather than columns.
    pub(crate) per_row: bool,
}

/// What is joined, and over which windows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct PoolSpec {
    pub(crate) h: WindowAxis,
    pub(crate) w: WindowAxis,
    /// The largest element, or else the average.
    pub(crate) max: bool,
    pub(crate) count_include_pad: bool,
}

impl PoolSpec {
    /// Whether one window is the whole image.
    pub(crate) fn is_global(&self) -> bool {
        self.h.is_global() && self.w.is_global()
    }

    fn input_pixels(&self) -> usize {
        product([self.h.input(), self.w.input()])
    }
}

impl OpsTable {
    /// `x = activation(x)` in place. The tile's columns must be neighbours: one block at most in Nchw16c.
    ///
    /// # Panics
    /// If they are not, or a slope is missing: a defect of this library.
    pub(crate) fn activate(&self, activation: Activation, slopes: Slopes<'_>, tile: OutputTile<'_>) {
        let mut tile = InPlace::of(&tile);
        assert!(tile.columns <= BLOCK || tile.block == BLOCK);
        let Slopes { values, per_row } = slopes;
        if activation == Activation::PRelu {
            assert!(values.len() >= if per_row { tile.rows } else { tile.columns });
        } else if tile.row == tile.columns {
            // Rows without a gap, and nothing that differs from one to the next.
            tile = InPlace { columns: tile.rows * tile.columns, rows: 1, ..tile };
        }
        // SAFETY: the tile is borrowed, its columns neighbours and the slopes measured; the features were detected.
        unsafe { (self.activate)(&ActivateArgs { tile, activation, slope: values.as_ptr(), per_row }) }
    }

    /// Softmax in place: of each column if channels are rows, else of each row.
    pub(crate) fn softmax(&self, tile: OutputTile<'_>, channels_are_rows: bool) {
        let tile = InPlace::of(&tile);
        assert!(!channels_are_rows || tile.columns <= BLOCK || tile.block == BLOCK);
        let kernel = if channels_are_rows { self.softmax_rows } else { self.softmax_columns };
        // SAFETY: the tile is borrowed and its columns are where its block says; the features were detected.
        unsafe { kernel(&tile) }
    }

    fn pool_table(&self, spec: &PoolSpec) -> &PoolTable {
        if spec.max { &self.max } else { &self.sum }
    }

    /// Output rows `y` of an image, channels as columns. `input` begins at the first of these channels of the
    /// image's first pixel; pixels are `pixel` apart. At most [`BLOCK`] columns, or [`WIDE`] neighbours if the
    /// window is the whole image.
    ///
    /// # Panics
    /// If an operand is too short: a defect of this library.
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
                out: out.base,
                columns: out.columns,
            };
            // SAFETY: measured above, and the output is a borrowed tile; the features were detected.
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
        // SAFETY: measured above, and the output is a borrowed tile; the features were detected.
        unsafe { kernel(&args) }
    }

    /// Output rows `y` of NCHW planes, `plane` apart, the first of which `input` begins with. `out` has a row for each
    /// plane.
    ///
    /// # Panics
    /// If an operand is too short: a defect of this library.
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
        // SAFETY: measured above, and the output is a borrowed tile of neighbours; the features were detected.
        unsafe { kernel(&PlanesArgs { pool, planes: out.rows, plane, out_plane: out.row }) }
    }
}

fn pool_args(spec: &PoolSpec, input: &[f32], pixel: usize, y: Range<usize>, out: &InPlace) -> PoolArgs {
    PoolArgs {
        h: spec.h,
        w: spec.w,
        count_include_pad: spec.count_include_pad,
        input: input.as_ptr(),
        pixel,
        y,
        out: out.base,
        out_pixel: out.row,
        columns: out.columns,
    }
}
