//! [`Operands`]: the tensors of a run that a driver reads.

use crate::describe::{PixelRef, PixelView};
use crate::tile::output::TileOffset;
use crate::tile::post::Addend;

/// The tensors that a driver reads in addition to its weights.
#[derive(Clone, Copy)]
pub(crate) struct Operands<'a> {
    pub(crate) input: PixelRef<'a>,
    pub(crate) residual: Residual<'a>,
}

/// What is added to the sums before the activation.
#[derive(Clone, Copy)]
pub(crate) enum Residual<'a> {
    None,
    Tensor(PixelRef<'a>),
    /// What the output holds. Only for drivers that [can add to it](super::Driver::adds_in_place).
    Output,
}

impl<'a> Residual<'a> {
    /// The tensor that is added, for drivers that cannot add to the output.
    pub(crate) fn tensor(&self) -> Option<&PixelRef<'a>> {
        match self {
            Self::None => None,
            Self::Tensor(tensor) => Some(tensor),
            Self::Output => unreachable!("this driver does not add to its output"),
        }
    }

    pub(crate) fn view(&self) -> Option<PixelView> {
        match self {
            Self::Tensor(tensor) => Some(tensor.view),
            Self::None | Self::Output => None,
        }
    }

    /// The residual of images that are merged by [`PixelView::merged`] if `merge`.
    pub(crate) fn merged_if(self, merge: bool) -> Self {
        match self {
            Self::Tensor(tensor) => Self::Tensor(tensor.merged_if(merge)),
            Self::None | Self::Output => self,
        }
    }

    fn tile(&self, offset: impl FnOnce(&PixelRef<'a>) -> TileOffset) -> Addend<'a> {
        match self {
            Self::None => Addend::None,
            Self::Tensor(tensor) => Addend::Tile(tensor.data, offset(tensor)),
            Self::Output => Addend::Output,
        }
    }
}

impl<'a> Operands<'a> {
    /// The residual of the outputs from pixel `p` of image `n` and channel `channel` on, with channels as
    /// columns.
    pub(crate) fn residual_as_columns(&self, n: usize, p: usize, channel: usize) -> Addend<'a> {
        self.residual.tile(|r| TileOffset::channels_as_columns(&r.view, n, p, channel))
    }

    /// Like [`residual_as_columns`](Self::residual_as_columns), with channels as rows.
    pub(crate) fn residual_as_rows(&self, n: usize, p: usize, channel: usize) -> Addend<'a> {
        self.residual.tile(|r| TileOffset::channels_as_rows(&r.view, n, p, channel))
    }
}
