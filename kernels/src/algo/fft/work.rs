//! What a convolution by Fourier transforms would do.

use super::cut::{Channels, Lanes, Plan};
use super::spectra;
use crate::describe::{BLOCK, ConvDesc, Layout};
use crate::tile::fft::{COMPLEX, Length};
use crate::tile::table::KernelSet;
use crate::work::{Family, Portion, Share, Sketch, Term, Work};

/// Everything that the choice wants to know; `desc` must be supported.
pub(crate) fn sketch(desc: &ConvDesc, kernels: &'static KernelSet, share: &Share) -> Sketch {
    let channels = Channels::of(desc);
    let plan = Plan::new(desc, &channels, kernels.fft().tiles());
    let panels = spectra::panels(desc, &channels);
    let factors = Length::bytes_of(plan.cut.y.n) + Length::bytes_of(plan.cut.x.n);
    let weights = panels.count * channels.ins * plan.cut.spectrum_len();
    let part = Portion::new(desc, &plan.cut.grain(desc), false, share.parts);
    Sketch {
        packed_bytes: weights * size_of::<f32>() + panels.bytes() + factors,
        workspace_len: plan.lens(desc, &channels).sum(),
        work: work(desc, &channels, &plan, kernels, (&part, share)),
    }
}

fn work(
    desc: &ConvDesc,
    channels: &Channels,
    plan: &Plan,
    kernels: &KernelSet,
    (part, share): (&Portion, &Share),
) -> Work {
    let of_groups = channels.lanes == Lanes::Groups;
    let mut work = Work::new(if of_groups { Family::FftGroups } else { Family::Fft });
    let out = desc.output();
    let rows = (part.pixels / out.w as f64 / plan.cut.y.outputs as f64).ceil();
    let tiles = part.images * rows * plan.cut.x.tiles as f64;
    let (ins, panels) = if of_groups {
        let panels = (part.groups * part.outs as f64 / BLOCK as f64).ceil();
        (panels * part.ins as f64, panels)
    } else {
        let blocks = |channels: usize| part.groups * channels.div_ceil(BLOCK) as f64;
        (blocks(part.ins), blocks(part.outs))
    };
    let vectors = BLOCK as f64 / kernels.fft().lanes() as f64;
    let numbers = (plan.cut.y.n * plan.cut.x.n) as f64;
    let bins = plan.cut.bins() as f64;
    let batches = (tiles / plan.batch as f64).ceil();
    // A complex product is four FMAs; short batches wait for their sums.
    let batch = tiles / batches;
    work.add(Term::Fma, panels * part.ins as f64 * bins * batches * (4.0 * batch * vectors).max(8.0));
    work.add(Term::Tile, panels * bins * batches);
    work.add(Term::Pack, vectors * tiles * (ins + panels) * numbers * numbers.log2());
    if of_groups && (part.ins, channels.outs) != (1, 1) {
        work.add(Term::Gather, tiles * ins * numbers);
    }
    work.add(Term::Store, vectors * tiles * (ins + panels) * numbers);
    work.add(Term::Call, tiles * (ins + panels) * (plan.cut.y.n + plan.cut.x.n) as f64);
    let (caches, float) = (&share.caches, size_of::<f32>() as f64);
    let spectrum = bins * (COMPLEX as f64) * float;
    let weights = panels * part.ins as f64 * spectrum;
    let set = spectrum * (1.0 + plan.batch as f64 * (channels.kept() + 1) as f64);
    let once = part.input_bytes + part.output_bytes;
    // Spectra are many times the weights that others read: in a network nothing of them is near when it is their turn, and
    // what they would save on a layer that is run again and again is lost there.
    work.traffic.add(weights, (weights + once + set).max(caches.l2), caches);
    work.traffic.add(once, weights + once + set, caches);
    work.traffic.add(weights * (batches - 1.0), weights + set, caches);
    let read = if of_groups { ins } else { ins * part.outs.div_ceil(BLOCK) as f64 };
    work.traffic.add(tiles * spectrum * (2.0 * ins + read + 2.0 * panels), set, caches);
    let nchw = usize::from(desc.layout() == Layout::Nchw) + usize::from(desc.output_layout() == Layout::Nchw);
    work.add(Term::Gather, nchw as f64 * tiles * (ins + panels) * numbers / 16.0);
    work.flops = 8.0 * panels * BLOCK as f64 * part.ins as f64 * bins * tiles;
    work
}
