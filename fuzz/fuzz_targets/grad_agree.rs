//! Compares the gradient of the input, and transposed convolution, with loops in `f64`: every algorithm on every instruction
//! set, with one and with several threads.
#![no_main]

use arbitrary::Unstructured;
use kernels_fuzz::common::backwards::{check_data, check_transposed};
use kernels_fuzz::{common, conv_problem};
use libfuzzer_sys::{Corpus, fuzz_target};
use std::sync::LazyLock;

static POOLS: LazyLock<Vec<common::Pool>> = LazyLock::new(common::pools);

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let mut u = Unstructured::new(bytes);
    let Ok(problem) = conv_problem(&mut u) else { return Corpus::Reject };
    let pool = usize::from(u.arbitrary::<u8>().unwrap_or(0)) % (POOLS.len() + 1);
    let pools = POOLS.get(pool..=pool).unwrap_or_default();
    let outcome = match u.arbitrary().unwrap_or(false) {
        true => check_data(&problem, pools),
        false => check_transposed(&problem, pools),
    };
    if let Err(what) = outcome {
        panic!("{what}\n{problem:#?}");
    }
    Corpus::Keep
});
