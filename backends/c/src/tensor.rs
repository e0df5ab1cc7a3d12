//! [`ck_io`]: the tensors of one run, and the checks before slices are made of them.

use crate::pointer;
use crate::status::Failure;
use kernels::{ConvError, ConvIo, Layout, Pitch, Shape4, TensorMut, TensorOut, TensorRef};
use std::mem::MaybeUninit;
use std::ops::Range;

/// A tensor that is read.
///
/// Its shape and layout are those of the plan. If both pitches are 0, the tensor is packed and `len` must be exact.
/// Otherwise both pitches must be set, and `len` must reach at least to the last element.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ck_tensor {
    /// The first element.
    pub data: *const f32,
    /// Number of floats from `data` on that belong to the tensor.
    pub len: usize,
    /// Floats from one image to the next, or 0.
    pub image_pitch: usize,
    /// Floats from one pixel to the next: at least the channels in NHWC, 1 in NCHW, 16 in NCHW16C; or 0.
    pub pixel_pitch: usize,
}

/// A tensor that is written. Its memory need not be initialised.
///
/// The fields are those of `ck_tensor`. The floats between the parts of a tensor with pitches are not written.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ck_tensor_mut {
    /// The first element.
    pub data: *mut f32,
    /// Number of floats from `data` on that belong to the tensor.
    pub len: usize,
    /// Floats from one image to the next, or 0.
    pub image_pitch: usize,
    /// Floats from one pixel to the next, or 0.
    pub pixel_pitch: usize,
}

/// The tensors of a run. Set the whole struct to zero first: `ck_io io = {0};`.
///
/// The output must not overlap the input, the residual or the workspace, not even where a pitch leaves gaps.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ck_io {
    /// The input.
    pub input: ck_tensor,
    /// The output. A run that succeeds writes every element. A run that fails leaves it unchanged, unless the
    /// status is `CK_STATUS_INTERNAL`.
    pub output: ck_tensor_mut,
    /// The residual, if the convolution has one. Otherwise `data` must be NULL and `len` 0.
    pub residual: ck_tensor,
}

/// The shape and the layout that a tensor should have.
pub(crate) type Form = (Shape4, Layout);

/// The name of memory, and its addresses.
pub(crate) type Span = (&'static str, Range<usize>);

/// An error if memory that is written overlaps other memory of the same call. A slice must not overlap a mutable one, so
/// this comes before any slice is made.
pub(crate) fn check_apart(written: &[Span], read: &[Span]) -> Result<(), Failure> {
    for (index, one) in written.iter().enumerate() {
        for other in written[index + 1..].iter().chain(read) {
            let (start, end) = (one.1.start.max(other.1.start), one.1.end.min(other.1.end));
            if start < end {
                let bytes = end - start;
                return Err(Failure::invalid(format!(
                    "{}: expected memory apart from the {}, got an overlap of {bytes} bytes",
                    one.0, other.0
                )));
            }
        }
    }
    Ok(())
}

impl ck_tensor {
    pub(crate) fn span(&self, what: &str) -> Result<Range<usize>, Failure> {
        pointer::span(what, self.data, self.len)
    }

    fn is_absent(&self) -> bool {
        self.data.is_null() && self.len == 0
    }

    /// # Safety
    /// As [`pointer::slice`].
    #[inline(always)] // or the tensor is copied twice, which a small layer notices
    pub(crate) unsafe fn view<'a>(&self, what: &'static str, form: Form) -> Result<TensorRef<'a>, Failure> {
        // SAFETY: the caller promises it.
        let data = unsafe { pointer::slice(what, self.data, self.len) }?;
        match pitch(self.image_pitch, self.pixel_pitch) {
            None => TensorRef::packed(data, form.0, form.1),
            Some(pitch) => TensorRef::with_pitch(data, form.0, form.1, pitch),
        }
        .map_err(|error| named(what, error))
    }
}

