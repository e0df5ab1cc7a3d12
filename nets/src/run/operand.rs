//! [`Operand`]: a tensor that a step reads or writes, and the memory that it is in.

use super::layout::BLOCK;
use super::plain::Image;
use kernels::{ConvError, Layout, Ops, Pitch, Shape4, TensorMut, TensorRef, Threads};
use std::ops::Range;

/// The memory that holds a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// The caller's input of this index.
    Input(usize),
    /// A range of the caller's output of this index, which no step reads.
    Output(usize, Range<usize>),
    /// A range of the network's own memory.
    Arena(Range<usize>),
}

/// A tensor that a step reads or writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Operand {
    pub(crate) place: Place,
    pub(crate) shape: Shape4,
    pub(crate) layout: Layout,
    pub(crate) pitch: Pitch,
}

impl Operand {
    pub(crate) fn tensor<'a>(&self, data: &'a [f32]) -> Result<TensorRef<'a>, ConvError> {
        TensorRef::with_pitch(data, self.shape, self.layout, self.pitch)
    }

    pub(crate) fn tensor_mut<'a>(&self, data: &'a mut [f32]) -> Result<TensorMut<'a>, ConvError> {
        TensorMut::with_pitch(data, self.shape, self.layout, self.pitch)
    }

    /// One image as a tensor.
    pub(crate) fn image_tensor<'a>(&self, data: &'a [f32], image: usize) -> Result<TensorRef<'a>, ConvError> {
        TensorRef::with_pitch(&data[image * self.pitch.image..], self.one_image(), self.layout, self.pitch)
    }

    /// One image as a tensor to write.
    pub(crate) fn image_tensor_mut<'a>(
        &self,
        data: &'a mut [f32],
        image: usize,
    ) -> Result<TensorMut<'a>, ConvError> {
        TensorMut::with_pitch(
            &mut data[image * self.pitch.image..],
            self.one_image(),
            self.layout,
            self.pitch,
        )
    }

    fn one_image(&self) -> Shape4 {
        Shape4 { n: 1, ..self.shape }
    }

    pub(crate) fn image(&self) -> Image {
        let lanes = if self.layout == Layout::Nchw16c { BLOCK } else { 1 };
        Image { size: self.shape.size(), lanes }
    }

    /// The number of elements of one image, and the distance between images.
    fn image_len(&self) -> (usize, usize) {
        let Shape4 { c, h, w, .. } = self.shape;
        match self.layout {
            // The images of a row are its pixels.
            Layout::Nhwc => (c, self.pitch.pixel),
            Layout::Nchw16c => (c.next_multiple_of(BLOCK) * h * w, self.pitch.image),
            _ => (c * h * w, self.pitch.image),
        }
    }

    pub(crate) fn images<'a>(&self, data: &'a [f32]) -> impl Iterator<Item = &'a [f32]> {
        let (len, pitch) = self.image_len();
        data.chunks(pitch.max(1)).map(move |image| &image[..len])
    }

    pub(crate) fn images_mut<'a>(&self, data: &'a mut [f32]) -> impl Iterator<Item = &'a mut [f32]> {
        let (len, pitch) = self.image_len();
        data.chunks_mut(pitch.max(1)).map(move |image| &mut image[..len])
    }
}

/// The surroundings of a run.
pub(crate) struct Context<'a> {
    pub(crate) ops: &'a Ops,
    pub(crate) threads: Threads<'a>,
    pub(crate) inputs: &'a [&'a [f32]],
}

/// The memory that a step may read through a source: everything except its target.
pub(crate) struct Sources<'a> {
    pub(crate) inputs: &'a [&'a [f32]],
    pub(crate) before: &'a [f32],
    pub(crate) behind: &'a [f32],
    pub(crate) behind_start: usize,
}

impl<'a> Sources<'a> {
    pub(crate) fn get(&self, operand: &Operand) -> &'a [f32] {
        match &operand.place {
            Place::Arena(range) if range.end <= self.before.len() => &self.before[range.clone()],
            Place::Arena(range) => {
                &self.behind[range.start - self.behind_start..range.end - self.behind_start]
            }
            Place::Input(index) => self.inputs[*index],
            // No step reads an output.
            Place::Output(..) => &[],
        }
    }
}
