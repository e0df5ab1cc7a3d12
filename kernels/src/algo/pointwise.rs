//! 1x1 convolution as channel mixing: a matrix product on the image itself (Lin et al. 2014, section 3.2).
//!
//! Fourteen consecutive pixels of an Nchw16c block are fourteen consecutive cache lines, so the image is the
//! packed operand already; in NHWC rows are one pixel pitch apart; in NCHW a plane is a row of vectors. A stride
//! only widens the distance between pixels. A kernel that covers the whole unpadded NCHW image is the same
//! product with `C*H*W` channels and one pixel, and a batch of one-pixel images is one image with a row of pixels:
//! so fully connected layers end up here too.

use super::gemm_schedule::{GemmSchedule, Lookahead, PixelSource, tile_pixels};
use super::im2col;
use super::pixels::Access;
use crate::algo::packed::GemmForm;
use crate::algo::tap_order::TapOrder;
use crate::describe::{BLOCK, ConvDesc, Layout, Size2, Unsupported};
use crate::tile::table::KernelSet;

/// Long sums are taken in parts: a sum of K products in order errs by `2^-24 * sqrt(K / 6)` or so, and that of the 25,088 of
/// a fully connected layer by more than all other layers of its network.
const K_BLOCK: usize = 512;

pub(crate) fn supports(desc: &ConvDesc) -> Result<(), Unsupported> {
    if desc.layout() != desc.output_layout() {
        return Err(Unsupported::MixedLayouts);
    }
    let is_1x1 = desc.kernel() == Size2::square(1);
    if !desc.pad().is_zero() || !(is_1x1 || covers_image(desc)) {
        return Err(Unsupported::NotPointwise);
    }
    let blocked_groups = desc.layout() == Layout::Nchw16c && desc.groups() > 1;
    if blocked_groups && !desc.ins().is_multiple_of(BLOCK) {
        return Err(Unsupported::GroupInsideBlock);
    }
    Ok(())
}

/// Whether the taps of the one output pixel are a whole NCHW image, element by element.
fn covers_image(desc: &ConvDesc) -> bool {
    let dense = desc.dilation() == Size2::square(1) || desc.kernel() == Size2::square(1);
    desc.layout() == Layout::Nchw && desc.groups() == 1 && desc.kernel() == desc.input().size() && dense
}

pub(crate) fn schedule(desc: &ConvDesc, kernels: &'static KernelSet) -> GemmSchedule {
    let (input, output) = (desc.input(), desc.output());
    // One pixel per image: whatever the layout says, the images are rows and the channels neighbours.
    let vectors = covers_image(desc);
    let layout = if vectors && desc.layout() == Layout::Nchw { Layout::Nhwc } else { desc.layout() };
    let unit = desc.stride() == Size2::square(1) || vectors;
    if layout == Layout::Nchw && !unit {
        // Strided pixels of a plane are not neighbours: here the layout asks for a copy.
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
    // The taps of a kernel that covers an NCHW image lie as the image does.
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

/// Pixels between two passes over the weights, and what to look ahead at. While all weights stay in the second cache
/// level, a few tiles at a time keep their pixels in the first, and the image is what comes from afar; otherwise
/// each panel of weights should be read as rarely as the image's share of the second level allows.
fn stretch(form: &GemmForm, tile: usize) -> (usize, Lookahead) {
    const SMALL_WEIGHTS: usize = 640 << 10;
    const IMAGE_SHARE: usize = 1 << 20;
    let whole_tiles = |pixels: usize| (pixels / tile).max(4) * tile;
    if form.bytes() <= SMALL_WEIGHTS {
        (whole_tiles(0), Lookahead::Pixels)
    } else {
        (whole_tiles(IMAGE_SHARE / (form.k * size_of::<f32>())), Lookahead::Weights)
    }
}
