//! Borrows of tract's tensors as tensors of the library.

use crate::view::Port;
use kernels::{ConvError, Layout, Shape4, TensorMut, TensorOut, TensorRef};
use std::mem::MaybeUninit;
use tract_core::internal::*;
use tract_linalg::multithread::par_chunks_mut;

/// Bytes to which new tensors are aligned: a cache line and an AVX-512 vector.
const ALIGNMENT: usize = 64;

/// Borrows a tensor at `port`.
pub(crate) fn borrow<'a>(tensor: &'a Tensor, port: &Port) -> TractResult<TensorRef<'a>> {
    let shape = port.extents(tensor.shape())?.shape4();
    let elements = tensor.try_as_plain_ram()?.as_slice::<f32>()?;
    Ok(TensorRef::packed(elements, shape, port.layout())?)
}

/// Borrows a tensor at `port` to change it in place.
pub(crate) fn borrow_mut<'a>(tensor: &'a mut Tensor, port: &Port) -> TractResult<TensorMut<'a>> {
    let shape = port.extents(tensor.shape())?.shape4();
    let layout = port.layout();
    let elements = tensor_elements_mut(tensor)?;
    Ok(TensorMut::packed(elements, shape, layout)?)
}

/// The elements of a plain tensor of `f32`.
pub(crate) fn tensor_elements_mut(tensor: &mut Tensor) -> TractResult<&mut [f32]> {
    ensure!(tensor.datum_type() == f32::datum_type(), "Expected f32, got {:?}", tensor.datum_type());
    let len = tensor.len();
    let start = tensor.as_ptr_mut::<f32>()?;
    // SAFETY: `as_ptr_mut` succeeds only for a plain tensor of `f32`, whose `len` elements are contiguous and
    // initialised. The borrow of `tensor` makes the slice the only access to them.
    Ok(unsafe { std::slice::from_raw_parts_mut(start, len) })
}

/// Makes a tensor and lets `write` fill it. `write` must have written every element when it returns `Ok`, which
/// holds for every function of the library that takes a [`TensorOut`].
pub(crate) fn fill(
    shape: &[usize],
    extents: Shape4,
    layout: Layout,
    write: impl FnOnce(TensorOut<'_>) -> Result<(), ConvError>,
) -> TractResult<Tensor> {
    let write = |elements: &mut [MaybeUninit<f32>]| Ok(write(TensorOut::packed(elements, extents, layout)?)?);
    // SAFETY: the library has written every element of a packed `TensorOut` when it returns `Ok`.
    unsafe { fill_elements(shape, write) }
}

/// Makes a tensor of planes with `plane_len` elements, and lets `write` fill each plane, on tract's threads.
///
/// # Safety
/// `write` must have written every element of the plane that it is given when it returns.
pub(crate) unsafe fn fill_planes(
    shape: &[usize],
    plane_len: usize,
    write: impl Fn(usize, &mut [MaybeUninit<f32>]) + Sync + Send,
) -> TractResult<Tensor> {
    let fill = |elements: &mut [MaybeUninit<f32>]| {
        let len = elements.len();
        par_chunks_mut(elements, plane_len, len, |first, planes| {
            let planes = planes.chunks_exact_mut(plane_len).enumerate();
            planes.for_each(|(at, plane)| write(first + at, plane));
            Ok(())
        })
    };
    // SAFETY: `par_chunks_mut` calls the closure for every plane, and `write` writes all of it.
    unsafe { fill_elements(shape, fill) }
}

/// # Safety
/// `write` must have written every element when it returns `Ok`.
unsafe fn fill_elements(
    shape: &[usize],
    write: impl FnOnce(&mut [MaybeUninit<f32>]) -> TractResult<()>,
) -> TractResult<Tensor> {
    // SAFETY: the memory is only passed on as `MaybeUninit`, and the tensor is only returned after `write`
    // has initialised all of it. `f32` has no destructor that an early return could run.
    let mut tensor = unsafe { Tensor::uninitialized_aligned::<f32>(shape, ALIGNMENT)? };
    let len = tensor.len();
    let start = tensor.as_ptr_mut::<f32>()?.cast::<MaybeUninit<f32>>();
    // SAFETY: a new plain tensor of `f32` has `len` contiguous elements, which this function owns.
    write(unsafe { std::slice::from_raw_parts_mut(start, len) })?;
    Ok(tensor)
}

/// A tensor without elements, of this shape.
pub(crate) fn empty(shape: &[usize]) -> TractResult<Tensor> {
    Tensor::zero::<f32>(shape)
}
