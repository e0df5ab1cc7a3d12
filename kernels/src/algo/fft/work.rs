//! The estimate of a convolution by Fourier transforms, and the search for the fastest tiling.

use super::schedule::{self, Channels, FftSchedule, Lanes, Lengths, Tiling};
use super::spectra::SpectraForm;
use crate::describe::{BLOCK, ConvDesc, Layout};
use crate::tile::fft::Length;
use crate::tile::fft_table::FftKernels;
use crate::tile::table::KernelSet;
use crate::work::parts::SplitUnits;
use crate::work::prices::Typical;
use crate::work::{Caches, Family, LargestPart, PlanEstimate, Term, ThreadShare, Work};

/// Estimates the memory and the work, for the choice. `desc` must be supported.
pub(crate) fn estimate(
    desc: &ConvDesc,
    schedule: &FftSchedule,
    kernels: &'static KernelSet,
    share: &ThreadShare,
) -> PlanEstimate {
    let lens = SpectraForm::new(desc, schedule).lens();
    let factors = Length::bytes_of(schedule.tiling.y.n) + Length::bytes_of(schedule.tiling.x.n);
    let part = LargestPart::new(desc, &schedule.tiling.split_units(desc), false, share.parts);
    let counted = Counted { desc, channels: &schedule.channels, lanes: kernels.fft().lanes(), part: &part };
    PlanEstimate {
        packed_bytes: lens.iter().sum::<usize>() * size_of::<f32>() + factors,
        workspace_len: schedule.lens(desc).sum(),
        work: counted.work(schedule, &share.caches),
    }
}

/// Returns the tiling and the batch whose work takes the least time on one thread of a `typical` machine.
/// `desc` must be supported.
pub(crate) fn schedule(desc: &ConvDesc, kernels: &FftKernels, typical: &Typical) -> FftSchedule {
    let channels = Channels::of(desc);
    let cuts = schedule::worthwhile(desc, &channels);
    fastest(desc, kernels, typical, cuts).expect("only what is supported is planned")
}

/// Like [`schedule()`], with transforms of one of these lengths, if they can compute the problem.
pub(crate) fn schedule_of(
    desc: &ConvDesc,
    kernels: &FftKernels,
    typical: &Typical,
    lengths: impl Iterator<Item = Lengths>,
) -> Option<FftSchedule> {
    fastest(desc, kernels, typical, lengths.filter_map(|lengths| schedule::by_lengths(desc, &lengths)))
}

fn fastest(
    desc: &ConvDesc,
    kernels: &FftKernels,
    typical: &Typical,
    cuts: impl Iterator<Item = Tiling>,
) -> Option<FftSchedule> {
    let channels = Channels::of(desc);
    let part = &LargestPart::new(desc, &SplitUnits::new(1, 1), false, 1);
    let counted = Counted { desc, channels: &channels, lanes: kernels.lanes(), part };
    let most = if channels.lanes == Lanes::Groups { 1 } else { kernels.tiles() };
    // A lower bound: a smaller batch computes no less, and the traffic takes no negative time.
    let at_least = |tiling: Tiling| {
        let batch = most.min(tiling.tiles(desc.input().n));
        (typical.prices.total(&counted.compute(&FftSchedule { channels, tiling, batch })), tiling, batch)
    };
    let mut cuts: Vec<_> = cuts.map(at_least).collect();
    cuts.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut best: Option<(f64, FftSchedule)> = None;
    for (at_least, tiling, most) in cuts {
        if best.is_some_and(|best| best.0 <= at_least) {
            break;
        }
        // Of batches that take the same time, the largest reads the weights least often.
        for batch in (1..=most).rev() {
            let schedule = FftSchedule { channels, tiling, batch };
            let seconds = typical.prices.total(&counted.work(&schedule, &typical.caches));
            if best.is_none_or(|best| seconds < best.0) {
                best = Some((seconds, schedule));
            }
        }
    }
    Some(best?.1)
}

/// The part of a problem whose work is counted.
struct Counted<'a> {
    desc: &'a ConvDesc,
    channels: &'a Channels,
    /// Lanes of a vector.
    lanes: usize,
    part: &'a LargestPart,
}

