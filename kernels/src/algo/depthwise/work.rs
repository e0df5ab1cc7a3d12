//! What a depthwise convolution would do.

use super::{Reading, count_vectors, reading, split_units};
use crate::describe::{ConvDesc, Size2};
use crate::tile::depthwise_read::LaneSource;
use crate::tile::table::KernelSet;
use crate::work::{Family, LargestPart, PlanEstimate, Term, ThreadShare, Work};

/// Everything that the choice wants to know; `desc` must be supported.
pub(crate) fn estimate(desc: &ConvDesc, kernels: &'static KernelSet, share: &ThreadShare) -> PlanEstimate {
    let kernels = kernels.depthwise();
    let lanes = kernels.lanes();
    let reading = reading(desc, lanes);
    let pixels = reading == Reading::Pixels;
    // Those of Nchw16c and NHWC are cut by what is in one vector.
    let count = count_vectors(desc, lanes, reading);
    let ins = desc.ins();
    let permuted = matches!(reading, Reading::Permuted | Reading::Partial);
    let sources = if permuted { count.saturating_mul(ins * size_of::<LaneSource>()) } else { 0 };
    let width = if pixels { 1 } else { lanes };
    let of_vector = desc.taps().saturating_mul(width).saturating_add(desc.epilogue().per_channel() * lanes);
    let packed = count.saturating_mul(of_vector);

    let part = LargestPart::new(desc, &split_units(desc, reading, kernels), false, share.parts);
    let mut work = Work::new(match reading {
        Reading::Pixels => Family::DepthwisePixels,
        Reading::Channels => Family::DepthwiseChannels,
        Reading::Permuted | Reading::Partial => Family::DepthwisePermuted,
    });
    // The part's of all vectors.
    let channels = part.groups * part.outs as f64 / desc.output().c as f64;
    let vectors = count as f64 * channels;
    let width = desc.output().w;
    let rows = part.images * part.pixels / width as f64;
    let of_row = if pixels { width.div_ceil(lanes) } else { width } as f64;
    let (kernel, stride) = (desc.kernel(), desc.stride());
    let (y, x) = ((kernel.h, stride.h), (kernel.w, stride.w));
    let (inner, outer) = if pixels { (y, x) } else { (x, y) };
    let special = desc.dilation() == Size2::square(1) && kernels.has(reading, inner, outer);
    // What there is a kernel for keeps the taps of a line in registers.
    let term = if special { Term::Fma } else { Term::Pack };
    let products = vectors * rows * desc.taps() as f64;
    // Slowly go: columns whose window reaches over the border; vectors of pixels that are not whole, or not neighbours.
    let slow = if pixels {
        if stride.w > 1 && !special { of_row } else { of_row - (width / lanes) as f64 }
    } else {
        let border = desc.pad().left + desc.pad().right;
        border.div_ceil(stride.w).min(width) as f64
    };
    work.add(term, products * (of_row - slow));
    work.add(Term::Gather, products * slow);
    work.add(Term::Tile, vectors * rows * desc.kernel().h as f64 * ins as f64);
    work.add(Term::Store, vectors * rows * of_row);
    work.add(Term::Call, vectors * part.images);
    let once = part.input_bytes + part.output_bytes;
    work.traffic.add(once, once, &share.caches);
    work.flops = 2.0 * desc.cost().macs as f64;
    PlanEstimate {
        packed_bytes: packed.saturating_mul(size_of::<f32>()).saturating_add(sources),
        workspace_len: 0,
        work,
    }
}
