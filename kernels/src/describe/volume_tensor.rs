//! Borrowed tensors of volumes, and the views of their slices.

use super::volume_shape::{Shape5, VolumeLayout, planes};
use super::{BLOCK, ConvError, Layout, PixelView, Shape4, TensorMut, TensorRef};
use std::fmt;

/// Where the slices of volumes are in memory. The slices have a 2-D layout; its planes can be far apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct VolumeView {
    pub(crate) shape: Shape5,
    /// Layout of a slice.
    pub(crate) layout: Layout,
    /// Distances between volumes, slices, planes and pixels.
    volume: usize,
    slice: usize,
    plane: usize,
    pixel: usize,
}

/// Some slices of every volume: `first`, `first + step`, ...
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slices {
    pub(crate) first: usize,
    pub(crate) step: usize,
    pub(crate) count: usize,
}

/// The slices that are the channels of one image, from its own slice on: `count` slices, `apart` slices from each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taps {
    pub(crate) count: usize,
    pub(crate) apart: usize,
}

impl Taps {
    /// The slice of the image alone.
    pub(crate) const ONE: Self = Self { count: 1, apart: 1 };
}

impl VolumeView {
    /// A packed tensor. Its length must not overflow.
    pub(crate) fn packed(shape: Shape5, layout: VolumeLayout) -> Self {
        let of_slices = layout.of_slices();
        let (pixels, planes) = (shape.h * shape.w, planes(of_slices, shape.c));
        let pixel = match of_slices {
            Layout::Nchw => 1,
            Layout::Nhwc => shape.c,
            Layout::Nchw16c | Layout::Nchw32cBf16 => BLOCK,
        };
        let (slice, plane) = match layout {
            VolumeLayout::Ncdhw | VolumeLayout::Ncdhw16c => (pixels * pixel, shape.d * pixels * pixel),
            VolumeLayout::Ndhwc => (pixels * pixel, 1),
            VolumeLayout::Ndchw | VolumeLayout::Ndchw16c => (planes * pixels * pixel, pixels * pixel),
        };
        let volume = shape.d * planes * pixels * pixel;
        Self { shape, layout: of_slices, volume, slice, plane, pixel }
    }

    /// Planes of one slice.
    fn planes(&self) -> usize {
        planes(self.layout, self.shape.c)
    }

    /// The distance between the channels of an image that has `taps` slices, if all have the same.
    fn plane_of(&self, taps: Taps) -> Option<usize> {
        let next = taps.apart * self.slice;
        match (taps.count, self.planes()) {
            (1, _) => Some(self.plane),
            _ if self.layout == Layout::Nhwc => None,
            (_, 1) => Some(next),
            (_, planes) => (next == planes * self.plane).then_some(self.plane),
        }
    }

    /// Whether the slices of [`maps`](Self::maps) can be read in place. The padding lanes of several slices would be read as
    /// channels, and the caller may leave anything in them.
    pub(crate) fn has_maps(&self, taps: Taps) -> bool {
        let has_junk = self.layout == Layout::Nchw16c && !self.shape.c.is_multiple_of(BLOCK);
        self.plane_of(taps).is_some() && (taps.count == 1 || !has_junk)
    }

    /// Channels of an image of several slices: whole blocks of each slice.
    pub(crate) fn channels_of(layout: Layout, channels: usize, taps: usize) -> usize {
        if taps > 1 && layout == Layout::Nchw16c {
            channels.next_multiple_of(BLOCK) * taps
        } else {
            channels * taps
        }
    }

    /// Maps that begin at `slices` of the volumes from `volume.0` on, `volume.1` volumes. The channels of each are those of
    /// `taps` slices. Returns the offset of the first element, the shape and the view.
    ///
    /// [`has_maps`](Self::has_maps) must be true, or the padding lanes of the tensor zero.
    pub(crate) fn maps(
        &self,
        volumes: (usize, usize),
        slices: Slices,
        taps: Taps,
    ) -> (usize, Shape4, PixelView) {
        let Shape5 { c, h, w, .. } = self.shape;
        let channels = Self::channels_of(self.layout, c, taps.count);
        let images = volumes.1 * slices.count;
        let (image, series) = match (slices.count, slices.step * self.slice) {
            // Of one slice per volume, the volumes are images at equal distances.
            (1, _) => (self.volume, images),
            // So are the slices of volumes that follow each other.
            (count, step) if count * step == self.volume => (step, images),
            (count, step) => (step, count),
        };
        let view = PixelView {
            layout: self.layout,
            images,
            channels,
            pixels: h * w,
            image,
            plane: self.plane_of(taps).unwrap_or(self.plane),
            pixel: self.pixel,
            series,
            volume: self.volume,
            lines: None,
        };
        let first = volumes.0 * self.volume + slices.first * self.slice;
        (first, Shape4::new(images, channels, h, w), view)
    }

    /// Every `step`-th plane of `slices` of one volume, from plane `first` on: planes as channels, in NCHW.
    pub(crate) fn planes_apart(
        &self,
        volume: usize,
        slices: Slices,
        (first, step, count): (usize, usize, usize),
    ) -> (usize, Shape4, PixelView) {
        let (offset, shape, view) = self.maps((volume, 1), slices, Taps::ONE);
        let view = PixelView { channels: count, plane: step * self.plane, ..view };
        (offset + first * self.plane, Shape4 { c: count, ..shape }, view)
    }
}

