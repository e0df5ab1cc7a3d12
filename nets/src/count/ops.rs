//! Arithmetic operations other than the multiply-accumulates of convolutions and matrix products.

use crate::layer::{Layer, Norm, NormKind};
use crate::shape::Shape;
use kernels::Activation;

/// Operations of `batch` images, by the rules of [`Convention::Ops`](super::Convention::Ops).
pub(super) fn other_ops(layer: &Layer, inputs: &[Shape], output: Shape, batch: u64) -> Option<u64> {
    if let Layer::Tensor(tensor) = layer {
        return tensor.other_ops(inputs, usize::try_from(batch).ok()?);
    }
    let elements = elements(output)?;
    let per_output = match layer {
        Layer::Pool(pool) => area(pool.window_on(inputs[0].batched(1)))?,
        Layer::FractionalPool(pool) => area(pool.window)?,
        // One operation per input. Elements in overlapping windows are counted once.
        Layer::AdaptivePool(_) => return self::elements(inputs[0])?.checked_mul(batch),
        Layer::Subsample(pool) => area(pool.window)?.checked_add(1)?,
        Layer::Rbf { .. } => u64::try_from(inputs[0].channels()).ok()?.checked_mul(3)?,
        Layer::Activation(Activation::None) => 0,
        Layer::Activation(_) | Layer::Mul => 1,
        Layer::Norm(Norm { kind: NormKind::Batch, .. }) => 2,
        Layer::Norm(norm) if norm.affine => 5,
        Layer::Norm(_) => 4,
        Layer::Lrn(lrn) => u64::try_from(lrn.size).ok()?.checked_add(4)?,
        // A multiplication, an addition and two comparisons.
        Layer::HardSigmoid { .. } => 4,
        Layer::Scale { scale, shift } => u64::from(*scale) + u64::from(*shift),
        Layer::Maxout { pieces } => u64::try_from(*pieces).ok()?.saturating_sub(1),
        Layer::Add => inputs.len() as u64 - 1,
        Layer::Softmax => 5,
        _ => 0,
    };
    elements.checked_mul(per_output)?.checked_mul(batch)
}

pub(super) fn elements(shape: Shape) -> Option<u64> {
    u64::try_from(shape.len().ok()?).ok()
}

fn area(window: kernels::Size2) -> Option<u64> {
    u64::try_from(window.h).ok()?.checked_mul(u64::try_from(window.w).ok()?)
}
