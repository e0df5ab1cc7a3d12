//! Gradient of local response normalisation, against the definition in `f64`.

use super::{check_difference, write_and_add};
use crate::cases::{Case, cases, config, error_of, field_of, large_cases};
use crate::{Noise, Tensor, UNIT, UNWRITTEN, indices};
use kernels::{ConvError, Layout, LrnSpec, Ops, Shape4, Threads, Workspace};
use proptest::prelude::*;
use std::ops::Range;

const ALEXNET: LrnSpec = LrnSpec { size: 5, alpha: 5e-4, beta: 0.75, k: 2.0 };

/// The channels of the window of channel `c`.
fn window(spec: LrnSpec, c: usize, channels: usize) -> Range<usize> {
    let before = (spec.size - 1) / 2;
    c.saturating_sub(before)..channels.min(c + spec.size - before)
}

/// `k + alpha / size * sum of squares` for each channel of a pixel.
fn divisors(spec: LrnSpec, x: &[f64]) -> Vec<f64> {
    let alpha = f64::from(spec.alpha) / spec.size as f64;
    let sum = |c| window(spec, c, x.len()).map(|i| x[i] * x[i]).sum::<f64>();
    (0..x.len()).map(|c| f64::from(spec.k) + alpha * sum(c)).collect()
}

/// The gradient of each channel of a pixel, and the bound of its error.
fn gradients(spec: LrnSpec, x: &[f64], g: &[f64]) -> Vec<(f64, f64)> {
    let (d, beta) = (divisors(spec, x), f64::from(spec.beta));
    let factor = 2.0 * f64::from(spec.alpha) / spec.size as f64 * beta;
    // A sum of squares has at most `size` roundings, the power multiplies them by beta, and all other steps have 12.
    let units = (spec.size.min(x.len()) as f64 + 4.0) * (beta.abs() + 2.0) + 12.0;
    let one = |c: usize| {
        let direct = g[c] * d[c].powf(-beta);
        let (mut sum, mut magnitude) = (0.0, 0.0);
        for j in (0..x.len()).filter(|j| window(spec, *j, x.len()).contains(&c)) {
            let term = factor * x[c] * g[j] * x[j] * d[j].powf(-beta - 1.0);
            sum += term;
            magnitude += term.abs();
        }
        (direct - sum, units * UNIT * (direct.abs() + magnitude) + 1e-37)
    };
    (0..x.len()).map(one).collect()
}

fn pixel(of: &Tensor, n: usize, y: usize, x: usize) -> Vec<f64> {
    (0..of.shape.c).map(|c| f64::from(of.get(n, c, y, x))).collect()
}

fn check(case: Case, spec: LrnSpec) {
    let input = case.input(3.0, 0.0);
    let mut noise = Noise::new(!case.seed);
    let gradient = Tensor::from_fn(case.shape, case.layout, case.gaps[1], |_| noise.next());
    let Shape4 { n, h, w, .. } = case.shape;
    let truth: Vec<_> = indices(Shape4::new(n, 1, h, w))
        .map(|(n, _, y, x)| gradients(spec, &pixel(&input, n, y, x), &pixel(&gradient, n, y, x)))
        .collect();
    let found = write_and_add(case.shape, case.layout, case.gaps[1], |ops, dx, threads| {
        let req = Ops::lrn_gradient_workspace(case.shape, threads.count());
        let mut workspace = Workspace::for_req(req)?;
        workspace.as_mut_slice().fill(f32::NAN);
        ops.lrn_gradient(spec, (input.view(), gradient.view()), dx, &mut workspace, threads)
    });
    for found in found {
        found.check(|[n, c, y, x]| truth[(n * h + y) * w + x][c], &format!("{case:?} {spec:?}"));
    }
}

proptest! {
    #![proptest_config(config(100))]

    #[test]
    fn random_responses_agree(
        case in cases(),
        size in prop_oneof![Just(5usize), 1usize..9, Just(40), Just(1000)],
        beta in prop::sample::select(vec![0.75f32, 0.5, 1.0, 0.6, -0.5]),
        alpha in prop::sample::select(vec![0.0f32, 5e-4, 0.5]),
    ) {
        check(case, LrnSpec { size, alpha, beta, k: 1.5 });
    }
}

#[test]
fn large_tensors_agree() {
    large_cases().for_each(|case| check(case, ALEXNET));
}

#[test]
fn the_gradient_is_the_difference_of_the_layer() {
    for layout in Layout::ALL {
        let case = Case::packed([2, 7, 2, 3], layout);
        let (input, spec) = (case.input(2.0, 0.0), LrnSpec { alpha: 0.5, ..ALEXNET });
        let mut noise = Noise::new(61);
        let gradient = Tensor::from_fn(case.shape, layout, 0, |_| noise.next());
        let mut dx = Tensor::filled(case.shape, layout, 0, UNWRITTEN);
        let mut workspace = Workspace::for_req(Ops::lrn_gradient_workspace(case.shape, 1)).unwrap();
        let tensors = (input.view(), gradient.view());
        let ops = Ops::new(None).unwrap();
        ops.lrn_gradient(spec, tensors, dx.view_mut(), &mut workspace, Threads::Seq).unwrap();
        check_difference(&input, &dx, |at| {
            let of_pixel = |(n, _, y, x): (usize, usize, usize, usize)| {
                let values: Vec<f64> = (0..7).map(|c| at([n, c, y, x])).collect();
                let d = divisors(spec, &values);
                let terms =
                    (0..7).map(|c| f64::from(gradient.get(n, c, y, x)) * values[c] * d[c].powf(-0.75));
                terms.sum::<f64>()
            };
            indices(Shape4::new(2, 1, 2, 3)).map(of_pixel).sum()
        });
    }
}

#[test]
fn wrong_arguments_are_errors() {
    let (shape, layout) = ([1, 5, 2, 2], Layout::Nchw);
    let good = Tensor::filled(Case::packed(shape, layout).shape, layout, 0, 0.0);
    let error = |spec: LrnSpec, scratch: usize| {
        error_of(shape, layout, |ops, dx| {
            ops.lrn_gradient(spec, (good.view(), good.view()), dx, &mut vec![0.0; scratch], Threads::Seq)
        })
    };
    let needed = Ops::lrn_gradient_workspace(good.shape, 1).len();
    assert_eq!(field_of(error(LrnSpec { size: 0, ..ALEXNET }, needed)), "lrn.size");
    assert_eq!(field_of(error(LrnSpec { k: -1.0, ..ALEXNET }, needed)), "lrn.k");
    let expected = ConvError::WorkspaceTooSmall { expected: needed, got: needed - 1 };
    assert_eq!(error(ALEXNET, needed - 1), expected);
}
