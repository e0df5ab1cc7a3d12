//! The estimate of a Winograd convolution.

use super::folded::Folded;
use super::schedule::{K_BLOCK, WinogradSchedule};
use super::weights::Order;
use crate::algo::gemm_schedule::step;
use crate::describe::{BLOCK, ConvDesc, Layout};
use crate::tile::shape::{TileShape, even_piece};
use crate::tile::table::KernelSet;
use crate::tile::winograd_operands::WinogradTile;
use crate::work::{Family, LargestPart, PlanEstimate, Term, ThreadShare, Work};

/// The cost of gathering one vector of phases lane by lane, in units of moving one vector of an NCHW image.
const PHASES: f64 = 4.0;
/// The cost of beginning a row of phases in all lanes, in vectors.
const PHASE: f64 = 8.0;

/// Estimates the memory and the work, for the choice. `desc` must be supported.
pub(crate) fn estimate(
    desc: &ConvDesc,
    schedule: &WinogradSchedule,
    kernels: &'static KernelSet,
    share: &ThreadShare,
) -> PlanEstimate {
    let (shape, panels) = (&kernels.winograd.shape, schedule.form.panels);
    let channels = schedule.form.channels();
    let workspace_len = schedule.lens(desc).sum();
    let of_panel = schedule.tile.products().saturating_mul(schedule.form.matrix());
    let matrices = panels.count.saturating_mul(of_panel);
    let part = LargestPart::new(desc, &schedule.split_units(), false, share.parts);
    let run = Counted { desc, schedule, shape, width: panels.width, channels, part: &part };
    PlanEstimate {
        packed_bytes: matrices.saturating_mul(size_of::<f32>()).saturating_add(panels.bytes()),
        workspace_len,
        work: run.work(workspace_len as f64 * size_of::<f32>() as f64, share),
    }
}

struct Counted<'a> {
    desc: &'a ConvDesc,
    schedule: &'a WinogradSchedule,
    shape: &'a TileShape,
    /// Channels of a panel.
    width: usize,
    /// Channels of the phases of a group.
    channels: usize,
    part: &'a LargestPart,
}

