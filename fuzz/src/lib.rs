//! From the fuzzer's bytes to problems. The truth and the checks are those of the library's own tests.

#[allow(clippy::should_implement_trait)] // not meant for anyone else
#[path = "../../kernels/tests/common/mod.rs"]
pub mod common;

mod draw;

pub use draw::{any_usize, conv_problem, layout};
