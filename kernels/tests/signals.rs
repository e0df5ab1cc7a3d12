//! 1-D convolution, its gradients and transposed convolution agree with the definition, for every algorithm, layout and number
//! of threads.

mod common;

use common::persist::config;
use common::spatial::signal::{check_forward, check_gradients, check_transposed};
use common::spatial::strategy::spatial;
use common::spatial::{Spatial, junk};
use common::{JUNK, Pool, pools};
use kernels::*;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

fn check(most: usize, taps: usize, cases: u32, of: impl Fn(&Spatial, &[Pool]) -> Result<(), String>) {
    let pools = pools();
    let config = ProptestConfig { max_shrink_iters: 300, source_file: Some(file!()), ..config(cases) };
    let outcome = TestRunner::new(config)
        .run(&spatial([1, 1, most], taps), |problem| of(&problem, &pools).map_err(TestCaseError::fail));
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

#[test]
fn any_signal() {
    check(200, 9, 60, check_forward);
}

#[test]
fn any_short_signal() {
    check(6, 4, 40, check_forward);
}

#[test]
fn any_gradients_of_signals() {
    check(90, 6, 40, check_gradients);
}

/// Signals that are cut into segments, with a part at each end.
#[test]
fn any_long_signal() {
    let pools = pools();
    let base = Spatial {
        n: 2,
        ins: 5,
        outs: 3,
        groups: 1,
        size: [1, 1, 40_000],
        kernel: [1, 1, 3],
        stride: [1; 3],
        dilation: [1, 1, 300],
        before: [0, 0, 600],
        after: [0; 3],
        layouts: (0, 1),
        epilogue: EpilogueSpec { bias: true, residual: true, activation: Activation::Relu },
        accumulate: true,
        seed: 5,
    };
    let strided = Spatial { stride: [1, 1, 3], size: [1, 1, 100_001], after: [0, 0, 77], ..base };
    for problem in [base, Spatial { layouts: (1, 1), ..base }, Spatial { layouts: (0, 0), ..strided }] {
        let desc = problem.conv1d(EpilogueSpec::NONE).unwrap();
        let filter = vec![0.0; problem.filter_len()];
        let plan = Conv1dPlan::new(&desc, Weights::filter(&filter), &PlanOptions::default()).unwrap();
        assert!(plan.plans().count() > 1, "{desc}");
        check_forward(&problem, &pools).unwrap();
        check_gradients(&problem, &pools).unwrap();
    }
}

#[test]
fn any_transposed_signal() {
    check(60, 6, 80, check_transposed);
}

/// An output of a causal convolution does not depend on later samples.
#[test]
fn causal_padding_looks_back_only() {
    let desc =
        Conv1dDesc::builder(Shape3::new(1, 4, 70), 8, 3).dilation(5).pad(Pad1::causal(3, 5)).build().unwrap();
    assert_eq!(desc.output(), Shape3::new(1, 8, 70));
    let filter: Vec<f32> = (0..desc.filter_len()).map(|i| (i % 5) as f32 + 1.0).collect();
    let plan = Conv1dPlan::new(&desc, Weights::filter(&filter), &PlanOptions::default()).unwrap();
    let run = |input: &[f32]| {
        let mut output = vec![JUNK; 8 * 70];
        let io = ConvIo::new(
            TensorRef::packed(input, desc.input().into(), desc.layout()).unwrap(),
            TensorMut::packed(&mut output, desc.output().into(), desc.layout()).unwrap(),
        );
        plan.run(io, &mut junk(plan.workspace_req()), Threads::Seq).unwrap();
        output
    };
    let mut input = vec![1.0; 4 * 70];
    let before = run(&input);
    input.chunks_exact_mut(70).for_each(|channel| channel[40] = 100.0);
    for (before, after) in before.chunks_exact(70).zip(run(&input).chunks_exact(70)) {
        assert_eq!(before[..40], after[..40]);
        assert_ne!(before[40], after[40]);
    }
}

#[test]
fn bad_signals_are_refused() {
    let builder = Conv1dDesc::builder(Shape3::new(1, 4, 6), 8, 3);
    assert!(matches!(builder.dilation(3).build(), Err(ConvError::EmptyOutput { .. })));
    assert!(matches!(builder.stride(0).build(), Err(ConvError::InvalidField { field: "stride.w", .. })));
    assert!(matches!(builder.groups(3).build(), Err(ConvError::InvalidField { field: "groups", .. })));
    let far = builder.pad(Pad1::causal(usize::MAX, usize::MAX)).build();
    assert!(matches!(far, Err(ConvError::SizeOverflow { .. })), "{far:?}");
    let desc = builder.build().unwrap();
    let short = Conv1dPlan::new(&desc, Weights::filter(&[0.0; 95]), &PlanOptions::default()).unwrap_err();
    assert_eq!(short, ConvError::BufferLen { what: "filter", expected: 96, got: 95 });
    assert_eq!(Pad1::same_upper(10, 3, 2, 1), Pad1 { before: 0, after: 1 });
    assert_eq!(desc.to_string(), "1x4x1x6 -> 8 1x3 nchw");
}
