//! Step 2, choose: which instruction set, which algorithm, which tile, and why not the others.

mod algorithm;
mod machine;
mod model;

pub use algorithm::{Algorithm, Algorithms, Unsupported};
pub use machine::Isa;
pub(crate) use machine::kernels;
pub use model::{Choice, Numerics, Rejection, Select};
pub(crate) use model::{Limits, choose};
