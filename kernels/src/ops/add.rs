//! The residual connection that no convolution could take along.

use super::{Ops, cost, elements, elementwise_split_units, merges, split, tiles};
use crate::describe::{Activation, ConvError, TensorMut, TensorRef};
use crate::run::{Threads, check};
use crate::tile::layer_table::InputTile;
use crate::tile::output::OutputRegion;

impl Ops {
    /// `tensor = activation(tensor + addend)`, in place: the sum of a residual network (He et al. 2016, eq. 1).
    ///
    /// Where the sum follows a convolution, [`EpilogueSpec::residual`](crate::EpilogueSpec) does the same for
    /// nothing. The lanes of Nchw16c past the last channel are left alone.
    ///
    /// # Errors
    /// [`ConvError::ShapeMismatch`] or [`ConvError::LayoutMismatch`] unless the addend has the tensor's shape and
    /// layout; [`ConvError::InvalidField`] for PReLU, which has no slopes here, and for parameters that no activation
    /// has. The tensor is untouched then.
    pub fn add(
        &self,
        addend: TensorRef<'_>,
        tensor: TensorMut<'_>,
        activation: Activation,
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        activation.check()?;
        if activation == Activation::PRelu {
            return Err(ConvError::field("activation", "one without slopes per channel", activation.name()));
        }
        check("addend", (tensor.shape(), tensor.layout()), (addend.shape(), addend.layout()))?;
        let merge = merges(&addend.view()) && merges(&tensor.view());
        let addend = addend.pixels().merged_if(merge);
        let work = elements(tensor.shape()).saturating_mul(1 + cost(activation));
        let region = OutputRegion::new(tensor, merge);
        let split_units = elementwise_split_units(region.layout());
        split(region, split_units, work, threads, &|mut region| {
            tiles(&mut region, usize::MAX, |tile, at| {
                let source = InputTile::new(&addend, at.n, at.channels.start, at.p);
                self.kernels.ops.layers.add(source, activation, tile);
            });
        });
        Ok(())
    }
}
