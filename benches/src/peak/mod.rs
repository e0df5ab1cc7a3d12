//! Measures the roofs of the machine: fused multiply-adds per second, and bytes per second from each memory level.
//!
//! The FMA roof is not constant, because the clock drops by about a tenth under sustained load. It is therefore
//! measured for at least 0.3 s, in turns with the kernels that are compared with it, and the median is the roof.

mod memory;
mod vector;

use crate::pin::Crew;
use crate::turns::Rival;
use kernels::Isa;
pub use memory::{Bandwidth, bandwidths};
use std::time::{Duration, Instant};

/// Total duration of the register-only FMAs of one roof.
pub const SUSTAINED: Duration = Duration::from_millis(300);

/// The FMA roof of one core with `isa` as a rival, if this machine has that instruction set. The portable
/// kernels have no roof, because the compiler chooses their instructions.
pub fn roof(isa: Isa) -> Option<Rival<'static>> {
    let (flops, chains) = vector::fma_chains(isa)?;
    Some(Rival::new(format!("fma_roof_{isa}"), flops, chains))
}

/// The FMA roof of all threads of `crew` at once. Each thread computes for a whole turn without
/// synchronization.
pub fn roof_of_crew(isa: Isa, crew: &Crew) -> Option<Rival<'_>> {
    let (flops, chains) = vector::fma_chains(isa)?;
    let flops_per_second = move |slice: Duration| {
        let (start, mut calls) = (Instant::now(), 0.0);
        while start.elapsed() < slice {
            chains();
            calls += 1.0;
        }
        calls * flops / start.elapsed().as_secs_f64()
    };
    Some(Rival::external(format!("fma_roof_{isa}"), flops, move |slice| {
        flops / crew.enter(|| crew.broadcast(|| flops_per_second(slice))).into_iter().sum::<f64>()
    }))
}

/// GFLOP/s of FMAs over about 50 microseconds in the first millisecond after a rest, before the clock drops;
/// the best of ten.
pub fn burst(isa: Isa, crew: &Crew) -> Option<f64> {
    let (flops, chains) = vector::fma_chains(isa)?;
    const CALLS: u32 = 5;
    let gflops = || {
        let start = Instant::now();
        (0..CALLS).for_each(|_| chains());
        flops * f64::from(CALLS) / start.elapsed().as_secs_f64() / 1e9
    };
    let rested = || {
        std::thread::sleep(Duration::from_millis(20));
        // The first calls are slow, because the core powers up its wide vector units on first use.
        crew.broadcast(|| (0..20).map(|_| gflops()).fold(0.0, f64::max)).into_iter().sum()
    };
    (0..10).map(|_| rested()).reduce(f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roofs_are_there_and_of_the_right_order() {
        let crew = Crew::new(1).unwrap();
        assert!(burst(Isa::Portable, &crew).is_none());
        for isa in Isa::available().filter(|&isa| isa != Isa::Portable) {
            let gflops = burst(isa, &crew).unwrap();
            assert!((1.0..1000.0).contains(&gflops), "{isa}: {gflops}");
        }
    }
}
