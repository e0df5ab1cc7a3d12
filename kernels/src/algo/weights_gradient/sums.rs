//! The sums of a block of the filter: writing them, and adding those of all chunks.

use super::GradientRegion;
use crate::describe::{Layout, Shape4, TensorRef};
use crate::tile::copy_table::InputTile;
use crate::tile::output::OutputRegion;
use crate::tile::table::KernelSet;
use crate::tile::taps_table::Partials;
use std::ops::Range;

/// Writes sums to rows `channels` and columns `taps` of the filter of chunk `chunk`. The sums have a row for each tap,
/// with `columns` output channels, of which those of the filter come first.
pub(super) fn write(
    kernels: &KernelSet,
    (sums, columns): (&[f32], usize),
    region: &mut OutputRegion<'_>,
    chunk: usize,
    channels: Range<usize>,
    taps: Range<usize>,
) {
    let shape = Shape4::new(1, columns, 1, taps.len());
    let sums = TensorRef::packed(&sums[..taps.len() * columns], shape, Layout::Nhwc);
    let from = InputTile::new(&sums.expect("as many sums as the shape says").pixels(), 0, 0, 0);
    kernels.copy.copy(from, true, region.channels_as_rows(chunk, channels, taps));
}

/// Writes the sums of channels `channels` of the bias, if the region has them.
pub(super) fn write_bias(
    region: &mut GradientRegion<'_>,
    chunk: usize,
    channels: Range<usize>,
    sums: &[f32],
) {
    if let Some(bias) = &mut region.bias {
        channels.zip(sums).for_each(|(o, &sum)| bias.put(chunk, o, 0, sum));
    }
}

/// Adds the partial sums of `chunks` chunks to a box of the gradients, or writes them unless `accumulate`. `filter` is
/// `[chunk][o][taps]`, and `bias` is `[chunk][o]`.
pub(crate) fn add_partials(
    kernels: &KernelSet,
    (filter, bias): (&[f32], &[f32]),
    (chunks, accumulate): (usize, bool),
    mut region: GradientRegion<'_>,
) {
    let of_all = |partials: &[f32]| partials.len() / chunks;
    let add = |from: &[f32], taps: usize, region: &mut OutputRegion<'_>| {
        let (channels, pixels) = (region.channels.clone(), region.pixels.clone());
        if channels.is_empty() || pixels.is_empty() {
            return;
        }
        let data = &from[channels.start * taps + pixels.start..];
        let from = Partials { data, row: taps, parts: (chunks, of_all(from)) };
        kernels.gradient.add_partials(&from, accumulate, region.channels_as_rows(0, channels, pixels));
    };
    let channels = bias.len() / chunks;
    add(filter, of_all(filter) / channels, &mut region.filter);
    if let Some(region) = &mut region.bias {
        add(bias, 1, region);
    }
}
