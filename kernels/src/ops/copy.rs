//! Copies between tensors: reorders between layouts, and concatenation by channel slices.

use super::{Ops, elements, elementwise_split_units, merges, split, tiles};
use crate::describe::{BLOCK, ConvError, Layout, TensorOut, TensorRef};
use crate::run::Threads;
use crate::tile::copy_table::InputTile;
use crate::tile::output::OutputRegion;

impl Ops {
    /// Copies every element of `input` to `output`.
    ///
    /// Both have the same shape. The output can have any layout and pitch. A different layout makes the copy
    /// a reorder; a pitched channel slice of a wider tensor makes it one part of a concatenation. The padding
    /// lanes of Nchw16c are set to zero.
    ///
    /// # Errors
    /// [`ConvError::ShapeMismatch`] if the shapes differ. The output is unchanged then.
    pub fn copy<'a>(
        &self,
        input: TensorRef<'_>,
        output: impl Into<TensorOut<'a>>,
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        let output = output.into();
        super::check_layout(input.layout())?;
        super::check_layout(output.layout())?;
        let (expected, got) = (input.shape(), output.shape());
        if expected != got {
            return Err(ConvError::ShapeMismatch { what: "output", expected, got });
        }
        let (from, to) = (input.view(), output.view());
        let merge = merges(&from) && merges(&to) && (from.layout == to.layout || to.pixels == 1);
        let input = input.pixels().merged_if(merge);
        let work = elements(got).saturating_mul(2);
        let region = OutputRegion::new(output, merge);
        let (from, to) = (input.view.layout, region.layout());
        let transposed = (from == Layout::Nchw) != (to == Layout::Nchw);
        // In Nchw16c, only the channels of one block are adjacent in both tensors.
        let step = if from == Layout::Nchw16c { BLOCK } else { usize::MAX };
        let split_units = match elementwise_split_units(to) {
            split_units if step == BLOCK => super::SplitUnits { channels: BLOCK, ..split_units },
            split_units => split_units,
        };
        split(region, split_units, work, threads, &|mut region| {
            tiles(&mut region, step, |tile, at| {
                let source = InputTile::new(&input, at.n, at.channels.start, at.p);
                self.kernels.copy.copy(source, transposed, tile);
            });
            region.zero_padding_lanes();
        });
        Ok(())
    }
}