impl Counted<'_> {
    fn is_of_groups(&self) -> bool {
        self.channels.lanes == Lanes::Groups
    }

    fn tiles(&self, schedule: &FftSchedule) -> f64 {
        let rows = (self.part.pixels / self.desc.output().w as f64 / schedule.tiling.y.outputs as f64).ceil();
        self.part.images * rows * schedule.tiling.x.tiles as f64
    }

    fn batches(&self, schedule: &FftSchedule) -> f64 {
        (self.tiles(schedule) / schedule.batch as f64).ceil()
    }

    /// Numbers of blocks of sixteen input channels that are transformed, and of sixteen output channels.
    fn blocks(&self) -> (f64, f64) {
        let part = self.part;
        if self.is_of_groups() {
            let panels = (part.groups * part.outs as f64 / BLOCK as f64).ceil();
            (panels * part.ins as f64, panels)
        } else {
            let blocks = |channels: usize| part.groups * channels.div_ceil(BLOCK) as f64;
            (blocks(part.ins), blocks(part.outs))
        }
    }

    fn work(&self, schedule: &FftSchedule, caches: &Caches) -> Work {
        let mut work = self.compute(schedule);
        self.traffic(schedule, caches, &mut work);
        work
    }

    /// Counts everything except the traffic.
    fn compute(&self, schedule: &FftSchedule) -> Work {
        let Self { desc, channels, part, .. } = *self;
        let of_groups = self.is_of_groups();
        let mut work = Work::new(if of_groups { Family::FftGroups } else { Family::Fft });
        let (tiles, batches, (ins, panels)) = (self.tiles(schedule), self.batches(schedule), self.blocks());
        let vectors = BLOCK as f64 / self.lanes as f64;
        let numbers = (schedule.tiling.y.n * schedule.tiling.x.n) as f64;
        let bins = schedule.tiling.bins() as f64;
        // A complex product is four FMAs. Both sums of a tile take two of them in turn. A dependent pair
        // takes eight cycles of two pipes, so a batch of fewer than four tiles waits.
        let product = vectors * (4.0 * tiles / batches).max(16.0);
        work.add(Term::Fma, panels * part.ins as f64 * bins * batches * product);
        work.add(Term::Tile, panels * bins * batches);
        work.add(Term::Pack, vectors * tiles * (ins + panels) * numbers * numbers.log2());
        if of_groups && (part.ins, channels.outs) != (1, 1) {
            work.add(Term::Gather, tiles * ins * numbers);
        }
        let nchw = [desc.layout(), desc.output_layout()].iter().filter(|&&l| l == Layout::Nchw).count();
        work.add(Term::Gather, nchw as f64 * tiles * (ins + panels) * numbers / 16.0);
        work.add(Term::Store, vectors * tiles * (ins + panels) * numbers);
        work.add(Term::Call, tiles * (ins + panels) * (schedule.tiling.y.n + schedule.tiling.x.n) as f64);
        let products = channels.panels() * (BLOCK * channels.ins) as f64 * bins;
        work.flops = 8.0 * products * schedule.tiling.tiles(desc.input().n) as f64;
        work
    }

    fn traffic(&self, schedule: &FftSchedule, caches: &Caches, work: &mut Work) {
        let Self { channels, part, .. } = *self;
        let (tiles, (ins, panels)) = (self.tiles(schedule), self.blocks());
        let spectrum = (schedule.tiling.spectrum_len() * size_of::<f32>()) as f64;
        let weights = panels * part.ins as f64 * spectrum;
        let set = spectrum * (1.0 + schedule.batch as f64 * (channels.kept() + 1) as f64);
        let once = part.input_bytes + part.output_bytes;
        // Spectra are many times as large as the weights of other algorithms. In a network, other layers
        // evict them before their next use. They would stay in cache only if one layer were run again and
        // again.
        work.traffic.add(weights, (weights + once + set).max(caches.l2), caches);
        work.traffic.add(once, weights + once + set, caches);
        work.traffic.add(weights * (self.batches(schedule) - 1.0), weights + set, caches);
        let read = if self.is_of_groups() { ins } else { ins * part.outs.div_ceil(BLOCK) as f64 };
        work.traffic.add(tiles * spectrum * (2.0 * ins + read + 2.0 * panels), set, caches);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::describe::{Pad2, Shape4, Size2};
    use crate::work::TERMS;
    use crate::work::prices::{Constants, Prices, Table};

    static CONSTANTS: Table = [Constants { terms: [1.0; TERMS], memory: [1.0; 3] }; Family::COUNT];

    /// The tilings that the search skips are not faster by the same model.
    #[test]
    fn no_cut_takes_less_than_the_one_that_is_planned() {
        let prices = Prices { constants: &CONSTANTS, slot: 1.7e-10, bytes: [6e-12, 35e-12, 70e-12] };
        let caches = Caches { l1: 48e3, l2: 2e6, l3: 32e6 };
        let typical = Typical { prices, caches };
        let kernels = KernelSet::get(crate::describe::Isa::Portable).expect("always there").fft();
        for (c, o, side, kernel, groups) in [
            (1, 1, 100, 15, 1),
            (64, 64, 28, 7, 1),
            (192, 256, 14, 5, 1),
            (32, 32, 56, 13, 32),
            (3, 64, 300, 11, 1),
        ] {
            let builder = ConvDesc::builder(Shape4::new(1, c, side, side), o, Size2::square(kernel));
            let desc = builder.pad(Pad2::all(kernel / 2)).groups(groups).build().expect("valid");
            let channels = Channels::of(&desc);
            let part = &LargestPart::new(&desc, &SplitUnits::new(1, 1), false, 1);
            let counted = Counted { desc: &desc, channels: &channels, lanes: kernels.lanes(), part };
            let seconds = |schedule: &FftSchedule| prices.total(&counted.work(schedule, &caches));
            let planned = schedule(&desc, kernels, &typical);
            for tiling in schedule::all(&desc, &channels) {
                let most =
                    if channels.lanes == Lanes::Groups { 1 } else { kernels.tiles().min(tiling.tiles(1)) };
                for batch in 1..=most {
                    let other = FftSchedule { channels, tiling, batch };
                    assert!(seconds(&planned) <= seconds(&other), "{planned:?}, {other:?}: {desc}");
                }
            }
        }
    }
}
