//! [`Operands`]: the tensors of a run that a driver reads.

use crate::describe::PixelRef;
use crate::tile::output::TileOffset;

/// The tensors that a driver reads in addition to its weights.
#[derive(Clone, Copy)]
pub(crate) struct Operands<'a> {
    pub(crate) input: PixelRef<'a>,
    pub(crate) residual: Option<PixelRef<'a>>,
}

impl<'a> Operands<'a> {
    /// The residual of the outputs from pixel `p` of image `n` and channel `channel` on, with channels as
    /// columns.
    pub(crate) fn residual_as_columns(
        &self,
        n: usize,
        p: usize,
        channel: usize,
    ) -> Option<(&'a [f32], TileOffset)> {
        self.residual.map(|r| (r.data, TileOffset::channels_as_columns(&r.view, n, p, channel)))
    }

    /// Like [`residual_as_columns`](Self::residual_as_columns), with channels as rows.
    pub(crate) fn residual_as_rows(
        &self,
        n: usize,
        p: usize,
        channel: usize,
    ) -> Option<(&'a [f32], TileOffset)> {
        self.residual.map(|r| (r.data, TileOffset::channels_as_rows(&r.view, n, p, channel)))
    }
}
