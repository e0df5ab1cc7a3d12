//! The gradient of weights agrees with the definition for every algorithm, on every instruction set, in every layout, with
//! any number of threads.

mod common;

use common::gradient::{WeightsProblem, weights};
use common::persist::config;
use common::strategy::{
    conv_problem, depthwise_problem, large_kernel_problem, pointwise_problem, winograd_problem,
};
use common::winograd::is_winograd;
use common::{ConvProblem, Values, pools};
use kernels::{
    Algorithm, BackwardWeights, BackwardWeightsIo, ConvDesc, ConvError, Layout, Pad2, PlanOptions, Shape4,
    Size2, TensorRef, Threads, WeightsSpec, Workspace,
};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

/// Checks `PROPTEST_CASES` problems, or `default_cases`, with one set of pools for all.
fn agree(strategy: impl Strategy<Value = ConvProblem>, default_cases: u32) {
    let pools = pools();
    let config =
        ProptestConfig { max_shrink_iters: 300, source_file: Some(file!()), ..config(default_cases) };
    let problems = (strategy, any::<bool>(), any::<bool>())
        .prop_map(|(conv, bias, accumulate)| WeightsProblem::new(conv, bias, accumulate));
    let check = |problem: WeightsProblem| problem.check_everything(&pools).map_err(TestCaseError::fail);
    if let Err(failure) = TestRunner::new(config).run(&problems, check) {
        panic!("{failure}");
    }
}

#[test]
fn any_convolution() {
    agree(conv_problem(), 500);
}

#[test]
fn any_pointwise_convolution() {
    agree(pointwise_problem(), 300);
}

#[test]
fn any_depthwise_convolution() {
    agree(depthwise_problem(), 500);
}

#[test]
fn any_convolution_with_a_large_kernel() {
    agree(large_kernel_problem(), 100);
}

/// Filters that Winograd computes, with every remainder of its tiles on both axes.
#[test]
fn any_winograd_convolution() {
    let kernels = prop_oneof![
        3 => (2usize..=5, Just(1)).prop_map(|(taps, stride)| (Size2::square(taps), Size2::square(stride))),
        1 => Just((Size2::square(3), Size2::square(2))),
        1 => Just((Size2::square(4), Size2::square(2))),
        1 => (2usize..=6).prop_map(|taps| (Size2::new(1, taps), Size2::square(1))),
        1 => (2usize..=6).prop_map(|taps| (Size2::new(taps, 1), Size2::square(1))),
        1 => (2usize..=6, 1usize..=3, 1usize..=3)
            .prop_map(|(taps, y, x)| (Size2::new(1, taps), Size2::new(y, x))),
    ];
    let problems = (winograd_problem(), kernels)
        .prop_map(|(p, (kernel, stride))| ConvProblem { kernel, stride, ..p })
        .prop_filter("the padded input has a window", |p| p.desc().is_ok());
    agree(problems, 300);
}

/// The relative error (L2) of a filter's gradient by Winograd keeps the promise of `Numerics::Default`, with sums over few
/// pixels and over many.
#[test]
fn winograd_is_as_accurate_as_default_numerics_promise() {
    let squares = (2..=5).map(|taps| (Size2::square(taps), 1));
    let strided = [3, 4].map(|taps| (Size2::square(taps), 2));
    let rows = (2..=6).map(|taps| (Size2::new(1, taps), 1));
    for (kernel, stride) in squares.chain(strided).chain(rows) {
        for (n, c, extent, o) in [(1, 16, 14, 16), (2, 40, 28, 24), (2, 8, 112, 17)] {
            let conv = ConvProblem {
                input: Shape4::new(n, c, extent, extent),
                out_channels: o,
                kernel,
                stride: Size2::square(stride),
                pad: Pad2::all(usize::from(kernel.h > 1)),
                layout: Layout::Nchw16c,
                values: Values::Uniform,
                seed: 7,
                ..ConvProblem::simple()
            };
            errors_are_below(2e-6, &WeightsProblem::new(conv, true, false));
        }
    }
}

