//! Turns the fuzzer's bytes into problems. The reference and the checks are those of the library's own tests.

#[allow(clippy::should_implement_trait)] // not a public interface
#[path = "../../kernels/tests/common/mod.rs"]
pub mod common;

mod draw;

#[path = "../../nets/tests/model/mod.rs"]
pub mod model;

#[allow(clippy::len_without_is_empty)] // not a public interface
#[path = "../../nets/tests/onnx_random/mod.rs"]
pub mod onnx_random;

pub use draw::{any_usize, conv_problem, layout};