impl Counted<'_> {
    /// Tiles of the part in all of its images.
    fn tiles(&self) -> f64 {
        let unit = self.schedule.unit();
        let of_unit = (unit / self.schedule.tile.outputs.h).div_ceil(self.schedule.tile.outputs.w);
        self.part.images * (self.part.pixels / unit as f64).ceil() * of_unit as f64
    }

    /// Tiles of a strip. The rows of a folded map can be shorter than a strip.
    fn strip(&self) -> f64 {
        let Folded { output, by, .. } = self.schedule.folded;
        let WinogradSchedule { strip: most, down, .. } = *self.schedule;
        if by == 1 || down { most as f64 } else { output.width.min(most) as f64 }
    }

    /// Number of passes over the weights.
    fn blocks(&self) -> f64 {
        (self.tiles() / self.schedule.block as f64).ceil()
    }

    fn work(&self, workspace: f64, share: &ThreadShare) -> Work {
        let Self { desc, schedule, shape, width, channels, part } = *self;
        let WinogradTile { points: size, outputs: of_tile } = schedule.tile;
        let family = if schedule.parts.is_some() { Family::WinogradParts } else { Family::Winograd };
        let mut work = Work::new(family);
        let products = schedule.tile.products() as f64;
        let taps = of_tile.h * of_tile.w * desc.kernel().h * desc.kernel().w;
        let (tiles, blocks) = (self.tiles(), self.blocks());
        let vectors = width as f64 / shape.lanes as f64;
        let panels = schedule.form.panels.in_part(part);
        // Register tiles of about equal height.
        let of_block = (tiles / blocks).ceil();
        let (calls, _, steps, k_blocks) = match &schedule.parts {
            None => {
                let rows = even_piece(of_block as usize, shape.rows) as f64;
                let steps = channels as f64 * step(rows, vectors);
                (
                    blocks * (of_block / shape.rows as f64).ceil(),
                    rows,
                    steps,
                    channels.div_ceil(K_BLOCK) as f64,
                )
            }
            Some(parts) => {
                let (count, rows) = parts.register_tiles(of_block as usize);
                (blocks * count as f64, rows as f64, parts.rows_of_steps(rows), 1.0)
            }
        };
        work.add(Term::Fma, panels * products * calls * steps);
        work.add(Term::Tile, panels * products * calls * k_blocks);
        work.add(Term::Store, panels * products * tiles * vectors * (2.0 * k_blocks - 1.0));
        // Along each axis, a column or row takes about two operations per point.
        let blocks_of_16 = channels.div_ceil(BLOCK) as f64;
        let lanes = BLOCK as f64 / shape.lanes as f64;
        let inputs = part.groups * tiles * blocks_of_16 * lanes;
        let outputs = tiles * panels * vectors;
        let axes = [size.h, size.w].into_iter().filter(|&points| points > 1).count() as f64;
        work.add(Term::Pack, inputs * 2.0 * axes * products);
        if let Some(parts) = &schedule.parts {
            work.add(Term::Pack, inputs * products * parts.operations_of_split());
        }
        work.add(Term::Pack, outputs * 2.0 * (products + (size.w * of_tile.h) as f64));
        let strips = (tiles / self.strip()).ceil().max(blocks);
        let mut moved = 0.0;
        let phases = schedule.form.phases;
        if phases.are_gathered(desc.ins()) {
            // The columns of each row of a strip are gathered lane by lane.
            let columns = tiles / strips * of_tile.w as f64 + (size.w - of_tile.w) as f64;
            let rows = part.groups * blocks_of_16 * lanes * strips * size.h as f64;
            moved += PHASES * rows * (columns + PHASE);
        } else if desc.layout() == Layout::Nchw {
            // Pixels between those of a phase are copied, too.
            moved += inputs * products * phases.stride.w as f64;
        }
        if desc.output_layout() == Layout::Nchw {
            moved += outputs * (of_tile.h * of_tile.w) as f64;
        }
        work.add(Term::Gather, moved);
        work.add(Term::Call, strips * (part.groups * blocks_of_16 + panels));
        self.traffic(panels, workspace, share, &mut work);
        work.flops = 2.0 * desc.cost().macs as f64 * products * (channels / part.ins) as f64 / taps as f64;
        work
    }

    fn traffic(&self, panels: f64, workspace: f64, share: &ThreadShare, work: &mut Work) {
        let Self { schedule, part, .. } = *self;
        let (caches, float) = (&share.caches, size_of::<f32>() as f64);
        let products = schedule.tile.products() as f64;
        let matrix = schedule.form.matrix() as f64 * float;
        let weights = panels * products * matrix;
        let once = part.input_bytes + part.output_bytes;
        let all = weights + once + workspace;
        let traffic = &mut work.traffic;
        let (tiles, blocks) = (self.tiles(), self.blocks());
        traffic.add_first(weights, once, all, caches);
        traffic.add(weights * (blocks - 1.0), weights + workspace + once / blocks, caches);
        // Transformed tiles are written once and read by every panel. Products are written once and read
        // once.
        let bytes =
            if schedule.parts.is_some() { 2.0 * schedule.form.products.parts() as f64 } else { float };
        let v = part.groups * products * tiles * self.channels.next_multiple_of(BLOCK) as f64 * bytes;
        let m = products * tiles * panels * self.width as f64 * float;
        let of_group = panels / part.groups;
        match schedule.form.order {
            Order::Panels => {
                let of_panel = (m / panels + v / part.groups) / blocks + products * matrix;
                traffic.add(v + v * of_group, of_panel, caches);
                traffic.add(2.0 * m, of_panel, caches);
            }
            Order::Points => {
                traffic.add(2.0 * v + 2.0 * m, workspace, caches);
                traffic.add(v * (of_group - 1.0), (v / part.groups / blocks) / products + matrix, caches);
            }
        }
    }
}