/// Checks the relative error of every Winograd algorithm that computes `problem`, of which there is one.
fn errors_are_below(most: f64, problem: &WeightsProblem) {
    let (desc, data) = (problem.desc(), problem.data());
    let (truth, _) = weights(&desc, &data.input, &data.grad_output);
    let squares = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>();
    let supported = |a: &Algorithm| is_winograd(*a) && BackwardWeights::supports(*a, &desc).is_ok();
    let algorithms: Vec<_> = Algorithm::ALL.into_iter().filter(supported).collect();
    assert_eq!(algorithms.len(), 1, "{desc}");
    for isa in common::isas_of_f32() {
        let plan = problem.plan(&PlanOptions::default().force(algorithms[0]).isa(isa));
        let (got, _) = problem.run(&plan, &data, Threads::Seq).expect("a valid run");
        let errors = squares(&mut got.iter().zip(&truth.sums).map(|(&got, sum)| f64::from(got) - sum));
        let error = (errors / squares(&mut truth.sums.iter().copied())).sqrt();
        println!("{desc} on {isa}: {error:.2e}");
        assert!(error < most, "{desc} on {isa}: {error:e}");
    }
}

/// Sums of small integers are exact in every order, so every bit must be right.
fn exact(conv: ConvProblem) {
    for layout in Layout::ALL {
        let conv = ConvProblem { values: Values::Integers, layout, ..conv };
        let problem = WeightsProblem::new(conv, true, layout == Layout::Nhwc);
        let (desc, data) = (problem.desc(), problem.data());
        let (filter, bias) = weights(&desc, &data.input, &data.grad_output);
        let truth = |sums: &[f64], old: &[f32]| -> Vec<f32> {
            let old = |at: usize| if problem.accumulate { f64::from(old[at]) } else { 0.0 };
            sums.iter().enumerate().map(|(at, sum)| (sum + old(at)) as f32).collect()
        };
        let filter = truth(&filter.sums, &data.old.0);
        let bias = truth(&bias.sums, data.old.1.as_ref().expect("it is asked for"));
        // The transforms of Winograd multiply by fractions.
        let sums = |a: &Algorithm| !is_winograd(*a) && BackwardWeights::supports(*a, &desc).is_ok();
        for algorithm in Algorithm::ALL.into_iter().filter(sums) {
            let instruction_sets = if algorithm == Algorithm::Reference { 1 } else { usize::MAX };
            for isa in common::isas_of_f32().take(instruction_sets) {
                let plan = problem.plan(&PlanOptions::default().force(algorithm).isa(isa));
                let (got, got_bias) = problem.run(&plan, &data, Threads::Seq).expect("a valid run");
                let kernel = plan.explain().kernel;
                assert_eq!(got, filter, "{algorithm} on {isa} with {kernel}: {problem:?}");
                assert_eq!(got_bias.as_ref(), Some(&bias), "{algorithm} on {isa} with {kernel}: {problem:?}");
            }
        }
    }
}

#[test]
fn integers_are_exact() {
    let plain = |n, c, h, w, o, kernel| ConvProblem {
        input: Shape4::new(n, c, h, w),
        out_channels: o,
        kernel: Size2::square(kernel),
        ..ConvProblem::simple()
    };
    let pad = Pad2::all(1);
    exact(ConvProblem { pad, ..plain(2, 19, 7, 300, 35, 3) });
    exact(ConvProblem { pad, stride: Size2::square(2), ..plain(2, 5, 9, 540, 70, 3) });
    exact(plain(3, 33, 21, 20, 70, 1));
    exact(plain(600, 33, 1, 1, 20, 1));
    exact(ConvProblem { pad, groups: 9, ..plain(2, 9, 50, 70, 18, 3) });
    exact(ConvProblem { pad: Pad2::all(3), stride: Size2::square(2), ..plain(1, 3, 64, 64, 33, 7) });
    exact(ConvProblem { dilation: Size2::new(2, 3), ..plain(1, 4, 40, 40, 6, 5) });
    exact(ConvProblem { kernel: Size2::new(1, 4), pad, ..plain(1, 2, 1, 2000, 3, 1) });
    exact(ConvProblem { kernel: Size2::new(5, 1), ..plain(1, 3, 700, 1, 3, 1) });
}

