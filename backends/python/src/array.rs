//! NumPy arrays as tensors of the library: without a copy where their strides are those of a layout.

use crate::numpy_api;
use kernels::{ConvError, Layout, Pitch, Shape4, TensorMut, TensorOut, TensorRef};
use numpy::{PyArrayDyn, PyArrayMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use std::mem::MaybeUninit;
use std::ops::Range;

/// A float32 array.
pub(crate) type Array<'py> = Bound<'py, PyArrayDyn<f32>>;

/// Returns `object` as a float32 array.
///
/// # Errors
/// `TypeError` for other objects and other types of elements.
pub(crate) fn float32<'py>(what: &str, object: &Bound<'py, PyAny>) -> PyResult<Array<'py>> {
    if let Ok(array) = object.cast::<PyArrayDyn<f32>>() {
        return Ok(array.clone());
    }
    let got = match object.cast::<PyUntypedArray>() {
        Ok(array) => format!(
            "{what}: expected dtype float32, got {}; convert it with astype(numpy.float32)",
            array.dtype().str()?
        ),
        Err(_) => format!("{what}: expected a numpy array of float32, got {}", object.get_type().name()?),
    };
    Err(PyTypeError::new_err(got))
}

/// Returns the array in C order and aligned: itself, or a copy.
pub(crate) fn contiguous<'py>(array: Array<'py>) -> PyResult<Array<'py>> {
    if array.is_c_contiguous() && array.is_aligned() { Ok(array) } else { numpy_api::c_copy(&array) }
}

/// Returns the array if it is aligned, else a copy.
pub(crate) fn aligned<'py>(array: Array<'py>) -> PyResult<Array<'py>> {
    if array.is_aligned() { Ok(array) } else { numpy_api::c_copy(&array) }
}

/// The elements of an array in C order that is aligned.
pub(crate) fn elements<'a>(array: &'a Array<'_>) -> &'a [f32] {
    debug_assert!(array.is_c_contiguous() && array.is_aligned());
    // SAFETY: the caller has brought the array into C order and alignment, so its `len` elements follow each
    // other from an aligned pointer, which NumPy never makes null. The array lives while it is borrowed. That
    // nobody writes to it meanwhile is the rule of the module's documentation.
    unsafe { std::slice::from_raw_parts(array.data(), array.len()) }
}

/// A float32 array whose strides are those of a layout.
pub(crate) struct Tensor<'py> {
    array: Array<'py>,
    shape: Shape4,
    layout: Layout,
    pitch: Pitch,
    /// Elements from the first to the last, those between them included.
    span: usize,
}

impl<'py> Tensor<'py> {
    /// An input: N x C x H x W with the strides of NCHW or NHWC. An array with other strides is copied.
    ///
    /// # Errors
    /// `TypeError` as [`float32`]; `ValueError` for another number of dimensions.
    ///
    /// The strides of some arrays, for example of one channel, are those of several layouts. Then the layout is
    /// `preferred`.
    pub(crate) fn input(what: &str, object: &Bound<'py, PyAny>, preferred: Layout) -> PyResult<Self> {
        let array = float32(what, object)?;
        match Self::view(what, array.clone(), preferred)? {
            Some(tensor) => Ok(tensor),
            None => {
                let copy = Self::view(what, numpy_api::c_copy(&array)?, preferred)?;
                copy.ok_or_else(|| {
                    PyValueError::new_err(format!("{what}: expected an array, got no copy of it"))
                })
            }
        }
    }

