//! bf16 products: every method agrees with the definition on matrix tiles, with dot products and in plain
//! loops. Matrix tiles are emulated where the CPU does not have them (`common/tiles`).

mod common;

use common::persist::config;
use common::strategy::{conv_problem, pointwise_problem, winograd_problem};
use common::{isas_of_parts, methods_of_parts, pools};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

/// Checks `PROPTEST_CASES` problems, or `default_cases`, with every method that supports them.
fn agree(strategy: impl Strategy<Value = common::ConvProblem>, default_cases: u32) {
    let (pools, isas) = (pools(), isas_of_parts());
    let config =
        ProptestConfig { max_shrink_iters: 300, source_file: Some(file!()), ..config(default_cases) };
    let mut runner = TestRunner::new(config);
    let outcome = runner.run(&strategy, |problem| {
        let desc = problem.desc().map_err(|error| TestCaseError::fail(error.to_string()))?;
        for method in methods_of_parts().filter(|method| method.supports(&desc).is_ok()) {
            for &isa in &isas {
                problem.check(method, isa, &pools).map_err(TestCaseError::fail)?;
            }
        }
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

#[test]
fn any_convolution() {
    agree(conv_problem(), 200);
}

#[test]
fn any_pointwise_convolution() {
    agree(pointwise_problem(), 200);
}

#[test]
fn any_winograd_convolution() {
    agree(winograd_problem(), 100);
}
