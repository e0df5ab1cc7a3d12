//! Convolutions with every supporting algorithm, on every instruction set.

use super::child::note;
use super::common::strategy::{
    conv_problem, depthwise_problem, large_kernel_problem, pointwise_problem, winograd_problem,
};
use super::common::{ConvProblem, Data, Placed, methods_on_isas};
use super::pages::{Guarded, allocations};
use kernels::{
    Activation, ConvPlan, EpilogueSpec, Isa, Layout, Method, Pad2, PlanOptions, Products, Shape4, Size2,
    Threads, Weights,
};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

/// The number of problems per strategy. The environment can ask for fewer, on an emulated machine, or for more.
fn cases() -> usize {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(100)
}

/// Every how many of the problems that are listed are run: all of them, or fewer if the environment asks for fewer random
/// ones. A list has each shape in up to six layouts and places. The distance shares no factor with their number, so that all of
/// them remain.
pub fn every() -> usize {
    let least = (100 / cases().max(1)).max(1);
    let has_no_factor = |step: &usize| [2, 3, 5].iter().all(|factor| !step.is_multiple_of(*factor));
    (least..).find(has_no_factor).unwrap_or(1)
}

/// Random problems that are the same on every machine.
pub fn random(strategy: impl Strategy<Value = ConvProblem>) -> impl Iterator<Item = ConvProblem> {
    let mut runner = TestRunner::deterministic();
    (0..cases()).map(move |_| strategy.new_tree(&mut runner).expect("no value is rejected").current())
}

/// Shapes at their limits, in every layout, with and without conversion to the blocked layout.
pub fn limits() -> impl Iterator<Item = ConvProblem> {
    let epilogue = EpilogueSpec { bias: true, residual: true, activation: Activation::PRelu };
    let base = ConvProblem { epilogue, pad: Pad2::all(1), ..ConvProblem::simple() };
    let (one, two) = (Size2::square(1), Size2::square(2));
    let of = |n, c, h, w, out_channels| ConvProblem { input: Shape4::new(n, c, h, w), out_channels, ..base };
    let depthwise = |c, h, w, outs| ConvProblem { groups: c, ..of(1, c, h, w, c * outs) };
    let valid = |p| ConvProblem { pad: Pad2::VALID, ..p };
    let kernel = |h, w, p| ConvProblem { kernel: Size2::new(h, w), ..p };
    let strided = |h, w, p| ConvProblem { stride: Size2::new(h, w), ..p };
    let problems = [
        of(1, 1, 1, 1, 1),
        of(1, 1, 1, 67, 1),
        of(1, 17, 67, 1, 33),
        of(3, 31, 5, 7, 29),
        valid(of(2, 16, 9, 9, 32)),
        valid(kernel(1, 1, of(2, 67, 1, 1, 65))),
        valid(kernel(1, 1, strided(2, 3, of(2, 35, 9, 11, 18)))),
        valid(kernel(6, 5, of(3, 19, 6, 5, 7))),
        kernel(1, 3, of(1, 5, 3, 40, 17)),
        kernel(3, 1, strided(1, 2, of(1, 5, 40, 3, 17))),
        kernel(7, 7, strided(2, 2, of(1, 3, 23, 25, 16))),
        kernel(11, 11, strided(4, 4, of(1, 3, 40, 41, 8))),
        kernel(
            5,
            5,
            ConvProblem { pad: Pad2 { top: 4, bottom: 0, left: 0, right: 3 }, ..of(1, 20, 9, 13, 21) },
        ),
        ConvProblem { dilation: Size2::new(3, 2), ..of(1, 18, 11, 13, 19) },
        ConvProblem { groups: 4, ..of(2, 12, 6, 7, 20) },
        ConvProblem { groups: 2, ..of(1, 32, 8, 8, 64) },
        depthwise(33, 9, 10, 1),
        strided(2, 2, depthwise(16, 9, 11, 2)),
        kernel(5, 5, strided(3, 1, depthwise(19, 12, 13, 1))),
        kernel(13, 13, ConvProblem { pad: Pad2::all(6), ..depthwise(5, 20, 37, 1) }),
        ConvProblem { stride: two, dilation: two, ..depthwise(17, 13, 15, 3) },
        ConvProblem { kernel: one, stride: Size2::new(3, 2), pad: Pad2::VALID, ..depthwise(9, 7, 8, 1) },
    ];
    let problems = problems.into_iter().flat_map(|problem| {
        let same = Layout::ALL.map(|layout| ConvProblem { layout, ..problem });
        let blocked = [Layout::Nchw, Layout::Nhwc];
        let mixed =
            blocked.map(|layout| ConvProblem { layout, output_layout: Some(Layout::Nchw16c), ..problem });
        same.into_iter().chain(mixed)
    });
    problems.step_by(every())
}

/// Plans with weights between guard pages. They are unmapped before the plan runs.
fn plan(problem: &ConvProblem, data: &Data, options: &PlanOptions) -> ConvPlan {
    let filter = Guarded::copy_of(&data.filter);
    let [bias, slope] = [&data.bias, &data.slope].map(|values| values.as_deref().map(Guarded::copy_of));
    let weights = Weights { filter: &filter, bias: bias.as_deref(), slope: slope.as_deref() };
    ConvPlan::new(&problem.desc().expect("a valid problem"), weights, options).expect("a plan")
}

/// Runs the problem with all operands between guard pages. Their alignment must not change any bit. Where tiles are
/// emulated, bf16 products take most of the time, so not every problem is run with them.
fn check(problem: &ConvProblem, pool: &rayon::ThreadPool, with_parts: bool) {
    let (desc, data) = (problem.desc().expect("a valid problem"), problem.data());
    let able = |(method, _): &(Method, Isa)| {
        method.supports(&desc).is_ok() && (with_parts || method.products == Products::F32)
    };
    for (method, isa) in methods_on_isas().filter(able) {
        note(&format!("{method} on {isa}, being packed: {problem:?}"));
        let options = PlanOptions::default().force(method).isa(isa).max_threads(2).macs_per_thread(1);
        let plan = plan(problem, &data, &options);
        let kernel = &plan.explain().kernel;
        note(&format!("{method} on {isa} with {kernel}, operands elsewhere: {problem:?}"));
        let expected = problem.run(&plan, &data, Threads::Seq).expect("a valid run");
        for (threads, many) in [(Threads::Seq, "one thread"), (Threads::Pool(pool), "two threads")] {
            note(&format!("{method} on {isa} with {kernel}, {many}: {problem:?}"));
            let place = |shape, layout, plain: Option<&[f32]>| {
                Placed::tight(shape, layout, problem.slack, plain, Guarded::new)
            };
            let got = problem.run_in(&plan, &data, threads, place).expect("a valid run");
            let same = expected.iter().zip(&got).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same, "the bits depend on where operands lie");
        }
    }
}

pub fn all() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("threads can be started");
    let problems = limits()
        .chain(random(conv_problem()))
        .chain(random(pointwise_problem()))
        .chain(random(depthwise_problem()))
        .chain(random(winograd_problem()))
        .chain(random(large_kernel_problem()));
    problems.enumerate().for_each(|(index, problem)| check(&problem, &pool, index % 8 == 0));
    assert!(allocations() > 0, "no buffer was between guard pages");
}
