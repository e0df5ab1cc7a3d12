//! Where a register tile puts its sums, and what it does to them before.

use super::activate::SumsArgs;
use super::boundary::Entry;
use crate::describe::{Activation, BLOCK};

/// The address of a tile. Element `(i, j)` is at `base + i * row + (j / 16) * block + j % 16`.
#[derive(Clone, Copy)]
pub(crate) struct TileAddress<P> {
    pub(crate) base: P,
    pub(crate) row: usize,
    pub(crate) block: usize,
}

/// The target of the sums, and the epilogue that is applied to them.
#[derive(Clone, Copy)]
pub(crate) struct TileTarget {
    pub(crate) out: TileAddress<*mut f32>,
    /// Added to the sums of this block of K. Its base is null if there is no residual.
    pub(crate) residual: TileAddress<*const f32>,
    /// One number per column, or per row if `per_row`. It is null if there is no bias.
    pub(crate) bias: *const f32,
    /// Slopes of PReLU, in the form of the bias. It is null for every other activation.
    pub(crate) slope: *const f32,
    /// Whether channels are rows (NCHW). Otherwise they are columns.
    pub(crate) per_row: bool,
    pub(crate) activation: Activation,
    /// [`ActivateSums`] for the instruction set of the tile.
    pub(crate) activate: Entry<SumsArgs>,
    /// The valid columns.
    pub(crate) lo: usize,
    pub(crate) hi: usize,
    /// The columns from `hi` up to this one are written as zeros. They are the lanes of Nchw16c past the last
    /// channel.
    pub(crate) zeros: usize,
    /// Whether this is the first block of K. Its sums start from the bias. Sums of later blocks are added to
    /// C.
    pub(crate) first: bool,
    /// Whether this is the last block of K. The activation applies after it.
    pub(crate) last: bool,
    /// Whether whole vectors are written past the caches. The base, `row` and `block` are then multiples of a cache line.
    pub(crate) stream: bool,
}

impl TileTarget {
    /// The target that is `out` elements further on in the output and `residual` elements in the residual.
    #[inline(always)]
    pub(crate) fn ahead(&self, out: usize, residual: usize) -> Self {
        let mut target = *self;
        target.advance(out, residual);
        target
    }

    /// The target from column `column` on. Its channels are columns.
    #[inline(always)]
    pub(crate) fn at_column(&self, column: usize) -> Self {
        let ahead = |block: usize| (column / BLOCK).wrapping_mul(block).wrapping_add(column % BLOCK);
        self.ahead(ahead(self.out.block), ahead(self.residual.block)).with_numbers_from(column)
    }

    /// The target of vector `vector` of its columns, of `lanes` channels. If it is streamed, its base is a multiple of a vector, and
    /// not always of a cache line.
    #[inline(always)]
    pub(crate) fn of_vector(&self, vector: usize, lanes: usize) -> Self {
        let column = vector * lanes;
        let mut target = self.at_column(column);
        for edge in [&mut target.lo, &mut target.hi, &mut target.zeros] {
            *edge = edge.saturating_sub(column).min(lanes);
        }
        target
    }

    /// The target of plane `plane`, if planes are a `block` apart. Its numbers per channel begin at `first`.
    #[inline(always)]
    pub(crate) fn of_plane(&self, plane: usize, first: usize) -> Self {
        let ahead = |block: usize| plane.wrapping_mul(block);
        self.ahead(ahead(self.out.block), ahead(self.residual.block)).with_numbers_from(first)
    }

    /// The same target, whose bias and slopes begin at element `first`.
    #[inline(always)]
    fn with_numbers_from(mut self, first: usize) -> Self {
        for numbers in [&mut self.bias, &mut self.slope] {
            if !numbers.is_null() {
                *numbers = numbers.wrapping_add(first);
            }
        }
        self
    }

    /// Advances by `out` elements in the output and `residual` elements in the residual.
    #[inline(always)]
    pub(crate) fn advance(&mut self, out: usize, residual: usize) {
        self.out.base = self.out.base.wrapping_add(out);
        // A null pointer, which stands for no residual, stays null.
        if !self.residual.base.is_null() {
            self.residual.base = self.residual.base.wrapping_add(residual);
        }
    }
}
