//! What a Winograd convolution decides before it runs: which tile, which loop is outside, how much at a time.

use super::matrices::Matrices;
use super::phases::Phases;
use super::weights::{Order, WinogradWeights};
use super::{MOST_STRIP, WinogradConv};
use crate::algo::direct;
use crate::choose::Unsupported;
use crate::describe::{BLOCK, ConvDesc, Layout, Size2, Weights};
use crate::tile::table::KernelSet;
use crate::tile::winograd::Coefficients;
use crate::tile::winograd_table::WinogradTile;

/// Bytes of transformed weights up to which panels are outside: what is left of the second cache level beside the tiles.
const NEAR_WEIGHTS: usize = 4 << 20;
/// Bytes of transformed weights from which on the next matrix is worth a hint.
const AHEAD_WEIGHTS: usize = 1 << 20;
/// Tiles at a time, for each order: the more, the fewer times weights are read; the transformed tiles have to stay near.
const TILES_OF_PANELS: usize = 28;
const TILES_OF_POINTS: usize = 56;
/// Channels that are summed up by themselves: longer sums lose accuracy.
const K_BLOCK: usize = 64;

/// The tile of so many outputs for the kernel of `desc`.
fn tile(desc: &ConvDesc, outputs: Size2) -> WinogradTile {
    WinogradTile { points: points(desc, outputs), outputs }
}

/// Points of tiles of so many outputs.
pub(crate) fn points(desc: &ConvDesc, outputs: Size2) -> Size2 {
    let more = Phases::of(desc).taps() - 1;
    Size2::new(outputs.h + more, outputs.w + more)
}

pub(crate) fn supports(desc: &ConvDesc, outputs: Size2) -> Result<(), Unsupported> {
    let taps: &[usize] = match (outputs.h, outputs.w) {
        (3, 3) => &[4],
        (6, 6) | (4, 2) => &[3],
        _ => &[3, 5],
    };
    let square = [desc.kernel(), desc.stride()].iter().all(|size| size.h == size.w);
    if !square || desc.dilation() != Size2::square(1) || !taps.contains(&Phases::of(desc).taps()) {
        return Err(Unsupported::NotWinograd);
    }
    direct::groups_fit_blocks(desc)
}

/// Multiplications in the time of one operation of a transform: these wait for memory half of the time.
const TRANSFORM: f64 = 2.2;
/// Multiplications in the time that a product of one panel takes to begin and to end.
const CALL: f64 = 2000.0;
/// Multiplications in the time that a byte of weights takes to come from the third cache level.
const FAR_BYTE: f64 = 5.0;
/// Multiplications in the time that a pixel takes to be brought to the other phases of its place.
const GATHER: f64 = 48.0;
/// How much of the shorter of multiplying and reading is not hidden behind the longer.
const BARE: f64 = 0.25;

/// The time that tiles of so many outputs take, in that of a multiplication in a full vector.
pub(crate) fn time(desc: &ConvDesc, outputs: Size2) -> f64 {
    let tile = tile(desc, outputs);
    let (out, groups, phases) = (desc.output(), desc.groups(), Phases::of(desc));
    let (channels, per_group) = (desc.input().c / groups * phases.count(), out.c / groups);
    let tiles = out.n as f64 * out.h.div_ceil(outputs.h) as f64 * out.w.div_ceil(outputs.w) as f64;
    let products = tile.products() as f64;
    let lanes = |channels: usize| channels.next_multiple_of(BLOCK) as f64;
    // Each way, a column or row takes about two operations per point.
    let input = tiles * lanes(channels) * 2.0 * 2.0 * products;
    let output = tiles * lanes(per_group) * 2.0 * (products + (tile.points.w * outputs.h) as f64);
    let calls = products * (tiles / 14.0).ceil() * (per_group as f64 / 32.0).ceil();
    let multiplied = products * tiles * channels as f64 * lanes(per_group) / 0.95 + calls * CALL;
    let bytes = products * channels as f64 * lanes(per_group) * size_of::<f32>() as f64;
    let times_read = (tiles / TILES_OF_POINTS as f64).ceil();
    let read = if bytes > AHEAD_WEIGHTS as f64 { bytes * times_read * FAR_BYTE } else { 0.0 };
    let gathered = tiles * channels as f64 * (tile.points.h * outputs.w) as f64;
    let gather = if phases.count() > 1 { GATHER * gathered } else { 0.0 };
    let transforms = TRANSFORM * (input + output) + gather;
    groups as f64 * (multiplied.max(read) + BARE * multiplied.min(read) + transforms)
}

