//! The estimate of a convolution with bf16 products.
//!
//! | term | what is counted |
//! |---|---|
//! | `Fma` | rows of 32 by 16 products, at the rate of the bf16 unit, or the loads of tiles where these take longer |
//! | `Tile` | tiles whose sums begin and end |
//! | `Store` | vectors of sums that are finished |
//! | `Pack` | vectors of pixels that are split, with the stores of their parts |
//! | `Gather` | pixels that are transposed or gathered before they are split |
//! | `Call` | calls of kernels |

use super::schedule::{Layer, PartsSchedule};
use super::weights::Stored;
use crate::describe::{BLOCK, ConvDesc, Layout};
use crate::tile::parts::{COLUMNS, PART_WORDS, ROW_WORDS};
use crate::work::{Family, LargestPart, PlanEstimate, Term, ThreadShare, Work};

/// Estimates the memory and the work, for the choice. `desc` must be supported.
pub(crate) fn estimate(desc: &ConvDesc, schedule: &PartsSchedule, share: &ThreadShare) -> PlanEstimate {
    let part = LargestPart::new(desc, &schedule.split_units(), schedule.mergeable, share.parts);
    PlanEstimate {
        packed_bytes: schedule.form.bytes(),
        workspace_len: schedule.lens(desc).sum(),
        work: work(desc, schedule, &part, share),
    }
}

fn work(desc: &ConvDesc, schedule: &PartsSchedule, part: &LargestPart, share: &ThreadShare) -> Work {
    let mut work =
        Work::new(if schedule.layer == Layer::Matrix { Family::PartsMatrix } else { Family::Parts });
    let form = &schedule.form;
    let panels = part.panels(COLUMNS);
    let stretches = part.images * (part.pixels / schedule.stretch as f64).ceil();
    let pixels = (part.pixels as usize).min(schedule.stretch);
    let (tiles, rows) = schedule.count_tiles(pixels);
    let tiles = stretches * tiles as f64;
    let steps = form.steps() as f64;
    work.add(Term::Fma, panels * tiles * steps * schedule.rows_of_step(rows));
    let blocks = (steps / schedule.block as f64).ceil();
    work.add(Term::Tile, panels * tiles * blocks);
    let sums = panels * tiles * rows as f64 * (COLUMNS / BLOCK) as f64;
    work.add(Term::Store, sums * if schedule.blocks_apart { blocks } else { 1.0 });
    work.add(Term::Call, panels * stretches * (blocks + 1.0));
    split(desc, schedule, part, (stretches, panels), &mut work);
    traffic(schedule, part, (stretches, panels), share, &mut work);
    work.flops = 2.0 * desc.cost().macs as f64;
    work
}

/// Counts what is split: pixels, and weights that are stored as floats.
fn split(
    desc: &ConvDesc,
    schedule: &PartsSchedule,
    part: &LargestPart,
    (stretches, panels): (f64, f64),
    work: &mut Work,
) {
    let form = &schedule.form;
    let copies = match schedule.layer {
        Layer::Rows { .. } => (desc.stride().h * desc.stride().w) as f64,
        Layer::Columns { classes, .. } => (desc.kernel().w * classes) as f64,
        Layer::Pixels | Layer::Matrix => 1.0,
    };
    let rows = part.groups * part.images * part.pixels * copies * form.order.groups() as f64;
    // A row is two vectors; a part of it takes about four operations.
    let vectors = (2 + 4 * form.products.parts()) as f64;
    work.add(Term::Pack, rows * vectors);
    match schedule.layer {
        Layer::Matrix => {
            // Runs of channels of a tap, or single elements where channels are not adjacent.
            let runs = match desc.layout() {
                Layout::Nchw => part.ins,
                _ => part.ins.div_ceil(BLOCK),
            };
            let window = desc.kernel().h * desc.kernel().w;
            work.add(Term::Gather, part.groups * part.images * part.pixels * (window * runs) as f64);
        }
        _ if desc.layout() == Layout::Nchw && !schedule.mergeable => work.add(Term::Gather, rows * 4.0),
        _ => {}
    }
    if form.stored == Stored::Floats {
        let rows = panels * stretches * form.steps() as f64 * (PART_WORDS / ROW_WORDS) as f64;
        work.add(Term::Pack, rows * vectors);
    }
    if schedule.planes {
        work.add(Term::Pack, panels * part.images * part.pixels * 4.0);
    }
}

fn traffic(
    schedule: &PartsSchedule,
    part: &LargestPart,
    (stretches, panels): (f64, f64),
    share: &ThreadShare,
    work: &mut Work,
) {
    let float = size_of::<f32>() as f64;
    let form = &schedule.form;
    let of_panel = (form.bytes() / form.panels.count.max(1)) as f64;
    let weights = panels * of_panel;
    let words = schedule.words() as f64 * float;
    let traffic = &mut work.traffic;
    let caches = &share.caches;
    let images = part.input_bytes + part.output_bytes;
    traffic.add_first(weights, images, weights + images + words, caches);
    // Every stretch reads the weights again.
    traffic.add(weights * (stretches - 1.0).max(0.0), weights + words, caches);
}
