//! [`Placed`]: a tensor in memory that the test can inspect.

use super::JUNK;
use kernels::{ConvError, Layout, Pitch, Shape4, TensorMut, TensorRef};
use std::ops::DerefMut;

/// A tensor inside a larger buffer.
pub struct Placed<M> {
    memory: M,
    /// The first element of the tensor.
    start: usize,
    shape: Shape4,
    layout: Layout,
    pitch: Option<Pitch>,
}

/// The pitch of a tensor with `slack` additional channels; `None` if it is packed.
fn pitch(shape: Shape4, layout: Layout, slack: usize) -> Option<Pitch> {
    let Shape4 { c, h, w, .. } = shape;
    let blocked = layout == Layout::Nchw16c;
    let channels = if blocked { c.next_multiple_of(16) + slack.next_multiple_of(16) } else { c + slack };
    let pixel = match layout {
        Layout::Nhwc => channels,
        Layout::Nchw16c => 16,
        _ => 1,
    };
    (slack > 0).then_some(Pitch { image: channels * h * w, pixel })
}

impl Placed<Vec<f32>> {
    /// A tensor with `slack` channels of junk before and after its own. `plain` supplies the elements.
    pub fn new(shape: Shape4, layout: Layout, slack: usize, plain: Option<&[f32]>) -> Self {
        let pitch =
            pitch(shape, layout, 2 * slack.next_multiple_of(if layout == Layout::Nchw16c { 16 } else { 1 }));
        let packed = shape.len(layout).expect("a small shape");
        let len = pitch.map_or(packed, |pitch| shape.n * pitch.image);
        let start = match layout {
            Layout::Nhwc => slack,
            Layout::Nchw16c => slack.next_multiple_of(16) * shape.h * shape.w,
            _ => slack * shape.h * shape.w,
        };
        Self { memory: vec![JUNK; len], start, shape, layout, pitch }.filled(plain)
    }
}

impl<M: DerefMut<Target = [f32]>> Placed<M> {
    /// A tensor with the slack only between pixels or images: the first and the last element of `memory(len)`
    /// belong to it.
    pub fn tight(
        shape: Shape4,
        layout: Layout,
        slack: usize,
        plain: Option<&[f32]>,
        memory: impl FnOnce(usize) -> M,
    ) -> Self {
        let pitch = pitch(shape, layout, slack);
        let len = match pitch.map(|pitch| TensorRef::with_pitch(&[], shape, layout, pitch)) {
            None => shape.len(layout).expect("a small shape"),
            Some(Err(ConvError::BufferLen { expected, .. })) => expected,
            Some(other) => panic!("a tensor without memory: {other:?}"),
        };
        let mut memory = memory(len);
        memory.fill(JUNK);
        Self { memory, start: 0, shape, layout, pitch }.filled(plain)
    }

    fn filled(mut self, plain: Option<&[f32]>) -> Self {
        if let Some(plain) = plain {
            let at = self.addresses();
            for (at, &value) in at.into_iter().zip(plain) {
                self.memory[at] = value;
            }
        }
        self
    }

    pub fn tensor(&self) -> TensorRef<'_> {
        let data = &self.memory[self.start..];
        match self.pitch {
            None => TensorRef::packed(data, self.shape, self.layout),
            Some(pitch) => TensorRef::with_pitch(data, self.shape, self.layout, pitch),
        }
        .expect("a placed tensor is valid")
    }

    pub fn tensor_mut(&mut self) -> TensorMut<'_> {
        let data = &mut self.memory[self.start..];
        match self.pitch {
            None => TensorMut::packed(data, self.shape, self.layout),
            Some(pitch) => TensorMut::with_pitch(data, self.shape, self.layout, pitch),
        }
        .expect("a placed tensor is valid")
    }

    /// The offsets of the elements, in plain NCHW order.
    fn addresses(&self) -> Vec<usize> {
        let (tensor, Shape4 { n, c, h, w }) = (self.tensor(), self.shape);
        let mut addresses = Vec::with_capacity(n * c * h * w);
        for n in 0..n {
            for c in 0..c {
                for y in 0..h {
                    for x in 0..w {
                        addresses.push(self.start + tensor.offset(n, c, y, x));
                    }
                }
            }
        }
        addresses
    }

    /// The elements in plain NCHW order.
    pub fn elements(&self) -> Vec<f32> {
        self.addresses().into_iter().map(|at| self.memory[at]).collect()
    }

    /// The elements in plain NCHW order, after checking that nothing else was written and that padding lanes
    /// are zero.
    pub fn plain(mut self) -> Result<Vec<f32>, String> {
        let addresses = self.addresses();
        let plain = addresses.iter().map(|&at| std::mem::replace(&mut self.memory[at], JUNK)).collect();
        if self.layout == Layout::Nchw16c {
            let Shape4 { n, c, h, w } = self.shape;
            let tensor = self.tensor();
            let lanes = (0..n).flat_map(|n| (0..h * w).map(move |p| (n, p / w, p % w)));
            let padding: Vec<usize> = lanes
                .flat_map(|(n, y, x)| (c..c.next_multiple_of(16)).map(move |c| (n, c, y, x)))
                .map(|(n, c, y, x)| self.start + tensor.offset(n, c, y, x))
                .collect();
            for at in padding {
                if self.memory[at].to_bits() != 0 {
                    return Err(format!("a padding lane is {}, not zero", self.memory[at]));
                }
                self.memory[at] = JUNK;
            }
        }
        match self.memory.iter().position(|value| value.to_bits() != JUNK.to_bits()) {
            None => Ok(plain),
            Some(at) => Err(format!("element {at} of the buffer, outside of the tensor, was written")),
        }
    }
}
