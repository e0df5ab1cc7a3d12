//! The gradient of an activation, which layers and the gradients of convolutions share.

use super::Threads;
use super::elementwise::{cost, elements, merges, split, split_units, tiles};
use crate::describe::{Activation, TensorOut, TensorRef};
use crate::tile::copy_table::InputTile;
use crate::tile::grad::table::{GradTable, GradTiles};
use crate::tile::ops_table::Slopes;
use crate::tile::output::OutputRegion;

/// What is known of an activation that was applied.
#[derive(Clone, Copy)]
pub(crate) struct Applied<'a> {
    /// Any but PReLU.
    pub(crate) activation: Activation,
    /// Its output if `by_output`, which must [determine](Activation::is_known_by_output) the gradient, or else its input.
    pub(crate) value: TensorRef<'a>,
    pub(crate) by_output: bool,
}

/// Writes `gradient * act'`, or adds it if `add`. All tensors have one shape and layout.
pub(crate) fn activation_gradient(
    kernels: &GradTable,
    applied: Applied<'_>,
    gradient: TensorRef<'_>,
    (dx, add): (TensorOut<'_>, bool),
    threads: Threads<'_>,
) {
    let Applied { activation, value, by_output } = applied;
    let merge = [gradient.view(), value.view(), dx.view()].iter().all(merges);
    let [gradient, value] = [gradient, value].map(|tensor| tensor.pixels().merged_if(merge));
    let work = elements(dx.shape()).saturating_mul(1 + cost(activation));
    let region = OutputRegion::new(dx, merge);
    split(region, split_units(value.view.layout), work, threads, &|mut region| {
        tiles(&mut region, usize::MAX, |out, at| {
            let [gradient, value] =
                [&gradient, &value].map(|source| InputTile::new(source, at.n, at.channels.start, at.p));
            let slopes = Slopes { values: &[], per_row: at.per_row };
            kernels.activate(activation, slopes, by_output, GradTiles { out, add, gradient, value });
        });
        if !add {
            region.zero_padding_lanes();
        }
    });
}
