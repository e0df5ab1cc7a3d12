//! What all commands that time something share.

/// Reproducible inputs in -1..=1. Products of zeros cost less power, so a core would run at a higher clock.
pub(super) fn noise(len: usize) -> impl Iterator<Item = f32> {
    (0..len).map(|i| (i * 37 % 113) as f32 / 56.0 - 1.0)
}

/// The median of values in ascending order, of which there must be one at least.
pub(super) fn median(ascending: &[f64]) -> f64 {
    let middle = ascending.len() / 2;
    match ascending.len() % 2 {
        0 => (ascending[middle - 1] + ascending[middle]) / 2.0,
        _ => ascending[middle],
    }
}

/// Rounds to the precision of the clock.
pub(super) fn rounded(number: f64, per_unit: f64) -> f64 {
    (number * per_unit).round() / per_unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_and_noise_is_between_its_bounds() {
        assert_eq!((median(&[1.0, 2.0, 9.0]), median(&[1.0, 2.0, 4.0, 9.0])), (2.0, 3.0));
        assert_eq!(rounded(0.123_456_7, 1e3), 0.123);
        let numbers: Vec<f32> = noise(1000).collect();
        assert!(numbers.iter().all(|x| (-1.0..=1.0).contains(x)) && numbers.contains(&-1.0));
    }
}