/// A chunk has at most so many stretches, so sums over many pixels are cut.
#[test]
fn long_sums_are_cut() {
    let desc = |n| ConvProblem { input: Shape4::new(n, 3, 64, 64), ..ConvProblem::simple() }.desc().unwrap();
    let shared = |n| {
        let plan = BackwardWeights::new(&desc(n), &WeightsSpec::default(), &PlanOptions::default());
        plan.expect("a plan").workspace_req().shared_len
    };
    assert!(shared(1) > 0 && shared(256) > shared(1));
    // The number of threads changes nothing.
    let of_threads = |threads| {
        let options = PlanOptions::default().max_threads(threads);
        BackwardWeights::new(&desc(4), &WeightsSpec::default(), &options).unwrap().workspace_req()
    };
    assert_eq!(of_threads(1).shared_len, of_threads(8).shared_len);
    assert_eq!(of_threads(8).len(), 8 * of_threads(1).per_thread_len + of_threads(1).shared_len);
}

/// An infinite pixel reaches only the taps that read it (with Winograd, all taps of its channel), and an infinite gradient only its output channel.
#[test]
fn infinities_reach_what_depends_on_them() {
    for (kernel, stride) in [(1, 1), (3, 1), (3, 2), (5, 1), (7, 2)] {
        for (layout, groups) in Layout::ALL.into_iter().flat_map(|l| [(l, 1), (l, 6)]) {
            let conv = ConvProblem {
                input: Shape4::new(2, 6, 9, 11),
                out_channels: 12,
                kernel: Size2::square(kernel),
                stride: Size2::square(stride),
                pad: Pad2::all(kernel / 2),
                groups,
                layout,
                ..ConvProblem::simple()
            };
            reach(&WeightsProblem::new(conv, true, false), kernel, stride);
        }
    }
}

fn reach(problem: &WeightsProblem, kernel: usize, stride: usize) {
    let desc = problem.desc();
    let (input, output, ins, outs) = (desc.input(), desc.output(), 6 / desc.groups(), 12 / desc.groups());
    for algorithm in Algorithm::ALL.into_iter().filter(|a| BackwardWeights::supports(*a, &desc).is_ok()) {
        for isa in common::isas_of_f32() {
            let plan = problem.plan(&PlanOptions::default().force(algorithm).isa(isa));
            for (y, x) in [(0, 0), (0, 5), (4, 10), (8, 10), (4, 4), (3, 0)] {
                let mut data = problem.data();
                let channel = 4;
                data.input[((input.c + channel) * input.h + y) * input.w + x] = f32::INFINITY;
                let (filter, bias) = problem.run(&plan, &data, Threads::Seq).expect("a valid run");
                for (at, value) in filter.iter().enumerate() {
                    let (o, tap) = (at / (ins * kernel * kernel), at % (ins * kernel * kernel));
                    let (c, i, j) = (tap / (kernel * kernel), tap / kernel % kernel, tap % kernel);
                    let reads = |at: usize, tap: usize, outputs: usize| {
                        let from = (at + kernel / 2).checked_sub(tap);
                        from.is_some_and(|from| from % stride == 0 && from / stride < outputs)
                    };
                    let of_channel = o / outs * ins + c == channel;
                    let depends = of_channel && reads(y, i, output.h) && reads(x, j, output.w);
                    // The transforms of Winograd mix the taps of a pair of channels.
                    let may = of_channel && is_winograd(algorithm);
                    let fits = if may { depends <= !value.is_finite() } else { depends != value.is_finite() };
                    assert!(fits, "{algorithm} on {isa}, {at} is {value}: {problem:?}");
                }
                assert!(bias.expect("it is asked for").iter().all(|value| value.is_finite()));
                let mut data = problem.data();
                data.grad_output[(5 * output.h + y / stride) * output.w + x / stride] = f32::NAN;
                let (filter, bias) = problem.run(&plan, &data, Threads::Seq).expect("a valid run");
                let of_channel = |at: usize| at / (ins * kernel * kernel) == 5;
                for (at, value) in filter.iter().enumerate().filter(|(_, value)| !value.is_finite()) {
                    assert!(of_channel(at), "{algorithm} on {isa}: {at} is {value}: {problem:?}");
                }
                assert!(filter.iter().enumerate().any(|(at, value)| of_channel(at) && value.is_nan()));
                for (o, value) in bias.expect("it is asked for").iter().enumerate() {
                    assert_eq!(value.is_nan(), o == 5, "{algorithm} on {isa}");
                }
            }
        }
    }
}

