//! The native module of the Python package `convkernels`.
//!
//! It takes NumPy arrays and arguments that `python/convkernels` has already brought into one form. Everything
//! that a Python caller sees is documented there.
//!
//! # Memory that Python shares
//!
//! A computation releases the interpreter lock while it reads and writes the memory of NumPy arrays. Another
//! Python thread can write to the same memory meanwhile. The interpreter does not prevent this, and NumPy's own
//! functions are in the same position. The result is then unspecified numbers: every kernel reads and writes
//! only inside the extents that were checked before, and no value in the memory decides on an address, a length
//! or a branch of the driver. Callers must not write to an array that a running call reads.

mod activation;
mod array;
mod cache;
mod compile;
mod compiled;
mod count;
mod error;
mod filter;
mod gradients;
mod layers;
mod numpy_api;
mod plan;
mod pools;
mod prepared;
mod program;
mod slots;

use pyo3::prelude::*;

/// The functions and classes of `convkernels._convkernels`.
#[pymodule]
mod _convkernels {
    #[pymodule_export]
    use super::count::count;
    #[pymodule_export]
    use super::filter::filter;
    #[pymodule_export]
    use super::gradients::{input_gradient, transposed, weight_gradient};
    #[pymodule_export]
    use super::layers::pool;
    #[pymodule_export]
    use super::plan::Plan;
    #[pymodule_export]
    use super::program::Program;

    use super::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
