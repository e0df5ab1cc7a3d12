//! Copies between tensors: the reorder between layouts, and the concatenation by slices of channels.

use super::{Ops, elements, elementwise_split_units, merges, split, tiles};
use crate::describe::{BLOCK, ConvError, Layout, TensorOut, TensorRef};
use crate::run::Threads;
use crate::tile::layer_table::InputTile;
use crate::tile::output::OutputRegion;

impl Ops {
    /// Copies every element of `input` to `output`, which has the same shape and any layout and pitch; the lanes of
    /// Nchw16c past the last channel are written as zero.
    ///
    /// Between layouts this is the reorder; into a pitched slice of the channels of a wider tensor it is one part of a
    /// concatenation.
    ///
    /// # Errors
    /// [`ConvError::ShapeMismatch`]. The output is untouched then.
    pub fn copy<'a>(
        &self,
        input: TensorRef<'_>,
        output: impl Into<TensorOut<'a>>,
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        let output = output.into();
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
        // Only a block of channels is a run of neighbours in both.
        let step = if from == Layout::Nchw16c { BLOCK } else { usize::MAX };
        let split_units = match elementwise_split_units(to) {
            split_units if step == BLOCK => super::SplitUnits { channels: BLOCK, ..split_units },
            split_units => split_units,
        };
        split(region, split_units, work, threads, &|mut region| {
            tiles(&mut region, step, |tile, at| {
                let source = InputTile::new(&input, at.n, at.channels.start, at.p);
                self.kernels.ops.layers.copy(source, transposed, tile);
            });
            region.zero_padding_lanes();
        });
        Ok(())
    }
}
