//! A plan with other weights packed in the place of its own is the plan of these weights, bit by bit.

mod common;

use common::backwards::{len, poisoned};
use common::persist::config;
use common::strategy::{conv_problem, depthwise_problem, few_outputs_problem, winograd_problem};
use common::{ConvProblem, Data, JUNK, Rng, Values, methods_on_isas};
use kernels::*;
use proptest::prelude::*;

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn weights(data: &Data) -> Weights<'_> {
    Weights { filter: &data.filter, bias: data.bias.as_deref(), slope: data.slope.as_deref() }
}

/// Every method on each instruction set. Returns the number of plans.
fn check_forward(problem: &ConvProblem) -> Result<usize, TestCaseError> {
    let data = problem.data();
    let before = ConvProblem { seed: problem.seed ^ 0xabcd, values: Values::Wide, ..*problem }.data();
    let mut plans = 0;
    for (method, isa) in methods_on_isas() {
        let options = PlanOptions::default().isa(isa).force(method);
        let Ok(fresh) = problem.plan(&data, &options) else { continue };
        let mut plan = problem.plan(&before, &options).unwrap();
        plan.repack(weights(&data)).unwrap();
        let of = |plan: &ConvPlan| problem.run(plan, &data, Threads::Seq).map_err(TestCaseError::fail);
        prop_assert_eq!(bits(&of(&plan)?), bits(&of(&fresh)?), "{} on {}", method, isa);
        plans += 1;
    }
    Ok(plans)
}

/// The gradient of the input, and the transposed convolution of the same phases, by the choice.
fn check_backward(problem: &ConvProblem) -> Result<(), TestCaseError> {
    let problem =
        ConvProblem { epilogue: EpilogueSpec::NONE, output_layout: None, layout: Layout::Nchw, ..*problem };
    let (desc, mut rng) = (problem.desc().unwrap(), Rng(problem.seed));
    let [before, filter] = [(); 2].map(|()| rng.values(Values::Uniform, desc.filter_len()));
    let small = rng.values(Values::Uniform, len(desc.output()));
    let data = |plan: &BackwardData| {
        let mut gradient = vec![JUNK; len(desc.input())];
        let io = BackwardDataIo::new(
            TensorRef::packed(&small, desc.output(), Layout::Nchw).unwrap(),
            TensorMut::packed(&mut gradient, desc.input(), Layout::Nchw).unwrap(),
        );
        plan.run(io, &mut poisoned(plan.workspace_req()), Threads::Seq).unwrap();
        bits(&gradient)
    };
    let plan =
        |filter| BackwardData::new(&desc, filter, DataSpec::default(), &PlanOptions::default()).unwrap();
    let mut repacked = plan(&before);
    // Twice: the second call uses what the first one left.
    for filter in [&before, &filter] {
        repacked.repack(filter).unwrap();
        prop_assert_eq!(data(&repacked), data(&plan(filter)), "{}", repacked);
    }

    let up = TransposedDesc::builder(desc.output(), desc.input().c, desc.kernel())
        .stride(desc.stride())
        .dilation(desc.dilation())
        .groups(desc.groups())
        .epilogue(EpilogueSpec { bias: true, ..EpilogueSpec::NONE })
        .build()
        .unwrap();
    let [old_bias, bias] = [(); 2].map(|()| rng.values(Values::Uniform, up.output().c));
    let plan = |filter, bias| {
        TransposedPlan::new(&up, Weights::with_bias(filter, bias), &PlanOptions::default()).unwrap()
    };
    let transposed = |plan: &TransposedPlan| {
        let mut output = vec![JUNK; len(up.output())];
        let io = ConvIo::new(
            TensorRef::packed(&small, up.input(), Layout::Nchw).unwrap(),
            TensorMut::packed(&mut output, up.output(), Layout::Nchw).unwrap(),
        );
        plan.run(io, &mut poisoned(plan.workspace_req()), Threads::Seq).unwrap();
        bits(&output)
    };
    let mut repacked = plan(&before, &old_bias);
    repacked.repack(Weights::with_bias(&filter, &bias)).unwrap();
    prop_assert_eq!(transposed(&repacked), transposed(&plan(&filter, &bias)), "{}", repacked);
    Ok(())
}

proptest! {
    #![proptest_config(config(40))]

    #[test]
    fn any_convolution(problem in conv_problem()) {
        // The reference and im2col compute everything.
        prop_assert!(check_forward(&problem)? >= 2);
        check_backward(&problem)?;
    }

    #[test]
    fn any_other_convolution(problem in prop_oneof![winograd_problem(), depthwise_problem(), few_outputs_problem()]) {
        prop_assert!(check_forward(&problem)? >= 2);
        check_backward(&problem)?;
    }
}

#[test]
fn wrong_and_shared_weights_are_refused() {
    let problem = ConvProblem::simple();
    let data = problem.data();
    let mut plan = problem.plan(&data, &PlanOptions::default()).unwrap();
    let (before, short) = (problem.run(&plan, &data, Threads::Seq).unwrap(), &data.filter[1..]);
    let wrong = ConvError::BufferLen { what: "filter", expected: data.filter.len(), got: short.len() };
    assert_eq!(plan.repack(Weights::filter(short)), Err(wrong.clone()));
    let bias = [0.0; 5];
    let unplanned = ConvError::EpilogueMismatch { what: "bias", planned: false };
    assert_eq!(plan.repack(Weights::with_bias(&data.filter, &bias)), Err(unplanned));
    let shared = plan.filter();
    let refused = plan.repack(Weights::filter(&vec![0.0; data.filter.len()])).unwrap_err().to_string();
    assert!(refused.contains("expected packed weights that no filter and no other plan shares"), "{refused}");
    drop(shared);
    assert_eq!(problem.run(&plan, &data, Threads::Seq).unwrap(), before);

    let desc = problem.desc().unwrap();
    let mut backward =
        BackwardData::new(&desc, &data.filter, DataSpec::default(), &PlanOptions::default()).unwrap();
    assert_eq!(backward.repack(short), Err(wrong));
}
