//! Pooling layers.

use super::conv::invalid;
use crate::error::LayerError;
use crate::shape::Shape;
use kernels::{ConvError, Layout, Pad2, PoolDesc, PoolKind, Shape4, Size2};

/// A pooling layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pool {
    /// Maximum or average.
    pub kind: PoolKind,
    /// Extents of the window; `None` for the whole image.
    pub window: Option<Size2>,
    /// Input elements between neighbouring windows.
    pub stride: Size2,
    /// Padding around the input.
    pub pad: Pad2,
    /// Input elements between neighbouring elements of a window.
    pub dilation: Size2,
    /// Whether output extents round up, so that the last window can be clipped.
    pub ceil_mode: bool,
}

impl Pool {
    /// Average pooling over `window` by `window` elements, without padding.
    pub const fn average(window: usize, stride: usize) -> Self {
        Self::new(PoolKind::Average { count_include_pad: true }, window, stride)
    }

    /// Max pooling over `window` by `window` elements, without padding.
    pub const fn max(window: usize, stride: usize) -> Self {
        Self::new(PoolKind::Max, window, stride)
    }

    /// Global average pooling: the average of each feature map.
    pub const fn global_average() -> Self {
        Self { window: None, ..Self::average(1, 1) }
    }

    /// Global max pooling: the maximum of each feature map.
    pub const fn global_max() -> Self {
        Self { window: None, ..Self::max(1, 1) }
    }

    const fn new(kind: PoolKind, window: usize, stride: usize) -> Self {
        let (window, stride) = (Some(Size2::square(window)), Size2::square(stride));
        Self { kind, window, stride, pad: Pad2::VALID, dilation: Size2::square(1), ceil_mode: false }
    }

    /// Sets the same padding on all sides.
    pub const fn pad(self, pad: usize) -> Self {
        Self { pad: Pad2::all(pad), ..self }
    }

    /// Makes the output extents round up.
    pub const fn ceil_mode(self) -> Self {
        Self { ceil_mode: true, ..self }
    }

    /// Extents of the window on an input of shape `input`.
    pub fn window_on(&self, input: Shape4) -> Size2 {
        self.window.unwrap_or(input.size())
    }

    /// Describes this layer for the kernels, on an input of shape `input`.
    ///
    /// # Errors
    /// Those of [`kernels::PoolDescBuilder::build`], such as an empty output or a zero stride.
    pub fn desc(&self, input: Shape4, layout: Layout) -> Result<PoolDesc, ConvError> {
        let Some(window) = self.window else { return PoolDesc::global(input, self.kind, layout) };
        PoolDesc::builder(input, window, self.kind)
            .stride(self.stride)
            .pad(self.pad)
            .dilation(self.dilation)
            .ceil_mode(self.ceil_mode)
            .layout(layout)
            .build()
    }
}

/// The subsampling layer of LeNet-5. It sums over windows that do not overlap, multiplies by a trained
/// coefficient and adds a trained bias. Each map has one coefficient and one bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subsample {
    /// Extents of the window, which are also its stride.
    pub window: Size2,
}

impl Subsample {
    /// The average pooling that comes before the scaling.
    pub(crate) fn pool(&self) -> Pool {
        Pool { window: Some(self.window), stride: self.window, ..Pool::average(1, 1) }
    }
}

/// Average pooling with a fixed output size. The windows adapt to the size of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdaptivePool {
    /// Extents of the output.
    pub output: Size2,
}

impl AdaptivePool {
    pub(super) fn output(&self, input: Shape4) -> Result<Shape, LayerError> {
        if self.output.h == 0 || self.output.w == 0 {
            return Err(invalid("output", "at least 1x1", self.output));
        }
        let output = Shape::map(input.c, self.output.h, self.output.w);
        output.len()?;
        Ok(output)
    }

    /// The equivalent ordinary pooling, if the output extents divide the input extents.
    pub(crate) fn as_pool(&self, input: Shape4) -> Option<Pool> {
        let (h, w) = (self.output.h, self.output.w);
        (input.h.is_multiple_of(h) && input.w.is_multiple_of(w)).then(|| {
            let window = Size2::new(input.h / h, input.w / w);
            Pool { window: Some(window), stride: window, ..Pool::average(1, 1) }
        })
    }

    /// The range of inputs that output `index` of `outputs` averages, along one axis.
    pub(crate) fn window(index: usize, outputs: usize, inputs: usize) -> std::ops::Range<usize> {
        // 128-bit products cannot overflow.
        let (index, outputs, inputs) = (index as u128, outputs as u128, inputs as u128);
        let (start, end) = (index * inputs / outputs, ((index + 1) * inputs).div_ceil(outputs));
        start as usize..end as usize
    }
}

/// Fractional max-pooling (Graham 2014): the distances between neighbouring windows vary, so that the output can be smaller by a
/// factor between 1 and 2. The windows overlap.
///
/// Along each axis, window `i` of `outputs` begins at `floor((i + u) a) - floor(u a)` with `a = (input - window) / (outputs - 1)`,
/// and the last one ends where the input ends. While training, `u` is a random number of each map and axis. At inference, window
/// `i` begins at `i a`, rounded: the mean over all `u`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FractionalPool {
    /// Extents of a window.
    pub window: Size2,
    /// Extents of the output.
    pub output: Size2,
}

/// The input elements and the window along one axis.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FractionalAxis {
    pub(crate) inputs: usize,
    pub(crate) window: usize,
    pub(crate) outputs: usize,
}

impl FractionalAxis {
    /// The first element of window `index`, for a `sample` from 0 to below 1, or the mean over all samples.
    pub(crate) fn start(self, index: usize, sample: Option<f32>) -> usize {
        let room = self.inputs - self.window;
        if index + 1 >= self.outputs {
            return room;
        }
        let Some(sample) = sample else {
            let gaps = self.outputs - 1;
            return (2 * index * room + gaps) / (2 * gaps);
        };
        let step = room as f32 / (self.outputs - 1) as f32;
        let start = ((index as f32 + sample) * step) as usize - (sample * step) as usize;
        // The last `f32` below an integer can round up.
        start.min(room)
    }
}

impl FractionalPool {
    /// Fractional max-pooling over `window` by `window` elements to `output` by `output` elements.
    pub const fn new(window: usize, output: usize) -> Self {
        Self { window: Size2::square(window), output: Size2::square(output) }
    }

    pub(super) fn output(&self, input: Shape4) -> Result<Shape, LayerError> {
        for axis in self.axes(input.size()) {
            if axis.window == 0 || axis.window > axis.inputs {
                let expected = format!("at least 1x1 and at most {}", input.size());
                return Err(invalid("window", expected, self.window));
            }
            let most = axis.inputs - axis.window + 1;
            if !(1..=most).contains(&axis.outputs) {
                return Err(invalid("output", format!("extents from 1 to {most}"), self.output));
            }
        }
        Ok(Shape::map(input.c, self.output.h, self.output.w))
    }

    /// The rows and the columns of an input.
    pub(crate) fn axes(&self, input: Size2) -> [FractionalAxis; 2] {
        let (window, output) = (self.window, self.output);
        [
            FractionalAxis { inputs: input.h, window: window.h, outputs: output.h },
            FractionalAxis { inputs: input.w, window: window.w, outputs: output.w },
        ]
    }
}
