//! Borrowed tensors with a pitch, and the view of them that all drivers use.

use super::shape::BLOCK;
use super::sizes::checked_product;
use super::view::{Lattice, PixelRef, PixelView};
use super::{Layout, Shape4};
use crate::describe::ConvError;
use std::fmt;
use std::mem::MaybeUninit;
use std::ops::Range;

/// Distances between the parts of a tensor, in elements.
///
/// A pitch larger than packed describes a channel slice of a wider tensor. With it, an Inception branch
/// writes directly into the concatenation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pitch {
    /// Distance between neighbouring images.
    pub image: usize,
    /// Distance between neighbouring pixels: at least C in NHWC, exactly 1 in NCHW, and exactly 16 in
    /// Nchw16c.
    pub pixel: usize,
}

/// Checks shape, layout and pitch against the length of the data, for shared and mutable borrows.
fn check(
    data_len: usize,
    shape: Shape4,
    layout: Layout,
    pitch: Option<Pitch>,
) -> Result<PixelView, ConvError> {
    if shape.is_empty() {
        return Err(ConvError::field("tensor shape", "every extent at least 1", shape));
    }
    let packed_len = shape.len(layout)?;
    let pixels = shape.h * shape.w;
    let packed_image = packed_len / shape.n;
    let packed_pixel = match layout {
        Layout::Nchw => 1,
        Layout::Nhwc => shape.c,
        // A pixel of a block is 16 elements in both: 16 numbers, or 32 in pairs.
        Layout::Nchw16c | Layout::Nchw32cBf16 => BLOCK,
    };
    let Pitch { image, pixel } = match pitch {
        None => {
            if data_len != packed_len {
                return Err(ConvError::BufferLen { what: "tensor", expected: packed_len, got: data_len });
            }
            Pitch { image: packed_image, pixel: packed_pixel }
        }
        Some(pitch) => pitch,
    };
    if layout == Layout::Nhwc {
        if pixel < packed_pixel {
            return Err(ConvError::field(
                "pitch.pixel",
                format!("at least the {packed_pixel} channels"),
                pixel,
            ));
        }
    } else if pixel != packed_pixel {
        return Err(ConvError::field("pitch.pixel", format!("{packed_pixel} in {layout}"), pixel));
    }
    let span = match layout {
        Layout::Nchw | Layout::Nchw16c | Layout::Nchw32cBf16 => packed_image,
        Layout::Nhwc => checked_product("pitch.pixel", &[pixels - 1, pixel])?
            .checked_add(shape.c)
            .ok_or(ConvError::SizeOverflow { what: "pitch.pixel" })?,
    };
    if image < span {
        return Err(ConvError::field("pitch.image", format!("at least {span}, one image"), image));
    }
    let expected = checked_product("pitch.image", &[shape.n - 1, image])?
        .checked_add(span)
        .ok_or(ConvError::SizeOverflow { what: "pitch.image" })?;
    if data_len < expected {
        return Err(ConvError::BufferLen { what: "tensor", expected, got: data_len });
    }
    // A pitch of an axis of extent 1 is never used, so the caller can pass any number. Replace it by one that
    // cannot overflow.
    let image = if shape.n == 1 { span } else { image };
    let pixel = if pixels == 1 { packed_pixel } else { pixel };
    let plane = match layout {
        Layout::Nchw => pixels,
        Layout::Nhwc => 1,
        Layout::Nchw16c | Layout::Nchw32cBf16 => pixels * BLOCK,
    };
    let (images, channels) = (shape.n, shape.c);
    Ok(PixelView {
        layout,
        images,
        channels,
        pixels,
        image,
        plane,
        pixel,
        series: images,
        volume: 0,
        lines: None,
    })
}

