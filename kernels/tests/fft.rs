//! Convolution by Fourier transforms: every length, rounding errors, and unsupported problems.

mod common;

use common::{ConvProblem, Data, pools};
use kernels::{
    Activation, Algorithm, EpilogueSpec, Isa, Layout, Pad2, PlanOptions, Shape4, Size2, Threads, Unsupported,
};

/// A problem with `channels` input and output channels, `side` by `side` images, `kernel` by `kernel` taps
/// and "same" padding.
fn same(channels: usize, groups: usize, side: usize, kernel: usize) -> ConvProblem {
    let input = Shape4::new(1, channels, side, side);
    let one = Size2::square(1);
    let pad = Pad2::same_upper(input.size(), Size2::square(kernel), one, one);
    ConvProblem {
        input,
        out_channels: channels,
        groups,
        kernel: Size2::square(kernel),
        pad,
        ..ConvProblem::simple()
    }
}

fn output(problem: &ConvProblem, data: &Data, options: PlanOptions) -> Vec<f32> {
    let plan = problem.plan(data, &options).expect("a valid problem");
    problem.run(&plan, data, Threads::Seq).expect("a valid run")
}

/// Relative L2 error, and the largest error as a fraction of the largest output, on uniformly random numbers.
fn errors(problem: &ConvProblem, isa: Isa) -> (f64, f64) {
    let data = problem.data();
    let expected = output(problem, &data, PlanOptions::default().force(Algorithm::Reference));
    let got = output(problem, &data, PlanOptions::default().force(Algorithm::Fft).isa(isa));
    let difference = |(a, b): (&f32, &f32)| (f64::from(*a) - f64::from(*b)).abs();
    let squares = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let most = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0, f64::max);
    let mut sizes = expected.iter().map(|&v| f64::from(v).abs());
    let (norm, largest) = (squares(&mut sizes.clone()), most(&mut sizes));
    let mut differences = expected.iter().zip(&got).map(difference);
    (squares(&mut differences.clone()) / norm, most(&mut differences) / largest)
}

/// `Numerics::Default` promises 2e-6 and 5e-6; the tests require less.
#[test]
fn errors_are_of_the_order_of_those_of_direct_convolution() {
    let problems = [
        same(64, 1, 14, 5),
        same(32, 1, 28, 7),
        same(32, 1, 30, 11),
        same(4, 1, 56, 31),
        same(16, 16, 56, 31),
        same(2, 1, 63, 63),
        same(3, 3, 112, 9),
    ];
    for isa in Isa::available() {
        for problem in &problems {
            let (l2, most) = errors(problem, isa);
            assert!(l2 <= 1e-6, "{problem:?} on {isa}: relative L2 error {l2:e}");
            assert!(most <= 3e-6, "{problem:?} on {isa}: largest error {most:e} of the largest output");
        }
    }
}

/// Images of every width up to the longest transform, with kernels that leave many or few outputs.
#[test]
fn every_length() {
    let epilogue = EpilogueSpec { bias: true, residual: true, activation: Activation::PRelu };
    for isa in Isa::available() {
        for (index, w) in (1..=140).chain((144..=270).step_by(9)).enumerate() {
            for taps in [1, 6, 33, 96] {
                // The padding fits into one transform, is on one side, or is absent.
                let (left, right) = [(taps / 2, taps / 2), (taps - 1, 0), (0, taps), (0, 0)][index % 4];
                let (kernel, axis) =
                    (Size2::new(taps, 2), w.max((taps + 1).saturating_sub(left + right + 1)));
                let pad = Pad2 { top: left, bottom: right, left: 0, right: 1 };
                let input = Shape4::new(1, 2, axis, 3);
                let layout = Layout::ALL[(index + taps) % 3];
                let tall = ConvProblem { input, kernel, pad, layout, epilogue, ..ConvProblem::simple() };
                let wide = ConvProblem {
                    input: Shape4::new(1, 2, 3, axis),
                    kernel: Size2::new(2, taps),
                    pad: Pad2 { left, right, top: 0, bottom: 1 },
                    ..tall
                };
                for problem in [tall, wide] {
                    let problem = ConvProblem { out_channels: 3, ..problem };
                    problem
                        .check(Algorithm::Fft, isa, &[])
                        .unwrap_or_else(|what| panic!("{problem:?}: {what}"));
                }
            }
        }
    }
}

/// More channels than blocks, more tiles than a batch, all kinds of groups, and several images.
#[test]
fn channels_and_tiles() {
    let pools = pools();
    for layout in Layout::ALL {
        for (n, groups, ins, outs) in [
            (1, 1, 50, 35),
            (3, 2, 17, 20),
            (2, 33, 1, 1),
            (1, 19, 1, 2),
            (2, 5, 3, 4),
            (1, 3, 18, 1),
            (13, 1, 1, 1),
        ] {
            let problem = ConvProblem {
                input: Shape4::new(n, groups * ins, 19, 23),
                out_channels: groups * outs,
                groups,
                kernel: Size2::new(5, 4),
                pad: Pad2 { top: 1, bottom: 3, left: 2, right: 0 },
                layout,
                epilogue: EpilogueSpec { bias: true, residual: true, activation: Activation::Silu },
                slack: groups % 3,
                ..ConvProblem::simple()
            };
            for isa in Isa::available() {
                let outcome = problem.check(Algorithm::Fft, isa, &pools);
                outcome.unwrap_or_else(|what| panic!("{problem:?}: {what}"));
            }
        }
    }
}