macro_rules! volume {
    ($(#[$doc:meta])* $name:ident, $data:ty) => {
        $(#[$doc])*
        pub struct $name<'a> {
            data: $data,
            layout: VolumeLayout,
            view: VolumeView,
        }

        impl fmt::Debug for $name<'_> {
            /// Without the elements.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let (shape, layout) = (self.shape(), self.layout);
                f.debug_struct(stringify!($name)).field("shape", &shape).field("layout", &layout).finish()
            }
        }

        impl<'a> $name<'a> {
            /// Borrows a packed tensor.
            ///
            /// # Errors
            /// - [`ConvError::BufferLen`] unless `data` has exactly [`Shape5::len`] elements.
            /// - [`ConvError::InvalidField`] if an extent of `shape` is zero.
            /// - [`ConvError::SizeOverflow`] if the tensor exceeds the address space.
            pub fn packed(data: $data, shape: Shape5, layout: VolumeLayout) -> Result<Self, ConvError> {
                if shape.is_empty() {
                    return Err(ConvError::field("tensor shape", "every extent at least 1", shape));
                }
                let (expected, got) = (shape.len(layout)?, data.len());
                if expected != got {
                    return Err(ConvError::BufferLen { what: "tensor", expected, got });
                }
                Ok(Self { data, layout, view: VolumeView::packed(shape, layout) })
            }

            /// The shape of the tensor.
            pub fn shape(&self) -> Shape5 {
                self.view.shape
            }

            /// The memory layout of the tensor.
            pub fn layout(&self) -> VolumeLayout {
                self.layout
            }

            /// The index of element `(n, c, z, y, x)` in the data. The caller must keep the indices in range.
            pub fn offset(&self, n: usize, c: usize, z: usize, y: usize, x: usize) -> usize {
                let slice = Slices { first: z, step: 1, count: 1 };
                let (first, _, view) = self.view.maps((n, 1), slice, Taps::ONE);
                first + view.offset(0, c, y * self.view.shape.w + x)
            }
        }
    };
}

volume! {
    /// A borrowed tensor of volumes.
    ///
    /// ```
    /// use kernels::*;
    /// # fn main() -> Result<(), ConvError> {
    /// let shape = Shape5::new(1, 2, 3, 4, 5);
    /// let data = vec![0.0; shape.len(VolumeLayout::Ndchw16c)?];
    /// let volumes = VolumeRef::packed(&data, shape, VolumeLayout::Ndchw16c)?;
    /// assert_eq!(volumes.offset(0, 1, 2, 3, 4), ((2 * 4 + 3) * 5 + 4) * 16 + 1);
    /// # Ok(())
    /// # }
    /// ```
    #[derive(Clone, Copy)]
    VolumeRef, &'a [f32]
}

volume! {
    /// A mutably borrowed tensor of volumes. The borrow checker guarantees that it does not alias an input.
    VolumeMut, &'a mut [f32]
}

impl<'a> VolumeRef<'a> {
    /// The memory.
    #[cfg_attr(not(feature = "ops"), allow(dead_code))] // used by `ops` only
    pub(crate) fn data(&self) -> &'a [f32] {
        self.data
    }

    /// See [`VolumeView::maps`].
    pub(crate) fn maps(
        &self,
        volumes: (usize, usize),
        slices: Slices,
        taps: Taps,
    ) -> Result<TensorRef<'a>, ConvError> {
        let (first, shape, view) = self.view.maps(volumes, slices, taps);
        TensorRef::of_view(&self.data[first..], shape, view)
    }

    /// See [`VolumeView::planes_apart`].
    pub(crate) fn planes_apart(
        &self,
        volume: usize,
        slices: Slices,
        planes: (usize, usize, usize),
    ) -> Result<TensorRef<'a>, ConvError> {
        let (first, shape, view) = self.view.planes_apart(volume, slices, planes);
        TensorRef::of_view(&self.data[first..], shape, view)
    }
}

impl<'a> VolumeMut<'a> {
    /// The memory.
    #[cfg_attr(not(feature = "ops"), allow(dead_code))] // used by `ops` only
    pub(crate) fn into_data(self) -> &'a mut [f32] {
        self.data
    }

    /// The same tensor, to be read.
    pub(crate) fn as_ref(&self) -> VolumeRef<'_> {
        VolumeRef { data: self.data, layout: self.layout, view: self.view }
    }

    /// See [`VolumeView::maps`].
    pub(crate) fn maps(
        &mut self,
        volumes: (usize, usize),
        slices: Slices,
    ) -> Result<TensorMut<'_>, ConvError> {
        let (first, shape, view) = self.view.maps(volumes, slices, Taps::ONE);
        TensorMut::of_view(&mut self.data[first..], shape, view)
    }

    /// See [`VolumeView::planes_apart`].
    pub(crate) fn planes_apart(
        &mut self,
        volume: usize,
        slices: Slices,
        planes: (usize, usize, usize),
    ) -> Result<TensorMut<'_>, ConvError> {
        let (first, shape, view) = self.view.planes_apart(volume, slices, planes);
        TensorMut::of_view(&mut self.data[first..], shape, view)
    }
}

/// Checks shape and layout of a tensor.
pub(crate) fn check_volume(
    what: &'static str,
    (shape, layout): (Shape5, VolumeLayout),
    given: (Shape5, VolumeLayout),
) -> Result<(), ConvError> {
    if shape != given.0 {
        return Err(ConvError::VolumeMismatch { what, expected: shape.into(), got: given.0.into() });
    }
    if layout != given.1 {
        return Err(ConvError::VolumeLayoutMismatch { what, expected: layout, got: given.1 });
    }
    Ok(())
}
