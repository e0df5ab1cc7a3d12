//! The promises of [`Numerics`]: error against `f64` over channel counts and distributions, for every algorithm.

mod common;

use common::{ConvProblem, Rng};
use kernels::*;

/// What a problem's numbers are drawn from.
#[derive(Debug, Clone, Copy)]
enum Distribution {
    /// The reference distribution: normal weights of variance `2 / K`, inputs the magnitudes of normal ones.
    Reference,
    /// Inputs of both signs.
    Random,
    /// Inputs that change slowly from pixel to pixel.
    Smooth,
    /// Signs that alternate from pixel to pixel and from tap to tap.
    Alternating,
    /// The reference distribution times 1e30, the weights divided by as much.
    Huge,
}

const DISTRIBUTIONS: [Distribution; 5] = [
    Distribution::Reference,
    Distribution::Random,
    Distribution::Smooth,
    Distribution::Alternating,
    Distribution::Huge,
];

/// Normal with variance 1 (Box and Muller 1958).
fn normal(rng: &mut Rng) -> f64 {
    let uniform = |rng: &mut Rng| ((rng.next() >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    let (a, b) = (uniform(rng), uniform(rng));
    (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
}

/// Input in NCHW, filter in OIHW.
fn numbers(distribution: Distribution, desc: &ConvDesc) -> (Vec<f32>, Vec<f32>) {
    let mut rng = Rng(u64::from(desc.input().c as u32) ^ 0x5eed);
    let (shape, k) = (desc.input(), desc.filter_len() / desc.output().c);
    let deviation = (2.0 / k as f64).sqrt();
    let scale = if matches!(distribution, Distribution::Huge) { 1e30 } else { 1.0 };
    let pixels = shape.h * shape.w;
    let input = (0..shape.c * pixels).map(|at| {
        let (c, y, x) = (at / pixels, at % pixels / shape.w, at % shape.w);
        let value = match distribution {
            Distribution::Reference | Distribution::Huge => normal(&mut rng).abs(),
            Distribution::Random => normal(&mut rng),
            Distribution::Smooth => 1.0 + (0.2 * y as f64 + c as f64).sin() * (0.3 * x as f64).cos(),
            Distribution::Alternating => {
                normal(&mut rng).abs() * if (y + x).is_multiple_of(2) { 1.0 } else { -1.0 }
            }
        };
        (scale * value) as f32
    });
    let input = input.collect();
    let filter = (0..desc.filter_len()).map(|at| {
        let value = deviation * normal(&mut rng) / scale;
        let sign = if (at % desc.kernel().w).is_multiple_of(2) { 1.0 } else { -1.0 };
        (if matches!(distribution, Distribution::Alternating) { value.abs() * sign } else { value }) as f32
    });
    (input, filter.collect())
}

/// Relative L2 error, and the largest error as a part of the largest output.
fn errors(got: &[f32], truth: &[f32]) -> (f64, f64) {
    let pairs = || got.iter().zip(truth).map(|(&g, &t)| (f64::from(g) - f64::from(t), f64::from(t)));
    let squares = pairs().fold((0.0, 0.0), |(e, t), (error, value)| (e + error * error, t + value * value));
    let largest =
        pairs().fold((0.0f64, 0.0f64), |(e, t), (error, value)| (e.max(error.abs()), t.max(value.abs())));
    ((squares.0 / squares.1).sqrt(), largest.0 / largest.1)
}

/// What is promised: relative L2, and the largest error.
fn promised(numerics: Numerics) -> (f64, f64) {
    match numerics {
        Numerics::Strict | Numerics::Default => (2e-6, 5e-6),
        _ => (6e-6, 2e-5),
    }
}

fn run(desc: &ConvDesc, options: &PlanOptions, input: &[f32], filter: &[f32]) -> Vec<f32> {
    let plan = ConvPlan::new(desc, Weights::filter(filter), options).expect("a plan");
    let mut output = vec![0.0; desc.output().len(desc.output_layout()).expect("it fits")];
    let io = ConvIo::new(
        TensorRef::packed(input, desc.input(), desc.layout()).expect("a tensor"),
        TensorMut::packed(&mut output, desc.output(), desc.output_layout()).expect("a tensor"),
    );
    plan.run(io, &mut Workspace::for_req(plan.workspace_req()), Threads::Seq).expect("it runs");
    output
}

#[test]
fn every_algorithm_keeps_its_promise() {
    for (channels, kernel) in
        [(16, 3), (64, 3), (256, 3), (512, 3), (1024, 3), (16, 5), (64, 5), (256, 5), (64, 7), (16, 13)]
    {
        let problem = ConvProblem {
            input: Shape4::new(1, channels, 9, 10),
            out_channels: 16,
            kernel: Size2::square(kernel),
            pad: Pad2::all(kernel / 2),
            ..ConvProblem::simple()
        };
        let desc = problem.desc().expect("a valid problem");
        for distribution in DISTRIBUTIONS {
            let (input, filter) = numbers(distribution, &desc);
            let exact = PlanOptions::default().force(Algorithm::Reference);
            let truth = run(&desc, &exact, &input, &filter);
            for isa in Isa::available() {
                for algorithm in Algorithm::ALL.into_iter().filter(|a| a.supports(&desc).is_ok()) {
                    let options = PlanOptions::default().force(algorithm).isa(isa);
                    let (l2, largest) = errors(&run(&desc, &options, &input, &filter), &truth);
                    println!(
                        "{algorithm:14} {isa:8} {channels:4} {kernel}x{kernel} {distribution:?}: {l2:.1e} {largest:.1e}"
                    );
                    let most = promised(algorithm.numerics(&desc));
                    assert!(
                        l2 <= most.0 && largest <= most.1,
                        "{algorithm} on {isa}, {channels} channels, {kernel}x{kernel}, {distribution:?}: \
                         relative L2 {l2:e}, largest {largest:e}; promised {most:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn auto_chooses_what_numerics_allow() {
    for channels in [16, 64, 512] {
        for (kernel, side) in [(3, 7), (3, 28), (5, 28), (1, 14)] {
            let problem = ConvProblem {
                input: Shape4::new(1, channels, side, side),
                out_channels: channels,
                kernel: Size2::square(kernel),
                layout: Layout::Nchw16c,
                ..ConvProblem::simple()
            };
            let desc = problem.desc().expect("a valid problem");
            let filter = vec![0.0; desc.filter_len()];
            for numerics in [Numerics::Strict, Numerics::Default, Numerics::Fast] {
                let options = PlanOptions::default().numerics(numerics).max_threads(1);
                let plan = ConvPlan::new(&desc, Weights::filter(&filter), &options).expect("a plan");
                assert!(plan.algorithm().numerics(&desc) <= numerics, "{}", plan.explain());
            }
        }
    }
}
