//! The promises of [`Numerics`]: errors against `f64` over channel counts and distributions, for every algorithm.

mod common;

use common::{ConvProblem, Rng, isas_of_parts, methods_on_isas};
use kernels::*;

/// The distribution of inputs and weights.
#[derive(Debug, Clone, Copy)]
enum Distribution {
    /// The reference distribution: normal weights with variance `2 / K`, inputs absolute values of normal numbers.
    Reference,
    /// Inputs with both signs.
    Random,
    /// Inputs that change slowly from pixel to pixel.
    Smooth,
    /// Signs alternate from pixel to pixel and from tap to tap, so all products have the same sign.
    Alternating,
    /// As `Alternating`, but the signs of taps alternate only along rows, so the rows of a kernel cancel each other.
    Cancelling,
    /// The reference distribution with inputs multiplied and weights divided by 1e30.
    Huge,
}

const DISTRIBUTIONS: [Distribution; 6] = [
    Distribution::Reference,
    Distribution::Random,
    Distribution::Smooth,
    Distribution::Alternating,
    Distribution::Cancelling,
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
            Distribution::Alternating | Distribution::Cancelling => {
                normal(&mut rng).abs() * if (y + x).is_multiple_of(2) { 1.0 } else { -1.0 }
            }
        };
        (scale * value) as f32
    });
    let input = input.collect();
    let filter = (0..desc.filter_len()).map(|at| {
        let value = deviation * normal(&mut rng) / scale;
        let (row, column) = (at / desc.kernel().w % desc.kernel().h, at % desc.kernel().w);
        let sign = |step: usize| if step.is_multiple_of(2) { 1.0 } else { -1.0 };
        (match distribution {
            Distribution::Alternating => value.abs() * sign(row + column),
            Distribution::Cancelling => value.abs() * sign(column),
            _ => value,
        }) as f32
    });
    (input, filter.collect())
}

/// Relative L2 error, and the largest error as a fraction of the largest output.
fn errors(got: &[f32], truth: &[f32]) -> (f64, f64) {
    let pairs = || got.iter().zip(truth).map(|(&g, &t)| (f64::from(g) - f64::from(t), f64::from(t)));
    let squares = pairs().fold((0.0, 0.0), |(e, t), (error, value)| (e + error * error, t + value * value));
    let largest =
        pairs().fold((0.0f64, 0.0f64), |(e, t), (error, value)| (e.max(error.abs()), t.max(value.abs())));
    ((squares.0 / squares.1).sqrt(), largest.0 / largest.1)
}

/// The promised bounds: relative L2 error, and the largest error.
fn promised(numerics: Numerics) -> (f64, f64) {
    match numerics {
        Numerics::Strict | Numerics::Default => (2e-6, 5e-6),
        Numerics::Fast => (6e-6, 2e-5),
        Numerics::Tf32 => (5e-4, 2e-3),
        _ => (4e-3, 2e-2),
    }
}

fn run(desc: &ConvDesc, options: &PlanOptions, input: &[f32], filter: &[f32]) -> Vec<f32> {
    let plan = ConvPlan::new(desc, Weights::filter(filter), options).expect("a plan");
    let mut output = vec![0.0; desc.output().len(desc.output_layout()).expect("it fits")];
    let io = ConvIo::new(
        TensorRef::packed(input, desc.input(), desc.layout()).expect("a tensor"),
        TensorMut::packed(&mut output, desc.output(), desc.output_layout()).expect("a tensor"),
    );
    plan.run(io, &mut Workspace::for_req(plan.workspace_req()).unwrap(), Threads::Seq).expect("it runs");
    output
}