macro_rules! tensor {
    ($(#[$doc:meta])* $name:ident, $data:ty, $written:literal) => {
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

            /// A tensor whose elements are anywhere in `data`, as `view` says.
            ///
            /// # Errors
            /// [`ConvError::BufferLen`] if one is outside. Of a tensor that is written, [`ConvError::InvalidField`] if
            /// two of them can be the same.
            pub(crate) fn of_view(data: $data, shape: Shape4, view: PixelView) -> Result<Self, ConvError> {
                view.check(shape, data.len(), $written)?;
                Ok(Self { data, shape, view })
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
    TensorRef, &'a [f32], false
}

tensor! {
    /// A mutably borrowed activation tensor. The borrow checker guarantees that it does not alias an input.
    TensorMut, &'a mut [f32], true
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

/// The view of segments of the rows of a tensor of one row, as images: pixels `first..first + len` of each row, and
/// `count - 1` more segments at distances of `step` pixels.
fn view_of_segments(
    view: PixelView,
    shape: Shape4,
    (first, len): (usize, usize),
    (step, count): (usize, usize),
) -> (PixelView, Shape4, usize) {
    debug_assert!(shape.h == 1 && first + (count - 1) * step + len <= shape.w);
    let images = shape.n * count;
    // Of one segment per row, the rows are images at equal distances.
    let (image, series) = if count == 1 { (view.image, images) } else { (step * view.pixel, count) };
    let segments = PixelView { images, pixels: len, image, series, volume: view.image, ..view };
    (segments, Shape4 { n: images, w: len, ..shape }, first * view.pixel)
}

/// The view of some images, and the offset of their first element.
fn view_of_images(view: PixelView, shape: Shape4, images: Range<usize>) -> (PixelView, Shape4, usize) {
    debug_assert!(images.start < images.end && images.end <= shape.n);
    let (n, place) = (images.len(), images.start % view.series);
    debug_assert!(place == 0 || place + n <= view.series, "the images are not at the distances of the view");
    (PixelView { images: n, ..view }, Shape4 { n, ..shape }, view.image_at(images.start))
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

    /// See [`view_of_segments`].
    pub(crate) fn segments(
        self,
        pixels: (usize, usize),
        segments: (usize, usize),
    ) -> Result<Self, ConvError> {
        let (view, shape, offset) = view_of_segments(self.view, self.shape, pixels, segments);
        Self::of_view(&self.data[offset..], shape, view)
    }

    /// The view together with the data that it was checked against.
    pub(crate) fn pixels(&self) -> PixelRef<'a> {
        PixelRef { data: self.data, view: self.view }
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

impl OutData<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Init(data) => data.len(),
            Self::Uninit(data) => data.len(),
        }
    }

    /// The elements from `offset` on.
    fn from(&mut self, offset: usize) -> OutData<'_> {
        match self {
            Self::Init(data) => OutData::Init(&mut data[offset..]),
            Self::Uninit(data) => OutData::Uninit(&mut data[offset..]),
        }
    }
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
        TensorOut { data: self.data.from(offset), shape, view }
    }

    /// Some pixels of every image, as a tensor of their own. `None` if no view can express them.
    pub(crate) fn lattice(&mut self, lattice: &Lattice) -> Option<TensorOut<'_>> {
        let (view, shape, offset) = view_of_lattice(self.view, self.shape, lattice)?;
        Some(TensorOut { data: self.data.from(offset), shape, view })
    }

    /// See [`view_of_segments`].
    pub(crate) fn segments(
        &mut self,
        pixels: (usize, usize),
        segments: (usize, usize),
    ) -> Result<TensorOut<'_>, ConvError> {
        let (view, shape, offset) = view_of_segments(self.view, self.shape, pixels, segments);
        let data = self.data.from(offset);
        view.check(shape, data.len(), true)?;
        Ok(TensorOut { data, shape, view })
    }

    /// The first element. The memory may be uninitialised, so nothing may read it before it was written.
    pub(crate) fn into_ptr(self) -> *mut f32 {
        match self.data {
            OutData::Init(data) => data.as_mut_ptr(),
            OutData::Uninit(data) => data.as_mut_ptr().cast(),
        }
    }
}
