//! Balanced rounding: the rounding errors of an output channel's weights add up to almost nothing.
//!
//! After a ReLU the pixels are positive, so a part of the error of an output is the mean pixel times the sum of
//! the errors of the weights. Rounding to nearest leaves that sum to chance. Here, some weights that lie almost
//! halfway between two representable numbers are rounded the other way, which adds little to their own errors.

use crate::describe::{ConvError, Products};
use crate::memory::try_vec;

/// A weight is rounded the other way only if its error is more than this fraction of the distance between
/// representable numbers. Half is the most.
const LEAST: f32 = 0.4;

/// Rounds the weights of one output channel to what the parts of `products` can represent. Three parts represent
/// any weight.
pub(super) struct Balance {
    products: Products,
    /// The cost of rounding a weight the other way, its index, and the change.
    candidates: Vec<(f32, usize, f32)>,
}

impl Balance {
    /// For filters of `k` weights.
    pub(super) fn new(products: Products, k: usize) -> Result<Self, ConvError> {
        Ok(Self { products, candidates: try_vec("weights to round", k)? })
    }

    pub(super) fn round(&mut self, weights: &mut [f32]) {
        if self.products == Products::Bf16x6 {
            return;
        }
        self.candidates.clear();
        let mut sum: f64 =
            weights.iter().map(|&weight| f64::from(weight) - f64::from(self.nearest(weight))).sum();
        for (index, weight) in weights.iter_mut().enumerate() {
            let rounded = self.nearest(*weight);
            let (error, step) = (*weight - rounded, self.step(*weight));
            // Rounding the other way moves the weight by a step towards the sign of its error.
            let helps = f64::from(error) * sum > 0.0 && step.is_finite();
            if helps && error.abs() > LEAST * step {
                self.candidates.push((step - 2.0 * error.abs(), index, step.copysign(error)));
            }
            *weight = rounded;
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

    /// The nearest number that the parts represent, with ties to even.
    fn nearest(&self, x: f32) -> f32 {
        let first = bf16(x);
        match self.products {
            Products::Bf16x3 => first + bf16(x - first),
            _ => first,
        }
    }

    /// The distance between the representable numbers around `x`; infinite if `x` has none.
    fn step(&self, x: f32) -> f32 {
        let first = bf16(x);
        let last = if self.products == Products::Bf16x3 { x - first } else { x };
        // The last of the eight bits of the part.
        let exponent = last.to_bits() & 0x7f80_0000;
        if exponent <= 8 << 23 || exponent == 0x7f80_0000 {
            return f32::INFINITY;
        }
        f32::from_bits(exponent - (7 << 23))
    }
}

/// The nearest bf16 number. What is not a normal number stays as it is.
fn bf16(x: f32) -> f32 {
    if !x.is_normal() {
        return x;
    }
    let bits = x.to_bits();
    f32::from_bits((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff_0000)
}

#[cfg(test)]
mod tests {
    use super::*;

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
                let nearest: Vec<f32> = exact.iter().map(|&x| balance.nearest(x)).collect();
                let ((before, least), (after, squares)) = (errors(&nearest), errors(&rounded));
                assert!(after.abs() <= before.abs(), "{products} {len}: {before:e} {after:e}");
                // What is left is less than a step of a large weight.
                let step = if products == Products::Bf16 { 2f64.powi(-8) } else { 2f64.powi(-17) };
                assert!(after.abs() <= step, "{products} {len}: {before:e} {after:e}");
                assert!(squares <= 1.1 * least, "{products} {len}: {least:e} {squares:e}");
                // Every weight is what its parts represent.
                assert!(rounded.iter().all(|&x| balance.nearest(x) == x), "{products} {len}");
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
