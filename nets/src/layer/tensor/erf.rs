//! The error function in `f32`.

/// The error function, with an absolute error of at most 2e-7.
///
/// It is odd. Up to 1 it is the argument times a polynomial of its square, from 1 to 4 a polynomial, and from 4 on it is 1 to
/// the last bit of `f32`. Both polynomials interpolate it at Chebyshev nodes. The two branches are computed for every
/// element, so that a loop can use vectors.
pub(super) fn erf(x: f32) -> f32 {
    const NEAR: [f32; 8] = [
        std::f32::consts::FRAC_2_SQRT_PI,
        -0.376_126_38,
        0.112_837_83,
        -0.026_865_438,
        0.005_221_053_5,
        -0.000_848_439_64,
        0.000_112_682_54,
        -9.673_591e-6,
    ];
    // In (|x| - 2.5) / 1.5.
    const FAR: [f32; 16] = [
        0.999_593,
        0.003_267_417_7,
        -0.012_252_799,
        0.028_181_965,
        -0.043_651_935,
        0.046_447_836,
        -0.031_865_895,
        0.009_303_871,
        0.006_630_97,
        -0.009_742_477,
        0.004_676_662,
        0.000_670_913_6,
        -0.002_039_517_7,
        0.000_673_899_95,
        0.000_259_857_07,
        -0.000_153_831_74,
    ];
    fn polynomial(coefficients: &[f32], x: f32) -> f32 {
        coefficients.iter().rev().fold(0.0, |sum, coefficient| sum * x + coefficient)
    }
    let size = x.abs();
    let near = size * polynomial(&NEAR, size * size);
    let far = if size < 4.0 { polynomial(&FAR, (size - 2.5) / 1.5) } else { 1.0 };
    let result = if size < 1.0 { near } else { far };
    if x.is_nan() { x } else { result.copysign(x) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_function_has_the_values_of_tables() {
        // Abramowitz and Stegun 1964, table 7.1.
        let known = [
            (0.0, 0.0),
            (0.5, 0.520_499_877_8),
            (1.0, 0.842_700_792_9),
            (1.5, 0.966_105_146_5),
            (2.0, 0.995_322_265_0),
            (3.0, 0.999_977_909_5),
        ];
        for (x, y) in known {
            let error = (f64::from(erf(x)) - y).abs();
            assert!(error < 2e-7 && erf(-x) == -erf(x), "{x}: {error}");
        }
        assert!((erf(0.999_999_9) - erf(1.000_000_1)).abs() < 4e-7 && (erf(3.999_999) - 1.0).abs() < 2e-7);
        assert!(erf(f32::INFINITY) == 1.0 && erf(f32::NAN).is_nan());
    }
}
