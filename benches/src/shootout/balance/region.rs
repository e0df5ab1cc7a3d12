//! The time of a parallel region.

use crate::turns::median;
use kernels::{Executor, Helpers};
use std::time::{Duration, Instant};

/// The time of each part.
const PART: Duration = Duration::from_micros(5);
const RUNS: usize = 2_000;

/// The seconds to hand a part to another thread of the library and to wait for it: the time of a run of two parts, less
/// the time of one part. It is the median over many runs.
pub(super) fn seconds() -> anyhow::Result<f64> {
    let helpers = Helpers::new(2)?;
    let times: Vec<f64> = (0..RUNS).map(|_| timed(&helpers)).collect();
    Ok(median(&times))
}

fn timed(helpers: &Helpers) -> f64 {
    let start = Instant::now();
    helpers.run(2, &|_| {
        let start = Instant::now();
        while start.elapsed() < PART {
            std::hint::spin_loop();
        }
    });
    start.elapsed().saturating_sub(PART).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_takes_time() {
        let seconds = seconds().unwrap();
        assert!(seconds > 0.0 && seconds < 0.1, "{seconds}");
    }
}