#[test]
fn bad_arguments_are_errors() {
    let problem =
        WeightsProblem::new(ConvProblem { pad: Pad2::all(1), ..ConvProblem::simple() }, true, false);
    let desc = problem.desc();
    let plan = problem.plan(&PlanOptions::default());
    let (input, go) = (vec![0.0; 192], vec![0.0; 320]);
    let (mut filter, mut bias) = (vec![7.0; 135], vec![7.0; 5]);
    let mut workspace = Workspace::for_req(plan.workspace_req()).unwrap();
    let of = |data, shape, layout| TensorRef::packed(data, shape, layout).unwrap();
    let (input, go) = (of(&input, desc.input(), Layout::Nchw), of(&go, desc.output(), Layout::Nchw));
    let mut run = |io: BackwardWeightsIo<'_>| plan.run(io, &mut workspace, Threads::Seq);

    let error = run(BackwardWeightsIo::new(go, go, &mut filter).bias(&mut bias));
    assert!(matches!(error, Err(ConvError::ShapeMismatch { what: "input", .. })), "{error:?}");
    let error = run(BackwardWeightsIo::new(input, input, &mut filter).bias(&mut bias));
    assert!(matches!(error, Err(ConvError::ShapeMismatch { what: "grad_output", .. })), "{error:?}");
    let nhwc = of(input.data(), desc.input(), Layout::Nhwc);
    let error = run(BackwardWeightsIo::new(nhwc, go, &mut filter).bias(&mut bias));
    assert!(matches!(error, Err(ConvError::LayoutMismatch { what: "input", .. })), "{error:?}");
    let error = run(BackwardWeightsIo::new(input, go, &mut filter[1..]).bias(&mut bias));
    assert_eq!(error, Err(ConvError::BufferLen { what: "grad_filter", expected: 135, got: 134 }));
    let error = run(BackwardWeightsIo::new(input, go, &mut filter).bias(&mut bias[1..]));
    assert_eq!(error, Err(ConvError::BufferLen { what: "grad_bias", expected: 5, got: 4 }));
    let error = run(BackwardWeightsIo::new(input, go, &mut filter));
    assert_eq!(error, Err(ConvError::EpilogueMismatch { what: "gradient of the bias", planned: true }));
    let io = BackwardWeightsIo::new(input, go, &mut filter).bias(&mut bias);
    let (expected, got) = (plan.workspace_req().len(), plan.workspace_req().len() - 1);
    let mut short = vec![0.0; got];
    let error = plan.run(io, &mut short[..], Threads::Seq);
    assert_eq!(error, Err(ConvError::WorkspaceTooSmall { expected, got }));
    assert!(filter.iter().chain(&bias).all(|&value| value == 7.0), "an error changed a gradient");
}

