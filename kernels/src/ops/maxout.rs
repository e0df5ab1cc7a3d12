//! Maxout, an activation that takes the maximum over groups of channels.

use super::{Ops, elements, elementwise_split_units, merges, split, tiles};
use crate::describe::{ConvError, Shape4, TensorOut, TensorRef};
use crate::run::{Threads, check};
use crate::tile::copy_table::InputTile;
use crate::tile::output::OutputRegion;

impl Ops {
    /// Maxout (Goodfellow et al. 2013, section 2): output channel `o` is the largest of input channels
    /// `o * pieces .. (o + 1) * pieces`, or NaN if one of them is NaN.
    ///
    /// The padding lanes of Nchw16c are set to zero.
    ///
    /// # Errors
    /// - [`ConvError::InvalidField`] unless `pieces` divides the number of input channels.
    /// - [`ConvError::ShapeMismatch`] or [`ConvError::LayoutMismatch`] unless the output has the layout and
    ///   shape of the input, with `1 / pieces` of its channels.
    ///
    /// On an error the output is unchanged.
    pub fn maxout<'a>(
        &self,
        pieces: usize,
        input: TensorRef<'_>,
        output: impl Into<TensorOut<'a>>,
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        let output = output.into();
        let shape = input.shape();
        if pieces == 0 || !shape.c.is_multiple_of(pieces) {
            let expected = format!("a divisor of the {} input channels", shape.c);
            return Err(ConvError::field("pieces", expected, pieces));
        }
        let expected = Shape4 { c: shape.c / pieces, ..shape };
        super::check_layout(input.layout())?;
        check("output", (expected, input.layout()), (output.shape(), output.layout()))?;
        let merge = merges(&input.view()) && merges(&output.view());
        let input = input.pixels().merged_if(merge);
        let region = OutputRegion::new(output, merge);
        let split_units = elementwise_split_units(region.layout());
        split(region, split_units, elements(shape), threads, &|mut region| {
            tiles(&mut region, usize::MAX, |tile, at| {
                let (source, first) = (InputTile::new(&input, at.n, 0, at.p), at.channels.start * pieces);
                self.kernels.ops.layers.maxout(pieces, source, first, at.per_row, tile);
            });
            region.zero_padding_lanes();
        });
        Ok(())
    }
}
