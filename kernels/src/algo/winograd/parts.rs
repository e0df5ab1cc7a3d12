//! Winograd's products with bf16 parts: transformed tiles and weights are split, and multiplied like the pixels
//! of a 1x1 convolution (`algo/parts`).

use super::split::{MOST_REGISTER_TILES, PartsLayer};
use super::{Block, Slab, WinogradConv};
use crate::describe::BLOCK;
use crate::tile::parts::{COLUMNS, PART_WORDS, ROW, ROW_WORDS};
use crate::tile::parts_table::{PixelParts, SplitRows, SplitTo, WeightParts};

impl WinogradConv {
    /// Computes `V` of all channels of the group and splits it, two blocks of channels at a time.
    pub(super) fn transform_and_split(&self, parts: &PartsLayer, block: &Block<'_>, slab: &mut Slab<'_>) {
        let points = self.schedule.tile.products();
        let (point, channels) = (self.schedule.strip * BLOCK, self.channels());
        for strip in block.tiles.strips(&block.range, self.schedule.strip) {
            for group in 0..parts.groups {
                let first = group * ROW;
                for (half, pair) in slab.pair.chunks_exact_mut(points * point).enumerate() {
                    let c = first + half * BLOCK;
                    if c < channels {
                        let rows = self.rows(&block.operands.input, &strip, (block.group, c), slab.rows);
                        let coefficients = &self.weights.coefficients;
                        let tile = self.schedule.tile;
                        self.kernels().input(tile, coefficients, &rows, slab.scratch, (pair, point));
                    }
                }
                // The lanes past the last channel of a block are zero.
                let second = if first + BLOCK < channels { BLOCK } else { 0 };
                let rows = SplitRows {
                    data: slab.pair,
                    halves: [(0, BLOCK), (points * point, second)],
                    step: BLOCK,
                    rows: strip.tiles,
                    blocks: (points, point),
                };
                let to = group * parts.products.parts() * parts.part + strip.index * ROW_WORDS;
                let place = SplitTo { row: ROW_WORDS, part: parts.part, block: parts.v_point };
                self.kernels.parts.split(parts.products, &rows, &mut slab.v[to..], place);
            }
        }
    }

    /// Multiplies `points` points of a block with a panel of weights.
    pub(super) fn multiply_parts(
        &self,
        parts: &PartsLayer,
        block: &Block<'_>,
        (v, u): (&[f32], &[f32]),
        points: usize,
        (m, sums): (&mut [f32], &mut [f32]),
    ) {
        let tiles = block.range.len();
        let (count, rows) = parts.register_tiles(tiles);
        let mut firsts = [0; MOST_REGISTER_TILES];
        for (i, first) in firsts[..count].iter_mut().enumerate() {
            *first = i * rows * ROW_WORDS;
        }
        let matrix = parts.groups * parts.products.parts() * PART_WORDS;
        let m_point = self.m_point(tiles);
        for point in 0..points {
            let a = PixelParts {
                data: &v[point * parts.v_point..],
                part: parts.part,
                row: ROW_WORDS,
                tiles: &firsts[..count],
                rows,
            };
            // Weights that stay in cache between blocks must be read into it by the first block.
            let ahead = self.schedule.ahead || block.range.start == 0;
            let b = WeightParts { data: &u[point * matrix..], ahead };
            let m = &mut m[point * m_point..];
            let (len, width) = (count * rows * COLUMNS, self.weights.panels.width());
            let direct = width == COLUMNS;
            let to = if direct { &mut m[..len] } else { &mut sums[..len] };
            self.kernels.parts.product(parts.products, &a, self.steps.steps(), &b, to, true);
            if !direct {
                for (to, from) in m.chunks_exact_mut(width).zip(sums[..len].chunks_exact(COLUMNS)) {
                    to.copy_from_slice(&from[..width]);
                }
            }
        }
    }
}
