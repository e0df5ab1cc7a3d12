//! Runs models with and without the transformation and compares their outputs.

use convkernels_tract::{Options, Report, accelerate_with_report};
use tract_core::prelude::*;

/// The largest relative distance in the Euclidean norm that the crate promises.
pub const PROMISED: f64 = 1e-5;

/// Pseudo-random numbers between -1 and 1.
pub struct Numbers(u64);

impl Numbers {
    /// A sequence that depends on `seed` only.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    pub fn next(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// A tensor of such numbers.
    pub fn tensor(&mut self, shape: &[usize]) -> Tensor {
        let elements: Vec<f32> = (0..shape.iter().product()).map(|_| self.next()).collect();
        Tensor::from_shape(shape, &elements).unwrap()
    }
}

/// The distance of two tensors of the same shape, relative to the second, or to a tensor of ones if that is larger.
/// An activation that saturates makes outputs small without making the rounding errors of its argument small.
pub fn distance(with: &Tensor, without: &Tensor) -> f64 {
    assert_eq!(with.shape(), without.shape());
    let (with, without) = (with.view(), without.view());
    let (with, without) = (with.as_slice::<f32>().unwrap(), without.as_slice::<f32>().unwrap());
    let norm: f64 = without.iter().map(|x| f64::from(*x).powi(2)).sum();
    let distance: f64 = with.iter().zip(without).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
    (distance / norm.max(without.len().max(1) as f64)).sqrt()
}

/// Checks that the transformed model has the same outputs as tract's own, for each of the inputs.
pub fn check_with(model: TypedModel, options: &Options, inputs: &[TVec<Tensor>]) -> Report {
    let without = model.clone().into_optimized().unwrap().into_runnable().unwrap();
    let (with, report) = accelerate_with_report(model, options).unwrap();
    let with = with.into_optimized().unwrap().into_runnable().unwrap();
    for tensors in inputs {
        let values = || tensors.iter().map(|tensor| tensor.clone().into_tvalue()).collect::<TVec<_>>();
        let (with, without) = (with.run(values()).unwrap(), without.run(values()).unwrap());
        assert_eq!(with.len(), without.len());
        for (with, without) in with.iter().zip(&without) {
            let distance = distance(with, without);
            assert!(distance <= PROMISED, "relative distance {distance:e}\n{report}");
        }
    }
    report
}

/// [`check_with`] the default options.
pub fn check(model: TypedModel, inputs: &[TVec<Tensor>]) -> Report {
    check_with(model, &Options::default(), inputs)
}
