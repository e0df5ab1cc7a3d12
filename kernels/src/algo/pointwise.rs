//! 1x1 convolution: a matrix product on the image itself (Lin et al. 2014, section 3.2).
//!
//! The image is already in the order of the operand. Fourteen consecutive pixels of an Nchw16c block are
//! fourteen consecutive cache lines. In NHWC, rows are one pixel pitch apart. In NCHW, a plane is a row of
//! vectors. A stride only widens the distance between pixels.
//!
//! Fully connected layers use the same code. A kernel that covers the whole unpadded NCHW image is a product
//! with `C*H*W` channels and one pixel. A batch of one-pixel images is one image with a row of pixels.

use super::gemm_schedule::{GemmSchedule, Lookahead, PixelSource, tile_pixels};
use super::im2col;
use super::pixels::Access;
use crate::algo::packed::GemmForm;
use crate::algo::tap_order::TapOrder;
use crate::describe::{ConvDesc, Layout, Size2, Unsupported};
use crate::tile::table::KernelSet;

/// Steps of K per block. Long sums are split, because a sum of K products in order has an error of about
/// `2^-24 * sqrt(K / 6)`. Without the split, the 25,088 products of a fully connected layer have a larger
/// error than all other layers of the network.
const K_BLOCK: usize = 512;

pub(crate) fn supports(desc: &ConvDesc) -> Result<(), Unsupported> {
    if desc.layout() != desc.output_layout() {
        return Err(Unsupported::MixedLayouts);
    }
    let is_1x1 = desc.kernel() == Size2::square(1);
    if !desc.pad().is_zero() || !(is_1x1 || covers_image(desc)) {
        return Err(Unsupported::NotPointwise);
    }
    if desc.ins_split_blocks() {
        return Err(Unsupported::GroupInsideBlock);
    }
    Ok(())
}

/// Whether the image has one output pixel whose taps are the whole NCHW image, element by element.
pub(super) fn covers_image(desc: &ConvDesc) -> bool {
    let dense = desc.dilation() == Size2::square(1) || desc.kernel() == Size2::square(1);
    desc.layout() == Layout::Nchw && desc.groups() == 1 && desc.kernel() == desc.input().size() && dense
}

pub(crate) fn schedule(desc: &ConvDesc, kernels: &'static KernelSet) -> GemmSchedule {
    let (input, output) = (desc.input(), desc.output());
    // With one pixel per image, the images are rows and the channels are adjacent in any layout.
    let vectors = covers_image(desc);
    let layout = if vectors && desc.layout() == Layout::Nchw { Layout::Nhwc } else { desc.layout() };
    let unit = desc.stride() == Size2::square(1) || vectors;
    if layout == Layout::Nchw && !unit {
        // Strided pixels of a plane are not adjacent, so this layout needs a copy.
        return im2col::schedule(desc, kernels);
    }
    let access = Access {
        unbroken: if unit { usize::MAX } else { output.w },
        stride: desc.stride(),
        input_width: input.w,
        output_width: output.w,
    };
    let mergeable = vectors || (unit && layout != Layout::Nchw);
    let rows = output.h * output.w * if mergeable { output.n } else { 1 };
    let tile =
        if layout == Layout::Nchw { &kernels.gemm[0] } else { kernels.gemm_tile_for(rows, desc.outs()) };
    // If the kernel covers an NCHW image, its taps are in the order of the image.
    let order = TapOrder::of_product(desc, desc.output_layout());
    let form = GemmForm::new(desc, &tile.shape, layout, order);
    let (stretch, ahead) = stretch(&form, tile_pixels(tile, form.side));
    GemmSchedule {
        tile,
        form,
        source: PixelSource::Image(access),
        mergeable,
        k_block: K_BLOCK,
        stretch,
        ahead,
    }
}

/// Returns the pixels between two passes over the weights, and what to prefetch.
///
/// A panel of weights stays in the first-level cache while the tiles of a stretch pass it, so a stretch is as long as its share of
/// the second-level cache allows: each panel of it costs a call, which takes as long as a few steps of a tile. If all weights
/// stay in that cache too, the image comes from further away and is prefetched. Otherwise the weights are.
fn stretch(form: &GemmForm, tile: usize) -> (usize, Lookahead) {
    const SMALL_WEIGHTS: usize = 640 << 10;
    let (share, ahead) = if form.bytes() <= SMALL_WEIGHTS {
        (256 << 10, Lookahead::Pixels)
    } else {
        (1 << 20, Lookahead::Weights)
    };
    let pixels = share / (form.k * size_of::<f32>());
    ((pixels / tile).max(4) * tile, ahead)
}
