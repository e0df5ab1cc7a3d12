//! [`Post`]: what surrounds a product, as slices. They are measured before a kernel gets pointers to them.

use super::boundary::Entry;
use super::measure::{require, span_of_rows};
use super::output::{OutputTile, TileOffset};
use super::store::{SumsArgs, TileAddress, TileTarget};
use crate::describe::Activation;

/// What surrounds a product: the bias before it, and residual and activation after it.
#[derive(Clone, Copy)]
pub(crate) struct Post<'a> {
    /// Bias of the channels of the tile. It is empty if there is no bias.
    pub(crate) bias: &'a [f32],
    /// PReLU slopes of the channels of the tile. It is empty if there are no slopes.
    pub(crate) slope: &'a [f32],
    /// Whether channels are rows. Otherwise they are columns.
    pub(crate) per_row: bool,
    pub(crate) activation: Activation,
    /// The residual, and the position of the tile in it.
    pub(crate) residual: Option<(&'a [f32], TileOffset)>,
    /// Whether this is the first block of K. Its sums start from the bias. Later sums are added to the
    /// output.
    pub(crate) first: bool,
    /// Whether this is the last block of K. Residual and activation apply after it.
    pub(crate) last: bool,
}

impl Post<'static> {
    /// Nothing: the sums of one block of K are the output.
    pub(crate) const NONE: Self = Self {
        bias: &[],
        slope: &[],
        per_row: false,
        activation: Activation::None,
        residual: None,
        first: true,
        last: true,
    };
}

impl Post<'_> {
    /// Makes the target of a tile of `width` columns in `out`.
    ///
    /// # Panics
    /// If the numbers per channel or the residual are too short. That is a bug in this library.
    #[inline]
    pub(super) fn target(&self, out: &OutputTile<'_>, width: usize, activate: Entry<SumsArgs>) -> TileTarget {
        let OutputTile { place, rows, lo, hi, zeros, .. } = *out;
        let channels = if self.per_row { rows } else { width };
        for (operand, numbers) in [("bias", self.bias), ("slopes", self.slope)] {
            require(operand, if numbers.is_empty() { 0 } else { channels }, numbers.len());
        }
        let pointer = |numbers: &[f32]| if numbers.is_empty() { std::ptr::null() } else { numbers.as_ptr() };
        let residual = match self.residual {
            None => TileAddress { base: std::ptr::null(), row: 0, block: 0 },
            Some((data, at)) => {
                let needed = span_of_rows((rows, at.row), (hi, at.block)).saturating_add(at.offset);
                require("residual", needed, data.len());
                TileAddress { base: data.as_ptr().wrapping_add(at.offset), row: at.row, block: at.block }
            }
        };
        TileTarget {
            out: place,
            residual,
            bias: pointer(self.bias),
            slope: pointer(self.slope),
            per_row: self.per_row,
            activation: self.activation,
            activate,
            lo,
            hi,
            zeros,
            first: self.first,
            last: self.last,
        }
    }
}
