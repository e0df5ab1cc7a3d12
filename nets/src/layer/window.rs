//! The window of input elements that one output of a layer reads, along both axes.

use super::{Layer, Pool};
use crate::shape::Shape;
use kernels::Size2;

/// The window of a layer: the extent of the dilated kernel, the stride, and the padding before the first element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) reach: Size2,
    pub(crate) stride: Size2,
    pub(crate) before: Size2,
}

impl Window {
    /// A window of one element.
    const POINT: Self = Self { reach: Size2::square(1), stride: Size2::square(1), before: Size2::square(0) };

    fn new(kernel: Size2, dilation: Size2, stride: Size2, before: Size2) -> Self {
        let reach = |kernel: usize, dilation: usize| (kernel - 1) * dilation + 1;
        Self { reach: Size2::new(reach(kernel.h, dilation.h), reach(kernel.w, dilation.w)), stride, before }
    }

    /// A window over the whole input.
    fn all(input: Shape) -> Self {
        Self { reach: input.batched(1).size(), ..Self::POINT }
    }
}

/// The window of a layer that [`Layer::output`] has accepted. Returns `None` where a window is undefined,
/// such as for inputs and unknown operators.
pub(crate) fn window(layer: &Layer, input: Shape) -> Option<Window> {
    let one = Size2::square(1);
    Some(match layer {
        Layer::Input(_) | Layer::Unknown { .. } | Layer::Reshape(_) | Layer::MatMul => return None,
        Layer::Tensor(_) => return None,
        Layer::Conv(conv) | Layer::SparseConv(super::SparseConv { conv, .. }) => {
            Window::new(conv.kernel, conv.dilation, conv.stride, Size2::new(conv.pad.top, conv.pad.left))
        }
        // The jump between fields would become a fraction, which the integers cannot represent.
        Layer::ConvTranspose(_) | Layer::FractionalPool(_) => return None,
        Layer::Pool(Pool { window: None, .. }) | Layer::Linear(_) | Layer::Rbf { .. } | Layer::Flatten => {
            Window::all(input)
        }
        Layer::Pool(pool) => {
            let before = Size2::new(pool.pad.top, pool.pad.left);
            Window::new(pool.window_on(input.batched(1)), pool.dilation, pool.stride, before)
        }
        Layer::AdaptivePool(pool) => {
            let size = input.batched(1).size();
            let stride = Size2::new((size.h / pool.output.h).max(1), (size.w / pool.output.w).max(1));
            let reach = Size2::new(size.h.div_ceil(pool.output.h), size.w.div_ceil(pool.output.w));
            Window { reach, stride, before: Size2::square(0) }
        }
        Layer::Subsample(pool) => Window::new(pool.window, one, pool.window, Size2::square(0)),
        Layer::ShortcutA { stride, .. } => Window { stride: Size2::square(*stride), ..Window::POINT },
        Layer::Pad(pad) => Window { before: Size2::new(pad.top, pad.left), ..Window::POINT },
        Layer::Activation(_)
        | Layer::Norm(_)
        | Layer::Lrn(_)
        | Layer::Scale { .. }
        | Layer::HardSigmoid { .. }
        | Layer::Maxout { .. } => Window::POINT,
        Layer::Dropout | Layer::Concat | Layer::Add | Layer::Mul | Layer::Softmax => Window::POINT,
    })
}
