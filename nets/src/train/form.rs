//! [`Parametrization`]: filters and matrices as functions of what is trained.

use crate::layer::{Layer, Param, Role};
use std::fmt;
use std::str::FromStr;

/// How filters and matrices are computed from what is trained. Files of weights have the computed ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Parametrization {
    /// The filters and matrices are trained themselves.
    #[default]
    Plain,
    /// Weight normalisation (Salimans and Kingma 2016, eq. 2): the weights of each output are `g v / |v|`, and the vector `v` and
    /// its length `g` are trained. It applies to all convolutions and fully connected layers. `g` is the parameter `LAYER.gain`.
    WeightNorm,
    /// Weight standardisation (Qiao et al. 2019, eq. 6): the weights of each output are `(v - mean(v)) / sqrt(var(v) + 1e-5)`. It
    /// applies to convolutions with more than one weight for each output, and suits networks that normalise behind them.
    WeightStandard,
}

/// Reads `plain`, `weight-norm` or `weight-standard`.
impl FromStr for Parametrization {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Plain, Self::WeightNorm, Self::WeightStandard];
        all.into_iter()
            .find(|kind| kind.to_string() == text)
            .ok_or_else(|| format!("expected plain, weight-norm or weight-standard, got `{text}`"))
    }
}

/// The text that [`FromStr`] reads.
impl fmt::Display for Parametrization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "plain",
            Self::WeightNorm => "weight-norm",
            Self::WeightStandard => "weight-standard",
        })
    }
}

/// Added to the variance of standardised weights.
const EPS: f64 = 1e-5;

/// A weight that is computed from another tensor of the same extents.
pub(super) struct Form {
    /// The trained tensor, one row for each output, and its gradient.
    pub(super) raw: Vec<f32>,
    pub(super) gradient: Vec<f32>,
    /// Elements of a row.
    pub(super) row: usize,
    /// The place of the gains among the parameters, for weight normalisation.
    pub(super) gain: Option<usize>,
}

/// The length of a row.
pub(super) fn norm(row: &[f32]) -> f64 {
    row.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt()
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

fn mean(row: &[f32]) -> f64 {
    row.iter().map(|&x| f64::from(x)).sum::<f64>() / row.len() as f64
}

/// The mean of a row, and one divided by its standard deviation.
fn spread(row: &[f32]) -> (f64, f64) {
    let mean = mean(row);
    let variance = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / row.len() as f64;
    (mean, 1.0 / (variance + EPS).sqrt())
}

/// A quotient, or 0 for a row of zeros, which has no direction.
fn over(x: f64, norm: f64) -> f64 {
    if norm == 0.0 { 0.0 } else { x / norm }
}

impl Form {
    /// The form of a parameter of a layer, without its gains; `None` for a parameter that is trained itself.
    pub(super) fn new(kind: Parametrization, layer: &Layer, param: &Param) -> Option<Self> {
        if !matches!(param.role, Role::Weight { .. }) {
            return None;
        }
        let row: usize = param.dims.iter().skip(1).product();
        let applies = match kind {
            Parametrization::Plain => false,
            Parametrization::WeightNorm => matches!(layer, Layer::Conv(_) | Layer::Linear(_)),
            Parametrization::WeightStandard => matches!(layer, Layer::Conv(_)) && row > 1,
        };
        let zeros = || vec![0.0; row * param.dims[0]];
        applies.then(|| Self { raw: zeros(), gradient: zeros(), row, gain: None })
    }

    /// Computes the weights.
    pub(super) fn compute(&self, gains: Option<&[f32]>, weights: &mut [f32]) {
        let rows = self.raw.chunks_exact(self.row).zip(weights.chunks_exact_mut(self.row));
        for (index, (raw, weights)) in rows.enumerate() {
            let (centre, factor) = match gains {
                Some(gains) => (0.0, over(f64::from(gains[index]), norm(raw))),
                None => spread(raw),
            };
            weights.iter_mut().zip(raw).for_each(|(w, &v)| *w = ((f64::from(v) - centre) * factor) as f32);
        }
    }

    /// Computes the gradients of the trained tensors from those of the weights.
    pub(super) fn pull_back(&mut self, gains: Option<(&[f32], &mut [f32])>, of_weights: &[f32]) {
        let rows = self.raw.chunks_exact(self.row).zip(self.gradient.chunks_exact_mut(self.row));
        let rows = rows.zip(of_weights.chunks_exact(self.row));
        let Some((gains, of_gains)) = gains else {
            // With z = (v - mean) s: dv = s (dw - mean(dw) - z mean(dw z)).
            for ((raw, to), of_weights) in rows {
                let (centre, factor) = spread(raw);
                let z = |v: f32| (f64::from(v) - centre) * factor;
                let mean_of = mean(of_weights);
                let along = raw.iter().zip(of_weights).map(|(&v, &dw)| z(v) * f64::from(dw)).sum::<f64>();
                let along = along / raw.len() as f64;
                for ((to, &v), &dw) in to.iter_mut().zip(raw).zip(of_weights) {
                    *to = (factor * (f64::from(dw) - mean_of - z(v) * along)) as f32;
                }
            }
            return;
        };
        // With u = v / |v|: dg = dw u, dv = g / |v| (dw - u dg).
        for ((((raw, to), of_weights), &gain), of_gain) in rows.zip(gains).zip(of_gains) {
            let length = norm(raw);
            let slope = over(dot(of_weights, raw), length);
            let factor = over(f64::from(gain), length);
            *of_gain = slope as f32;
            for ((to, &v), &dw) in to.iter_mut().zip(raw).zip(of_weights) {
                *to = (factor * (f64::from(dw) - over(f64::from(v), length) * slope)) as f32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for kind in [Parametrization::Plain, Parametrization::WeightNorm, Parametrization::WeightStandard] {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        let error = "norm".parse::<Parametrization>().unwrap_err();
        assert_eq!(error, "expected plain, weight-norm or weight-standard, got `norm`");
    }

    #[test]
    fn rows_get_their_length_or_unit_variance() {
        let form =
            |row, raw: &[f32]| Form { raw: raw.to_vec(), gradient: vec![0.0; raw.len()], row, gain: None };
        let mut weights = [0.0; 4];
        form(2, &[3.0, 4.0, 0.0, 0.0]).compute(Some(&[10.0, 1.0]), &mut weights);
        assert_eq!(weights, [6.0, 8.0, 0.0, 0.0]);
        form(4, &[5.0, 1.0, 5.0, 1.0]).compute(None, &mut weights);
        let one = (2.0 / (4.0f64 + 1e-5).sqrt()) as f32;
        assert_eq!(weights, [one, -one, one, -one]);
    }
}
