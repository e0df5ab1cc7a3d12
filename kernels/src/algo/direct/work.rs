//! The estimate of a direct convolution.

use super::MOST_ROWS;
use super::schedule::DirectSchedule;
use crate::describe::{BLOCK, ConvDesc, Size2};
use crate::tile::shape::IN_FLIGHT;
use crate::tile::table::KernelSet;
use crate::work::{Family, LargestPart, PlanEstimate, Term, ThreadShare, Work};

/// Estimates the memory and the work, for the choice. `desc` must be supported.
pub(crate) fn estimate(
    desc: &ConvDesc,
    schedule: &DirectSchedule,
    kernels: &'static KernelSet,
    share: &ThreadShare,
) -> PlanEstimate {
    let part = LargestPart::new(desc, &schedule.split_units(desc), false, share.parts);
    PlanEstimate {
        packed_bytes: schedule.form.bytes(),
        workspace_len: 0,
        work: work(desc, schedule, kernels, &part, share),
    }
}

fn work(
    desc: &ConvDesc,
    schedule: &DirectSchedule,
    kernels: &KernelSet,
    part: &LargestPart,
    share: &ThreadShare,
) -> Work {
    let mut work = Work::new(Family::DirectImage);
    let (kernel, width) = (desc.kernel(), desc.output().w);
    let rows = part.images * part.pixels / width as f64;
    let panels = schedule.form.panels.in_part(part);
    let vectors = vectors_of_panel(desc, schedule.form.panels.width, kernels.direct.shape.lanes);
    // Tiles of a row are about equally large. A core loads two vectors in the time of two FMAs.
    let most = *kernels.direct.sizes(schedule.form.panels.width).last().expect("there are tiles");
    let tiles = width.div_ceil(most) as f64;
    let pixels = width as f64 / tiles;
    let row_taps = kernel_rows_inside(desc) * row_taps(desc) * part.ins as f64;
    // With one tap at a time, the sums of a small tile wait for each other. Those of one or two pixels have several.
    let waits = if kernels.direct.taps == 1 && pixels > 2.0 { IN_FLIGHT as f64 } else { 0.0 };
    let step = tiles * (pixels * vectors).max(pixels + vectors).max(waits);
    work.add(Term::Fma, rows * panels * row_taps * step);
    let k_blocks = part.ins.div_ceil(schedule.k_block) as f64;
    let blocks = k_blocks * kernel.h.div_ceil(schedule.row_block) as f64;
    // Each tile restarts at every run of every kernel row of every chunk.
    let chunks = part.ins.div_ceil(BLOCK) as f64;
    let runs = kernel_rows_inside(desc) * schedule.runs as f64 * chunks;
    work.add(Term::Tile, rows * panels * tiles * (runs + blocks));
    work.add(Term::Store, rows * panels * width as f64 * vectors * (2.0 * blocks - 1.0));
    let of_call = MOST_ROWS.min(schedule.stretch);
    let calls = part.images * (part.pixels / width as f64 / of_call as f64).ceil();
    work.add(Term::Call, calls * panels * blocks);
    let images = (part.images / schedule.images as f64).ceil();
    let stretches = images * (part.pixels / width as f64 / schedule.stretch as f64).ceil();
    let all = panels * (schedule.form.k * schedule.form.panels.width * size_of::<f32>()) as f64;
    let weights = live(desc) * all;
    let panel = weights / panels * (schedule.k_block as f64 / part.ins as f64);
    // Every row of a stretch re-reads the kernel rows of a panel that are inside the image for it.
    let of_panel = rows * kernel_rows_inside(desc) / live_rows(desc).max(1) as f64;
    Passes { stretches, panels, of_panel, weights, panel, block: panel, workspace: 0.0 }
        .add(part, share, &mut work);
    work.flops = 2.0 * desc.cost().macs as f64;
    work
}

