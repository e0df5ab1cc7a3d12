//! [`Random`]: random numbers that are found again by what they are for.

use crate::train::mix;
use rand_pcg::Pcg64;
use rand_pcg::rand_core::Rng;

/// A stream of random numbers, identical on every machine.
#[derive(Debug, Clone)]
pub struct Random(Pcg64);

/// What random numbers are for. Streams for different purposes have nothing in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Purpose {
    /// The order of an epoch.
    Order,
    /// The augmentation of a picture.
    Augment,
    /// Which pictures are held out.
    HoldOut,
    /// Values of hyperparameters.
    Search,
}

impl Random {
    /// The stream of a seed for a purpose. `first` and `second` count within the purpose, such as epoch and place.
    pub fn new(seed: u64, purpose: Purpose, first: u64, second: u64) -> Self {
        let high = mix(seed.wrapping_add(mix(purpose as u64 + 1)));
        let low = mix(high ^ mix(first.wrapping_add(mix(second))));
        Self(Pcg64::new(u128::from(high) << 64 | u128::from(low), 0))
    }

    /// A number from 0 to below 1, with the 24 bits of `f32`.
    pub fn unit(&mut self) -> f32 {
        (self.0.next_u64() >> 40) as f32 / (1u32 << 24) as f32
    }

    /// A number from 0 to below 1, with the 53 bits of `f64`.
    pub fn unit64(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A number from `-reach` to below `reach`.
    pub fn within(&mut self, reach: f32) -> f32 {
        reach * (2.0 * self.unit() - 1.0)
    }

    /// A whole number from 0 to below `count`, which must not be 0.
    pub fn below(&mut self, count: usize) -> usize {
        // The upper word of the product. For a count of 2^32, a number is off by at most 2^-32 of its probability.
        ((u128::from(self.0.next_u64()) * count as u128) >> 64) as usize
    }

    /// Puts elements in a random order (Fisher and Yates; Knuth, volume 2, algorithm P).
    pub fn shuffle<T>(&mut self, elements: &mut [T]) {
        for last in (1..elements.len()).rev() {
            elements.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_and_repeat() {
        let first = |seed, purpose, a, b| Random::new(seed, purpose, a, b).0.next_u64();
        let all = [
            first(1, Purpose::Order, 0, 0),
            first(2, Purpose::Order, 0, 0),
            first(1, Purpose::Augment, 0, 0),
            first(1, Purpose::Order, 1, 0),
            first(1, Purpose::Order, 0, 1),
        ];
        let different: std::collections::HashSet<u64> = all.into_iter().collect();
        assert_eq!(different.len(), all.len());
        assert_eq!(all[0], first(1, Purpose::Order, 0, 0));
    }

    #[test]
    fn every_order_is_as_likely() {
        let mut counts = std::collections::HashMap::new();
        for seed in 0..60_000 {
            let mut order = [0, 1, 2];
            Random::new(seed, Purpose::Order, 0, 0).shuffle(&mut order);
            *counts.entry(order).or_insert(0) += 1;
        }
        // 10,000 each, within five standard deviations of 91.
        assert!(
            counts.len() == 6 && counts.values().all(|&count| (9545..10_455).contains(&count)),
            "{counts:?}"
        );
    }

    #[test]
    fn numbers_fill_their_range() {
        let mut random = Random::new(3, Purpose::Search, 0, 0);
        let numbers: Vec<f32> = (0..10_000).map(|_| random.within(2.0)).collect();
        let mean = numbers.iter().sum::<f32>() / 1e4;
        assert!(numbers.iter().all(|number| (-2.0..2.0).contains(number)) && mean.abs() < 0.05, "{mean}");
        let places: std::collections::HashSet<usize> = (0..1000).map(|_| random.below(7)).collect();
        assert_eq!(places.len(), 7);
    }
}