impl WinogradConv {
    pub(crate) fn new(
        desc: &ConvDesc,
        weights: &Weights<'_>,
        outputs: Size2,
        kernels: &'static KernelSet,
    ) -> Self {
        let tile = tile(desc, outputs);
        let matrices =
            [(tile.points.h, outputs.h), (tile.points.w, outputs.w)].map(|(p, o)| Matrices::new(p, o));
        let phases = Phases::of(desc);
        let channels = desc.input().c / desc.groups() * phases.count();
        let per_group = desc.output().c / desc.groups();
        let bytes = tile.products() * channels * per_group * size_of::<f32>();
        let order = if bytes <= NEAR_WEIGHTS { Order::Panels } else { Order::Points };
        // Panels are columns in any case: NCHW output is transposed afterwards.
        let layout = if desc.output_layout() == Layout::Nchw { Layout::Nhwc } else { desc.output_layout() };
        let weights =
            WinogradWeights::pack(desc, weights, (&kernels.winograd.shape, layout), &matrices, order);
        let most = if order == Order::Panels { TILES_OF_PANELS } else { TILES_OF_POINTS };
        let out = desc.output();
        let all = out.n.saturating_mul(out.h.div_ceil(outputs.h)).saturating_mul(out.w.div_ceil(outputs.w));
        Self {
            desc: *desc,
            kernels,
            tile,
            coefficients: Coefficients { y: matrices[0].coefficients(), x: matrices[1].coefficients() },
            weights,
            phases,
            channels,
            k_block: K_BLOCK,
            tiles: all,
            block: all.min(most),
            ahead: bytes > AHEAD_WEIGHTS,
        }
    }

    /// Elements of the parts of a slab.
    pub(super) fn lens(&self) -> SlabLens {
        let (width, products) = (self.weights.panels.width(), self.tile.products());
        let panels = match self.weights.order {
            Order::Panels => 1,
            Order::Points => self.weights.panels.all().len() / self.weights.panels.groups(),
        };
        let strip = self.tile.columns(MOST_STRIP) * BLOCK;
        let lines = self.tile.outputs.h * self.tile.outputs.w * MOST_STRIP * width;
        SlabLens {
            v: products * self.v_point(self.block),
            m: panels * products * self.m_point(self.block),
            scratch: self.tile.points.h * strip,
            rows: if self.desc.layout() == Layout::Nchw || self.phases.count() > 1 {
                self.tile.points.h * strip
            } else {
                0
            },
            lines: if self.desc.output_layout() == Layout::Nchw { 2 * lines } else { 0 },
        }
    }

    /// From one point to the next of transformed tiles, and of products.
    pub(super) fn v_point(&self, tiles: usize) -> usize {
        odd_lines(self.channels.next_multiple_of(BLOCK) * tiles)
    }

    pub(super) fn m_point(&self, tiles: usize) -> usize {
        odd_lines(tiles * self.weights.panels.width())
    }
}

/// An odd number of cache lines, so that the points do not fall into a few sets of a cache.
fn odd_lines(len: usize) -> usize {
    (len.div_ceil(BLOCK) | 1) * BLOCK
}

/// Elements of the parts of a slab, whole lines each.
pub(super) struct SlabLens {
    /// Transformed tiles.
    pub(super) v: usize,
    /// Products.
    pub(super) m: usize,
    /// For the transform of the input.
    pub(super) scratch: usize,
    /// Rows of NCHW, or of phases, with their channels brought together.
    pub(super) rows: usize,
    /// Outputs and residual of a row of tiles, on their way to NCHW.
    pub(super) lines: usize,
}

impl SlabLens {
    pub(super) fn sum(&self) -> usize {
        self.v + self.m + self.scratch + self.rows + self.lines
    }
}
