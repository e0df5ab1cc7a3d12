//! Borrowed tensors with a pitch.

use super::view::{Lattice, Pitch, PixelView, check};
use super::{Layout, Shape4};
use crate::describe::ConvError;
use std::fmt;
use std::mem::MaybeUninit;
use std::ops::Range;

macro_rules! tensor {
    ($(#[$doc:meta])* $name:ident, $data:ty) => {
        $(#[$doc])*
        pub struct $name<'a> {
            data: $data,
            shape: Shape4,
            view: PixelView,
        }

        impl fmt::Debug for $name<'_> {
            /// Without the elements.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let (shape, layout) = (self.shape, self.layout());
                f.debug_struct(stringify!($name)).field("shape", &shape).field("layout", &layout).finish()
            }
        }

        impl<'a> $name<'a> {
            /// Borrows a packed tensor.
            ///
            /// # Errors
            /// - [`ConvError::BufferLen`] unless `data` has exactly [`Shape4::len`] elements.
            /// - [`ConvError::InvalidField`] if an extent of `shape` is zero.
            /// - [`ConvError::SizeOverflow`] if the tensor exceeds the address space.
            pub fn packed(data: $data, shape: Shape4, layout: Layout) -> Result<Self, ConvError> {
                let view = check(data.len(), shape, layout, None)?;
                Ok(Self { data, shape, view })
            }

            /// Borrows a tensor with a pitch, for example a channel slice of a wider tensor.
            ///
            /// # Errors
            /// - [`ConvError::InvalidField`] if an extent of `shape` is zero, if elements would overlap, or
            ///   if the layout fixes another pixel pitch.
            /// - [`ConvError::BufferLen`] if the last element is outside `data`.
            /// - [`ConvError::SizeOverflow`] if the tensor exceeds the address space.
            pub fn with_pitch(
                data: $data,
                shape: Shape4,
                layout: Layout,
                pitch: Pitch,
            ) -> Result<Self, ConvError> {
                let view = check(data.len(), shape, layout, Some(pitch))?;
                Ok(Self { data, shape, view })
            }

            /// The shape of the tensor.
            pub fn shape(&self) -> Shape4 {
                self.shape
            }

            /// The memory, in which elements are at their [`offset`](Self::offset).
            pub fn data(&self) -> &[f32] {
                self.data
            }

            /// The memory layout of the tensor.
            pub fn layout(&self) -> Layout {
                self.view.layout
            }

            /// The index of element `(n, c, y, x)` in `data`. The caller must keep the indices in range.
            pub fn offset(&self, n: usize, c: usize, y: usize, x: usize) -> usize {
                self.view.offset(n, c, y * self.shape.w + x)
            }

            #[cfg_attr(not(feature = "ops"), allow(dead_code))] // the other layers use it
            pub(crate) fn view(&self) -> PixelView {
                self.view
            }
        }
    };
}

tensor! {
    /// A borrowed activation tensor.
    #[derive(Clone, Copy)]
    TensorRef, &'a [f32]
}

tensor! {
    /// A mutably borrowed activation tensor. The borrow checker guarantees that it does not alias an input.
    TensorMut, &'a mut [f32]
}

/// The view of some rows of all images, and the offset of their first element.
fn view_of_rows(
    view: PixelView,
    shape: Shape4,
    rows: &Range<usize>,
) -> Result<(PixelView, Shape4, usize), ConvError> {
    if rows.is_empty() || rows.end > shape.h {
        let expected = format!("at least one of the {} rows", shape.h);
        return Err(ConvError::field("rows", expected, format!("{rows:?}")));
    }
    let view_of_rows = PixelView { pixels: rows.len() * shape.w, ..view };
    Ok((view_of_rows, Shape4 { h: rows.len(), ..shape }, rows.start * shape.w * view.pixel))
}

