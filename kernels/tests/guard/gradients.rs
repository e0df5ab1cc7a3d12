//! Gradients of weights with every supporting algorithm, on every instruction set.

use super::child::note;
use super::common::gradient::WeightsProblem;
use super::common::methods_on_isas;
use super::common::strategy::{conv_problem, depthwise_problem, pointwise_problem};
use super::common::{ConvProblem, Placed};
use super::conv::{limits, random};
use super::pages::{Guarded, allocations};
use kernels::{BackwardWeights, PlanOptions, Threads};

/// Runs the problem with all operands between guard pages. Their alignment must not change any bit.
fn check(conv: &ConvProblem, pool: &rayon::ThreadPool) {
    let problem = WeightsProblem::new(*conv, true, conv.seed % 2 == 1);
    let (desc, data) = (problem.desc(), problem.data());
    for (method, isa) in methods_on_isas().filter(|(m, _)| BackwardWeights::supports(*m, &desc).is_ok()) {
        let options = PlanOptions::default().force(method).isa(isa).max_threads(2).macs_per_thread(1);
        let plan = problem.plan(&options);
        let kernel = plan.explain().kernel;
        note(&format!("weights by {method} on {isa} with {kernel}, operands elsewhere: {problem:?}"));
        let expected = problem.run(&plan, &data, Threads::Seq).expect("a valid run");
        for (threads, many) in [(Threads::Seq, "one thread"), (Threads::Pool(pool), "two threads")] {
            note(&format!("weights by {method} on {isa} with {kernel}, {many}: {problem:?}"));
            let place = |shape, layout, plain: &[f32]| {
                Placed::tight(shape, layout, conv.slack, Some(plain), Guarded::new)
            };
            let got = problem.run_in(&plan, &data, threads, place, Guarded::copy_of);
            assert!(got.as_ref() == Ok(&expected), "the bits depend on where operands lie");
        }
    }
}

pub fn all() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("threads can be started");
    let problems = limits()
        .chain(random(conv_problem()))
        .chain(random(pointwise_problem()))
        .chain(random(depthwise_problem()));
    problems.for_each(|problem| check(&problem, &pool));
    assert!(allocations() > 0, "no buffer was between guard pages");
}
