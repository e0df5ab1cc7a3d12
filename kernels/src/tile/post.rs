//! [`Post`]: what surrounds a product, as slices. They are measured before a kernel gets pointers to them.

use super::activate::SumsArgs;
use super::boundary::Entry;
use super::measure::{require, span_of_rows};
use super::output::{OutputTile, TileOffset};
use super::target::{TileAddress, TileTarget};
use crate::describe::Activation;
use crate::simd::LINE;

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
    pub(crate) residual: Addend<'a>,
    /// Whether this is the first block of K. Its sums start from the bias. Later sums are added to the
    /// output.
    pub(crate) first: bool,
    /// Whether this is the last block of K. Residual and activation apply after it.
    pub(crate) last: bool,
}

/// What is added to the sums of a tile before the activation.
#[derive(Clone, Copy)]
pub(crate) enum Addend<'a> {
    None,
    /// A tile of a residual: its data, and the position in it.
    Tile(&'a [f32], TileOffset),
    /// What the output holds where the sums are written.
    Output,
}

impl Addend<'_> {
    /// The same residual, `elements` further on. What the output holds moves with the output.
    pub(crate) fn ahead(self, elements: usize) -> Self {
        match self {
            Self::Tile(data, at) => Self::Tile(data, TileOffset { offset: at.offset + elements, ..at }),
            Self::None | Self::Output => self,
        }
    }
}

impl Post<'static> {
    /// Nothing: the sums of one block of K are the output.
    pub(crate) const NONE: Self = Self {
        bias: &[],
        slope: &[],
        per_row: false,
        activation: Activation::None,
        residual: Addend::None,
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
            // The first block of K overwrites the output, so it adds what the output holds.
            Addend::Output if self.first => {
                TileAddress { base: place.base.cast_const(), row: place.row, block: place.block }
            }
            Addend::Tile(data, at) if self.last => {
                let needed = span_of_rows((rows, at.row), (hi, at.block)).saturating_add(at.offset);
                require("residual", needed, data.len());
                TileAddress { base: data.as_ptr().wrapping_add(at.offset), row: at.row, block: at.block }
            }
            _ => TileAddress { base: std::ptr::null(), row: 0, block: 0 },
        };
        let lines = [place.base.addr() / size_of::<f32>(), place.row, place.block];
        let aligned = place.base.addr().is_multiple_of(size_of::<f32>())
            && lines.iter().all(|elements| elements.is_multiple_of(LINE));
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
            // What is written in parts, or added to, is in the caches.
            stream: out.stream
                && aligned
                && self.first
                && self.last
                && !matches!(self.residual, Addend::Output),
        }
    }
}
