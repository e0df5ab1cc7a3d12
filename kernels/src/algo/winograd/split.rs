//! How transformed tiles are split into bf16 parts, and how many of them form a block.

use super::weights::WinogradForm;
use crate::describe::{BLOCK, ConvError, Products};
use crate::tile::parts::{COLUMNS, ROW, ROW_WORDS};
use crate::tile::parts_table::{Offsets, PartsKernels, rows_of_step, tiles_of_pixels};
use crate::tile::shape::odd_lines;
use crate::work::Caches;

/// The share of the second-level cache for the transformed tiles of a block.
const TILES_SHARE: f64 = 0.5;
/// Tiles of a block. With fewer, weights are read too often; more do not pay.
const FEWEST_TILES: usize = 32;
const MOST_TILES: usize = 112;
/// Register tiles of a block.
pub(super) const MOST_REGISTER_TILES: usize = MOST_TILES / 4;

/// Tiles of a block whose parts stay in the second-level cache.
pub(super) fn tiles_of_block(form: &WinogradForm, caches: &Caches) -> usize {
    let bytes = form.products() * form.channels().div_ceil(ROW) * form.products.parts() * ROW_WORDS * 4;
    ((caches.l2 * TILES_SHARE) as usize / bytes.max(1)).clamp(FEWEST_TILES, MOST_TILES) / BLOCK * BLOCK
}

/// How transformed tiles are laid out: `[point][channels / 32][part][tile]`, in rows of 32 channels.
pub(super) struct PartsLayer {
    pub(super) products: Products,
    /// Groups of 32 channels.
    pub(super) groups: usize,
    /// Words from one part to the next, and from one point to the next.
    pub(super) part: usize,
    pub(super) v_point: usize,
    /// Maximum number of rows of products of a block.
    pub(super) most_rows: usize,
    /// Maximum number of rows of a register tile, and register tiles that are multiplied together.
    tile_rows: usize,
    together: usize,
}

impl PartsLayer {
    /// The layout of blocks of at most `tiles` tiles.
    pub(super) fn new(form: &WinogradForm, tiles: usize, kernels: &PartsKernels) -> Self {
        let (groups, parts) = (form.channels().div_ceil(ROW), form.products.parts());
        let tile_rows = kernels.rows();
        let most_rows = tiles + tile_rows;
        let part = most_rows * ROW_WORDS;
        let v_point = odd_lines(groups * parts * part);
        let products = form.products;
        Self { products, groups, part, v_point, most_rows, tile_rows, together: kernels.together() }
    }

    /// Register tiles of a block of `tiles` tiles, and the rows of each.
    pub(super) fn register_tiles(&self, tiles: usize) -> (usize, usize) {
        tiles_of_pixels(tiles, self.tile_rows, self.together)
    }

    /// Rows of products of a block of `tiles` tiles: whole register tiles.
    pub(super) fn rows_of(&self, tiles: usize) -> usize {
        let (count, rows) = self.register_tiles(tiles);
        count * rows
    }

    /// The time of all steps in a register tile of `rows` rows, in rows of 32 by 16 products.
    pub(super) fn rows_of_steps(&self, rows: usize) -> f64 {
        self.groups as f64 * rows_of_step(self.products, rows, self.together)
    }

    /// Vector operations that split a vector.
    pub(super) fn operations_of_split(&self) -> f64 {
        (1 + 2 * self.products.parts()) as f64
    }

    /// Elements of the products of a block and a panel of `width` columns, if the kernels of bf16 parts are wider.
    pub(super) fn sums_len(&self, width: usize) -> usize {
        if width == COLUMNS { 0 } else { self.most_rows * COLUMNS }
    }

    /// The words before the rows of each step.
    pub(super) fn steps(&self) -> impl ExactSizeIterator<Item = usize> {
        let step = self.products.parts() * self.part;
        (0..self.groups).map(move |group| group * step)
    }
}

/// The steps of K of a product.
pub(super) fn steps(parts: Option<&PartsLayer>) -> Result<Offsets, ConvError> {
    match parts {
        None => Offsets::new(std::iter::empty()),
        Some(parts) => Offsets::new(parts.steps()),
    }
}
