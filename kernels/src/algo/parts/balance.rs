//! Balanced rounding: the rounding errors of an output channel's weights add up to almost nothing.
//!
//! After a ReLU the pixels are positive, so a part of the error of an output is the mean pixel times the sum of
//! the errors of the weights. Rounding to nearest leaves that sum to chance. Here, some weights that lie almost
//! halfway between two representable numbers are rounded the other way, which adds little to their own errors.

use crate::describe::{ConvError, Products};
use crate::memory::try_vec;

/// A weight is rounded the other way only if its error is more than this fraction of the distance between
/// representable numbers. Half is the most.
const LEAST: f32 = 0.45;

/// Rounds the weights of one output channel to what the parts of `products` can represent. Three parts represent
/// any weight.
pub(super) struct Balance {
    products: Products,
    /// The errors of the nearest numbers.
    errors: Vec<f32>,
    /// The cost of rounding a weight the other way, its index, and the change.
    candidates: Vec<(f32, usize, f32)>,
}

impl Balance {
    /// For filters of `k` weights.
    pub(super) fn new(products: Products, k: usize) -> Result<Self, ConvError> {
        let what = "weights to round";
        Ok(Self { products, errors: try_vec(what, k)?, candidates: try_vec(what, k)? })
    }

    pub(super) fn round(&mut self, weights: &mut [f32]) {
        match self.products {
            Products::Bf16x6 => {}
            Products::Bf16x3 => self.round_to(weights, |x| bf16(x) + bf16(x - bf16(x)), |x| x - bf16(x)),
            _ => self.round_to(weights, bf16, |x| x),
        }
    }

    /// Rounds each weight to a number that `nearest` returns. `last` returns the part of a weight that is rounded.
    fn round_to(&mut self, weights: &mut [f32], nearest: impl Fn(f32) -> f32, last: impl Fn(f32) -> f32) {
        self.errors.clear();
        self.errors.extend(weights.iter().map(|&weight| weight - nearest(weight)));
        // What is not finite has no error.
        let mut sum: f64 =
            self.errors.iter().filter(|error| error.is_finite()).map(|&error| f64::from(error)).sum();
        self.candidates.clear();
        let sign = if sum > 0.0 { 1.0 } else { -1.0 };
        for (index, (weight, &error)) in weights.iter_mut().zip(&self.errors).enumerate() {
            // Rounding the other way moves the weight by a step towards the sign of its error.
            let step = step(last(*weight));
            if sign * error > LEAST * step {
                self.candidates.push((step - 2.0 * error.abs(), index, step.copysign(error)));
            }
            *weight = nearest(*weight);
        }
        self.candidates.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        for &(_, index, change) in &self.candidates {
            let after = sum - f64::from(change);
            if after.abs() < sum.abs() {
                weights[index] += change;
                sum = after;
            }
        }
    }
}

/// The distance between the bf16 numbers around `x`; infinite if `x` has no normal number around it.
fn step(x: f32) -> f32 {
    const LEAST_EXPONENT: u32 = 8 << 23;
    let exponent = x.to_bits() & INFINITY;
    // The last of the eight bits.
    let step = f32::from_bits(exponent.wrapping_sub(7 << 23));
    if exponent > LEAST_EXPONENT && exponent < INFINITY { step } else { f32::INFINITY }
}

/// The nearest bf16 number, with ties to even. What is not a normal number stays as it is.
fn bf16(x: f32) -> f32 {
    let bits = x.to_bits();
    let exponent = bits & INFINITY;
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) & 0xffff_0000;
    f32::from_bits(if exponent > 0 && exponent < INFINITY { rounded } else { bits })
}

/// The bits of infinity, which are all those of the exponent.
const INFINITY: u32 = 0x7f80_0000;

#[cfg(test)]
mod tests {
    use super::*;

    fn nearest(products: Products, x: f32) -> f32 {
        if products == Products::Bf16 { bf16(x) } else { bf16(x) + bf16(x - bf16(x)) }
    }

    fn weights(len: usize) -> Vec<f32> {
        let mut state = 7u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..len).map(|_| next() * next()).collect()
    }

    #[test]
    fn errors_add_up_to_almost_nothing_and_grow_little() {
        for products in [Products::Bf16x3, Products::Bf16] {
            for len in [9, 144, 4608] {
                let exact = weights(len);
                let mut rounded = exact.clone();
                let mut balance = Balance::new(products, len).expect("memory");
                balance.round(&mut rounded);
                let errors = |values: &[f32]| -> (f64, f64) {
                    let each = values.iter().zip(&exact).map(|(&a, &b)| f64::from(a) - f64::from(b));
                    each.fold((0.0, 0.0), |(sum, squares), e| (sum + e, squares + e * e))
                };
                let closest: Vec<f32> = exact.iter().map(|&x| nearest(products, x)).collect();
                let ((before, least), (after, squares)) = (errors(&closest), errors(&rounded));
                assert!(after.abs() <= before.abs(), "{products} {len}: {before:e} {after:e}");
                // What is left is less than a step of a large weight.
                let step = if products == Products::Bf16 { 2f64.powi(-8) } else { 2f64.powi(-17) };
                assert!(after.abs() <= step, "{products} {len}: {before:e} {after:e}");
                assert!(squares <= 1.1 * least, "{products} {len}: {least:e} {squares:e}");
                // Every weight is what its parts represent.
                assert!(rounded.iter().all(|&x| nearest(products, x) == x), "{products} {len}");
            }
        }
    }

    #[test]
    fn what_is_not_a_normal_number_stays() {
        let special = [f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, 1e-40, f32::NAN];
        let mut rounded = special;
        Balance::new(Products::Bf16, 6).expect("memory").round(&mut rounded);
        assert!(special.iter().zip(rounded).all(|(a, b)| a.to_bits() == b.to_bits()));
    }
}
