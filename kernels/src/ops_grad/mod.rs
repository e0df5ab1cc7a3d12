//! Gradients of the layers other than convolution.
//!
//! Like the layers, the functions check all arguments before they write the first element, do not allocate, and give the
//! same bits for every number of threads. A sum over images or pixels belongs to one thread.

mod activation;
mod batch_norm;
mod channels;
mod linear;
mod loss;
mod lrn;
mod norm;
mod pool;
mod pool_volume;
mod upsample;

use crate::describe::{ConvError, Layout, PixelRef, PixelView, Shape4, TensorMut, TensorOut, TensorRef};
use crate::ops::check_layout;
use crate::run::check;
use crate::run::elementwise::merges;
use crate::tile::copy_table::InputTile;
use crate::tile::grad::table::GradTiles;
use crate::tile::output::{OutputRegion, OutputTile};
pub use activation::ActivationValue;
pub use batch_norm::{BatchNormSpec, BatchStatistics};
pub use linear::LinearGradient;
pub use norm::NormGradients;
pub use pool_volume::VolumeGradient;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// The gradient of a tensor, as a result.
///
/// A tensor that several layers read has the sum of their gradients: the first one writes it, and the others add to it.
/// Every [`TensorMut`] and [`TensorOut`] is a gradient to write, by `From`.
///
/// ```
/// use kernels::*;
/// # fn main() -> Result<(), ConvError> {
/// let (ops, shape) = (Ops::new(None)?, Shape4::new(1, 2, 1, 2));
/// let (x, g) = ([-1.0, 2.0, 3.0, -4.0], [10.0, 20.0, 30.0, 40.0]);
/// let [value, gradient] = [&x, &g].map(|data| TensorRef::packed(data, shape, Layout::Nchw).expect("four elements"));
/// let mut dx = [1.0; 4];
/// let add = Gradient::Add(TensorMut::packed(&mut dx, shape, Layout::Nchw)?);
/// ops.activate_gradient(Activation::Relu, ActivationValue::Input(value), gradient, add, Threads::Seq)?;
/// assert_eq!(dx, [1.0, 21.0, 31.0, 1.0]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub enum Gradient<'a> {
    /// Writes every element. The padding lanes of Nchw16c are set to zero.
    Write(TensorOut<'a>),
    /// Adds to every element. The padding lanes of Nchw16c keep their values.
    Add(TensorMut<'a>),
}

impl<'a> From<TensorOut<'a>> for Gradient<'a> {
    fn from(tensor: TensorOut<'a>) -> Self {
        Self::Write(tensor)
    }
}

impl<'a> From<TensorMut<'a>> for Gradient<'a> {
    fn from(tensor: TensorMut<'a>) -> Self {
        Self::Write(tensor.into())
    }
}

impl<'a> Gradient<'a> {
    /// Whether to add.
    fn adds(&self) -> bool {
        matches!(self, Self::Add(_))
    }

    /// The tensor to write or to add to.
    fn into_tensor(self) -> TensorOut<'a> {
        match self {
            Self::Write(tensor) => tensor,
            Self::Add(tensor) => tensor.into(),
        }
    }

    fn view(&self) -> PixelView {
        match self {
            Self::Write(tensor) => tensor.view(),
            Self::Add(tensor) => tensor.view(),
        }
    }

    /// Checks shape and layout.
    fn check(&self, expected: (Shape4, Layout)) -> Result<(), ConvError> {
        let shape = match self {
            Self::Write(tensor) => tensor.shape(),
            Self::Add(tensor) => tensor.shape(),
        };
        check("gradient of the input", expected, (shape, self.view().layout))
    }
}

/// The gradient of the numbers of a slice, as a result: parameters of a layer, or features.
#[derive(Debug)]
pub enum SliceGradient<'a> {
    /// Writes every element.
    Write(&'a mut [f32]),
    /// Adds to every element.
    Add(&'a mut [f32]),
}

impl<'a> From<&'a mut [f32]> for SliceGradient<'a> {
    fn from(numbers: &'a mut [f32]) -> Self {
        Self::Write(numbers)
    }
}

impl<'a> SliceGradient<'a> {
    /// Whether to add.
    fn adds(&self) -> bool {
        matches!(self, Self::Add(_))
    }

    /// The slice to write or to add to.
    fn into_slice(self) -> &'a mut [f32] {
        let (Self::Write(numbers) | Self::Add(numbers)) = self;
        numbers
    }

    fn check(&self, what: &'static str, expected: usize) -> Result<(), ConvError> {
        let (Self::Write(numbers) | Self::Add(numbers)) = self;
        match numbers.len() {
            got if got == expected => Ok(()),
            got => Err(ConvError::BufferLen { what, expected, got }),
        }
    }

    /// Writes or adds the elements from `first` on.
    fn put(&mut self, first: usize, values: &[f32]) {
        match self {
            Self::Write(numbers) => numbers[first..first + values.len()].copy_from_slice(values),
            Self::Add(numbers) => {
                numbers[first..].iter_mut().zip(values).for_each(|(number, value)| *number += value);
            }
        }
    }
}

/// Numbers per channel or per pixel that several threads write, each its own part.
struct Shared<T>(Mutex<T>);

impl<T> Shared<T> {
    fn new(of: T) -> Self {
        Self(Mutex::new(of))
    }

    /// Calls `write` while no other thread writes.
    fn with<R>(&self, write: impl FnOnce(&mut T) -> R) -> R {
        write(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The tensors that an elementwise gradient is computed from. All have the shape and layout of the result.
struct Sources<'a> {
    gradient: PixelRef<'a>,
    value: PixelRef<'a>,
}

impl<'a> Sources<'a> {
    /// Checks that all tensors have the shape and layout of `value`. If all images can be merged, they are.
    fn new(
        gradient: TensorRef<'a>,
        value: TensorRef<'a>,
        dx: &Gradient<'_>,
    ) -> Result<(Self, bool), ConvError> {
        check_layout(value.layout())?;
        let expected = (value.shape(), value.layout());
        check("gradient of the output", expected, (gradient.shape(), gradient.layout()))?;
        dx.check(expected)?;
        let merge = [gradient.view(), value.view(), dx.view()].iter().all(merges);
        let sources =
            Self { gradient: gradient.pixels().merged_if(merge), value: value.pixels().merged_if(merge) };
        Ok((sources, merge))
    }

    /// The tiles from channel `c` and pixel `p` of image `n` on.
    fn tiles<'o>(
        &self,
        out: OutputTile<'o>,
        add: bool,
        (n, c, p): (usize, usize, usize),
    ) -> GradTiles<'o, 'a> {
        let [gradient, value] = [&self.gradient, &self.value].map(|source| InputTile::new(source, n, c, p));
        GradTiles { out, add, gradient, value }
    }
}

/// The tile of `channels`, which are adjacent, and all pixels of image `n`.
fn tile_of<'o>(region: &'o mut OutputRegion<'_>, n: usize, channels: Range<usize>) -> OutputTile<'o> {
    let pixels = region.pixels.clone();
    if region.layout() == Layout::Nchw {
        region.channels_as_rows(n, channels, pixels)
    } else {
        region.channels_as_columns(n, pixels, channels.start, 0..channels.len())
    }
}

/// Sets the padding lanes to zero, unless the gradient is added.
fn finish(region: &mut OutputRegion<'_>, add: bool) {
    if !add {
        region.zero_padding_lanes();
    }
}
