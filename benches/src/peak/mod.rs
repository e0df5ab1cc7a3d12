//! Measures the roofs of the machine: fused multiply-adds and products of bf16 numbers per second, and bytes per
//! second from each memory level.
//!
//! The FMA roof is not constant, because the clock drops by about a tenth under sustained load. It is therefore
//! measured for at least 0.3 s, in turns with the kernels that are compared with it, and the median is the roof.
//! The same holds for the bf16 roof.

mod bf16;
mod memory;
mod vector;

use crate::pin::Crew;
use crate::turns::Rival;
use kernels::Isa;
pub use memory::{Bandwidth, bandwidths};
use std::fmt;
use std::time::{Duration, Instant};

/// Total duration of the register-only loops of one roof.
pub const SUSTAINED: Duration = Duration::from_millis(300);
/// Independent chains: more than latency times throughput on every current core (4 cycles and 4 pipes for FMAs, 6
/// cycles and 2 pipes for dot products).
const CHAINS: usize = 24;
/// Instructions per chain and call: about 10 microseconds.
const STEPS: usize = 2_000;

/// The arithmetic that a roof bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arithmetic {
    /// Fused multiply-adds of `f32`.
    Fma,
    /// Products of bf16 numbers with `f32` sums, on instruction sets that have instructions for them.
    Bf16,
}

impl Arithmetic {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Fma, Self::Bf16];

    fn work(self, isa: Isa) -> Option<Work> {
        match self {
            Self::Fma => vector::fma_chains(isa),
            Self::Bf16 => bf16::products(isa),
        }
    }
}

impl fmt::Display for Arithmetic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Fma => "FMA",
            Self::Bf16 => "bf16",
        })
    }
}

/// A loop that never leaves registers.
#[derive(Clone, Copy)]
struct Work {
    /// Floating-point operations of one call.
    flops: f64,
    call: fn(),
}

/// The roof of one core with `isa` as a rival, if this machine has that instruction set. The portable kernels have
/// no roof, because the compiler chooses their instructions.
pub fn roof(arithmetic: Arithmetic, isa: Isa) -> Option<Rival<'static>> {
    let Work { flops, call } = arithmetic.work(isa)?;
    Some(Rival::new(name(arithmetic, isa), flops, call))
}

/// The roof of all threads of `crew` at once. Each thread computes for a whole turn without synchronization.
pub fn roof_of_crew(arithmetic: Arithmetic, isa: Isa, crew: &Crew) -> Option<Rival<'_>> {
    let Work { flops, call } = arithmetic.work(isa)?;
    let flops_per_second = move |slice: Duration| {
        let (start, mut calls) = (Instant::now(), 0.0);
        while start.elapsed() < slice {
            call();
            calls += 1.0;
        }
        calls * flops / start.elapsed().as_secs_f64()
    };
    Some(Rival::external(name(arithmetic, isa), flops, move |slice| {
        flops / crew.enter(|| crew.broadcast(|| flops_per_second(slice))).into_iter().sum::<f64>()
    }))
}

fn name(arithmetic: Arithmetic, isa: Isa) -> String {
    format!("{}_roof_{isa}", arithmetic.to_string().to_lowercase())
}

/// GFLOP/s over about 50 microseconds in the first millisecond after a rest, before the clock drops; the best of
/// ten.
pub fn burst(arithmetic: Arithmetic, isa: Isa, crew: &Crew) -> Option<f64> {
    let Work { flops, call } = arithmetic.work(isa)?;
    const CALLS: u32 = 5;
    let gflops = || {
        let start = Instant::now();
        (0..CALLS).for_each(|_| call());
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
    use kernels::Products;

    #[test]
    fn roofs_are_there_and_of_the_right_order() {
        let crew = Crew::new(1).unwrap();
        assert!(burst(Arithmetic::Fma, Isa::Portable, &crew).is_none());
        for isa in Isa::available() {
            let of_fmas = burst(Arithmetic::Fma, isa, &crew);
            assert!(isa == Isa::Portable || (1.0..1000.0).contains(&of_fmas.unwrap()), "{isa}: {of_fmas:?}");
            let of_bf16 = burst(Arithmetic::Bf16, isa, &crew);
            assert_eq!(of_bf16.is_some(), isa.products().contains(&Products::Bf16), "{isa}");
            // On some CPUs, dot products do twice the work of FMAs half as often.
            let ratio = of_bf16.zip(of_fmas).map(|(bf16, fmas)| bf16 / fmas);
            assert!(ratio.is_none_or(|ratio| (0.7..40.0).contains(&ratio)), "{isa}: {ratio:?}");
        }
    }
}
