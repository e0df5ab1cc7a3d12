//! Sums and products of two tensors: residual connections and gates that no convolution can absorb.

use super::{Ops, elements, elementwise_split_units, merges, split, tiles};
use crate::describe::{Activation, ConvError, PixelRef, Shape4, TensorMut, TensorRef};
use crate::run::elementwise::cost;
use crate::run::{Threads, check};
use crate::tile::copy_table::InputTile;
use crate::tile::layer_table::Lines;
use crate::tile::output::{OutputRegion, OutputTile};

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
        super::check_without_slopes(activation)?;
        super::check_layout(tensor.layout())?;
        check("addend", (tensor.shape(), tensor.layout()), (addend.shape(), addend.layout()))?;
        let layers = &self.kernels.ops.layers;
        combine(addend, tensor, 1 + cost(activation), threads, &|addend, tile| {
            layers.add(addend, activation, tile);
        });
        Ok(())
    }

    /// Computes `tensor = tensor * factor` in place. The factor has the shape of the tensor, or one pixel, which is
    /// then used for all pixels of its image: the gate of a squeeze-and-excitation block (Hu et al. 2018, eq. 4).
    ///
    /// The padding lanes of Nchw16c keep their values.
    ///
    /// # Errors
    /// [`ConvError::ShapeMismatch`] or [`ConvError::LayoutMismatch`] unless `factor` has the layout of `tensor`, and its
    /// shape or one pixel. The tensor is unchanged then.
    pub fn multiply(
        &self,
        factor: TensorRef<'_>,
        tensor: TensorMut<'_>,
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        super::check_layout(tensor.layout())?;
        let one_pixel = Shape4 { h: 1, w: 1, ..tensor.shape() };
        let is_gate = factor.shape() == one_pixel;
        let expected = if is_gate { one_pixel } else { tensor.shape() };
        check("factor", (expected, tensor.layout()), (factor.shape(), factor.layout()))?;
        let layers = &self.kernels.ops.layers;
        if !is_gate {
            combine(factor, tensor, 1, threads, &|factor, tile| layers.multiply(factor, tile));
            return Ok(());
        }
        let (factor, work) = (factor.pixels(), elements(tensor.shape()));
        let region = OutputRegion::new(tensor, false);
        let split_units = elementwise_split_units(region.layout());
        split(region, split_units, work, threads, &|mut region| {
            tiles(&mut region, BLOCK_OF_GATES, |tile, at| {
                let PixelRef { data, view } = &factor;
                // The channels of one block of one pixel are adjacent in every layout but NCHW.
                let mut gates = [0.0; BLOCK_OF_GATES];
                let gates = &mut gates[..at.channels.len()];
                for (gate, c) in gates.iter_mut().zip(at.channels) {
                    *gate = data[view.offset(at.n, c, 0)];
                }
                let lines = Lines::of_factor(gates);
                layers.normalize_in_place(lines, at.per_row, tile);
            });
        });
        Ok(())
    }
}

/// Channels whose gates are read at once.
const BLOCK_OF_GATES: usize = 64;

/// Runs a kernel with every tile of a tensor and the same tile of another tensor of its shape and layout.
/// `per_element` is the number of operations per element.
pub(crate) fn combine(
    other: TensorRef<'_>,
    tensor: TensorMut<'_>,
    per_element: u64,
    threads: Threads<'_>,
    run: &(impl Fn(InputTile<'_>, OutputTile<'_>) + Sync),
) {
    let merge = merges(&other.view()) && merges(&tensor.view());
    let other = other.pixels().merged_if(merge);
    let work = elements(tensor.shape()).saturating_mul(per_element);
    let region = OutputRegion::new(tensor, merge);
    let split_units = elementwise_split_units(region.layout());
    split(region, split_units, work, threads, &|mut region| {
        tiles(&mut region, usize::MAX, |tile, at| {
            run(InputTile::new(&other, at.n, at.channels.start, at.p), tile);
        });
    });
}