    /// An output that the caller has given, of `shape` and `layout`.
    ///
    /// # Errors
    /// `TypeError` as [`float32`]; `ValueError` for another shape, other strides, and memory that is read-only.
    pub(crate) fn output(object: &Bound<'py, PyAny>, shape: Shape4, layout: Layout) -> PyResult<Self> {
        let array = float32("out", object)?;
        let Shape4 { n, c, h, w } = shape;
        let expected = [n, c, h, w];
        if array.shape() != expected {
            let text = format!("out: expected shape {expected:?}, got {:?}", array.shape());
            return Err(PyValueError::new_err(text));
        }
        if !object.getattr("flags")?.getattr("writeable")?.extract::<bool>()? {
            return Err(PyValueError::new_err(
                "out: expected an array that can be written, got one that is read-only",
            ));
        }
        let pitch = pitch(shape, array.strides(), layout).filter(|_| array.is_aligned());
        let Some((pitch, span)) = pitch else {
            let text = format!(
                "out: expected the strides of a packed array in {layout}, the layout of the input, got {:?} bytes",
                array.strides()
            );
            return Err(PyValueError::new_err(text));
        };
        Ok(Self { array, shape, layout, pitch, span })
    }

    /// A new output whose memory is not initialised.
    ///
    /// # Errors
    /// `MemoryError`.
    pub(crate) fn new(py: Python<'py>, shape: Shape4, layout: Layout) -> PyResult<Self> {
        Self::made(py, shape, layout, numpy_api::empty)
    }

    /// A new output of zeros.
    ///
    /// # Errors
    /// `MemoryError`.
    pub(crate) fn zeros(py: Python<'py>, shape: Shape4, layout: Layout) -> PyResult<Self> {
        Self::made(py, shape, layout, numpy_api::zeros)
    }

    fn made(
        py: Python<'py>,
        shape: Shape4,
        layout: Layout,
        make: fn(Python<'py>, &[usize]) -> PyResult<Array<'py>>,
    ) -> PyResult<Self> {
        let Shape4 { n, c, h, w } = shape;
        let array = match layout {
            Layout::Nhwc => {
                let array = make(py, &[n, h, w, c])?;
                array.call_method1("transpose", (0, 3, 1, 2))?.cast_into()?
            }
            _ => make(py, &[n, c, h, w])?,
        };
        let (pitch, span) = pitch(shape, array.strides(), layout).ok_or_else(|| {
            PyValueError::new_err("out: expected a packed array from NumPy, got other strides")
        })?;
        Ok(Self { array, shape, layout, pitch, span })
    }

    fn view(what: &str, array: Array<'py>, preferred: Layout) -> PyResult<Option<Self>> {
        let [n, c, h, w] = *array.shape() else {
            let text = format!("{what}: expected 4 dimensions (N, C, H, W), got shape {:?}", array.shape());
            return Err(PyValueError::new_err(text));
        };
        let shape = Shape4::new(n, c, h, w);
        let other = if preferred == Layout::Nchw { Layout::Nhwc } else { Layout::Nchw };
        if shape.is_empty() {
            // The descriptor's builder reports it. No element is ever read.
            return Ok(Some(Self {
                array,
                shape,
                layout: preferred,
                pitch: Pitch { image: 0, pixel: 0 },
                span: 0,
            }));
        }
        if !array.is_aligned() {
            return Ok(None);
        }
        let found = [preferred, other]
            .into_iter()
            .find_map(|layout| Some((layout, pitch(shape, array.strides(), layout)?)));
        Ok(found.map(|(layout, (pitch, span))| Self { array, shape, layout, pitch, span }))
    }

    /// The tensor in `layout`: itself, or a copy.
    ///
    /// # Errors
    /// `MemoryError`.
    pub(crate) fn in_layout(self, layout: Layout) -> PyResult<Self> {
        if self.layout == layout || self.shape.is_empty() {
            return Ok(self);
        }
        let copy = Self::new(self.py(), self.shape, layout)?;
        copy.array.set_item(self.py().Ellipsis(), &self.array)?;
        Ok(copy)
    }

    /// Extents.
    pub(crate) fn shape(&self) -> Shape4 {
        self.shape
    }

    /// Layout.
    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    /// The tensor to read.
    pub(crate) fn as_ref(&self) -> Result<TensorRef<'_>, ConvError> {
        // SAFETY: `pitch` has checked that the strides reach `span` elements from the first one, all of them
        // inside the array's memory, and the array is aligned. `self` keeps the array alive. That nobody writes
        // meanwhile is the rule of the module's documentation.
        let data = unsafe { std::slice::from_raw_parts(self.array.data(), self.span) };
        TensorRef::with_pitch(data, self.shape, self.layout, self.pitch)
    }

