//! The memory of outputs: uninitialised until a kernel writes it.

use crate::spec::failed;
use candle_core::Result;
use kernels::ConvError;
use std::mem::MaybeUninit;

/// Memory for `len` elements that nothing has written yet.
fn reserved(len: usize) -> Result<Vec<f32>> {
    let mut vec = Vec::new();
    let bytes = len.saturating_mul(size_of::<f32>());
    let refused = |_| failed(ConvError::OutOfMemory { what: "output", bytes });
    vec.try_reserve_exact(len).map_err(refused)?;
    Ok(vec)
}

/// `len` zeros, for gradients: the library takes no uninitialised memory for them.
pub(crate) fn zeros(len: usize) -> Result<Vec<f32>> {
    let mut vec = reserved(len)?;
    vec.resize(len, 0.0);
    Ok(vec)
}

/// Returns `len` elements that `write` writes.
///
/// # Safety
/// If `write` returns `Ok`, it must have written every element.
#[allow(clippy::disallowed_methods, reason = "a run writes its output once; `resize` would touch it twice")]
pub(crate) unsafe fn written_by(
    len: usize,
    write: impl FnOnce(&mut [MaybeUninit<f32>]) -> Result<()>,
) -> Result<Vec<f32>> {
    let mut vec = reserved(len)?;
    write(&mut vec.spare_capacity_mut()[..len])?;
    // SAFETY: the capacity is at least `len`, and the caller promises that `write` has written all elements.
    unsafe { vec.set_len(len) };
    Ok(vec)
}