/// The view of some images, and the offset of their first element.
fn view_of_images(view: PixelView, shape: Shape4, images: Range<usize>) -> (PixelView, Shape4, usize) {
    debug_assert!(images.start < images.end && images.end <= shape.n);
    let n = images.len();
    (PixelView { images: n, ..view }, Shape4 { n, ..shape }, images.start * view.image)
}

/// The view of the pixels of `lattice`, and the offset of the first.
fn view_of_lattice(view: PixelView, shape: Shape4, lattice: &Lattice) -> Option<(PixelView, Shape4, usize)> {
    let (of_lattice, offset) = view.lattice(lattice, shape.w)?;
    Some((of_lattice, Shape4 { h: lattice.size.h, w: lattice.size.w, ..shape }, offset))
}

impl TensorMut<'_> {
    /// The same tensor, to be read.
    pub(crate) fn as_ref(&self) -> TensorRef<'_> {
        TensorRef { data: self.data, shape: self.shape, view: self.view }
    }

    /// The memory, in which elements are at their [`offset`](Self::offset).
    pub fn data_mut(&mut self) -> &mut [f32] {
        self.data
    }

    /// Borrows some rows of every image as a tensor of their own.
    ///
    /// A convolution can so compute an image in parts, with a plan for a part and the padding that it has at its edges.
    ///
    /// # Errors
    /// [`ConvError::InvalidField`] unless `rows` is a range of at least one row of the tensor.
    pub fn rows(&mut self, rows: Range<usize>) -> Result<TensorMut<'_>, ConvError> {
        let (view, shape, offset) = view_of_rows(self.view, self.shape, &rows)?;
        Ok(TensorMut { data: &mut self.data[offset..], shape, view })
    }
}

impl<'a> TensorRef<'a> {
    /// Some rows of every image as a tensor of their own. See [`TensorMut::rows`].
    ///
    /// # Errors
    /// [`ConvError::InvalidField`] unless `rows` is a range of at least one row of the tensor.
    pub fn rows(self, rows: Range<usize>) -> Result<Self, ConvError> {
        let (view, shape, offset) = view_of_rows(self.view, self.shape, &rows)?;
        Ok(Self { data: &self.data[offset..], shape, view })
    }

    /// Some of the images, as a tensor of their own. There must be some, of those of this tensor.
    pub(crate) fn images(self, images: Range<usize>) -> Self {
        let (view, shape, offset) = view_of_images(self.view, self.shape, images);
        Self { data: &self.data[offset..], shape, view }
    }

    /// Some pixels of every image, as a tensor of their own. `None` if no view can express them.
    pub(crate) fn lattice(self, lattice: &Lattice) -> Option<Self> {
        let (view, shape, offset) = view_of_lattice(self.view, self.shape, lattice)?;
        Some(Self { data: &self.data[offset..], shape, view })
    }

    /// The view together with the data that it was checked against.
    pub(crate) fn pixels(&self) -> PixelRef<'a> {
        PixelRef { data: self.data, view: self.view }
    }
}

/// A view and its data.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PixelRef<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) view: PixelView,
}

impl PixelRef<'_> {
    /// The view, merged by [`PixelView::merged`] if `merge`.
    pub(crate) fn merged_if(self, merge: bool) -> Self {
        if merge { Self { view: self.view.merged(), ..self } } else { self }
    }
}

