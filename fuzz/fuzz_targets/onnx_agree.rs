//! Makes an ONNX model of random operators, imports and runs it, and compares all of its outputs with loops in `f64`.
#![no_main]

use arbitrary::Unstructured;
use kernels_fuzz::onnx_random::check::{Outcome, check};
use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|bytes: &[u8]| -> Corpus {
    match check(&mut Unstructured::new(bytes)) {
        Ok(Outcome::Agrees) => Corpus::Keep,
        Ok(Outcome::Empty | Outcome::Refused) => Corpus::Reject,
        Err(problem) => panic!("{problem}"),
    }
});
