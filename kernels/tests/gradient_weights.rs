//! The gradient of weights agrees with the definition for every algorithm, on every instruction set, in every layout, with
//! any number of threads.

mod common;

use common::gradient::{WeightsProblem, weights};
use common::persist::config;
use common::strategy::{conv_problem, depthwise_problem, large_kernel_problem, pointwise_problem};
use common::{ConvProblem, Values, pools};
use kernels::{
    Activation, Algorithm, BackwardWeights, BackwardWeightsIo, ConvDesc, ConvError, EpilogueSpec, Layout,
    Pad2, PlanOptions, Shape4, Size2, TensorRef, Threads, WeightsSpec, Workspace,
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
        for algorithm in Algorithm::ALL.into_iter().filter(|a| BackwardWeights::supports(*a, &desc).is_ok()) {
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

/// An infinite pixel reaches only the taps that read it, and an infinite gradient only its output channel.
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
                    let depends =
                        o / outs * ins + c == channel && reads(y, i, output.h) && reads(x, j, output.w);
                    assert_eq!(!value.is_finite(), depends, "{algorithm} on {isa}, {at}: {problem:?}");
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
    let conv = ConvProblem { epilogue: EpilogueSpec::bias(Activation::Relu), ..ConvProblem::simple() };
    let (spec, options) = (WeightsSpec::default(), PlanOptions::default());
    let error = BackwardWeights::new(&conv.desc().unwrap(), &spec, &options).expect_err("an activation");
    assert!(error.to_string().contains("activation") && error.to_string().contains("relu"), "{error}");
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
    assert_eq!(report.lines().count(), Algorithm::ALL.len());
    let text = report.to_string();
    assert!(text.contains(&format!("chosen    {} with {}", plan.algorithm(), report.kernel)), "{text}");
    assert_eq!(text.matches("rejected: ").count(), Algorithm::ALL.len() - 1, "{text}");
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
    assert_eq!(chosen(Shape4::new(1, 64, 28, 28), 64, 3, 1), Algorithm::Direct);
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