/// A borrowed tensor that is only written. Its memory may be uninitialised.
///
/// Every [`TensorMut`] is one, by `From`. After a call that takes a `TensorOut` returns `Ok`, every element of the tensor is
/// initialised. For a packed tensor that is the whole slice, the lanes of [`Layout::Nchw16c`] past the last channel included.
///
/// ```
/// use kernels::*;
/// use std::mem::MaybeUninit;
/// # fn main() -> Result<(), ConvError> {
/// let desc = ConvDesc::builder(Shape4::new(1, 3, 8, 8), 4, Size2::square(1)).build()?;
/// let filter = [0.5; 12];
/// let plan = ConvPlan::new(&desc, Weights::filter(&filter), &PlanOptions::default())?;
/// let image = [1.0; 192];
/// let mut output: Vec<f32> = Vec::with_capacity(256);
/// let io = ConvIo::new(
///     TensorRef::packed(&image, desc.input(), Layout::Nchw)?,
///     TensorOut::packed(&mut output.spare_capacity_mut()[..256], desc.output(), Layout::Nchw)?,
/// );
/// plan.run(io, &mut Workspace::for_req(plan.workspace_req())?, Threads::Seq)?;
/// // SAFETY: the run has returned `Ok`, so it has written all 256 elements.
/// unsafe { output.set_len(256) };
/// assert_eq!(output[0], 1.5);
/// # Ok(())
/// # }
/// ```
pub struct TensorOut<'a> {
    data: OutData<'a>,
    shape: Shape4,
    view: PixelView,
}

enum OutData<'a> {
    Init(&'a mut [f32]),
    Uninit(&'a mut [MaybeUninit<f32>]),
}

impl fmt::Debug for TensorOut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TensorOut").field("shape", &self.shape).field("layout", &self.layout()).finish()
    }
}

impl<'a> From<TensorMut<'a>> for TensorOut<'a> {
    fn from(TensorMut { data, shape, view }: TensorMut<'a>) -> Self {
        Self { data: OutData::Init(data), shape, view }
    }
}

impl<'a> TensorOut<'a> {
    /// A packed tensor.
    ///
    /// # Errors
    /// [`ConvError::BufferLen`] unless `data` has exactly [`Shape4::len`] elements.
    pub fn packed(
        data: &'a mut [MaybeUninit<f32>],
        shape: Shape4,
        layout: Layout,
    ) -> Result<Self, ConvError> {
        let view = check(data.len(), shape, layout, None)?;
        Ok(Self { data: OutData::Uninit(data), shape, view })
    }

    /// A tensor with a pitch. The elements between its parts are not written.
    ///
    /// # Errors
    /// As [`TensorMut::with_pitch`].
    pub fn with_pitch(
        data: &'a mut [MaybeUninit<f32>],
        shape: Shape4,
        layout: Layout,
        pitch: Pitch,
    ) -> Result<Self, ConvError> {
        let view = check(data.len(), shape, layout, Some(pitch))?;
        Ok(Self { data: OutData::Uninit(data), shape, view })
    }

    /// Extents.
    pub fn shape(&self) -> Shape4 {
        self.shape
    }

    /// Memory order.
    pub fn layout(&self) -> Layout {
        self.view.layout
    }

    pub(crate) fn view(&self) -> PixelView {
        self.view
    }

    /// Some of the images, as a tensor of their own. There must be some, of those of this tensor.
    pub(crate) fn images(&mut self, images: Range<usize>) -> TensorOut<'_> {
        let (view, shape, offset) = view_of_images(self.view, self.shape, images);
        TensorOut { data: self.data_from(offset), shape, view }
    }

    /// Some pixels of every image, as a tensor of their own. `None` if no view can express them.
    pub(crate) fn lattice(&mut self, lattice: &Lattice) -> Option<TensorOut<'_>> {
        let (view, shape, offset) = view_of_lattice(self.view, self.shape, lattice)?;
        Some(TensorOut { data: self.data_from(offset), shape, view })
    }

    fn data_from(&mut self, offset: usize) -> OutData<'_> {
        match &mut self.data {
            OutData::Init(data) => OutData::Init(&mut data[offset..]),
            OutData::Uninit(data) => OutData::Uninit(&mut data[offset..]),
        }
    }

    /// The first element. The memory may be uninitialised, so nothing may read it before it was written.
    pub(crate) fn into_ptr(self) -> *mut f32 {
        match self.data {
            OutData::Init(data) => data.as_mut_ptr(),
            OutData::Uninit(data) => data.as_mut_ptr().cast(),
        }
    }
}
