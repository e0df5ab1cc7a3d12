//! Gradients of group normalisation, against the definition in `f64`.

use super::{Params, check_difference, write_and_add};
use crate::cases::{Case, cases, config, error_of, field_of, large_cases};
use crate::{Noise, Tensor, UNIT, UNWRITTEN, indices};
use kernels::{ConvError, Layout, NormGradients, NormSpec, Ops, Shape4, Threads};
use proptest::prelude::*;

const EPS: f32 = 1e-2;

/// The places of the elements of a group of `size` channels.
fn places(shape: Shape4, n: usize, group: usize, size: usize) -> impl Iterator<Item = [usize; 4]> {
    indices(Shape4 { n: 1, c: size, ..shape }).map(move |(_, c, y, x)| [n, group * size + c, y, x])
}

/// Mean and `1 / sqrt(variance + eps)`.
fn statistics(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
    (mean, 1.0 / (variance + f64::from(EPS)).sqrt())
}

/// What the gradients of a group consist of.
struct Group {
    mean: f64,
    inverse: f64,
    /// Means of `scale * g * z` and of `scale * g`, and of their magnitudes.
    means: [(f64, f64); 2],
}

struct Problem {
    input: Tensor,
    gradient: Tensor,
    scale: Vec<f32>,
    size: usize,
    groups: Vec<Group>,
}

impl Problem {
    fn new(case: Case, groups: usize) -> Self {
        let input = case.input(1.0, 0.7);
        let mut noise = Noise::new(!case.seed);
        let gradient = Tensor::from_fn(case.shape, case.layout, case.gaps[1], |_| noise.next());
        let (scale, size) = (noise.vec(case.shape.c), case.shape.c / groups);
        let mut problem = Self { input, gradient, scale, size, groups: Vec::new() };
        for n in 0..case.shape.n {
            problem.groups.extend((0..groups).map(|group| problem.group(n, group)).collect::<Vec<_>>());
        }
        problem
    }

    fn group(&self, n: usize, group: usize) -> Group {
        let all = || places(self.input.shape, n, group, self.size);
        let values: Vec<f64> = all().map(|[n, c, y, x]| f64::from(self.input.get(n, c, y, x))).collect();
        let (mean, inverse) = statistics(&values);
        let mut means = [(0.0, 0.0); 2];
        for ([n, c, y, x], value) in all().zip(&values) {
            let g = f64::from(self.scale[c]) * f64::from(self.gradient.get(n, c, y, x));
            for (sum, term) in means.iter_mut().zip([g * (value - mean) * inverse, g]) {
                sum.0 += term / values.len() as f64;
                sum.1 += term.abs() / values.len() as f64;
            }
        }
        Group { mean, inverse, means }
    }

    /// The relative error of statistics and sums of a group.
    fn units(&self) -> f64 {
        let count = self.size * self.input.shape.h * self.input.shape.w;
        UNIT * (4.0 * (count as f64).sqrt() + 60.0)
    }

    fn dx(&self, [n, c, y, x]: [usize; 4]) -> (f64, f64) {
        let Group { mean, inverse, means } =
            &self.groups[n * (self.input.shape.c / self.size) + c / self.size];
        let z = (f64::from(self.input.get(n, c, y, x)) - mean) * inverse;
        let g = f64::from(self.scale[c]) * f64::from(self.gradient.get(n, c, y, x));
        let value = inverse * (g - z * means[0].0 - means[1].0);
        // Deviations are at most 2, and so is the magnitude of an error of the mean in units.
        let of_z = z.abs() + 2.0 * inverse;
        let magnitude = g.abs() + of_z * means[0].1 * (1.0 + 2.0 * inverse) + means[1].1;
        (value, inverse * self.units() * magnitude)
    }

    /// The gradients of scale and shift of a channel.
    fn param(&self, which: usize, c: usize) -> (f64, f64) {
        let (mut sum, mut magnitude) = (0.0, 0.0);
        for (n, _, y, x) in indices(Shape4 { c: 1, ..self.input.shape }) {
            let g = f64::from(self.gradient.get(n, c, y, x));
            let Group { mean, inverse, .. } =
                &self.groups[n * (self.input.shape.c / self.size) + c / self.size];
            let z = (f64::from(self.input.get(n, c, y, x)) - mean) * inverse;
            sum += if which == 0 { g * z } else { g };
            magnitude += g.abs() * if which == 0 { z.abs() + 2.0 * inverse } else { 1.0 };
        }
        (sum, self.units() * magnitude)
    }
}

