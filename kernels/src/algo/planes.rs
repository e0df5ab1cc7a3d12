//! NCHW output of tiles whose vectors are channels. The outputs of a panel first form a matrix of pixels by
//! channels in the workspace. The matrix is then transposed into the output.

use crate::algo::panels::Panel;
use crate::describe::{BLOCK, ConvDesc, Layout, PixelRef, PixelView};
use crate::tile::copy_table::{CopyTable, InputTile};
use crate::tile::output::{OutputRegion, OutputTile, TileOffset};
use crate::tile::post::Addend;

/// The output layout as seen by a driver whose panels are always columns. For NCHW it is NHWC, and the
/// transposition follows.
pub(crate) fn layout_of_panels(desc: &ConvDesc) -> Layout {
    if desc.output_layout() == Layout::Nchw { Layout::Nhwc } else { desc.output_layout() }
}

/// Elements of the two matrices of [`PlaneRows::write`], each `pixels` by `columns`; zero unless the output
/// is NCHW.
pub(crate) fn matrices_len(desc: &ConvDesc, pixels: usize, columns: usize) -> usize {
    if desc.output_layout() == Layout::Nchw { 2 * pixels * columns } else { 0 }
}

/// Rows of outputs of one image and one panel of channels.
pub(crate) struct PlaneRows {
    pub(crate) n: usize,
    /// The first pixel.
    pub(crate) p: usize,
    pub(crate) rows: usize,
    /// Outputs of a row, and the distance in pixels from one row to the next.
    pub(crate) pixels: usize,
    pub(crate) line: usize,
    pub(crate) panel: Panel,
    /// Columns of the matrix, which is the width of a panel.
    pub(crate) columns: usize,
}

impl PlaneRows {
    /// Lets `compute` fill the matrix, and transposes it into `region`. The residual is passed to `compute`
    /// as a second matrix. Each matrix takes one half of `lines`.
    pub(crate) fn write(
        &self,
        residual: Option<&PixelRef<'_>>,
        copy: &CopyTable,
        region: &mut OutputRegion<'_>,
        lines: &mut [f32],
        compute: impl FnOnce(&mut [f32], Addend<'_>),
    ) {
        let Self { n, pixels, columns, .. } = *self;
        let Panel { channel, lo, hi } = self.panel;
        let (matrix, addend) = lines.split_at_mut(lines.len() / 2);
        if let Some(from) = residual {
            for row in 0..self.rows {
                let to = &mut addend[row * pixels * columns + lo..];
                let to = OutputTile::of_matrix_columns(to, pixels, columns, 0..hi - lo);
                copy.copy(InputTile::new(from, n, channel + lo, self.p + row * self.line), true, to);
            }
        }
        let at = TileOffset { offset: 0, row: columns, block: BLOCK };
        compute(matrix, if residual.is_some() { Addend::Tile(addend, at) } else { Addend::None });
        let all = self.rows * pixels;
        let image = all * columns;
        let view = PixelView {
            layout: Layout::Nhwc,
            images: 1,
            series: 1,
            volume: 0,
            channels: columns,
            pixels: all,
            image,
            plane: 1,
            pixel: columns,
            lines: None,
        };
        let matrix = PixelRef { data: matrix, view };
        for row in 0..self.rows {
            let p = self.p + row * self.line;
            let to = region.channels_as_rows(n, channel + lo..channel + hi, p..p + pixels);
            copy.copy(InputTile::new(&matrix, 0, lo, row * pixels), true, to);
        }
    }
}
