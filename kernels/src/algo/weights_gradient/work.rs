//! The work of a gradient, for the choice.
//!
//! Products with padding are not counted: a kernel that exceeds its map computes a small part of the products that the
//! definition has.

use super::gemm::GemmGradient;
use super::winograd::{PhaseWork, WinogradGradient};
use super::{WeightsDriver, WeightsGradient, are_far};
use crate::describe::{BLOCK, Size2};

/// What a gradient computes, of all threads together, in slots of the FMA pipes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct WeightsWork {
    /// Multiplications of whole vectors.
    pub(crate) products: f64,
    /// Rows of 32 by 16 products of bf16 numbers, at the rate of their unit.
    pub(crate) bf16_rows: f64,
    /// Other instructions of the kernels, and waiting.
    pub(crate) edges: f64,
    /// Copies of both tensors, and of the sums to the filter.
    pub(crate) packing: f64,
    /// Calls of kernels.
    pub(crate) calls: f64,
    /// Floating-point operations by the definition.
    pub(crate) flops: f64,
}

// The constants are slots of one multiply-add of vectors. They were fitted to the times of 169 random layers in all layouts
// (seeds 31 to 33), with AVX-512 on one thread of an AMD EPYC (Zen 4), 2026-11-29. docs/results/2026-11-29-gradients.md has
// the command, and what the choice loses on other layers.

/// One scalar product of the reference.
const SCALAR: f64 = 30.0;
/// One element of the filter, from the sums to its place, for each chunk.
const SUM: f64 = 0.6;

/// `direct` and `pointwise`: a multiply-add that is missing to hide the latency of others, a pixel at the end of a line, a
/// line, a call, a copied vector of gradients, the row of pixels that it belongs to, and a run.
const STALL: f64 = 0.45;
const EDGE: f64 = 2.5;
const LINE: f64 = 20.0;
const CALL: f64 = 200.0;
const VECTOR: f64 = 6.0;
const ROW: f64 = 220.0;
const RUN: f64 = 2400.0;

/// `depthwise`: a multiply-add, whose operands come from memory, a call, the box of a vector, a copied vector, a channel that
/// is copied to a lane, and a run.
const LOADED: f64 = 2.1;
const DEPTHWISE_CALL: f64 = 80.0;
const BOX: f64 = 800.0;
const PIXEL: f64 = 9.0;
const LANE: f64 = 3.2;
const DEPTHWISE_RUN: f64 = 1600.0;

/// `im2col_gemm`: an element of a window, a tile of sums, a copied vector of gradients, and a run.
const WINDOW: f64 = 8.5;
const TILE: f64 = 450.0;
const GRADIENT: f64 = 8.0;
const GEMM_RUN: f64 = 1900.0;

/// bf16 products: a row of windows or of gradients, and more for each part that it is split into; a square of pixels that is
/// transposed; a segment of windows and of gradients; a sum; a number that is read from memory; a call; and a run. Fitted to the
/// times of 110 random layers with one part (seed 9201, all layouts, one thread of an AMD EPYC, Zen 5, 2026-11-30); what a part
/// more takes is an estimate.
const SPLIT_WINDOW: [f64; 2] = [20.0, 20.0];
const SPLIT_GRADIENT: [f64; 2] = [8.0, 9.0];
const SQUARE: f64 = 60.0;
const SEGMENT: f64 = 100.0;
const SEGMENT_OF_GRADIENTS: f64 = 340.0;
const PARTS_SUM: f64 = 0.9;
const READ: f64 = 2.0;
const PARTS_CALL: f64 = 3000.0;
const PARTS_RUN: f64 = 1500.0;

/// Winograd: to transform one point of a vector along one axis, in a tile of the image (and more if it has a stride) and in a tile
/// of gradients; to read, add to and write a vector of sums, which come from the third-level cache; an element of the filter; and
/// a run. Fitted to the times of 150 layers of the kinds that Winograd computes (Nchw16c, AVX-512, 2026-11-30).
const IMAGE_POINT: f64 = 7.3;
const STRIDED_POINT: f64 = 6.2;
const GRADIENTS_POINT: f64 = 3.9;
const SUMS: f64 = 16.0;
const TRANSFORMED: f64 = 2.5;
const WINOGRAD_RUN: f64 = 50_000.0;

