//! The decisions of a Winograd convolution before it runs: the tile, the order of the loops, and the size of
//! a block.

use super::folded::Folded;
use super::phases::Phases;
use super::pixels::Places;
use super::split::{self, PartsLayer};
use super::weights::{Order, WinogradForm};
use crate::algo::panels::PanelShape;
use crate::algo::planes::{layout_of_panels, matrices_len};
use crate::describe::{BLOCK, ConvDesc, Layout, Products, Size2, Unsupported};
use crate::tile::shape::odd_lines;
use crate::tile::table::KernelSet;
use crate::tile::winograd_operands::WinogradTile;
use crate::work::Caches;
use crate::work::parts::SplitUnits;

/// Maximum bytes of transformed weights for which panels are the outer loop. Then `V` and the products of one
/// panel stay in the second-level cache.
const NEAR_WEIGHTS: usize = 4 << 20;
/// Bytes of transformed weights above which the next matrix is prefetched.
const AHEAD_WEIGHTS: usize = 1 << 20;
/// Tiles of a block, for each order of the loops. More tiles re-read the weights less often, but the
/// transformed tiles must stay in cache.
const TILES_OF_PANELS: usize = 28;
const TILES_OF_POINTS: usize = 56;
/// A problem with fewer tiles is not split by tiles among threads if its weights do not stay in cache.
const FEW_TILES: usize = 112;
/// Tiles of a row that are transformed at once. Their columns fit the first-level cache. Tiles with one row or one column
/// have fewer points.
const MOST_STRIP: usize = 7;
const MOST_STRIP_OF_THIN: usize = 28;
/// Channels that are summed before the sum is stored. Longer sums lose accuracy.
pub(super) const K_BLOCK: usize = 64;

/// The points along the shorter axis of the tiles of an algorithm with `outputs` outputs.
pub(crate) fn fewest_points(desc: &ConvDesc, outputs: Size2) -> usize {
    let phases = Folded::of(desc).phases;
    let points = phases.points(phases.outputs(outputs));
    points.h.min(points.w)
}

pub(crate) fn supports(desc: &ConvDesc, outputs: Size2) -> Result<(), Unsupported> {
    let Folded { phases, dilation, .. } = Folded::of(desc);
    let taps = phases.taps();
    let is_supported = match (taps.h, taps.w) {
        (1, taps) | (taps, 1) => match (outputs.h, outputs.w) {
            (2, 2) => matches!(taps, 3 | 5 | 7),
            (3, 3) => matches!(taps, 2 | 4 | 6),
            (4, 4) => matches!(taps, 3 | 5),
            (5, 5) => matches!(taps, 2 | 4),
            (6, 6) => taps == 3,
            _ => false,
        },
        (down, along) if down == along => match (outputs.h, outputs.w) {
            (3, 3) => matches!(down, 2 | 4),
            (5, 5) => down == 2,
            (6, 6) | (4, 2) => down == 3,
            _ => matches!(down, 3 | 5),
        },
        _ => false,
    };
    if is_supported && dilation == Size2::square(1) { Ok(()) } else { Err(Unsupported::NotWinograd) }
}

/// Whether the input rows of a strip are copied before they are transformed: the channels of a pixel are not adjacent in
/// the image.
fn copies_rows(desc: &ConvDesc, phases: Phases) -> bool {
    desc.layout() == Layout::Nchw || phases.are_gathered(desc.ins()) || desc.ins_split_blocks()
}

/// The decisions of a Winograd convolution before there are weights.
pub(crate) struct WinogradSchedule {
    pub(super) tile: WinogradTile,
    pub(crate) form: WinogradForm,
    pub(super) folded: Folded,
    /// Tiles of the problem, and tiles of a block.
    pub(super) tiles: usize,
    pub(super) block: usize,
    /// Maximum number of tiles that are transformed at once.
    pub(super) strip: usize,
    /// Whether strips of tiles go down the columns of a folded map.
    pub(super) down: bool,
    /// Whether the next matrix of weights is prefetched.
    pub(super) ahead: bool,
    /// How transformed tiles are split into bf16 parts, if they are.
    pub(super) parts: Option<PartsLayer>,
}