fn check(case: Case, groups: usize, adds: bool) {
    let problem = Problem::new(case, groups);
    let (shape, spec) = (case.shape, NormSpec { groups, eps: EPS });
    let params = Params::new(shape.c, adds);
    let context = format!("{case:?} groups: {groups}, adds: {adds}");
    let wanted = [0, 1].map(|which| (0..shape.c).map(|c| problem.param(which, c)).collect::<Vec<_>>());
    let found = write_and_add(shape, case.layout, case.gaps[1], |ops, dx, threads| {
        let (mut dscale, mut dshift) = (params.before.clone(), params.before.clone());
        let mut scratch = vec![f32::NAN; Ops::normalize_gradient_scratch_len(shape)?];
        let into = NormGradients {
            input: dx,
            scale: Some(params.gradient(&mut dscale)),
            shift: Some(params.gradient(&mut dshift)),
        };
        let tensors = (problem.input.view(), problem.gradient.view());
        ops.normalize_gradient(spec, Some(&problem.scale), tensors, into, &mut scratch, threads)?;
        params.check(&dscale, |c| wanted[0][c], &format!("{context} scale"));
        params.check(&dshift, |c| wanted[1][c], &format!("{context} shift"));
        Ok(())
    });
    for found in found {
        found.check(|at| problem.dx(at), &context);
    }
}

proptest! {
    #![proptest_config(config(100))]

    #[test]
    fn random_groups_agree(
        (case, groups) in cases().prop_flat_map(|case| {
            let divisors: Vec<_> = (1..=case.shape.c).filter(|groups| case.shape.c % groups == 0).collect();
            (Just(case), prop::sample::select(divisors))
        }),
        adds in any::<bool>(),
    ) {
        check(case, groups, adds);
    }
}

/// Layer norm, group norm and instance norm.
#[test]
fn large_tensors_agree() {
    for case in large_cases() {
        for groups in [1, case.shape.c / 10, case.shape.c] {
            check(case, groups, false);
        }
    }
}

#[test]
fn the_gradient_is_the_difference_of_the_layer() {
    for layout in Layout::ALL {
        for groups in [1, 3, 6] {
            let problem = Problem::new(Case::packed([2, 6, 3, 4], layout), groups);
            let (shape, spec) = (problem.input.shape, NormSpec { groups, eps: EPS });
            let mut dx = Tensor::filled(shape, layout, 0, UNWRITTEN);
            let mut scratch = vec![f32::NAN; Ops::normalize_gradient_scratch_len(shape).unwrap()];
            let into = NormGradients { input: dx.view_mut().into(), scale: None, shift: None };
            let tensors = (problem.input.view(), problem.gradient.view());
            let ops = Ops::new(None).unwrap();
            ops.normalize_gradient(spec, Some(&problem.scale), tensors, into, &mut scratch, Threads::Seq)
                .unwrap();
            check_difference(&problem.input, &dx, |at| {
                let of_group = |n: usize, group: usize| {
                    let all = || places(shape, n, group, problem.size);
                    let values: Vec<f64> = all().map(at).collect();
                    let (mean, inverse) = statistics(&values);
                    let terms = all().zip(&values).map(|([n, c, y, x], value)| {
                        let g = f64::from(problem.scale[c]) * f64::from(problem.gradient.get(n, c, y, x));
                        (value - mean) * inverse * g
                    });
                    terms.sum::<f64>()
                };
                (0..2 * groups).map(|i| of_group(i / groups, i % groups)).sum()
            });
        }
    }
}

#[test]
fn wrong_arguments_are_errors() {
    let (shape, layout) = ([2, 6, 2, 2], Layout::Nchw);
    let good = Tensor::filled(Case::packed(shape, layout).shape, layout, 0, 0.0);
    let error = |spec: NormSpec, scratch: usize| {
        error_of(shape, layout, |ops, dx| {
            let into = NormGradients { input: dx.into(), scale: None, shift: None };
            let tensors = (good.view(), good.view());
            ops.normalize_gradient(spec, None, tensors, into, &mut vec![0.0; scratch], Threads::Seq)
        })
    };
    for groups in [0, 4, 7] {
        assert_eq!(field_of(error(NormSpec { groups, eps: EPS }, 24)), "norm.groups");
    }
    assert_eq!(field_of(error(NormSpec { groups: 2, eps: f32::NAN }, 24)), "norm.eps");
    let expected = ConvError::WorkspaceTooSmall { expected: 24, got: 23 };
    assert_eq!(error(NormSpec { groups: 2, eps: EPS }, 23), expected);
    let huge = Ops::normalize_gradient_scratch_len(Shape4::new(usize::MAX, 2, 1, 1));
    assert!(matches!(huge, Err(ConvError::SizeOverflow { .. })), "{huge:?}");
}
