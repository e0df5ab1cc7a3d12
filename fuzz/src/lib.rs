//! Turns the fuzzer's bytes into problems. The reference and the checks are those of the library's own tests.

#[allow(clippy::should_implement_trait)] // not a public interface
#[path = "../../kernels/tests/common/mod.rs"]
pub mod common;

mod draw;

pub use draw::{any_usize, conv_problem, layout};
