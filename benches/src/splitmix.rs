//! Reproducible random numbers.

/// SplitMix64 (Steele et al. 2014).
pub(crate) struct SplitMix64(pub(crate) u64);

impl SplitMix64 {
    /// The next number, with 64 random bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// `len` reproducible numbers, uniform in -1..1.
pub fn values(len: usize, seed: u64) -> Vec<f32> {
    let mut generator = SplitMix64(seed);
    (0..len).map(|_| (generator.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0).collect()
}
