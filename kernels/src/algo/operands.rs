//! [`Operands`]: the tensors of a run, as drivers see them.

use crate::describe::PixelRef;
use crate::tile::output::TileOffset;

/// What a driver reads besides its weights.
#[derive(Clone, Copy)]
pub(crate) struct Operands<'a> {
    pub(crate) input: PixelRef<'a>,
    pub(crate) residual: Option<PixelRef<'a>>,
}

impl<'a> Operands<'a> {
    /// The residual of outputs from pixel `p` of image `n` on, channels from `channel` on as columns.
    pub(crate) fn residual_as_columns(
        &self,
        n: usize,
        p: usize,
        channel: usize,
    ) -> Option<(&'a [f32], TileOffset)> {
        self.residual.map(|r| (r.data, TileOffset::channels_as_columns(&r.view, n, p, channel)))
    }

    /// The same, channels as rows.
    pub(crate) fn residual_as_rows(
        &self,
        n: usize,
        p: usize,
        channel: usize,
    ) -> Option<(&'a [f32], TileOffset)> {
        self.residual.map(|r| (r.data, TileOffset::channels_as_rows(&r.view, n, p, channel)))
    }
}