#[test]
fn every_algorithm_keeps_its_promise() {
    let of = |kernel, stride| move |channels| (channels, Size2::square(kernel), stride);
    let stride_1 = [16, 64, 256, 512, 1024].map(of(3, 1)).into_iter().chain([16, 64, 256].map(of(5, 1)));
    let others = [
        (64, 2, 1),
        (512, 2, 1),
        (64, 4, 1),
        (512, 4, 1),
        (64, 7, 1),
        (16, 13, 1),
        (3, 7, 2),
        (64, 7, 2),
        (3, 11, 4),
        (64, 5, 2),
    ];
    let others = others.into_iter().map(|(channels, kernel, stride)| of(kernel, stride)(channels));
    let rows = (2..=7).flat_map(|taps| [16, 64, 512].map(|channels| (channels, Size2::new(1, taps), 1)));
    for (channels, kernel, stride) in stride_1.chain(others).chain(rows) {
        let (down, along) = (kernel.h / 2, kernel.w / 2);
        let problem = ConvProblem {
            input: Shape4::new(1, channels, 9, 10),
            out_channels: 16,
            kernel,
            stride: Size2::square(stride),
            pad: Pad2 { top: down, bottom: down, left: along, right: along },
            ..ConvProblem::simple()
        };
        let desc = problem.desc().expect("a valid problem");
        for distribution in DISTRIBUTIONS {
            // With an even number of rows everything cancels, and no digit of the output is significant.
            if matches!(distribution, Distribution::Cancelling) && kernel.h % 2 == 0 {
                continue;
            }
            let (input, filter) = numbers(distribution, &desc);
            let exact = PlanOptions::default().force(Algorithm::Reference);
            let truth = run(&desc, &exact, &input, &filter);
            let able = |(method, _): &(Method, Isa)| method.supports(&desc).is_ok();
            for (method, isa) in methods_on_isas().filter(able) {
                let options = PlanOptions::default().force(method).isa(isa);
                let (l2, largest) = errors(&run(&desc, &options, &input, &filter), &truth);
                println!(
                    "{method:20} {isa:10} {channels:4} {kernel}/{stride} {distribution:?}: {l2:.1e} {largest:.1e}"
                );
                let most = promised(method.numerics(&desc));
                assert!(
                    l2 <= most.0 && largest <= most.1,
                    "{method} on {isa}, {channels} channels, {kernel}/{stride}, {distribution:?}: \
                     relative L2 {l2:e}, largest {largest:e}; promised {most:?}"
                );
            }
        }
    }
}

