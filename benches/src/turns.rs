//! Rivals in turns: machines are shared and clocks move, so only what ran in the same rounds is comparable.

use std::time::{Duration, Instant};

/// Something that is timed, and the seconds per call of each round.
pub struct Rival<'a> {
    /// What the table calls it.
    pub name: String,
    /// Floating-point operations of one call.
    pub flops: f64,
    /// Seconds per call, one entry a round; NaN of a turn that failed.
    pub seconds: Vec<f64>,
    /// What a turn should take at least, if not the slice that all have.
    pub slice: Option<Duration>,
    turn: Box<dyn FnMut(Duration) -> f64 + Send + 'a>,
}

impl<'a> Rival<'a> {
    /// `call` in this process, not run yet.
    pub fn new(name: impl Into<String>, flops: f64, mut call: impl FnMut() + Send + 'a) -> Self {
        let mut calls = None;
        Self::external(name, flops, move |slice| {
            let calls = *calls.get_or_insert_with(|| calls_that_fill(slice, &mut call));
            // Not timed: what ran before it in the round left the caches to itself.
            call();
            time(calls, &mut call).as_secs_f64() / f64::from(calls)
        })
    }

    /// Whatever gives the seconds per call of a turn that takes at least the slice; NaN if it failed.
    pub fn external(
        name: impl Into<String>,
        flops: f64,
        turn: impl FnMut(Duration) -> f64 + Send + 'a,
    ) -> Self {
        Self { name: name.into(), flops, seconds: Vec::new(), slice: None, turn: Box::new(turn) }
    }

    /// With turns of its own length.
    pub fn with_slice(mut self, slice: Duration) -> Self {
        self.slice = Some(slice);
        self
    }

    /// The middle round, GFLOP/s.
    pub fn median_gflops(&self) -> f64 {
        self.flops / median(&self.seconds) / 1e9
    }

    /// Of all rounds, unless there are none or a turn failed; `roof` had its turns in the same rounds.
    pub(crate) fn figures(&self, roof: Option<&Rival<'_>>) -> Option<Figures> {
        let is_whole = !self.seconds.is_empty() && self.seconds.iter().all(|seconds| seconds.is_finite());
        is_whole.then(|| Figures {
            ms_min: 1e3 * least(&self.seconds),
            ms_median: 1e3 * median(&self.seconds),
            gflops: self.median_gflops(),
            roof_percent: roof.map(|roof| 100.0 * self.median_gflops() / roof.median_gflops()),
        })
    }

    /// The best round, GFLOP/s.
    pub fn best_gflops(&self) -> f64 {
        self.flops / least(&self.seconds) / 1e9
    }
}

/// What tables say of a rival's rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Figures {
    /// Milliseconds of the best round.
    pub(crate) ms_min: f64,
    /// Milliseconds of the middle round.
    pub(crate) ms_median: f64,
    /// 10^9 operations a second in the middle round.
    pub(crate) gflops: f64,
    /// That by the roof's, in per cent.
    pub(crate) roof_percent: Option<f64>,
}

/// The middle value; 0 of nothing.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

/// The geometric mean; not a number of nothing.
pub fn geometric_mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len() as f64;
    (values.map(f64::ln).sum::<f64>() / count).exp()
}

/// The least value; infinite of nothing.
pub fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

/// So many calls take about the slice: counted once, so that no clock is read between calls.
fn calls_that_fill(slice: Duration, call: &mut impl FnMut()) -> u32 {
    call();
    let mut calls = 1u32;
    loop {
        let took = time(calls, call);
        if took >= slice {
            return calls;
        }
        // A first, cold call must not make the count far too small: at most ten times as many in one step.
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

/// Gives every rival a turn of at least `slice` in each of `rounds` rounds: forwards, then backwards, and so on, so that
/// nobody always follows the one that heats the core most.
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
