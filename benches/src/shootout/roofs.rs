//! The roofs of one run: their measurement and their text.

use super::plot::Roofs;
use crate::peak::{self, Arithmetic, Bandwidth, SUSTAINED};
use crate::pin::Crew;
use crate::turns::{Rival, least, median, take_turns};
use kernels::Isa;

/// If the fastest round exceeds the median by this factor, other load disturbed the rounds; clock changes are
/// smaller.
const BUSY: f64 = 1.15;

/// The rounds of one roof of one instruction set.
pub(super) struct Roof {
    pub(super) isa: Isa,
    pub(super) arithmetic: Arithmetic,
    /// Floating-point operations per call.
    flops: f64,
    /// Seconds per call, over all rounds of all layers so far.
    seconds: Vec<f64>,
}

impl Roof {
    /// The unmeasured roofs of `isas`: none, one or two of each.
    pub(super) fn all(isas: &[Isa]) -> Vec<Self> {
        let kinds = isas.iter().flat_map(|&isa| Arithmetic::ALL.map(|arithmetic| (isa, arithmetic)));
        kinds.filter_map(|(isa, arithmetic)| Self::new(isa, arithmetic)).collect()
    }

    fn new(isa: Isa, arithmetic: Arithmetic) -> Option<Self> {
        let Rival { flops, .. } = peak::roof(arithmetic, isa)?;
        Some(Self { isa, arithmetic, flops, seconds: Vec::new() })
    }

    /// The roof of all threads of `crew`, to be timed in the next rounds.
    pub(super) fn rival<'a>(&self, crew: &'a Crew) -> Option<Rival<'a>> {
        peak::roof_of_crew(self.arithmetic, self.isa, crew)
    }

    /// Adds the rounds of `rival`.
    pub(super) fn extend(&mut self, rival: &Rival<'_>) {
        self.flops = rival.flops;
        self.seconds.extend(&rival.seconds);
    }

    fn gflops(&self) -> Gflops {
        Gflops {
            median: self.flops / median(&self.seconds) / 1e9,
            best: self.flops / least(&self.seconds) / 1e9,
        }
    }
}

/// 10^9 operations per second over all rounds of all layers. The percentages in rows use only the rounds of their
/// layer.
#[derive(Clone, Copy)]
pub(super) struct Gflops {
    pub(super) median: f64,
    /// In the fastest round.
    best: f64,
}

/// The measured roofs of one instruction set and number of threads.
pub(super) struct MeasuredRoof {
    pub(super) isa: Isa,
    pub(super) threads: usize,
    pub(super) fma: Gflops,
    /// 10^9 operations per second of FMAs in a burst.
    burst: f64,
    /// If the instruction set has products of bf16 numbers.
    bf16: Option<Gflops>,
    pub(super) bandwidths: [Bandwidth; 3],
}

impl MeasuredRoof {
    /// The roofs as a plot draws them.
    pub(super) fn drawn(&self) -> Roofs<'_> {
        Roofs {
            isa: self.isa.name(),
            threads: self.threads,
            gflops: self.fma.median,
            bandwidths: &self.bandwidths,
        }
    }

    /// The roofline (Williams et al. 2009): the upper bound in GFLOP/s for a layer with `intensity` operations per
    /// byte. Its `bytes` come from the innermost level that holds all of them, or from memory if `cold`.
    pub(super) fn bound(&self, intensity: f64, bytes: f64, cold: bool) -> f64 {
        let holds = |level: &&Bandwidth| !cold && bytes <= (2 * level.bytes * self.threads) as f64;
        let [.., memory] = &self.bandwidths;
        let level = self.bandwidths.iter().find(holds).unwrap_or(memory);
        self.fma.median.min(intensity * level.gbs)
    }
}

