//! Read bandwidth of the second-level cache, the third-level cache and memory.

use super::vector;
use crate::pin::Crew;
use crate::turns::median;
use kernels::{Buffer, Isa, Profile};
use std::time::{Duration, Instant};

/// Maximum bytes read, however large the third level is: clearing more would take longer than timing all layers.
const LARGEST: usize = 1 << 30;

/// Bandwidth of all threads of a crew together, reading from one level.
#[derive(Debug, Clone, Copy)]
pub struct Bandwidth {
    /// The level: `L2`, `L3` or `DRAM`.
    pub level: &'static str,
    /// Bytes that each thread reads repeatedly.
    pub bytes: usize,
    /// The median, in 10^9 bytes per second.
    pub gbs: f64,
}

/// Measures each level. All threads of `crew` read at the same time, each from its own memory.
pub fn bandwidths(crew: &Crew) -> [Bandwidth; 3] {
    let Profile { l2_bytes, l3_bytes, .. } = Profile::detect(Isa::detect());
    let threads = crew.threads();
    let third = (l3_bytes / 2 / threads).min(8 * l2_bytes);
    // With many threads, each one's share of twice the third level could fit in its second level.
    let memory = (2 * l3_bytes / threads).max(8 * l2_bytes).min(LARGEST / threads);
    [("L2", l2_bytes / 2), ("L3", third), ("DRAM", memory)].map(|(level, bytes)| Bandwidth {
        level,
        bytes,
        gbs: measure(crew, bytes),
    })
}

fn measure(crew: &Crew, bytes: usize) -> f64 {
    /// Minimum duration of reading, after a first pass that fills the caches.
    const LEAST: Duration = Duration::from_millis(30);
    let per_thread = crew.broadcast(|| {
        let mut data = Buffer::zeroed(bytes / size_of::<f32>()).expect("a few megabytes are there");
        // Untouched zero pages can all map to one physical page.
        data.fill(1.0);
        vector::read(&data);
        let (start, mut seconds) = (Instant::now(), Vec::new());
        while start.elapsed() < LEAST || seconds.len() < 3 {
            let pass = Instant::now();
            vector::read(&data);
            seconds.push(pass.elapsed().as_secs_f64());
        }
        bytes as f64 / median(&seconds) / 1e9
    });
    per_thread.into_iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearer_memory_is_faster() {
        let crew = Crew::new(1).unwrap();
        let [second, third, memory] = bandwidths(&crew);
        assert!(second.gbs > memory.gbs && third.bytes > second.bytes && memory.bytes > third.bytes);
    }
}
