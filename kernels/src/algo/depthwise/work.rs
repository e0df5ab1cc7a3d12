//! The estimate of a depthwise convolution.

use super::{DepthwiseForm, LINE_OF_PLANE, Reading, scales, split_units, transposes, workspace_len};
use crate::describe::{BLOCK, ConvDesc, Layout};
use crate::tile::depthwise_table::DepthwiseKernels;
use crate::tile::table::KernelSet;
use crate::work::{Family, LargestPart, PlanEstimate, Term, ThreadShare, Work};

/// The transposition of a vector, in stores.
const TRANSPOSITION: f64 = 2.0;

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
    let tiles = Tiles::new(desc, kernels, reading);
    // Tiles are computed whole, whether or not all of their outputs exist.
    let (lines, along) = if pixels {
        let width = if scales(desc) { LINE_OF_PLANE } else { width };
        let of_image = part.pixels / width as f64;
        (part.images * (of_image / tiles.outputs).ceil(), width.div_ceil(lanes) as f64)
    } else {
        (rows, (width as f64 / tiles.outputs).ceil())
    };
    let all = vectors * lines * along * tiles.outer_taps * ins as f64;
    // A special kernel keeps the taps of a line in registers.
    let term = if tiles.special { Term::Fma } else { Term::Pack };
    work.add(term, all * tiles.slots);
    work.add(Term::Gather, all * tiles.slots * tiles.border(desc, lanes) / along);
    work.add(Term::Gather, all * tiles.scattered);
    work.add(Term::Tile, vectors * lines * along + all);
    work.add(Term::Store, vectors * rows * if pixels { along } else { width as f64 });
    work.add(Term::Call, vectors * part.images);
    if transposes(desc) {
        let blocks = (part.groups / BLOCK as f64).ceil();
        let read = part.images * (desc.input().h * desc.input().w) as f64;
        let written = if desc.output_layout() == Layout::Nchw { part.images * part.pixels } else { 0.0 };
        work.add(Term::Store, TRANSPOSITION * blocks * (read + written));
    } else if desc.layout() != desc.output_layout() {
        // The planes are read and transposed.
        let blocks = (part.groups * part.outs as f64 / BLOCK as f64).ceil();
        work.add(Term::Store, 2.0 * part.images * part.pixels * blocks);
    }
    let once = part.input_bytes + part.output_bytes;
    work.traffic.add(once, once, &share.caches);
    work.flops = 2.0 * desc.cost().macs as f64;
    PlanEstimate { packed_bytes: form.bytes(), workspace_len: workspace_len(desc, kernels), work }
}

/// What one tile does for one outer tap of one channel.
struct Tiles {
    /// Outputs of a tile along the inner axis.
    outputs: f64,
    outer_taps: f64,
    /// Whether there is a kernel for exactly this window.
    special: bool,
    /// Slots of the FMA pipes: products, or the loads for them.
    slots: f64,
    /// Elements that are read one by one, because neither their distance nor that of the outputs is known to a kernel.
    scattered: f64,
    pixels: bool,
}

impl Tiles {
    fn new(desc: &ConvDesc, kernels: &DepthwiseKernels, reading: Reading) -> Self {
        let (kernel, stride, dilation) = (desc.kernel(), desc.stride(), desc.dilation());
        let (y, x) = ([kernel.h, stride.h, dilation.h], [kernel.w, stride.w, dilation.w]);
        let pixels = reading == Reading::Pixels;
        let (inner, outer) = if pixels { (y, x) } else { (x, y) };
        let [taps, step, apart] = inner;
        let outputs = kernels.outputs();
        let special = kernels.has(reading, inner, outer);
        let in_runs = apart == 1 && if pixels { step <= 2 && stride.h == stride.w } else { step <= 4 };
        let run = match (special, in_runs) {
            (true, _) => taps,
            (false, true) => taps.min(if step > 2 { 2 } else { 4 }),
            (false, false) => 1,
        };
        let positions = ((outputs - 1) * step + run).min(outputs * run);
        let runs = taps as f64 / run as f64;
        // As many loads as FMAs are issued at a time: a vector for each position, and the weights. Every second pixel
        // is read with two loads and a permutation.
        let of_position = match reading {
            Reading::Pixels if stride.w == 2 => 3,
            // A permutation takes as long as two loads.
            Reading::Permuted | Reading::Partial => 2,
            _ => 1,
        };
        let loads = of_position * positions + run;
        let slots = (outputs * run).max(loads) as f64 * runs;
        let is_scattered = pixels && (stride.w > 2 || (stride.w == 2 && !special && !in_runs));
        // Such an element takes about three times as long as one that is read with a mask.
        let scattered = if is_scattered { (3 * positions * kernels.lanes()) as f64 * runs } else { 0.0 };
        Self { outputs: outputs as f64, outer_taps: outer[0] as f64, special, slots, scattered, pixels }
    }

    /// The slow tiles of a line: those whose window crosses the border, and vectors of pixels that are not whole.
    fn border(&self, desc: &ConvDesc, lanes: usize) -> f64 {
        let width = desc.output().w;
        if self.pixels {
            let partial = width.div_ceil(lanes) - width / lanes;
            let padded = desc.pad().left > 0 || desc.pad().right > 0;
            return partial.max(usize::from(padded)) as f64;
        }
        let border = desc.pad().left + desc.pad().right;
        (border.div_ceil(desc.stride().w).min(width) as f64 / self.outputs).ceil()
    }
}
