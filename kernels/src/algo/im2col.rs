//! Implicit im2col (Chellapilla et al. 2006). The taps of each output pixel become a row of a matrix. Only
//! one block of K of one stretch of pixels exists at a time. It is in a slab that fits the second-level
//! cache.
//!
//! If channels are adjacent, K runs `(kh, kw, c)`, so that packing copies runs of channels. In NCHW it runs
//! `(c, kh, kw)`, the order of the filter, and packing copies runs of pixels.

use super::gemm_schedule::{GemmSchedule, Lookahead, PixelSource, tile_pixels};
use super::pixels::{MOST_COLUMNS, MOST_ROWS};
use crate::algo::packed::GemmForm;
use crate::algo::tap_order::TapOrder;
use crate::describe::{BLOCK, ConvDesc};
use crate::tile::table::KernelSet;

/// Steps of K per block. The pixels and weights of one block of a tile stay in the first two cache levels. A
/// block also limits the length of a sum before it is rounded and added to the others, which reduces the
/// error.
const K_BLOCK: usize = 512;
/// Elements of a packed stretch: a quarter of a second-level cache of 1 MB.
const STRETCH_LEN: usize = 64 << 10;

pub(crate) fn schedule(desc: &ConvDesc, kernels: &'static KernelSet) -> GemmSchedule {
    let tile = &kernels.gemm[0];
    assert!(tile.rows() <= MOST_ROWS && tile.columns() <= MOST_COLUMNS);
    let layout = desc.output_layout();
    let form = GemmForm::new(desc, &tile.shape, layout, TapOrder::of_product(desc, layout));
    let tile_pixels = tile_pixels(tile, form.side);
    let k = form.k.min(K_BLOCK).next_multiple_of(BLOCK);
    let most = (STRETCH_LEN / k).max(tile_pixels) / tile_pixels;
    let pixels = desc.output().h * desc.output().w;
    let stretch = most.min(pixels.div_ceil(tile_pixels)) * tile_pixels;
    // Packing leaves the pixels in cache. The weights are evicted if they are larger than the second-level
    // cache.
    let far = form.bytes() > (1 << 20);
    let ahead = if far { Lookahead::Weights } else { Lookahead::Nothing };
    GemmSchedule {
        tile,
        form,
        source: PixelSource::Packed,
        mergeable: false,
        k_block: K_BLOCK,
        stretch,
        ahead,
    }
}