    /// The tensor to write.
    pub(crate) fn as_out(&mut self) -> Result<TensorOut<'_>, ConvError> {
        let start = self.array.data().cast::<MaybeUninit<f32>>();
        // SAFETY: as in `as_ref`. The array is new, or `output` has checked that it can be written, and callers
        // check with `check_apart` that no input of the same call is in its memory.
        let data = unsafe { std::slice::from_raw_parts_mut(start, self.span) };
        TensorOut::with_pitch(data, self.shape, self.layout, self.pitch)
    }

    /// The tensor to read and write, of [`zeros`](Self::zeros).
    pub(crate) fn as_mut(&mut self) -> Result<TensorMut<'_>, ConvError> {
        // SAFETY: as in `as_out`. Callers have made the array of zeros, so its elements are initialised.
        let data = unsafe { std::slice::from_raw_parts_mut(self.array.data(), self.span) };
        TensorMut::with_pitch(data, self.shape, self.layout, self.pitch)
    }

    /// The interpreter.
    pub(crate) fn py(&self) -> Python<'py> {
        self.array.py()
    }

    /// The array, to return it.
    pub(crate) fn into_array(self) -> Array<'py> {
        self.array
    }

    fn bytes(&self) -> Range<usize> {
        let start = self.array.data().addr();
        start..start + self.span * size_of::<f32>()
    }

    /// Checks that `input` is not in the memory of this output.
    ///
    /// # Errors
    /// `ValueError`.
    pub(crate) fn check_apart(&self, what: &str, input: &Self) -> PyResult<()> {
        let (out, input) = (self.bytes(), input.bytes());
        if out.start < input.end && input.start < out.end {
            return Err(PyValueError::new_err(format!(
                "out: expected memory that {what} does not use, got an overlap"
            )));
        }
        Ok(())
    }
}

/// The pitch of an array in `layout` and the number of elements from its first to its last; `None` if its strides
/// (in bytes) are not those of the layout.
fn pitch(Shape4 { n, c, h, w }: Shape4, strides: &[isize], layout: Layout) -> Option<(Pitch, usize)> {
    const SIZE: usize = size_of::<f32>();
    // The stride of an axis of extent 1 means nothing.
    let stride = |axis: usize, extent: usize, expected: usize| {
        if extent == 1 {
            return Some(expected);
        }
        let bytes = usize::try_from(strides[axis]).ok()?;
        bytes.is_multiple_of(SIZE).then_some(bytes / SIZE)
    };
    let is = |axis, extent, expected| stride(axis, extent, expected) == Some(expected);
    let (pixel, image, span) = match layout {
        Layout::Nhwc => {
            let rows_are_pixels = w == 1 && h > 1;
            let pixel = if rows_are_pixels { stride(2, h, c)? } else { stride(3, w, c)? };
            let span = (h * w - 1).checked_mul(pixel)?.checked_add(c)?;
            let packed = is(1, c, 1) && (rows_are_pixels || is(2, h, w.checked_mul(pixel)?));
            (pixel, stride(0, n, span)?, (packed && pixel >= c).then_some(span)?)
        }
        _ => {
            let span = c * h * w;
            let packed = is(3, w, 1) && is(2, h, w) && is(1, c, h * w);
            (1, stride(0, n, span)?, packed.then_some(span)?)
        }
    };
    if image < span {
        return None;
    }
    let all = (n - 1).checked_mul(image)?.checked_add(span)?;
    Some((Pitch { image, pixel }, all))
}
