//! The size of a step relative to the weights, and a search for numbers that are not finite.

/// Compares weights before and after a step. The memory is allocated once.
#[derive(Debug, Default)]
pub(super) struct Change {
    before: Vec<f32>,
}

impl Change {
    /// Memory for parameters of at most `longest` elements.
    pub(super) fn new(longest: usize) -> Self {
        Self { before: Vec::with_capacity(longest) }
    }

    pub(super) fn before(&mut self, weights: &[f32]) {
        self.before.clear();
        self.before.extend_from_slice(weights);
    }

    /// The norm of the change divided by the norm of the weights before; `None` if they were all zero.
    pub(super) fn after(&self, weights: &[f32]) -> Option<f64> {
        let changes = weights.iter().zip(&self.before).map(|(after, before)| f64::from(after - before));
        let change = changes.map(|change| change * change).sum::<f64>().sqrt();
        let size = self.before.iter().map(|&weight| f64::from(weight).powi(2)).sum::<f64>().sqrt();
        (size > 0.0).then(|| change / size)
    }
}

/// Whether all numbers are finite. Without branches, so that the compiler vectorises it.
pub(super) fn are_finite(numbers: &[f32]) -> bool {
    const EXPONENT: u32 = 0x7f80_0000;
    let is_not = |number: &f32| u32::from(number.to_bits() & EXPONENT == EXPONENT);
    numbers.iter().fold(0, |any, number| any | is_not(number)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_compared_with_the_weights() {
        let mut change = Change::new(2);
        change.before(&[3.0, 4.0]);
        assert_eq!(change.after(&[3.0, 4.5]), Some(0.1));
        change.before(&[0.0; 2]);
        assert_eq!(change.after(&[1.0, 0.0]), None);
    }

    #[test]
    fn one_number_is_found() {
        let mut numbers = vec![1e38f32; 1000];
        assert!(are_finite(&numbers) && are_finite(&[0.0, -0.0, f32::MIN_POSITIVE / 2.0]));
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            numbers[777] = wrong;
            assert!(!are_finite(&numbers));
        }
    }
}
