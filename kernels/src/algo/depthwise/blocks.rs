//! NCHW input and Nchw16c output: the planes of a block of channels are computed in the workspace, some rows at a
//! time, and transposed into the output. With few channels, vectors of pixels have no idle lanes.

use super::Depthwise;
use crate::algo::operands::Operands;
use crate::describe::{BLOCK, ConvDesc, Layout, PixelRef, PixelView};
use crate::tile::copy_table::InputTile;
use crate::tile::depthwise_table::DepthwiseKernels;
use crate::tile::output::{OutputRegion, OutputTile, TileOffset};
use crate::tile::post::Addend;
use std::ops::Range;

/// Maximum elements of the planes of a block, which stay in the first-level cache.
const PLANES: usize = 4 << 10;

/// Rows of the output that are computed at a time: whole tiles of rows.
fn stretch(desc: &ConvDesc, kernels: &DepthwiseKernels) -> usize {
    let row = desc.output().w.saturating_mul(channels(desc));
    let tile = kernels.outputs();
    (PLANES / row.max(1) / tile).max(1) * tile
}

/// Channels of a block that exist.
fn channels(desc: &ConvDesc) -> usize {
    desc.output().c.min(BLOCK)
}

/// Elements of the planes of a block, and of those of its residual.
pub(super) fn workspace_len(desc: &ConvDesc, kernels: &DepthwiseKernels) -> usize {
    if desc.layout() == desc.output_layout() {
        return 0;
    }
    let rows = stretch(desc, kernels).min(desc.output().h);
    let planes = if desc.epilogue().residual { 2 } else { 1 };
    rows.saturating_mul(desc.output().w).saturating_mul(channels(desc)).saturating_mul(planes)
}

impl Depthwise {
    /// Computes a region of Nchw16c output from an NCHW input.
    pub(super) fn run_blocks(
        &self,
        operands: &Operands<'_>,
        region: &mut OutputRegion<'_>,
        slab: &mut [f32],
    ) {
        let width = self.desc.output().w;
        let rows = region.pixels.start / width..region.pixels.end / width;
        let (channels, stretch) = (region.channels.clone(), stretch(&self.desc, self.kernels));
        for n in region.images.clone() {
            for first in channels.clone().step_by(BLOCK) {
                let block = first..channels.end.min(first + BLOCK);
                for start in rows.clone().step_by(stretch) {
                    let rows = start..rows.end.min(start.saturating_add(stretch));
                    self.rows_of_block(operands, region, (n, block.clone(), rows), slab);
                }
            }
        }
    }

    fn rows_of_block(
        &self,
        operands: &Operands<'_>,
        region: &mut OutputRegion<'_>,
        (n, block, rows): (usize, Range<usize>, Range<usize>),
        slab: &mut [f32],
    ) {
        let width = self.desc.output().w;
        let pixels = rows.start * width..rows.end * width;
        let len = pixels.len();
        let (planes, addend) = slab.split_at_mut(block.len() * len);
        if let Some(residual) = operands.residual.tensor() {
            let from = InputTile::new(residual, n, block.start, pixels.start);
            let to = OutputTile::of_matrix_columns(addend, block.len(), len, 0..len);
            self.copy.copy(from, true, to);
        }
        for (i, channel) in block.clone().enumerate() {
            let plane = &mut planes[i * len..][..len];
            let at = TileOffset { offset: i * len, row: len, block: BLOCK };
            let residual = match operands.residual.tensor() {
                Some(_) => Addend::Tile(addend, at),
                None => Addend::None,
            };
            let out = OutputTile::of_matrix_columns(plane, 1, len, 0..len);
            let window = self.window(operands.input.view.pixel, rows.clone());
            self.call(channel..channel + 1, &window, self.image(&operands.input, n, channel), out, residual);
        }
        let view = PixelView {
            layout: Layout::Nchw,
            images: 1,
            channels: block.len(),
            pixels: len,
            image: planes.len(),
            plane: len,
            pixel: 1,
            lines: None,
        };
        let planes = PixelRef { data: planes, view };
        let out = region.channels_as_columns(n, pixels, block.start, 0..block.len());
        self.copy.copy(InputTile::new(&planes, 0, 0, 0), true, out);
    }
}
