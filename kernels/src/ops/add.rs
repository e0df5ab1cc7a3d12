//! Sums of two tensors: residual connections that no convolution can absorb.

use super::{Ops, cost, elements, elementwise_split_units, merges, split, tiles};
use crate::describe::{Activation, ConvError, TensorMut, TensorRef};
use crate::run::{Threads, check};
use crate::tile::copy_table::InputTile;
use crate::tile::output::OutputRegion;

impl Ops {
    /// Computes `tensor = activation(tensor + addend)` in place: the residual sum of He et al. 2016, eq. 1.
    ///
    /// If the sum follows a convolution, [`EpilogueSpec::residual`](crate::EpilogueSpec) fuses it at no extra
    /// cost. The padding lanes of Nchw16c keep their values.
    ///
    /// # Errors
    /// - [`ConvError::ShapeMismatch`] or [`ConvError::LayoutMismatch`] unless `addend` has the shape and
    ///   layout of `tensor`.
    /// - [`ConvError::InvalidField`] for PReLU, which has no slopes here, and for invalid activation
    ///   parameters.
    ///
    /// On an error the tensor is unchanged.
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
        super::check_layout(tensor.layout())?;
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