impl WeightsGradient {
    pub(crate) fn work(&self) -> WeightsWork {
        let (desc, windows) = (&self.desc, &self.windows);
        let groups = desc.groups() as f64;
        let flops = 2.0 * desc.cost().macs as f64;
        let written = SUM * self.chunks as f64 * desc.filter_len() as f64;
        match &self.driver {
            WeightsDriver::Reference => {
                WeightsWork { products: SCALAR * flops / 2.0, flops, ..Default::default() }
            }
            WeightsDriver::Gemm(gemm) => self.gemm_work(gemm, written, flops),
            WeightsDriver::Parts(parts) => {
                let (work, count) = (parts.work(desc, windows), parts.products.parts() as f64);
                let of_row = |[row, part]: [f64; 2]| row + part * count;
                let of_windows =
                    of_row(SPLIT_WINDOW) * work.windows + SQUARE * work.squares + SEGMENT * work.segments;
                let of_gradients = of_row(SPLIT_GRADIENT) * work.gradients
                    + SEGMENT_OF_GRADIENTS * work.segments_of_gradients;
                let far = if are_far(desc) { READ * work.read } else { 0.0 };
                let sums = PARTS_SUM * self.chunks as f64 * work.sums;
                WeightsWork {
                    bf16_rows: groups * work.rows,
                    packing: groups * (of_windows + of_gradients + far + sums),
                    calls: PARTS_RUN + groups * PARTS_CALL * work.calls,
                    flops,
                    ..Default::default()
                }
            }
            WeightsDriver::Taps(taps) => {
                let work = taps.work(desc, windows);
                WeightsWork {
                    products: groups * work.products,
                    edges: groups * (STALL * work.stalls + EDGE * work.edges + LINE * work.lines),
                    packing: groups * (VECTOR * work.packed + ROW * work.packed_rows) + written,
                    calls: RUN + groups * CALL * work.calls,
                    flops,
                    ..Default::default()
                }
            }
            WeightsDriver::Depthwise(depthwise) => {
                let vectors = desc.output().c.div_ceil(depthwise.tile.lanes) as f64;
                let work = depthwise.work(windows);
                let outputs = (windows.images * windows.output.h * windows.output.w) as f64;
                let copied = match desc.outs() {
                    1 if depthwise.is_in_place() => 0.0,
                    1 => PIXEL * (work.inputs + outputs),
                    _ => LANE * depthwise.tile.lanes as f64 * work.inputs,
                };
                WeightsWork {
                    products: vectors * work.products,
                    edges: vectors * (LOADED - 1.0) * work.products,
                    packing: vectors * copied + written,
                    calls: DEPTHWISE_RUN + vectors * (DEPTHWISE_CALL * work.calls + BOX * work.boxes),
                    flops,
                    ..Default::default()
                }
            }
            WeightsDriver::Winograd(winograd) => self.winograd_work(winograd, written, flops),
        }
    }

    fn gemm_work(&self, gemm: &GemmGradient, written: f64, flops: f64) -> WeightsWork {
        let (desc, windows) = (&self.desc, &self.windows);
        let (groups, outs, taps) = (desc.groups() as f64, desc.outs(), desc.taps());
        let pixels = (windows.images * windows.output.h * windows.output.w) as f64;
        let vectors = outs.div_ceil(gemm.tile.shape.lanes) as f64;
        // The bias is one more row of each block of taps.
        let blocks = taps.div_ceil(gemm.taps);
        let tiles = (taps + blocks).div_ceil(gemm.tile.rows()) * outs.div_ceil(gemm.tile.columns());
        WeightsWork {
            products: groups * pixels * vectors * (taps + blocks) as f64,
            edges: 0.0,
            packing: groups * pixels * WINDOW * (taps * outs.div_ceil(gemm.columns())) as f64
                + groups * pixels * GRADIENT * vectors * blocks as f64
                + written,
            calls: GEMM_RUN + groups * TILE * (windows.stretches() * tiles) as f64,
            flops,
            ..Default::default()
        }
    }

    fn winograd_work(&self, winograd: &WinogradGradient, written: f64, flops: f64) -> WeightsWork {
        let (groups, outs, ins) = (self.desc.groups() as f64, self.desc.outs(), self.desc.ins());
        let lanes = winograd.tile.lanes;
        let vectors = |channels: usize| (channels.next_multiple_of(BLOCK) / lanes) as f64;
        // Each channel is transformed for every block of the other side.
        let (block_outs, block_ins) = winograd.block_of();
        let image = vectors(ins) * outs.div_ceil(block_outs) as f64;
        let gradients = vectors(outs) * ins.div_ceil(block_ins) as f64;
        let pairs = ins as f64 * vectors(outs);
        let is_strided = self.windows.stride != Size2::square(1);
        let of_image = IMAGE_POINT + if is_strided { STRIDED_POINT } else { 0.0 };
        let packing = written * TRANSFORMED / SUM;
        let mut work = WeightsWork { packing, calls: WINOGRAD_RUN, flops, ..Default::default() };
        for PhaseWork { tiles, stretches, points, axes } in winograd.work_of_phases() {
            let (tiles, transforms) = (groups * tiles as f64, (points * axes) as f64);
            work.products += tiles * points as f64 * pairs;
            work.edges += groups * SUMS * (points * stretches.max(self.chunks)) as f64 * pairs;
            work.packing += tiles * transforms * (of_image * image + GRADIENTS_POINT * gradients);
        }
        work
    }
}
