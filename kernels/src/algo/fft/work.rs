//! The estimate of a convolution by Fourier transforms, and the search for the fastest tiling.

use super::schedule::{self, Channels, FftSchedule, Lanes, Tiling};
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
    let part = LargestPart::new(desc, &schedule.split_units(desc), false, share.parts);
    let counted = Counted { desc, channels: schedule.channels, lanes: kernels.fft().lanes(), part: &part };
    PlanEstimate {
        packed_bytes: lens.iter().sum::<usize>() * size_of::<f32>() + factors,
        workspace_len: schedule.lens(desc).sum(),
        work: counted.work(schedule, &share.caches),
    }
}

/// Returns the lanes, the tiling and the batch whose work takes the least time on one thread of a `typical`
/// machine. `desc` must be supported.
pub(crate) fn schedule(desc: &ConvDesc, kernels: &FftKernels, typical: &Typical) -> FftSchedule {
    let of = |channels| schedule::worthwhile(desc, channels).map(move |tiling| (channels, tiling));
    let cuts = Channels::all(desc).flat_map(of);
    fastest(desc, kernels, typical, cuts).expect("only what is supported is planned")
}

/// Like [`schedule()`], with weights in one of these forms, if they can compute the problem.
pub(crate) fn schedule_of<'a>(
    desc: &ConvDesc,
    kernels: &FftKernels,
    typical: &Typical,
    forms: impl Iterator<Item = &'a SpectraForm>,
) -> Option<FftSchedule> {
    let cuts = forms.filter_map(|form| {
        let channels = Channels::all(desc).find(|&channels| channels == form.channels())?;
        Some((channels, schedule::by_lengths(desc, &form.lengths())?))
    });
    fastest(desc, kernels, typical, cuts)
}

/// Maximum number of tiles in a batch.
fn most_tiles(channels: &Channels, kernels: &FftKernels) -> usize {
    match channels.lanes {
        Lanes::Outputs => kernels.tiles(),
        Lanes::Groups | Lanes::Tiles => 1,
    }
}

