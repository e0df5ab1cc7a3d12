//! The operands of the kernels of Winograd convolution.

use super::measure::{require, span};
use super::winograd::MOST_POINTS;
use crate::describe::{BLOCK, Size2};

/// F(outputs, kernel), where `points = outputs + kernel - 1` along each axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WinogradTile {
    pub(crate) points: Size2,
    pub(crate) outputs: Size2,
}

impl WinogradTile {
    /// Number of matrix products per tile and channel.
    pub(crate) fn products(&self) -> usize {
        self.points.h * self.points.w
    }

    /// Whether one axis is not transformed.
    pub(crate) fn is_thin(&self) -> bool {
        self.points.h == 1 || self.points.w == 1
    }

    /// The tile whose taps and outputs are those outputs and taps. The gradient of a filter needs both: its outputs are
    /// the taps of the convolution.
    pub(crate) fn exchanged(&self) -> Self {
        let Self { points, outputs } = *self;
        Self { points, outputs: Size2::new(points.h + 1 - outputs.h, points.w + 1 - outputs.w) }
    }

    /// The tile with its rows as columns.
    pub(super) fn turned(&self) -> Self {
        let turned = |size: Size2| Size2::new(size.w, size.h);
        Self { points: turned(self.points), outputs: turned(self.outputs) }
    }

    /// Number of image columns that a row of tiles reads.
    pub(crate) fn columns(&self, tiles: usize) -> usize {
        (tiles - 1).saturating_mul(self.outputs.w).saturating_add(self.points.w)
    }
}

/// The pixels that a row of tiles reads, for one block of channels.
#[derive(Clone, Copy)]
pub(crate) struct InputRows<'a> {
    pub(crate) data: &'a [f32],
    /// The offset of column `lo` in each row. It is `None` for a row of padding.
    pub(crate) rows: [Option<usize>; MOST_POINTS],
    /// Distance between columns.
    pub(crate) step: usize,
    /// The columns `lo..hi` are inside the image.
    pub(crate) lo: usize,
    pub(crate) hi: usize,
    pub(crate) tiles: usize,
    /// Number of channels, at most 16.
    pub(crate) channels: usize,
}

/// Zeros that are read in place of padding.
static ZEROS: [f32; BLOCK] = [0.0; BLOCK];

/// The address of column 0 of each row, and the distance between its columns. A row of padding is zeros with distance 0.
///
/// # Panics
/// If a row is too short.
pub(super) fn measured_rows(rows: &InputRows<'_>) -> ([*const f32; MOST_POINTS], [usize; MOST_POINTS]) {
    let InputRows { data, step, lo, hi, channels, .. } = *rows;
    let (mut starts, mut steps) = ([ZEROS.as_ptr(); MOST_POINTS], [0; MOST_POINTS]);
    for (i, row) in rows.rows.iter().enumerate() {
        if let Some(first) = *row
            && lo < hi
        {
            let needed = span([(hi - lo, step), (channels, 1)]).saturating_add(first);
            require("rows of a Winograd tile", needed, data.len());
            starts[i] = data.as_ptr().wrapping_add(first).wrapping_sub(lo.wrapping_mul(step));
            steps[i] = step;
        }
    }
    (starts, steps)
}

/// The operands of the products: transformed tiles, weights of a panel, and their sizes.
#[derive(Clone, Copy)]
pub(crate) struct Products<'a> {
    /// Transformed tiles, `[point][channel / 16][tile][16]`.
    pub(crate) v: &'a [f32],
    pub(crate) v_point: usize,
    /// Transformed weights, `[point][channel][width]`.
    pub(crate) u: &'a [f32],
    pub(crate) width: usize,
    /// Distance between points of the result, `[point][tile][width]`.
    pub(crate) m_point: usize,
    pub(crate) points: usize,
    pub(crate) tiles: usize,
    pub(crate) channels: usize,
    /// Number of channels in a block of K, a multiple of 16. Each block is summed separately.
    pub(crate) k_block: usize,
    /// Whether to prefetch the next matrix of weights during each product.
    pub(crate) ahead: bool,
}

/// The products of a row of tiles with one panel, and the outputs to compute from them.
#[derive(Clone, Copy)]
pub(crate) struct ProductsOfRow<'a> {
    /// The products `[point][tile][width]`, from the first tile of the row on.
    pub(crate) m: &'a [f32],
    pub(crate) width: usize,
    pub(crate) m_point: usize,
    pub(crate) tiles: usize,
    /// Number of rows of outputs inside the output, and of outputs in each row of the last tile.
    pub(crate) rows: usize,
    pub(crate) last: usize,
    /// Distance between rows of outputs in pixels, and between tiles.
    pub(crate) line: usize,
    pub(crate) step: usize,
}

/// How filters are transformed; see [`WinogradKernels::weights`](super::winograd_table::WinogradKernels).
#[derive(Clone, Copy)]
pub(crate) struct WeightsOf<'a> {
    /// Distance between the filters of two output channels.
    pub(crate) stride: usize,
    /// The places of the taps in the order of `g`, row by row; `None` for a zero.
    pub(crate) places: &'a [Option<usize>],
    /// The matrices for the columns and for the rows, `[point][tap]`.
    pub(crate) g: [&'a [f64]; 2],
    /// Taps along each axis.
    pub(crate) taps: Size2,
}
