//! Random masks that depend on a seed, the number of the pass, the layer and the element alone, so that threads do not matter.

use super::unit::Draw;

/// The random numbers of one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stream(pub(super) u64);

/// Elements are zero with the probability `rate`, and otherwise `1 / (1 - rate)`, so that the mean is 1 (inverted dropout).
#[derive(Debug, Clone, Copy)]
pub(super) struct Mask {
    pub(super) rate: f32,
}

impl Stream {
    /// A number that all draws of one pass share.
    fn key(self, Draw { seed, pass }: Draw) -> u64 {
        mix(seed ^ mix(pass ^ mix(self.0)))
    }

    /// A number from 0 to below 1, with the 24 bits of an `f32`.
    pub(super) fn unit(self, draw: Draw, element: u64) -> f32 {
        (mix(self.key(draw).wrapping_add(element)) >> 40) as f32 / (1u32 << 24) as f32
    }

    /// Draws a mask.
    pub(super) fn mask(self, draw: Draw, Mask { rate }: Mask, mask: &mut [f32]) {
        let (key, kept) = (self.key(draw), 1.0 / (1.0 - rate));
        // The probability in 2^-24.
        let limit = (rate * (1u32 << 24) as f32) as u64;
        for (element, to) in (0..).zip(mask) {
            *to = if mix(key.wrapping_add(element)) >> 40 < limit { 0.0 } else { kept };
        }
    }
}

/// SplitMix64's output function (Steele, Lea and Flood 2014, figure 14): every bit of the input changes half of the output.
pub(crate) fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_has_its_rate_and_mean_and_depends_on_all_numbers() {
        let draw = Draw { seed: 1, pass: 2 };
        let of = |stream: Stream, draw| {
            let mut mask = vec![0.0; 100_000];
            stream.mask(draw, Mask { rate: 0.3 }, &mut mask);
            mask
        };
        let mask = of(Stream(3), draw);
        let zeros = mask.iter().filter(|x| **x == 0.0).count() as f64 / mask.len() as f64;
        // Five standard deviations of a binomial distribution.
        assert!((zeros - 0.3).abs() < 5.0 * (0.3f64 * 0.7 / mask.len() as f64).sqrt(), "{zeros}");
        assert!(mask.iter().all(|x| *x == 0.0 || *x == 1.0 / 0.7));
        assert_eq!(mask, of(Stream(3), draw));
        for (stream, draw) in
            [(Stream(4), draw), (Stream(3), Draw { seed: 2, ..draw }), (Stream(3), Draw { pass: 3, ..draw })]
        {
            let same = mask.iter().zip(of(stream, draw)).filter(|(a, b)| *a == b).count() as f64;
            assert!((same / mask.len() as f64 - 0.58).abs() < 0.01, "two masks are not independent");
        }
        assert!((0..1000).all(|i| (0.0..1.0).contains(&Stream(5).unit(draw, i))));
    }
}
