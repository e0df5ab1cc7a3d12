//! What the benches share: the list of layers, the roofs of the machine, measured in the same run as what is held
//! against them, the timing of rivals in turns, and the programs `shootout` and `netbench`.

pub mod cli;
pub mod fit;
pub mod layer;
pub mod layers;
pub mod netbench;
pub mod peak;
pub mod peers;
pub mod pin;
pub mod problem;
pub mod random;
pub mod shootout;
mod table;
pub mod turns;

/// Reproducible numbers in -1..1 (SplitMix64, Steele et al. 2014).
pub fn values(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}
