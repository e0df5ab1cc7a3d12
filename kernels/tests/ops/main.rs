//! The layers other than convolution, on every instruction set of this machine, compared with naive loops in `f64`.

mod activation;
mod cases;
mod codegen;
mod combine;
mod copy;
mod grad;
mod linear;
mod lrn;
mod maxout;
mod norm;
#[path = "../common/persist.rs"]
mod persist;
mod pool;
mod pool_examples;
#[path = "../common/random.rs"]
mod random;
mod softmax;

use kernels::{Layout, Pitch, Shape4, TensorMut, TensorRef};
use random::Rng;

/// The initial value of outputs, which shows elements that are not written.
const UNWRITTEN: f32 = f32::NAN;

/// A deterministic stream of numbers in -1..1.
pub(crate) struct Noise(Rng);

impl Noise {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Rng(seed))
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0.next()
    }

    pub(crate) fn next(&mut self) -> f32 {
        self.0.unit()
    }

    pub(crate) fn vec(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.next()).collect()
    }
}

/// A tensor that owns its memory, with gaps if it is pitched.
#[derive(Clone)]
pub(crate) struct Tensor {
    pub(crate) data: Vec<f32>,
    pub(crate) shape: Shape4,
    pub(crate) layout: Layout,
    pitch: Option<Pitch>,
}

impl Tensor {
    /// A tensor with `fill` everywhere: in elements, gaps and padding lanes. A nonzero `gap` is added to the pitches.
    pub(crate) fn filled(shape: Shape4, layout: Layout, gap: usize, fill: f32) -> Self {
        let packed = shape.len(layout).expect("a small shape");
        if gap == 0 {
            return Self { data: vec![fill; packed], shape, layout, pitch: None };
        }
        let pixel = match layout {
            Layout::Nhwc => shape.c + gap,
            Layout::Nchw16c => 16,
            _ => 1,
        };
        let span = if layout == Layout::Nhwc { shape.h * shape.w * pixel } else { packed / shape.n };
        let image = span + gap;
        Self { data: vec![fill; image * shape.n], shape, layout, pitch: Some(Pitch { image, pixel }) }
    }

    /// A tensor with `value([n, c, y, x])` in every element, and NaN wherever nothing may be read.
    pub(crate) fn from_fn(
        shape: Shape4,
        layout: Layout,
        gap: usize,
        mut value: impl FnMut([usize; 4]) -> f32,
    ) -> Self {
        let mut tensor = Self::filled(shape, layout, gap, f32::NAN);
        for (n, c, y, x) in indices(shape) {
            let at = tensor.at(n, c, y, x);
            tensor.data[at] = value([n, c, y, x]);
        }
        tensor
    }

    pub(crate) fn at(&self, n: usize, c: usize, y: usize, x: usize) -> usize {
        self.view().offset(n, c, y, x)
    }

    pub(crate) fn get(&self, n: usize, c: usize, y: usize, x: usize) -> f32 {
        self.data[self.at(n, c, y, x)]
    }

    pub(crate) fn view(&self) -> TensorRef<'_> {
        match self.pitch {
            None => TensorRef::packed(&self.data, self.shape, self.layout),
            Some(pitch) => TensorRef::with_pitch(&self.data, self.shape, self.layout, pitch),
        }
        .expect("a tensor of its own shape")
    }

    pub(crate) fn view_mut(&mut self) -> TensorMut<'_> {
        match self.pitch {
            None => TensorMut::packed(&mut self.data, self.shape, self.layout),
            Some(pitch) => TensorMut::with_pitch(&mut self.data, self.shape, self.layout, pitch),
        }
        .expect("a tensor of its own shape")
    }

    pub(crate) fn bits(&self) -> Vec<u32> {
        self.data.iter().map(|x| x.to_bits()).collect()
    }

    /// Checks that memory outside the tensor has the bits of `fill`. Padding lanes must be zero if
    /// `zero_lanes`, else they must have the bits of `fill` too.
    pub(crate) fn assert_rest(&self, fill: f32, zero_lanes: bool) {
        let mut expected = vec![fill.to_bits(); self.data.len()];
        for (n, c, y, x) in indices(self.shape) {
            let at = self.at(n, c, y, x);
            expected[at] = self.data[at].to_bits();
            let last_of_block = self.layout == Layout::Nchw16c && c + 1 == self.shape.c;
            if last_of_block && zero_lanes {
                expected[at + 1..at + 16 - c % 16].fill(0);
            }
        }
        assert!(self.bits() == expected, "something outside the tensor was written, or a lane was not");
    }
}

pub(crate) fn indices(shape: Shape4) -> impl Iterator<Item = (usize, usize, usize, usize)> {
    let Shape4 { n, c, h, w } = shape;
    (0..n * c * h * w).map(move |i| (i / (c * h * w), i / (h * w) % c, i / w % h, i % w))
}

/// A pool of three threads. The odd number leads to uneven parts.
pub(crate) fn three_threads() -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(3).build().expect("three threads")
}

/// `2^-24`, the largest relative error of one rounding to `f32`.
pub(crate) const UNIT: f64 = 5.960_464_477_539_063e-8;
