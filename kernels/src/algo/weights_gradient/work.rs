//! The work of a gradient, for the choice.

use super::{WeightsDriver, WeightsGradient, winograd};
use crate::describe::BLOCK;
use crate::tile::winograd_table::GRADIENT_TILE;

/// What a gradient computes, of all threads together.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct WeightsWork {
    /// Multiplications of whole vectors.
    pub(crate) products: f64,
    /// Slots of the FMA pipes that other instructions take.
    pub(crate) edges: f64,
    /// The same for copies.
    pub(crate) packing: f64,
    /// Calls of kernels.
    pub(crate) calls: f64,
    /// Floating-point operations by the definition.
    pub(crate) flops: f64,
}

/// Slots of one scalar product of the reference.
const SCALAR: f64 = 30.0;
/// Slots to copy one element of a window, and one vector of gradients.
const WINDOW: f64 = 5.0;
const VECTOR: f64 = 4.0;
/// Slots to copy one channel of a pixel to a lane.
const GATHERED: f64 = 10.0;
/// Slots that a line of a tile takes besides its products.
const LINE: f64 = 12.0;

/// Slots to transform one vector of a tile of the image, of a tile of gradients, and of the sums of a filter.
const IMAGE_TILE: f64 = 300.0;
const GRADIENTS_TILE: f64 = 170.0;
const FILTER_TILE: f64 = 250.0;

/// Slots to read one vector of both tensors from memory.
const MEMORY: f64 = 12.0;

impl WeightsGradient {
    pub(crate) fn work(&self) -> WeightsWork {
        let (desc, windows) = (&self.desc, &self.windows);
        let pixels = (windows.images * windows.output.h * windows.output.w) as f64;
        let stretches = windows.stretches() as f64;
        let (groups, outs, ins) = (desc.groups() as f64, desc.outs(), desc.ins());
        let flops = 2.0 * desc.cost().macs as f64;
        let of_taps = pixels * groups * desc.taps() as f64;
        match &self.driver {
            WeightsDriver::Reference => {
                WeightsWork { products: SCALAR * flops / 2.0, flops, ..Default::default() }
            }
            WeightsDriver::Gemm(gemm) => {
                let lanes = gemm.tile.shape.lanes;
                let vectors = outs.div_ceil(lanes) as f64;
                let blocks = outs.div_ceil(gemm.columns()) as f64;
                WeightsWork {
                    products: of_taps * vectors,
                    edges: 0.1 * of_taps * vectors,
                    packing: WINDOW * of_taps * blocks + VECTOR * pixels * groups * vectors,
                    calls: stretches * groups * outs.div_ceil(gemm.tile.columns()) as f64,
                    flops,
                }
            }
            WeightsDriver::Taps(taps) => {
                let vectors = outs.div_ceil(taps.tile.lanes) as f64;
                let panels = outs.div_ceil(taps.panel) as f64;
                let kernel_rows = windows.kernel.h as f64 * panels * groups;
                let (calls, stalls) = taps.calls(ins);
                let calls_of = calls * kernel_rows;
                let lines = stretches * windows.segments_of_stretch() as f64;
                let packed = if taps.is_in_place() { 0.0 } else { ins.div_ceil(taps.ins) as f64 };
                WeightsWork {
                    products: of_taps * vectors,
                    edges: LINE * lines * calls_of + stalls * pixels * kernel_rows,
                    packing: VECTOR * packed * pixels * groups * vectors,
                    calls: stretches * calls_of,
                    flops,
                }
            }
            WeightsDriver::Depthwise(depthwise) => {
                let vectors = desc.output().c.div_ceil(depthwise.tile.lanes) as f64;
                let products = pixels * windows.taps() as f64 * vectors;
                let calls = self.stretches as f64 * vectors * depthwise.calls(windows);
                let gathered = GATHERED * depthwise.tile.lanes as f64;
                let packed = match outs {
                    1 if depthwise.is_in_place() => 0.0,
                    1 => 3.0 * VECTOR,
                    _ => 3.0 * VECTOR + gathered,
                };
                WeightsWork {
                    products,
                    // Both operands come from memory.
                    edges: 0.1 * products + MEMORY * pixels * vectors,
                    packing: packed * pixels * vectors,
                    calls,
                    flops,
                }
            }
            WeightsDriver::Winograd(of) => {
                let tiles = winograd::tiles(windows).len() as f64 * groups;
                let (panel_outs, panel_ins) = of.block_of();
                let vectors =
                    |channels: usize| channels.next_multiple_of(BLOCK) as f64 / of.tile.lanes as f64;
                let (outs_of, ins_of) = (vectors(outs), vectors(ins));
                let blocks = [outs.div_ceil(panel_outs), ins.div_ceil(panel_ins)].map(|count| count as f64);
                let products = GRADIENT_TILE.products() as f64;
                // Every chunk has sums of its own, which are cleared and transformed.
                let filter = self.chunks as f64 * groups * ins as f64 * outs_of;
                let (tile, lanes) = (of.tile, of.tile.lanes);
                let widest = tile.vectors(1, outs);
                let pieces = ins.div_ceil(tile.channels(1, widest)) * outs.div_ceil(widest * lanes);
                WeightsWork {
                    products: products * tiles * ins as f64 * outs_of,
                    edges: FILTER_TILE * filter,
                    packing: tiles * (IMAGE_TILE * ins_of * blocks[0] + GRADIENTS_TILE * outs_of * blocks[1]),
                    calls: self.stretches as f64 * groups * products * pieces as f64,
                    flops,
                }
            }
        }
    }
}