impl WinogradSchedule {
    pub(crate) fn new(
        desc: &ConvDesc,
        (outputs, products): (Size2, Products),
        kernels: &KernelSet,
        caches: &Caches,
    ) -> Self {
        let folded = Folded::of(desc);
        let phases = folded.phases;
        let outputs = phases.outputs(outputs);
        let tile = WinogradTile { points: phases.points(outputs), outputs };
        let (channels, per_group) = (phases.channels(desc.ins()), desc.outs());
        let len = tile.products().saturating_mul(channels).saturating_mul(per_group);
        let bytes = len.saturating_mul(if products == Products::F32 {
            size_of::<f32>()
        } else {
            2 * products.parts()
        });
        let order = if bytes <= NEAR_WEIGHTS { Order::Panels } else { Order::Points };
        let most = if order == Order::Panels { TILES_OF_PANELS } else { TILES_OF_POINTS };
        let map = folded.output;
        let of_image = map.rows().div_ceil(outputs.h).saturating_mul(map.width.div_ceil(outputs.w));
        let tiles = desc.output().n.saturating_mul(of_image);
        let panels = PanelShape::new(desc, &kernels.winograd.shape, layout_of_panels(desc));
        let form = WinogradForm { outputs, phases, ins: desc.ins(), order, products, panels };
        let (most, parts) = match products {
            Products::F32 => (most, None),
            _ => {
                let most = split::tiles_of_block(&form, caches);
                (most, Some(PartsLayer::new(&form, tiles.min(most), &kernels.parts)))
            }
        };
        let strip = if tile.is_thin() { MOST_STRIP_OF_THIN } else { MOST_STRIP };
        let is_copied = copies_rows(desc, phases) || desc.output_layout() == Layout::Nchw;
        let down = folded.has_short_rows() && !is_copied;
        Self {
            tile,
            form,
            folded,
            tiles,
            block: tiles.min(most),
            strip,
            down,
            ahead: bytes > AHEAD_WEIGHTS,
            parts,
        }
    }

    /// Distance between the tiles of a strip in pixels of the output.
    pub(super) fn step(&self) -> usize {
        if self.down { self.tile.outputs.h * self.folded.output.width } else { self.tile.outputs.w }
    }

    /// Pixels of a row of tiles. A map of one row is cut between tiles.
    pub(super) fn unit(&self) -> usize {
        let (map, outputs) = (self.folded.output, self.tile.outputs);
        if (map.rows(), outputs.h) == (1, 1) { outputs.w } else { outputs.h * map.width }
    }

    /// Whole rows of tiles and whole panels.
    ///
    /// Parts with the same pixels all transform the same image. So parts share the weights instead, unless
    /// each part would have too few tiles to be worth reading the weights.
    pub(crate) fn split_units(&self) -> SplitUnits {
        SplitUnits {
            channels_first: self.ahead && self.tiles < FEW_TILES,
            ..SplitUnits::new(self.unit(), self.form.panels.width)
        }
    }

    /// Elements of the copied rows of a strip.
    fn rows_len(&self, desc: &ConvDesc) -> usize {
        let (phases, columns) = (self.form.phases, self.tile.columns(self.strip));
        let pixels = match phases.are_gathered(desc.ins()) {
            true => columns,
            // Pixels between those of a phase are copied, too.
            false => Places { column: phases.stride.w, ..Places::all(0) }.span(columns),
        };
        if copies_rows(desc, phases) { self.tile.points.h * pixels * BLOCK } else { 0 }
    }

    /// Elements of the parts of a slab.
    pub(super) fn lens(&self, desc: &ConvDesc) -> SlabLens {
        let tile = self.tile;
        let (products, channels) = (tile.products(), self.form.channels());
        let width = self.form.panels.width;
        let panels = if self.form.order == Order::Panels { 1 } else { self.form.panels.most_of_group() };
        let strip = tile.columns(self.strip) * BLOCK;
        let pixels = tile.outputs.h * tile.outputs.w * self.strip;
        let (v, m, pair, sums) = match &self.parts {
            None => (v_point(channels, self.block), self.block * width, 0, 0),
            Some(parts) => {
                let pair = 2 * products * self.strip * BLOCK;
                (parts.v_point, parts.most_rows * width, pair, parts.sums_len(width))
            }
        };
        SlabLens {
            v: products.saturating_mul(v),
            m: panels.saturating_mul(products * odd_lines(m)),
            pair,
            sums,
            scratch: if tile.is_thin() { 0 } else { tile.points.h * strip },
            rows: self.rows_len(desc),
            lines: matrices_len(desc, pixels, width),
        }
    }
}

/// Distance between the points of `tiles` transformed tiles.
pub(super) fn v_point(channels: usize, tiles: usize) -> usize {
    odd_lines(channels.next_multiple_of(BLOCK).saturating_mul(tiles))
}

/// Elements of the parts of a slab. Each is a whole number of cache lines.
pub(super) struct SlabLens {
    /// The transformed tiles `V`.
    pub(super) v: usize,
    /// The products `M`.
    pub(super) m: usize,
    /// Transformed tiles of two blocks of channels, before they are split into bf16 parts.
    pub(super) pair: usize,
    /// Products of a panel that is narrower than the kernels of bf16 parts.
    pub(super) sums: usize,
    /// Scratch memory of the input transform.
    pub(super) scratch: usize,
    /// Rows of NCHW or of phases, with the channels of each pixel adjacent.
    pub(super) rows: usize,
    /// Outputs and residual of a row of tiles, before they are transposed to NCHW.
    pub(super) lines: usize,
}

impl SlabLens {
    pub(super) fn sum(&self) -> usize {
        [self.m, self.pair, self.sums, self.scratch, self.rows, self.lines]
            .into_iter()
            .fold(self.v, usize::saturating_add)
    }
}