fn fastest(
    desc: &ConvDesc,
    kernels: &FftKernels,
    typical: &Typical,
    cuts: impl Iterator<Item = (Channels, Tiling)>,
) -> Option<FftSchedule> {
    let part = &LargestPart::new(desc, &SplitUnits::new(1, 1), false, 1);
    let counted = |channels| Counted { desc, channels, lanes: kernels.lanes(), part };
    // A lower bound: a smaller batch computes no less, and the traffic takes no negative time.
    let at_least = |(channels, tiling): (Channels, Tiling)| {
        let batch = most_tiles(&channels, kernels).min(tiling.tiles(desc.input().n));
        let schedule = FftSchedule { channels, tiling, batch };
        (typical.prices.total(&counted(channels).compute(&schedule)), schedule)
    };
    let mut cuts: Vec<_> = cuts.map(at_least).collect();
    cuts.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut best: Option<(f64, FftSchedule)> = None;
    for (at_least, largest) in cuts {
        if best.is_some_and(|best| best.0 <= at_least) {
            break;
        }
        // Of batches that take the same time, the largest reads the weights least often.
        for batch in (1..=largest.batch).rev() {
            let schedule = FftSchedule { batch, ..largest };
            let work = counted(largest.channels).work(&schedule, &typical.caches);
            let seconds = typical.prices.total(&work);
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
    channels: Channels,
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

    /// Numbers of blocks of sixteen input channels that are transformed, and of sixteen output channels. If
    /// lanes are tiles: numbers of channels.
    fn blocks(&self) -> (f64, f64) {
        let part = self.part;
        match self.channels.lanes {
            Lanes::Groups => {
                let panels = (part.groups * part.outs as f64 / BLOCK as f64).ceil();
                (panels * part.ins as f64, panels)
            }
            Lanes::Outputs => {
                let blocks = |channels: usize| part.groups * channels.div_ceil(BLOCK) as f64;
                (blocks(part.ins), blocks(part.outs))
            }
            Lanes::Tiles => (part.groups * part.ins as f64, part.groups * part.outs as f64),
        }
    }

    fn work(&self, schedule: &FftSchedule, caches: &Caches) -> Work {
        let mut work = self.compute(schedule);
        self.traffic(schedule, caches, &mut work);
        work
    }

    /// Counts everything except the traffic.
    fn compute(&self, schedule: &FftSchedule) -> Work {
        if self.channels.lanes == Lanes::Tiles {
            return self.compute_tiles(schedule);
        }
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

    /// Like [`compute`](Self::compute), if lanes are tiles: vectors of products, transforms, transposed numbers,
    /// and rows of tiles.
    fn compute_tiles(&self, schedule: &FftSchedule) -> Work {
        let Self { desc, channels, part, .. } = *self;
        let mut work = Work::new(Family::FftTiles);
        let tiling = &schedule.tiling;
        let vectors = (self.tiles(schedule) / BLOCK as f64).ceil() * BLOCK as f64 / self.lanes as f64;
        let (ins, outs) = (part.groups * part.ins as f64, part.groups * part.outs as f64);
        let numbers = (tiling.y.n * tiling.x.n) as f64;
        let products = tiling.bins() as f64 * ins * part.outs as f64;
        work.add(Term::Fma, 4.0 * vectors * products);
        work.add(Term::Pack, vectors * (ins + outs) * numbers * numbers.log2());
        work.add(Term::Gather, vectors * (ins + outs) * numbers);
        let rows = ins * tiling.y.n as f64 + outs * tiling.y.outputs as f64;
        work.add(Term::Call, self.tiles(schedule) * rows + vectors * (ins + outs) * tiling.x.n as f64);
        let products = channels.panels() * (channels.ins * tiling.bins()) as f64;
        work.flops = 8.0 * products * tiling.tiles(desc.input().n) as f64;
        work
    }

    fn traffic(&self, schedule: &FftSchedule, caches: &Caches, work: &mut Work) {
        let Self { channels, part, .. } = *self;
        let (tiles, (ins, panels)) = (self.tiles(schedule), self.blocks());
        let spectrum = (schedule.tiling.spectrum_len() * size_of::<f32>()) as f64;
        let of_panel = (channels.panel_len(&schedule.tiling.lengths()) * size_of::<f32>()) as f64;
        let weights = panels * of_panel;
        let once = part.input_bytes + part.output_bytes;
        if channels.lanes == Lanes::Tiles {
            let sets = (tiles / BLOCK as f64).ceil();
            let planes = channels.kept() as f64 * spectrum;
            let group = weights / part.groups;
            work.traffic.add_first(weights, once, once + planes + weights, caches);
            work.traffic.add(weights * (sets - 1.0), planes + group, caches);
            work.traffic.add(sets * 2.0 * spectrum * (ins + panels), planes + group, caches);
            return;
        }
        let set = spectrum * (1.0 + schedule.batch as f64 * (channels.kept() + 1) as f64);
        // Spectra are many times as large as the weights of other algorithms. In a network, other layers
        // evict them before their next use. They would stay in cache only if one layer were run again and
        // again.
        work.traffic.add_first(weights, 0.0, (weights + once + set).max(caches.l2), caches);
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
        let prices =
            Prices { constants: &CONSTANTS, slot: 1.7e-10, bf16_row: 1e-9, bytes: [6e-12, 35e-12, 70e-12] };
        let caches = Caches { l1: 48e3, l2: 2e6, l3: 32e6, between_runs: 0.0 };
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
            let part = &LargestPart::new(&desc, &SplitUnits::new(1, 1), false, 1);
            let seconds = |schedule: &FftSchedule| {
                let counted =
                    Counted { desc: &desc, channels: schedule.channels, lanes: kernels.lanes(), part };
                prices.total(&counted.work(schedule, &caches))
            };
            let planned = schedule(&desc, kernels, &typical);
            for channels in Channels::all(&desc) {
                for tiling in schedule::all(&desc, channels) {
                    for batch in 1..=most_tiles(&channels, kernels).min(tiling.tiles(1)) {
                        let other = FftSchedule { channels, tiling, batch };
                        assert!(seconds(&planned) <= seconds(&other), "{planned:?}, {other:?}: {desc}");
                    }
                }
            }
        }
    }
}
