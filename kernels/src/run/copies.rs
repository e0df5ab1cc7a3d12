//! Copies between tensors: between layouts and pitches, and between a map and every so many of its rows and columns.

use super::Threads;
use super::elementwise::{elements, merges, split, split_units, tiles};
use crate::describe::{BLOCK, Lattice, Layout, TensorOut, TensorRef};
use crate::tile::copy_table::{CopyTable, InputTile};
use crate::tile::output::OutputRegion;
use crate::work::parts::SplitUnits;
use std::ops::Range;

/// Copies every element of `input` to `output`, which has the same shape. The padding lanes of Nchw16c are set to zero.
pub(crate) fn copy(copies: &CopyTable, input: TensorRef<'_>, output: TensorOut<'_>, threads: Threads<'_>) {
    let (from, to) = (input.view(), output.view());
    let merge = merges(&from) && merges(&to) && (from.layout == to.layout || to.pixels == 1);
    let work = elements(output.shape()).saturating_mul(2);
    let input = input.pixels().merged_if(merge);
    let region = OutputRegion::new(output, merge);
    let (from, to) = (input.view.layout, region.layout());
    let transposed = (from == Layout::Nchw) != (to == Layout::Nchw);
    // In Nchw16c, only the channels of one block are adjacent in both tensors.
    let step = if from == Layout::Nchw16c { BLOCK } else { usize::MAX };
    let split_units = match split_units(to) {
        split_units if step == BLOCK => SplitUnits { channels: BLOCK, ..split_units },
        split_units => split_units,
    };
    split(region, split_units, work, threads, &|mut region| {
        tiles(&mut region, step, |tile, at| {
            let source = InputTile::new(&input, at.n, at.channels.start, at.p);
            copies.copy(source, transposed, tile);
        });
        region.zero_padding_lanes();
    });
}

/// Copies the pixels of `lattice` in `map` to `output`, which has its size. Both have the same layout, in which channels are
/// adjacent.
pub(crate) fn gather(
    copies: &CopyTable,
    map: TensorRef<'_>,
    lattice: Lattice,
    output: TensorOut<'_>,
    threads: Threads<'_>,
) {
    let Lattice { first, step, size } = lattice;
    let (width, map) = (map.shape().w, map.pixels());
    let work = elements(output.shape()).saturating_mul(2);
    let region = OutputRegion::new(output, false);
    split(region, SplitUnits::new(size.w, BLOCK), work, threads, &|mut region| {
        let rows = region.pixels.start / size.w..region.pixels.end / size.w;
        for (n, channels) in runs(&region) {
            for row in rows.clone() {
                let p = (first.h + row * step.h) * width + first.w;
                let source = InputTile::new(&map, n, channels.start, p).every(step.w);
                let pixels = row * size.w..(row + 1) * size.w;
                let tile = region.channels_as_columns(n, pixels, channels.start, 0..channels.len());
                copies.copy(source, false, tile);
            }
        }
        region.zero_padding_lanes();
    });
}

/// Copies `input` to the pixels of `lattice` in `map`. Both have the same layout, in which channels are adjacent.
pub(crate) fn scatter(
    copies: &CopyTable,
    input: TensorRef<'_>,
    lattice: Lattice,
    map: TensorOut<'_>,
    threads: Threads<'_>,
) {
    let Lattice { first, step, size } = lattice;
    let width = map.shape().w;
    let work = elements(input.shape()).saturating_mul(2);
    let input = input.pixels();
    let region = OutputRegion::new(map, false);
    split(region, SplitUnits::new(width, BLOCK), work, threads, &|mut region| {
        let rows = region.pixels.start / width..region.pixels.end / width;
        let reached = |rows: usize| rows.saturating_sub(first.h).div_ceil(step.h).min(size.h);
        for (n, channels) in runs(&region) {
            for row in reached(rows.start)..reached(rows.end) {
                let source = InputTile::new(&input, n, channels.start, row * size.w);
                let p = (first.h + row * step.h) * width + first.w;
                let tile = region.pixels_apart(n, (p, step.w, size.w), channels.start, channels.len());
                copies.copy(source, false, tile);
            }
        }
        region.zero_padding_lanes();
    });
}

/// The images of a region, and its runs of channels that are adjacent.
fn runs(region: &OutputRegion<'_>) -> impl Iterator<Item = (usize, Range<usize>)> + use<> {
    let Range { start, end } = region.channels.clone();
    let step = if region.layout() == Layout::Nchw16c { BLOCK } else { usize::MAX };
    region
        .images
        .clone()
        .flat_map(move |n| (start..end).step_by(step).map(move |c| (n, c..end.min(c.saturating_add(step)))))
}