impl ck_tensor_mut {
    /// # Safety
    /// As [`pointer::slice_mut`], except that the elements need not be initialised.
    #[inline(always)] // as above
    unsafe fn view<'a>(&self, form: Form) -> Result<TensorOut<'a>, Failure> {
        const WHAT: &str = "output";
        // SAFETY: the caller promises it. A `MaybeUninit` may be uninitialised.
        let data = unsafe { pointer::slice_mut(WHAT, self.data.cast::<MaybeUninit<f32>>(), self.len) }?;
        match pitch(self.image_pitch, self.pixel_pitch) {
            None => TensorOut::packed(data, form.0, form.1),
            Some(pitch) => TensorOut::with_pitch(data, form.0, form.1, pitch),
        }
        .map_err(|error| named(WHAT, error))
    }

    pub(crate) fn span(&self, what: &str) -> Result<Range<usize>, Failure> {
        pointer::span(what, self.data, self.len)
    }

    /// The tensor to read and write. Any bits are a valid `f32`. A run that does not accumulate writes them first.
    ///
    /// # Safety
    /// As [`pointer::slice_mut`].
    pub(crate) unsafe fn view_mut<'a>(
        &self,
        what: &'static str,
        form: Form,
    ) -> Result<TensorMut<'a>, Failure> {
        // SAFETY: the caller promises it.
        let data = unsafe { pointer::slice_mut(what, self.data, self.len) }?;
        match pitch(self.image_pitch, self.pixel_pitch) {
            None => TensorMut::packed(data, form.0, form.1),
            Some(pitch) => TensorMut::with_pitch(data, form.0, form.1, pitch),
        }
        .map_err(|error| named(what, error))
    }
}

fn pitch(image: usize, pixel: usize) -> Option<Pitch> {
    (image != 0 || pixel != 0).then_some(Pitch { image, pixel })
}

/// The library says "tensor". The caller has three of them.
fn named(what: &'static str, error: ConvError) -> Failure {
    match error {
        ConvError::BufferLen { expected, got, .. } => ConvError::BufferLen { what, expected, got }.into(),
        other => Failure::from(other).within(what),
    }
}

/// Scratch memory of the caller, as `malloc` returned it perhaps. Any bits are a valid `f32`, and a run writes its
/// scratch before it reads it: the tests let valgrind watch that.
#[derive(Clone, Copy)]
pub(crate) struct Scratch {
    pub(crate) start: *mut f32,
    pub(crate) len: usize,
}

impl Scratch {
    pub(crate) const NONE: Self = Self { start: std::ptr::null_mut(), len: 0 };

    /// The floats that a plan needs, in memory of `bytes` bytes.
    pub(crate) fn new(start: *mut std::ffi::c_void, bytes: usize, needed: usize) -> Result<Self, Failure> {
        let needed_bytes = needed.saturating_mul(size_of::<f32>());
        if bytes < needed_bytes {
            let status = crate::ck_status::WorkspaceTooSmall;
            let message = format!("workspace: expected at least {needed_bytes} bytes, got {bytes}");
            return Err(Failure { status, message });
        }
        Ok(Self { start: start.cast(), len: needed })
    }

    /// Its addresses.
    pub(crate) fn span(&self) -> Result<Span, Failure> {
        Ok(("workspace", pointer::span("workspace", self.start, self.len)?))
    }
}

impl ck_io {
    /// Checks the tensors and the workspace against each other, then borrows them.
    ///
    /// # Safety
    /// The memory of the tensors and of `scratch` must be as the header demands.
    #[inline(always)] // as above
    pub(crate) unsafe fn borrow<'a>(
        &self,
        (input, output): (Form, Form),
        scratch: Scratch,
    ) -> Result<(ConvIo<'a>, &'a mut [f32]), Failure> {
        self.check_overlap(scratch)?;
        // SAFETY: the caller promises valid memory. The mutable slices overlap nothing, as checked.
        unsafe {
            let tensors = ConvIo::new(self.input.view("input", input)?, self.output.view(output)?);
            let scratch = pointer::slice_mut("workspace", scratch.start, scratch.len)?;
            if self.residual.is_absent() {
                return Ok((tensors, scratch));
            }
            Ok((tensors.residual(self.residual.view("residual", output)?), scratch))
        }
    }

    fn check_overlap(&self, scratch: Scratch) -> Result<(), Failure> {
        let output = ("output", self.output.span("output")?);
        let input = ("input", self.input.span("input")?);
        let residual = ("residual", self.residual.span("residual")?);
        check_apart(&[output, scratch.span()?], &[input, residual])
    }
}
