//! Views of candle's storage as tensors of the library, without a copy where strides allow it.

use crate::spec::{Spec, failed};
use candle_core::{CpuStorage, Layout as Strides, Result, bail};
use kernels::{Layout, Pitch, Shape4, TensorRef};

/// A layout of the library that describes the strides of a tensor.
///
/// Each stride is compared with the extents of the axes inside it, never with the other strides, so that equal
/// extents cannot be confused. The stride of an axis of extent 1 does not matter.
pub(crate) fn layout_of(spec: &Spec, strides: &Strides) -> Option<(Layout, Pitch)> {
    let shape = spec.shape("input", strides.dims()).ok()?;
    let (image, channel, row, column) = match *strides.stride() {
        [n, c, l] => (n, c, l, l),
        [n, c, h, w] => (n, c, h, w),
        _ => return None,
    };
    let matches = |extent: usize, stride: usize, wanted: usize| extent == 1 || stride == wanted;
    let Shape4 { n, c, h, w } = shape;
    let image_or = |span: usize| if n == 1 { span } else { image };
    if matches(w, column, 1) && matches(h, row, w) && matches(c, channel, h * w) {
        let pitch = Pitch { image: image_or(c * h * w), pixel: 1 };
        return (pitch.image >= c * h * w).then_some((Layout::Nchw, pitch));
    }
    let pixel = if w > 1 {
        column
    } else if h > 1 {
        row
    } else {
        c
    };
    let span = (h * w - 1) * pixel + c;
    let pitch = Pitch { image: image_or(span), pixel };
    let nhwc = matches(c, channel, 1) && matches(h, row, w * pixel) && pixel >= c && pitch.image >= span;
    nhwc.then_some((Layout::Nhwc, pitch))
}

/// The `f32` elements of a storage from the offset of `strides` on.
pub(crate) fn elements<'a>(storage: &'a CpuStorage, strides: &Strides) -> Result<&'a [f32]> {
    let all = storage.as_slice::<f32>()?;
    match all.get(strides.start_offset()..) {
        Some(rest) => Ok(rest),
        None => bail!("offset: expected at most {} elements, got {}", all.len(), strides.start_offset()),
    }
}

/// The elements of a tensor that is contiguous.
pub(crate) fn contiguous<'a>(what: &str, storage: &'a CpuStorage, strides: &Strides) -> Result<&'a [f32]> {
    let len = strides.shape().elem_count();
    match elements(storage, strides)?.get(..len) {
        Some(values) if strides.is_contiguous() => Ok(values),
        _ => bail!("{what}: expected a contiguous tensor, got strides {:?}", strides.stride()),
    }
}

/// A tensor of candle as an input of the library.
pub(crate) fn tensor<'a>(spec: &Spec, storage: &'a CpuStorage, strides: &Strides) -> Result<TensorRef<'a>> {
    let Some((layout, pitch)) = layout_of(spec, strides) else {
        bail!("input: expected NCHW or NHWC strides, got {:?}", strides.stride());
    };
    let shape = spec.shape("input", strides.dims())?;
    TensorRef::with_pitch(elements(storage, strides)?, shape, layout, pitch).map_err(failed)
}