/// Six products are as accurate as `f32`: at most 1.2 times the error of direct convolution, and below 9e-7.
#[test]
fn six_products_are_as_accurate_as_f32() {
    for (channels, kernel) in [(16, 3), (64, 3), (256, 3), (512, 3), (1024, 3), (64, 5), (64, 1), (1024, 1)] {
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
            let of = |method: Method, isa| {
                run(&desc, &PlanOptions::default().force(method).isa(isa), &input, &filter)
            };
            let truth = of(Algorithm::Reference.into(), Isa::Portable);
            let plain = errors(&of(Algorithm::Direct.into(), Isa::detect()), &truth).0;
            for isa in isas_of_parts() {
                for algorithm in [Algorithm::Direct, Algorithm::Im2colGemm] {
                    let method = Method::new(algorithm, Products::Bf16x6);
                    let split = errors(&of(method, isa), &truth).0;
                    assert!(
                        split <= 1.2 * plain && split < 9e-7,
                        "{method} on {isa}, {channels} channels, {kernel}x{kernel}, {distribution:?}: {split:e}, \
                         f32 {plain:e}"
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
            for numerics in Numerics::ALL {
                let options = PlanOptions::default().numerics(numerics).max_threads(1);
                let plan = ConvPlan::new(&desc, Weights::filter(&filter), &options).expect("a plan");
                assert!(plan.explain().choice.method.numerics(&desc) <= numerics, "{}", plan.explain());
            }
        }
    }
}

/// An activation of an argument above 2^-122 does not return a subnormal, so no layer starts a cascade of
/// slow operands.
#[test]
fn activations_make_no_subnormals() {
    const LEAST: f32 = 16.0 * f32::MIN_POSITIVE;
    let mut rng = Rng(5);
    let mut values: Vec<f32> = (0..1 << 20).map(|_| f32::from_bits(rng.next() as u32)).collect();
    values.extend((0..1 << 16).map(|_| 100.0 * rng.unit()));
    values.retain(|x| x.abs() >= LEAST);
    let shape = Shape4::new(1, 1, 1, values.len());
    for isa in Isa::available() {
        for activation in common::ACTIVATIONS {
            let mut results = values.clone();
            let tensor = TensorMut::packed(&mut results, shape, Layout::Nchw).expect("a tensor");
            let slope = (activation == Activation::PRelu).then_some(&[0.25][..]);
            Ops::new(Some(isa))
                .expect("it is there")
                .activate(activation, slope, tensor, Threads::Seq)
                .expect("it runs");
            let subnormal = values.iter().zip(&results).find(|(_, result)| result.is_subnormal());
            assert_eq!(subnormal, None, "{isa}: {}", activation.name());
        }
    }
}

/// The minimum time of a few runs, in microseconds.
fn time(plan: &ConvPlan, input: &[f32]) -> f64 {
    let desc = plan.desc();
    let mut output = vec![0.0; desc.output().len(desc.output_layout()).expect("it fits")];
    let mut workspace = Workspace::for_req(plan.workspace_req()).expect("memory");
    let mut run = || {
        let start = std::time::Instant::now();
        let io = ConvIo::new(
            TensorRef::packed(input, desc.input(), desc.layout()).expect("a tensor"),
            TensorMut::packed(&mut output, desc.output(), desc.output_layout()).expect("a tensor"),
        );
        plan.run(io, &mut workspace, Threads::Seq).expect("it runs");
        start.elapsed().as_secs_f64() * 1e6
    };
    (0..15).map(|_| run()).fold(f64::INFINITY, f64::min)
}

#[test]
#[ignore = "it measures time, for docs/numerics.md"]
fn cost_of_subnormals() {
    println!(
        "| algorithm | kernel, groups | instruction set | normal, us | all subnormal | 1 in 100 |\n|---|---|---|---|---|---|"
    );
    for (kernel, groups) in [(1, 1), (3, 1), (3, 64), (5, 1)] {
        let problem = ConvProblem {
            input: Shape4::new(1, 64, 14, 14),
            out_channels: 64,
            kernel: Size2::square(kernel),
            pad: Pad2::all(kernel / 2),
            groups,
            layout: Layout::Nhwc,
            ..ConvProblem::simple()
        };
        let desc = problem.desc().expect("a valid problem");
        let mut rng = Rng(6);
        let filter: Vec<f32> = (0..desc.filter_len()).map(|_| rng.unit()).collect();
        let normal: Vec<f32> = (0..64 * 14 * 14).map(|_| rng.unit()).collect();
        let small = |x: f32| x * 1e-39;
        let subnormal: Vec<f32> = normal.iter().map(|&x| small(x)).collect();
        let some: Vec<f32> =
            normal.iter().map(|&x| if rng.next().is_multiple_of(100) { small(x) } else { x }).collect();
        let able = |a: &Algorithm| *a != Algorithm::Reference && a.supports(&desc).is_ok();
        for algorithm in Algorithm::ALL.into_iter().filter(able) {
            for isa in Isa::available() {
                let options = PlanOptions::default().force(algorithm).isa(isa);
                let plan = ConvPlan::new(&desc, Weights::filter(&filter), &options).expect("a plan");
                let [base, all, some] = [&normal, &subnormal, &some].map(|input| time(&plan, input));
                println!(
                    "| {algorithm} | {kernel}x{kernel}, {groups} | {isa} | {base:.0} | {:.1} x | {:.1} x |",
                    all / base,
                    some / base
                );
            }
        }
    }
}