/// Average number of vectors of a panel: the last one can be narrower. Groups can begin anywhere in a panel.
fn vectors_of_panel(desc: &ConvDesc, width: usize, lanes: usize) -> f64 {
    let whole = width as f64 / lanes as f64;
    if desc.groups() > 1 {
        return whole;
    }
    whole.min(desc.outs().div_ceil(lanes) as f64 / desc.outs().div_ceil(width) as f64)
}

/// For each tap of an axis, the number of outputs for which the tap is inside the image.
fn outputs_of_taps(desc: &ConvDesc, axis: fn(Size2) -> usize, before: usize) -> impl Iterator<Item = usize> {
    let (input, outputs) = (axis(desc.input().size()), axis(desc.output().size()));
    let (stride, dilation) = (axis(desc.stride()), axis(desc.dilation()));
    (0..axis(desc.kernel())).map(move |tap| {
        // Outputs `y` whose input `y * stride + at - before` is in `0..input`.
        let at = tap * dilation;
        let first = before.saturating_sub(at).div_ceil(stride);
        let end = (input + before).saturating_sub(at).div_ceil(stride);
        end.min(outputs).saturating_sub(first)
    })
}

fn of_rows(desc: &ConvDesc) -> impl Iterator<Item = usize> {
    outputs_of_taps(desc, |size| size.h, desc.pad().top)
}

/// For each tap of a kernel row, the number of outputs of a row for which it is inside the image.
pub(crate) fn outputs_of_columns(desc: &ConvDesc) -> impl Iterator<Item = usize> {
    outputs_of_taps(desc, |size| size.w, desc.pad().left)
}

/// Average number of kernel rows that are inside the image.
pub(crate) fn kernel_rows_inside(desc: &ConvDesc) -> f64 {
    of_rows(desc).sum::<usize>() as f64 / desc.output().h as f64
}

/// Number of kernel rows that are inside the image for any output.
fn live_rows(desc: &ConvDesc) -> usize {
    of_rows(desc).filter(|&outputs| outputs > 0).count()
}

/// The fraction of the weights that is multiplied with anything other than padding.
fn live(desc: &ConvDesc) -> f64 {
    let rows = live_rows(desc);
    let columns = outputs_of_columns(desc).filter(|&outputs| outputs > 0).count();
    (rows * columns) as f64 / (desc.kernel().h * desc.kernel().w) as f64
}

/// Average number of taps of a kernel row that are inside the image. Tiles skip pixels of the padding.
fn row_taps(desc: &ConvDesc) -> f64 {
    outputs_of_columns(desc).sum::<usize>() as f64 / desc.output().w as f64
}

/// The bytes of a convolution that computes stretches of rows one after another, each with all panels.
pub(crate) struct Passes {
    pub(crate) stretches: f64,
    /// Panels of all groups.
    pub(crate) panels: f64,
    /// How often each panel of weights is read, in all stretches.
    pub(crate) of_panel: f64,
    /// Bytes of all weights, of a panel, and of the part of a panel that is read again and again.
    pub(crate) weights: f64,
    pub(crate) panel: f64,
    pub(crate) block: f64,
    pub(crate) workspace: f64,
}

impl Passes {
    /// Counts the bytes.
    pub(crate) fn add(&self, part: &LargestPart, share: &ThreadShare, work: &mut Work) {
        let Self { stretches, panels, of_panel, weights, panel, block, workspace } = *self;
        let (caches, traffic) = (&share.caches, &mut work.traffic);
        let images = part.input_bytes + part.output_bytes;
        traffic.add_first(weights, images, weights + images + workspace, caches);
        let of_stretch = images / stretches;
        traffic.add(weights * (stretches - 1.0).max(0.0), weights + of_stretch, caches);
        // Every panel re-reads the stretch.
        let near = workspace.max(part.input_bytes / stretches);
        traffic.add(part.input_bytes * (panels / part.groups - 1.0), near + panel, caches);
        traffic.add(weights * (of_panel - stretches).max(0.0), 2.0 * block, caches);
    }
}
