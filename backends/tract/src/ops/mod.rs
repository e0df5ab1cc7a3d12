//! The operators that take the place of tract's.

pub(crate) mod conv;
pub(crate) mod pointwise;
pub(crate) mod pool;
pub(crate) mod reorder;
pub(crate) mod upsample;

use kernels::Ops;
use std::sync::OnceLock;
use tract_core::internal::TractResult;

/// The library's layers without plans, for the best instruction set of this machine.
pub(crate) fn layers() -> TractResult<Ops> {
    static LAYERS: OnceLock<Ops> = OnceLock::new();
    if let Some(layers) = LAYERS.get() {
        return Ok(*layers);
    }
    let layers = Ops::new(None)?;
    Ok(*LAYERS.get_or_init(|| layers))
}
