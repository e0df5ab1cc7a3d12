//! Every algorithm agrees with the definition on every instruction set, in every layout, with any number of threads.

mod common;

use common::persist::config;
use common::pools;
use common::strategy::{
    conv_problem, depthwise_problem, few_outputs_problem, large_kernel_problem, pointwise_problem,
    winograd_problem,
};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

/// Checks `PROPTEST_CASES` problems, or `default_cases`, with one set of pools for all.
fn agree(strategy: impl Strategy<Value = common::ConvProblem>, default_cases: u32) {
    let pools = pools();
    let config =
        ProptestConfig { max_shrink_iters: 300, source_file: Some(file!()), ..config(default_cases) };
    let mut runner = TestRunner::new(config);
    let outcome =
        runner.run(&strategy, |problem| problem.check_everything(&pools).map_err(TestCaseError::fail));
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

#[test]
fn any_convolution() {
    agree(conv_problem(), 600);
}

#[test]
fn any_pointwise_convolution() {
    agree(pointwise_problem(), 600);
}

#[test]
fn any_depthwise_convolution() {
    agree(depthwise_problem(), 600);
}

#[test]
fn any_convolution_with_few_outputs() {
    agree(few_outputs_problem(), 300);
}

#[test]
fn any_winograd_convolution() {
    agree(winograd_problem(), 400);
}

#[test]
fn any_convolution_with_a_large_kernel() {
    agree(large_kernel_problem(), 200);
}