/// Measures all remaining roofs of `crew`, after the rounds of `roofs`.
pub(super) fn measure(roofs: &[Roof], crew: &Crew) -> Vec<MeasuredRoof> {
    let bandwidths = crew.enter(|| peak::bandwidths(crew));
    let of_bf16 = |isa: Isa| roofs.iter().find(|roof| (roof.isa, roof.arithmetic) == (isa, Arithmetic::Bf16));
    let measured = |roof: &Roof| MeasuredRoof {
        isa: roof.isa,
        threads: crew.threads(),
        fma: roof.gflops(),
        burst: crew.enter(|| peak::burst(Arithmetic::Fma, roof.isa, crew)).unwrap_or(f64::NAN),
        bf16: of_bf16(roof.isa).map(Roof::gflops),
        bandwidths,
    };
    roofs.iter().filter(|roof| roof.arithmetic == Arithmetic::Fma).map(measured).collect()
}

/// Measures the roofs alone, in turns with each other.
pub(super) fn survey(isas: &[Isa], crew: &Crew) -> Vec<MeasuredRoof> {
    const ROUNDS: u32 = 15;
    let mut roofs = Roof::all(isas);
    let mut rivals: Vec<_> = roofs.iter().filter_map(|roof| roof.rival(crew)).collect();
    crew.enter(|| take_turns(&mut rivals, ROUNDS as usize, SUSTAINED / ROUNDS));
    roofs.iter_mut().zip(&rivals).for_each(|(roof, rival)| roof.extend(rival));
    measure(&roofs, crew)
}

/// One line per instruction set, and one line for memory.
pub(super) fn lines(measured: &[MeasuredRoof]) -> Vec<String> {
    let of_isa = |roof: &MeasuredRoof| {
        let MeasuredRoof { isa, threads, fma: Gflops { median, best }, burst, bf16, .. } = roof;
        // A register-only loop has no stalls of its own, so a large spread means that another process was running.
        let busy = if best / median > BUSY {
            "; WARNING: the machine is busy, the times are unreliable"
        } else {
            ""
        };
        let bf16 = bf16.map_or(String::new(), |Gflops { median, best }| {
            format!("; bf16 roof {median:.1} GFLOP/s sustained, {best:.1} in the best round")
        });
        format!(
            "{threads} thread(s), {isa}: FMA roof {median:.1} GFLOP/s sustained, {best:.1} in the best round, \
             {burst:.1} in a burst{bf16}{busy}"
        )
    };
    let of_memory = |roof: &MeasuredRoof| {
        let levels = roof.bandwidths.iter().map(|level| format!("{} {:.1} GB/s", level.level, level.gbs));
        format!("{} thread(s), reads: {}", roof.threads, levels.collect::<Vec<_>>().join(", "))
    };
    measured.iter().map(of_isa).chain(measured.first().map(of_memory)).collect()
}

/// A description of this machine: model, cores and instruction sets.
pub(crate) fn machine() -> String {
    let isas: Vec<&str> = Isa::available().map(Isa::name).collect();
    // Without the file or the line, name the architecture.
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or(std::env::consts::ARCH, |(_, name)| name);
    format!("{model}, {} cores, instruction sets {}", num_cpus::get_physical(), isas.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_level_that_holds_a_layer_bounds_it() {
        let level = |level, bytes, gbs| Bandwidth { level, bytes, gbs };
        let bandwidths =
            [level("L2", 1 << 20, 100.0), level("L3", 8 << 20, 20.0), level("DRAM", 1 << 26, 10.0)];
        let roof = MeasuredRoof {
            isa: Isa::Portable,
            threads: 1,
            fma: Gflops { median: 150.0, best: 150.0 },
            burst: 150.0,
            bf16: None,
            bandwidths,
        };
        for (intensity, bytes, cold, expected) in [
            (1.0, 1.0e6, false, 100.0),
            (1.0, 1.0e7, false, 20.0),
            (1.0, 1.0e9, false, 10.0),
            (1.0, 1.0e6, true, 10.0),
            (40.0, 1.0e6, true, 150.0),
        ] {
            assert_eq!(roof.bound(intensity, bytes, cold), expected);
        }
    }
}
