//! Compares every method on every instruction set, with one and with several threads, with loops in `f64`.
//!
//! Tensors without slack are heap blocks of exactly their length, so AddressSanitizer detects an access one
//! element past the end.
#![no_main]

use arbitrary::Unstructured;
use kernels_fuzz::{common, conv_problem};
use libfuzzer_sys::{Corpus, fuzz_target};
use std::sync::LazyLock;

static POOLS: LazyLock<Vec<common::Pool>> = LazyLock::new(common::pools);

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let mut u = Unstructured::new(bytes);
    let Ok(problem) = conv_problem(&mut u) else { return Corpus::Reject };
    // One pool per run. With all pools, waking threads would be most of the work.
    let pool = usize::from(u.arbitrary::<u8>().unwrap_or(0)) % (POOLS.len() + 1);
    let pools = POOLS.get(pool..=pool).unwrap_or_default();
    // Where tiles are emulated, bf16 products take most of the time.
    let outcome = match u.arbitrary::<u8>().unwrap_or(0) % 4 {
        0 => problem.check_parts(pools),
        _ => problem.check_everything(pools),
    };
    if let Err(what) = outcome {
        panic!("{what}\n{problem:#?}");
    }
    Corpus::Keep
});