/// Images of one tile up to the longest transform, and of several, so that lanes are tiles of different images,
/// rows and columns; few channels in both directions; residuals, slopes, and tensors with gaps.
#[test]
fn lanes_of_tiles() {
    let pools = pools();
    let mut of_tiles = std::collections::HashMap::new();
    let epilogue = EpilogueSpec { bias: true, residual: true, activation: Activation::PRelu };
    for (n, side, taps, groups, ins, outs) in [
        (19, 9, 3, 1, 1, 1),
        (16, 40, 6, 1, 1, 2),
        (17, 75, 31, 2, 2, 1),
        (15, 139, 9, 1, 1, 1),
        (16, 157, 40, 1, 3, 1),
        (15, 188, 62, 1, 1, 1),
        (14, 231, 5, 1, 1, 1),
        (14, 250, 90, 1, 1, 1),
        (13, 270, 80, 1, 1, 1),
        (13, 330, 96, 1, 1, 1),
        (12, 410, 120, 1, 1, 1),
        (12, 440, 128, 1, 1, 1),
        (12, 550, 160, 1, 1, 1),
        (12, 660, 200, 1, 1, 1),
        (12, 880, 256, 1, 1, 1),
        (1, 400, 21, 3, 1, 1),
        (20, 300, 11, 1, 3, 4),
    ] {
        let tall = ConvProblem {
            input: Shape4::new(n, groups * ins, side, 11),
            out_channels: groups * outs,
            groups,
            kernel: Size2::new(taps, 2),
            pad: Pad2 { top: taps / 2, bottom: 1, left: 0, right: taps / 3 },
            epilogue,
            slack: n % 3,
            ..ConvProblem::simple()
        };
        let wide = ConvProblem {
            input: Shape4 { h: 7, w: side, ..tall.input },
            kernel: Size2::new(3, taps),
            pad: Pad2 { top: 2, bottom: 0, left: taps / 3, right: taps / 2 },
            ..tall
        };
        for (problem, isa) in
            [tall, wide].into_iter().flat_map(|p| common::isas_of_f32().map(move |isa| (p, isa)))
        {
            let options = PlanOptions::default().force(Algorithm::Fft).isa(isa);
            let plan = problem.plan(&problem.data(), &options).expect("a valid problem");
            // The model decides, with constants of each instruction set, so not every problem must take them.
            if plan.explain().kernel == format!("fft_f32_16tiles_{isa}") {
                *of_tiles.entry(isa.name()).or_insert(0) += 1;
            }
            // Several runs of the long ones take too long under emulation.
            let pools = if side > 200 { &[] } else { &pools[..] };
            let outcome = problem.check(Algorithm::Fft, isa, pools);
            outcome.unwrap_or_else(|what| panic!("{problem:?}: {what}"));
        }
    }
    for isa in common::isas_of_f32() {
        let count = of_tiles.get(isa.name()).copied().unwrap_or(0);
        assert!(count >= 17, "{count} of 34 problems with lanes of tiles on {isa}");
    }
}

#[test]
fn what_it_cannot_do_is_refused_with_a_reason() {
    let base = same(4, 1, 200, 7);
    let two = Size2::square(2);
    let refused = |problem: ConvProblem| {
        Algorithm::Fft.supports(&problem.desc().expect("a valid problem")).expect_err("it was not refused")
    };
    assert_eq!(refused(ConvProblem { stride: two, ..base }), Unsupported::Strided);
    assert_eq!(refused(ConvProblem { stride: Size2::new(1, 2), ..base }), Unsupported::Strided);
    assert_eq!(refused(ConvProblem { dilation: two, ..base }), Unsupported::Dilated);
    let kernel = |h, w| ConvProblem { kernel: Size2::new(h, w), pad: Pad2::VALID, ..base };
    let many = |problem: ConvProblem| ConvProblem {
        input: Shape4 { c: 16, ..problem.input },
        out_channels: 16,
        ..problem
    };
    assert_eq!(refused(many(kernel(98, 1))), Unsupported::KernelTooLarge);
    assert_eq!(refused(many(kernel(3, 130))), Unsupported::KernelTooLarge);
    // With few channels in NCHW, lanes are tiles, whose transforms can be longer.
    let large =
        |problem: ConvProblem| ConvProblem { input: Shape4 { h: 1100, w: 1100, ..problem.input }, ..problem };
    assert_eq!(refused(large(kernel(770, 1))), Unsupported::KernelTooLarge);
    assert_eq!(Algorithm::Fft.supports(&large(kernel(769, 769)).desc().expect("a valid problem")), Ok(()));
    let wide = ConvProblem { input: Shape4::new(1, 8192, 200, 200), out_channels: 8192, ..base };
    assert_eq!(refused(wide), Unsupported::SpectraTooLarge);
    assert!(Unsupported::KernelTooLarge.to_string().contains("128 numbers"));
    // Dilation of a single tap has no effect.
    let column = ConvProblem { dilation: Size2::new(1, 5), ..kernel(9, 1) };
    assert_eq!(Algorithm::Fft.supports(&column.desc().expect("a valid problem")), Ok(()));
    assert_eq!(Algorithm::Fft.supports(&many(kernel(97, 97)).desc().expect("a valid problem")), Ok(()));
}
