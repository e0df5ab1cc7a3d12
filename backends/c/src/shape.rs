//! [`ck_shape`]: the extents of a tensor.

use crate::enums;
use crate::pointer;
use crate::status::{ck_error, ck_status, guard};
use kernels::Shape4;

/// The extents of a tensor, in elements. They do not depend on its layout.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ck_shape {
    /// Number of images.
    pub n: usize,
    /// Number of channels.
    pub c: usize,
    /// Number of rows.
    pub h: usize,
    /// Number of columns.
    pub w: usize,
}

impl From<Shape4> for ck_shape {
    fn from(Shape4 { n, c, h, w }: Shape4) -> Self {
        Self { n, c, h, w }
    }
}

impl From<ck_shape> for Shape4 {
    fn from(ck_shape { n, c, h, w }: ck_shape) -> Self {
        Self { n, c, h, w }
    }
}

/// Writes the number of floats of a packed tensor to `len`. `CK_LAYOUT_NCHW16C` rounds the channels up to a
/// multiple of 16.
///
/// `layout` is a `ck_layout`. A size that overflows the address space is `CK_STATUS_INVALID_ARGUMENT`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ck_shape_len(
    shape: *const ck_shape,
    layout: u32,
    len: *mut usize,
    error: *mut ck_error,
) -> ck_status {
    guard(error, || {
        // SAFETY: the header's introduction says what the caller promises about pointers.
        unsafe {
            pointer::write("len", len, || {
                let shape = Shape4::from(pointer::read("shape", shape)?);
                Ok(shape.len(enums::layout("layout", layout)?)?)
            })
        }
    })
}
