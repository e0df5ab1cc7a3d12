//! Compares the gradients of the input and of the weights, and transposed convolution, with loops in `f64`: every algorithm
//! on every instruction set, with one and with several threads.
#![no_main]

use arbitrary::Unstructured;
use kernels_fuzz::common::backwards::{check_data, check_transposed};
use kernels_fuzz::common::gradient::WeightsProblem;
use kernels_fuzz::{common, conv_problem};
use libfuzzer_sys::{Corpus, fuzz_target};
use std::sync::LazyLock;

static POOLS: LazyLock<Vec<common::Pool>> = LazyLock::new(common::pools);

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let mut u = Unstructured::new(bytes);
    let Ok(problem) = conv_problem(&mut u) else { return Corpus::Reject };
    let pool = usize::from(u.arbitrary::<u8>().unwrap_or(0)) % (POOLS.len() + 1);
    let pools = POOLS.get(pool..=pool).unwrap_or_default();
    let (bias, accumulate) = u.arbitrary().unwrap_or_default();
    let outcome = match u.arbitrary::<u8>().unwrap_or(0) % 4 {
        0 => check_transposed(&problem, pools),
        1 => check_data(&problem, pools),
        2 => WeightsProblem::new(problem, bias, accumulate).check_parts(pools),
        _ => WeightsProblem::new(problem, bias, accumulate).check_everything(pools),
    };
    if let Err(what) = outcome {
        panic!("{what}\n{problem:#?}");
    }
    Corpus::Keep
});
