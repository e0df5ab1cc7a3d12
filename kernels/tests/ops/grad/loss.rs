//! Softmax with cross-entropy, against the definition in `f64`.

use super::{check_difference, write_and_add};
use crate::cases::{Case, cases, config, error_of, field_of, large_cases};
use crate::{Noise, Tensor, UNIT, indices};
use kernels::{ConvError, Isa, Layout, Ops, Shape4, Threads};
use proptest::prelude::*;

fn labels_of(shape: Shape4, seed: u64) -> Vec<u32> {
    let mut noise = Noise::new(seed);
    (0..shape.n * shape.h * shape.w).map(|_| (noise.bits() % shape.c as u64) as u32).collect()
}

/// The logits of an example.
fn example(input: &Tensor, number: usize) -> Vec<f64> {
    let Shape4 { c, h, w, .. } = input.shape;
    let (n, y, x) = (number / (h * w), number / w % h, number % w);
    (0..c).map(|c| f64::from(input.get(n, c, y, x))).collect()
}

fn loss(logits: &[f64], label: usize) -> f64 {
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    logits.iter().map(|x| (x - max).exp()).sum::<f64>().ln() + max - logits[label]
}

/// The relative error of an exponential and of the sum is bounded as in `softmax.rs`.
fn units(logits: &[f64]) -> f64 {
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let far = logits.iter().map(|x| (x - max).abs()).filter(|d| *d < 100.0).fold(0.0, f64::max);
    28.0 + 2.0 * far + logits.len() as f64 / 16.0
}

fn check(case: Case, spread: f32) {
    let (input, weight) = (case.input(spread, 0.0), 0.125f32);
    let labels = labels_of(case.shape, case.seed);
    let area = case.shape.h * case.shape.w;
    let examples: Vec<_> = (0..labels.len()).map(|i| example(&input, i)).collect();
    let losses: Vec<_> = examples.iter().zip(&labels).map(|(of, label)| loss(of, *label as usize)).collect();
    let units: Vec<_> = examples.iter().map(|logits| units(logits)).collect();
    let found = write_and_add(case.shape, case.layout, case.gaps[1], |ops, dx, threads| {
        let mut found = vec![f32::NAN; labels.len()];
        let mean = ops.cross_entropy(input.view(), &labels, weight, &mut found, dx, threads)?;
        for (i, (logits, label)) in examples.iter().zip(&labels).enumerate() {
            let (want, got) = (losses[i], found[i]);
            let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            // The logarithm turns the relative error of the sum into an absolute one. The distance to the largest logit
            // and the loss are rounded.
            let bound = UNIT * (units[i] + (max - logits[*label as usize]) + want.abs());
            let error = (f64::from(got) - want).abs();
            assert!(error <= bound, "{case:?}: loss {want}, got {got}, bound {bound:e}");
        }
        let sum: f64 = found.iter().map(|loss| f64::from(*loss)).sum();
        assert_eq!(mean, sum / labels.len() as f64);
        Ok(())
    });
    for found in found {
        let want = |[n, c, y, x]: [usize; 4]| {
            let number = n * area + y * case.shape.w + x;
            let (logits, label) = (&examples[number], labels[number] as usize);
            let part = f64::from(weight) * (logits[c] - logits[label] - losses[number]).exp();
            let hit = if c == label { f64::from(weight) } else { 0.0 };
            // The label is subtracted last, so an added gradient is rounded once more.
            let before = found.before.as_ref().map_or(0.0, |before| f64::from(before.get(n, c, y, x)).abs());
            let rounded = if hit > 0.0 { UNIT * 2.0 * (part + hit + before) } else { 0.0 };
            (part - hit, units[number] * UNIT * part + rounded + 1.2e-38)
        };
        found.check(want, &format!("{case:?}"));
    }
}

proptest! {
    #![proptest_config(config(100))]

    #[test]
    fn random_losses_agree(
        case in cases(),
        spread in prop::sample::select(vec![0.0f32, 1.0, 30.0, 1e4]),
    ) {
        check(case, spread);
    }
}

#[test]
fn large_tensors_agree() {
    large_cases().for_each(|case| check(case, 3.0));
}

