//! The estimate of a direct convolution over rows.

use super::schedule::RowsSchedule;
use crate::algo::direct::{Passes, kernel_rows_inside};
use crate::describe::{BLOCK, ConvDesc, Layout};
use crate::tile::rows_table::RowsTile;
use crate::work::{Family, LargestPart, PlanEstimate, Term, ThreadShare, Work};

/// Estimates the memory and the work, for the choice. `desc` must be supported.
pub(crate) fn estimate(
    desc: &ConvDesc,
    schedule: &RowsSchedule,
    tile: &RowsTile,
    share: &ThreadShare,
) -> PlanEstimate {
    let part = LargestPart::new(desc, &schedule.split_units(desc), false, share.parts);
    PlanEstimate {
        packed_bytes: schedule.form.bytes(),
        workspace_len: schedule.workspace_len(desc),
        work: work(desc, schedule, tile, &part, share),
    }
}

fn work(
    desc: &ConvDesc,
    schedule: &RowsSchedule,
    tile: &RowsTile,
    part: &LargestPart,
    share: &ThreadShare,
) -> Work {
    let mut work = Work::new(Family::DirectRows);
    let (kernel, width) = (desc.kernel(), desc.output().w);
    let rows = part.images * part.pixels / width as f64;
    let panels = schedule.form.panels.in_part(part);
    let vectors = (schedule.form.panels.width / tile.shape.lanes) as f64;
    let stretches = part.images * (part.pixels / width as f64 / schedule.stretch as f64).ceil();
    let (lines, outputs, kernel_rows) = if schedule.flat {
        (stretches, schedule.stretch * width, kernel.h as f64)
    } else {
        (rows, width, kernel_rows_inside(desc))
    };
    let tiles = outputs.div_ceil(tile.most_outputs(schedule.form.panels.width)) as f64;
    let outputs = outputs as f64 / tiles;
    // With few sums in flight, an FMA waits for the previous one. A core loads two vectors in the time of two FMAs.
    let of_tap = (outputs * vectors).max(8.0).max(outputs + vectors + 1.0);
    let taps = kernel_rows * kernel.w as f64 * part.ins as f64;
    work.add(Term::Fma, lines * panels * tiles * taps * of_tap);
    let blocks = kernel.h.div_ceil(schedule.row_block) as f64;
    work.add(Term::Tile, lines * panels * tiles * blocks);
    work.add(Term::Store, rows * panels * width as f64 * vectors * (2.0 * blocks - 1.0));
    let of_call = schedule.of_call.min(schedule.stretch) as f64;
    let calls = part.images * (part.pixels / width as f64 / of_call).ceil();
    let panels_of_call = if schedule.is_one_call(desc) { panels / part.groups } else { 1.0 };
    work.add(Term::Call, calls * (panels / panels_of_call) * blocks);
    pack(desc, schedule, part, stretches, &mut work);
    let panel = (schedule.form.k * schedule.form.panels.width * size_of::<f32>()) as f64;
    let passes = Passes {
        stretches,
        panels,
        // Every tile reads the panel.
        of_panel: lines * tiles,
        weights: panels * panel,
        panel,
        block: panel * schedule.row_block as f64 / kernel.h as f64,
        workspace: schedule.workspace_len(desc) as f64 * size_of::<f32>() as f64,
    };
    passes.add(part, share, &mut work);
    work.flops = 2.0 * desc.cost().macs as f64;
    work
}

/// Counts the rows that are copied, and the NCHW outputs that are transposed.
fn pack(desc: &ConvDesc, schedule: &RowsSchedule, part: &LargestPart, stretches: f64, work: &mut Work) {
    if !schedule.in_place {
        let rows = part.groups * stretches * schedule.input_rows(desc) as f64;
        let (lines, elements) = (rows * schedule.rows.lines() as f64, rows * schedule.rows.row_len() as f64);
        if schedule.rows.is_plain(desc.layout()) {
            work.add(Term::Pack, lines + elements / BLOCK as f64);
        } else {
            work.add(Term::Gather, elements);
        }
    }
    if desc.output_layout() == Layout::Nchw {
        let columns = part.groups * part.outs.next_multiple_of(BLOCK) as f64;
        work.add(Term::Pack, part.images * part.pixels * columns / BLOCK as f64);
    }
}
