//! Rivals in turns: machines are shared and clocks move, so only what ran in the same rounds is comparable.

use std::time::{Duration, Instant};

/// Something that is timed, and the seconds per call of each round.
pub struct Rival<'a> {
    /// What the table calls it.
    pub name: String,
    /// Floating-point operations of one call.
    pub flops: f64,
    /// One call.
    pub call: Box<dyn FnMut() + 'a>,
    /// Seconds per call, one entry a round.
    pub seconds: Vec<f64>,
}

impl<'a> Rival<'a> {
    /// A rival that has not run yet.
    pub fn new(name: impl Into<String>, flops: f64, call: impl FnMut() + 'a) -> Self {
        Self { name: name.into(), flops, call: Box::new(call), seconds: Vec::new() }
    }

    /// The middle round, GFLOP/s.
    pub fn median_gflops(&self) -> f64 {
        self.flops / median(&self.seconds) / 1e9
    }

    /// The best round, GFLOP/s.
    pub fn best_gflops(&self) -> f64 {
        self.flops / self.seconds.iter().copied().fold(f64::INFINITY, f64::min) / 1e9
    }
}

/// The middle value; 0 of nothing.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

/// Runs every rival for `slice` in each of `rounds` rounds, in the same order, after one warm-up call each.
pub fn take_turns(rivals: &mut [Rival<'_>], rounds: usize, slice: Duration) {
    for rival in rivals.iter_mut() {
        (rival.call)();
    }
    for _ in 0..rounds {
        for rival in rivals.iter_mut() {
            let (start, mut calls) = (Instant::now(), 0u32);
            while calls == 0 || start.elapsed() < slice {
                (rival.call)();
                calls += 1;
            }
            rival.seconds.push(start.elapsed().as_secs_f64() / f64::from(calls));
        }
    }
}
