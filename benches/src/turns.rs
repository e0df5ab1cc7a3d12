//! Timing in turns. Machines are shared and clocks vary, so only times from the same rounds are comparable.

use std::time::{Duration, Instant};

/// Something to be timed, with its seconds per call in each round.
pub struct Rival<'a> {
    /// The name in tables.
    pub name: String,
    /// Floating-point operations of one call.
    pub flops: f64,
    /// Seconds per call, one element per round; NaN if the turn failed.
    pub seconds: Vec<f64>,
    /// Minimum duration of a turn, if it differs from the common one.
    pub slice: Option<Duration>,
    turn: Box<dyn FnMut(Duration) -> f64 + Send + 'a>,
}

impl<'a> Rival<'a> {
    /// A rival that calls `call` in this process.
    pub fn new(name: impl Into<String>, flops: f64, mut call: impl FnMut() + Send + 'a) -> Self {
        let mut calls = None;
        Self::external(name, flops, move |slice| {
            let calls = *calls.get_or_insert_with(|| calls_that_fill(slice, &mut call));
            // An untimed call reloads the caches after the previous rival of the round.
            call();
            time(calls, &mut call).as_secs_f64() / f64::from(calls)
        })
    }

    /// A rival with its own timing. `turn` takes the minimum duration and returns seconds per call, or NaN if
    /// it failed.
    pub fn external(
        name: impl Into<String>,
        flops: f64,
        turn: impl FnMut(Duration) -> f64 + Send + 'a,
    ) -> Self {
        Self { name: name.into(), flops, seconds: Vec::new(), slice: None, turn: Box::new(turn) }
    }

    /// Sets a minimum duration of its turns.
    pub fn with_slice(mut self, slice: Duration) -> Self {
        self.slice = Some(slice);
        self
    }

    /// GFLOP/s of the median round.
    pub fn median_gflops(&self) -> f64 {
        self.flops / median(&self.seconds) / 1e9
    }

    /// Statistics over all rounds. Returns `None` if there are no rounds or a turn failed. `roof` must have
    /// been timed in the same rounds.
    pub(crate) fn figures(&self, roof: Option<&Rival<'_>>) -> Option<Figures> {
        let is_whole = !self.seconds.is_empty() && self.seconds.iter().all(|seconds| seconds.is_finite());
        is_whole.then(|| Figures {
            ms_min: 1e3 * least(&self.seconds),
            ms_median: 1e3 * median(&self.seconds),
            gflops: self.median_gflops(),
            roof_percent: roof.map(|roof| 100.0 * self.median_gflops() / roof.median_gflops()),
        })
    }

    /// GFLOP/s of the best round.
    pub fn best_gflops(&self) -> f64 {
        self.flops / least(&self.seconds) / 1e9
    }
}

/// Statistics of a rival's rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Figures {
    /// Milliseconds of the best round.
    pub(crate) ms_min: f64,
    /// Milliseconds of the median round.
    pub(crate) ms_median: f64,
    /// 10^9 operations per second in the median round.
    pub(crate) gflops: f64,
    /// `gflops` as a percentage of the roof.
    pub(crate) roof_percent: Option<f64>,
}

/// The median; 0 for an empty slice.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

/// The geometric mean; NaN for no values.
pub fn geometric_mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len() as f64;
    (values.map(f64::ln).sum::<f64>() / count).exp()
}

/// The minimum; infinity for an empty slice.
pub fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

/// Finds how many calls fill a slice, once per rival, so that the clock is not read between calls later.
fn calls_that_fill(slice: Duration, call: &mut impl FnMut()) -> u32 {
    call();
    let mut calls = 1u32;
    loop {
        let took = time(calls, call);
        if took >= slice {
            return calls;
        }
        // The first call can be slow because caches are cold. Growing by at most ten times per step corrects
        // its estimate.
        let wanted = slice.as_secs_f64() / took.as_secs_f64().max(1e-9) * f64::from(calls) * 1.05;
        calls = (wanted.ceil() as u32).clamp(calls + 1, calls.saturating_mul(10));
    }
}

fn time(calls: u32, call: &mut impl FnMut()) -> Duration {
    let start = Instant::now();
    for _ in 0..calls {
        call();
    }
    start.elapsed()
}

/// Gives every rival one turn of at least `slice` in each of `rounds` rounds. The order alternates between
/// forwards and backwards, so that no rival always follows the one that heats the core most.
pub fn take_turns(rivals: &mut [Rival<'_>], rounds: usize, slice: Duration) {
    for round in 0..rounds {
        for place in 0..rivals.len() {
            let index = if round.is_multiple_of(2) { place } else { rivals.len() - 1 - place };
            let rival = &mut rivals[index];
            let seconds = (rival.turn)(rival.slice.unwrap_or(slice));
            rival.seconds.push(seconds);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_fills_its_slice() {
        let mut calls = 0u32;
        let nap = Duration::from_micros(200);
        let mut rivals = [Rival::new("nap", 1.0, || {
            calls += 1;
            std::thread::sleep(nap);
        })];
        take_turns(&mut rivals, 2, Duration::from_millis(2));
        assert_eq!(rivals[0].seconds.len(), 2);
        assert!(rivals[0].seconds.iter().all(|&seconds| seconds >= nap.as_secs_f64()));
        drop(rivals);
        assert!(calls > 5, "{calls}");
    }

    #[test]
    fn middle_and_least() {
        assert_eq!((median(&[3.0, 1.0, 2.0]), least(&[3.0, 1.0, 2.0])), (2.0, 1.0));
        assert_eq!(median(&[]), 0.0);
        assert!((geometric_mean([2.0, 8.0].into_iter()) - 4.0).abs() < 1e-12);
        assert!(geometric_mean([].into_iter()).is_nan());
    }
}