#[test]
fn bad_descriptors_are_errors() {
    let (spec, options) = (WeightsSpec::default(), PlanOptions::default());
    let desc = ConvProblem::simple().desc().unwrap();
    for options in [options.max_threads(0), options.macs_per_thread(0)] {
        let error = BackwardWeights::new(&desc, &spec, &options).expect_err("zero");
        assert!(matches!(error, ConvError::InvalidField { .. }), "{error}");
    }
    let all = Algorithm::ALL.into_iter().fold(options, PlanOptions::forbid);
    assert_eq!(BackwardWeights::new(&desc, &spec, &all).err(), Some(ConvError::NothingAllowed));
    let little =
        Algorithm::ALL[1..].iter().fold(options, |options, &a| options.max_workspace_bytes(0).forbid(a));
    let plan = BackwardWeights::new(&desc, &spec, &little).expect("the reference needs no workspace");
    assert_eq!(plan.algorithm(), Algorithm::Reference);
}

/// The report names every algorithm, with a reason against all but the chosen one.
#[test]
fn the_choice_is_explained() {
    let plan = WeightsProblem::new(ConvProblem::simple(), false, false).plan(&PlanOptions::default());
    let report = plan.explain();
    // With bf16 products there is im2col.
    let methods = Algorithm::ALL.len() + plan.isa().products().len() - 1;
    assert_eq!(report.lines().count(), methods);
    let text = report.to_string();
    assert!(text.contains(&format!("chosen    {} with {}", plan.algorithm(), report.kernel)), "{text}");
    assert_eq!(text.matches("rejected: ").count(), methods - 1, "{text}");
}

/// Direct computes everything that im2col does, and is faster except on small maps.
#[test]
fn every_fast_method_can_be_chosen() {
    let chosen = |input, out_channels, kernel, groups| {
        let conv = ConvProblem {
            input,
            out_channels,
            kernel: Size2::square(kernel),
            groups,
            ..ConvProblem::simple()
        };
        let desc = conv.desc().expect("a valid problem");
        BackwardWeights::choice(&desc, &PlanOptions::default()).expect("a choice").method.algorithm
    };
    assert_eq!(chosen(Shape4::new(1, 64, 28, 28), 64, 3, 1), Algorithm::Winograd3x3);
    assert_eq!(chosen(Shape4::new(1, 64, 28, 28), 64, 5, 1), Algorithm::Winograd5x5);
    assert_eq!(chosen(Shape4::new(1, 64, 28, 28), 64, 7, 1), Algorithm::Direct);
    assert_eq!(chosen(Shape4::new(1, 64, 28, 28), 64, 1, 1), Algorithm::Pointwise);
    assert_eq!(chosen(Shape4::new(1, 64, 28, 28), 64, 3, 64), Algorithm::Depthwise);
}

/// Most products of these layers have a factor in the padding. Only im2col computes them: it took 24 and 6 times as long as
/// the methods here (AVX-512), and was chosen.
#[test]
fn products_with_padding_are_no_work() {
    let layers = [
        (Shape4::new(1, 101, 1, 1), 202, (11, 5, 1), 101, Algorithm::Depthwise),
        (Shape4::new(1, 402, 5, 5), 12, (5, 2, 2), 1, Algorithm::Direct),
    ];
    for (input, out_channels, (kernel, pad, stride), groups, expected) in layers {
        for layout in Layout::ALL {
            let desc = ConvDesc::builder(input, out_channels, Size2::square(kernel))
                .pad(Pad2::all(pad))
                .stride(Size2::square(stride))
                .groups(groups)
                .layout(layout)
                .build()
                .unwrap();
            let choice = BackwardWeights::choice(&desc, &PlanOptions::default()).unwrap();
            assert_eq!(choice.method, expected, "{desc}: {:?}", choice.candidates);
        }
    }
}
