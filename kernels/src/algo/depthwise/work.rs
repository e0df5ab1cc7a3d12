//! The estimate of a depthwise convolution.

use super::blocks::workspace_len;
use super::{DepthwiseForm, Reading, split_units};
use crate::describe::{BLOCK, ConvDesc};
use crate::tile::table::KernelSet;
use crate::work::{Family, LargestPart, PlanEstimate, Term, ThreadShare, Work};

/// Estimates the memory and the work, for the choice. `desc` must be supported.
pub(crate) fn estimate(desc: &ConvDesc, kernels: &'static KernelSet, share: &ThreadShare) -> PlanEstimate {
    let kernels = kernels.depthwise();
    let lanes = kernels.lanes();
    let form = DepthwiseForm::new(desc, lanes);
    let reading = form.reading();
    let pixels = reading == Reading::Pixels;
    // In Nchw16c and NHWC, a vector ends where its inputs no longer fit one vector.
    let count = form.count_vectors();
    let ins = desc.ins();

    let part = LargestPart::new(desc, &split_units(desc, reading, kernels), false, share.parts);
    let mut work = Work::new(match reading {
        Reading::Pixels => Family::DepthwisePixels,
        Reading::Channels => Family::DepthwiseChannels,
        Reading::Permuted | Reading::Partial => Family::DepthwisePermuted,
    });
    // The share of this part in all vectors.
    let channels = part.groups * part.outs as f64 / desc.output().c as f64;
    let vectors = count as f64 * channels;
    let width = desc.output().w;
    let rows = part.images * part.pixels / width as f64;
    let of_row = if pixels { width.div_ceil(lanes) } else { width } as f64;
    let (kernel, stride) = (desc.kernel(), desc.stride());
    let dilation = desc.dilation();
    let (y, x) = ([kernel.h, stride.h, dilation.h], [kernel.w, stride.w, dilation.w]);
    let (inner, outer) = if pixels { (y, x) } else { (x, y) };
    let special = kernels.has(reading, inner, outer);
    // A special kernel keeps the taps of a line in registers.
    let term = if special { Term::Fma } else { Term::Pack };
    let products = vectors * rows * desc.taps() as f64;
    // These outputs are slow: columns whose window crosses the border, and vectors of pixels that are not
    // whole or not adjacent.
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
    if desc.layout() != desc.output_layout() {
        // The planes are read and transposed.
        let blocks = (part.groups * part.outs as f64 / BLOCK as f64).ceil();
        work.add(Term::Store, 2.0 * part.images * part.pixels * blocks);
    }
    let once = part.input_bytes + part.output_bytes;
    work.traffic.add(once, once, &share.caches);
    work.flops = 2.0 * desc.cost().macs as f64;
    PlanEstimate { packed_bytes: form.bytes(), workspace_len: workspace_len(desc, kernels), work }
}