/// The probability of the label is below the smallest `f32`, but its loss is not infinite.
#[test]
fn the_loss_of_an_impossible_label_is_finite() {
    for layout in Layout::ALL {
        for isa in Isa::available() {
            let shape = Shape4::new(1, 20, 1, 3);
            let logits =
                Tensor::from_fn(shape, layout, 0, |[_, c, _, _]| if c == 7 { 1000.0 } else { -1000.0 });
            let (mut dx, mut losses) = (Tensor::filled(shape, layout, 0, f32::NAN), [f32::NAN; 3]);
            let (ops, labels) = (Ops::new(Some(isa)).unwrap(), [3, 7, 19]);
            ops.cross_entropy(logits.view(), &labels, 1.0, &mut losses, dx.view_mut(), Threads::Seq).unwrap();
            assert_eq!(losses, [2000.0, 0.0, 2000.0]);
            assert_eq!([dx.get(0, 3, 0, 0), dx.get(0, 7, 0, 0), dx.get(0, 7, 0, 1)], [-1.0, 1.0, 0.0]);
        }
    }
}

/// A NaN stays in its example.
#[test]
fn nan_and_infinity_become_nan() {
    for layout in Layout::ALL {
        for bad in [f32::NAN, f32::INFINITY] {
            let shape = Shape4::new(1, 20, 1, 3);
            let logits =
                Tensor::from_fn(shape, layout, 0, |[_, c, _, x]| if (c, x) == (4, 1) { bad } else { 0.0 });
            let (mut dx, mut losses) = (Tensor::filled(shape, layout, 0, -1.0), [0.0; 3]);
            let ops = Ops::new(None).unwrap();
            let mean = ops
                .cross_entropy(logits.view(), &[4, 4, 4], 1.0, &mut losses, dx.view_mut(), Threads::Seq)
                .unwrap();
            assert!(mean.is_nan() && losses[1].is_nan() && losses[0] == losses[2] && losses[0] > 2.9);
            for (n, c, y, x) in indices(shape) {
                assert!(x == 1 || dx.get(n, c, y, x).is_finite());
            }
            assert!(dx.get(0, 4, 0, 1).is_nan());
        }
    }
}

#[test]
fn the_gradient_is_the_difference_of_the_loss() {
    for layout in Layout::ALL {
        let case = Case::packed([2, 10, 2, 3], layout);
        let (input, labels) = (case.input(2.0, 0.0), labels_of(case.shape, 4));
        let (mut dx, mut losses) = (Tensor::filled(case.shape, layout, 0, f32::NAN), vec![0.0; labels.len()]);
        let (ops, weight) = (Ops::new(None).unwrap(), 1.0 / labels.len() as f32);
        ops.cross_entropy(input.view(), &labels, weight, &mut losses, dx.view_mut(), Threads::Seq).unwrap();
        check_difference(&input, &dx, |at| {
            let losses = labels.iter().enumerate().map(|(i, label)| {
                let (n, y, x) = (i / 6, i / 3 % 2, i % 3);
                let logits: Vec<_> = (0..10).map(|c| at([n, c, y, x])).collect();
                loss(&logits, *label as usize)
            });
            losses.sum::<f64>() / labels.len() as f64
        });
    }
}

#[test]
fn wrong_arguments_are_errors() {
    let (shape, layout) = ([2, 3, 1, 2], Layout::Nchw);
    let logits = Tensor::filled(Case::packed(shape, layout).shape, layout, 0, 0.0);
    let error = |labels: &[u32], losses: usize| {
        error_of(shape, layout, |ops, dx| {
            let mut losses = vec![-1.0; losses];
            let result = ops.cross_entropy(logits.view(), labels, 1.0, &mut losses, dx, Threads::Seq);
            assert!(losses.iter().all(|loss| *loss == -1.0), "a loss was written");
            result.map(|_| ())
        })
    };
    assert_eq!(field_of(error(&[0, 1, 3, 2], 4)), "labels");
    assert_eq!(
        error(&[0, 1, 3, 2], 4).to_string(),
        "labels: expected less than the 3 channels for example 2, got 3"
    );
    assert_eq!(error(&[0; 3], 4), ConvError::BufferLen { what: "labels", expected: 4, got: 3 });
    assert_eq!(error(&[0; 4], 5), ConvError::BufferLen { what: "losses", expected: 4, got: 5 });
    let small = error_of([2, 3, 1, 1], layout, |ops, dx| {
        ops.cross_entropy(logits.view(), &[0; 4], 1.0, &mut [0.0; 4], dx, Threads::Seq).map(|_| ())
    });
    assert!(matches!(small, ConvError::ShapeMismatch { what: "gradient of the input", .. }), "{small}");
}
