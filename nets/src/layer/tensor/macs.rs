//! Multiply-accumulates and other operations of operators on tensors, for the whole batch.

use super::output::axes_of;
use super::{Binary, PoolOp, SoftKind, TensorLayer, TensorOp, Unary};
use crate::layer::param::product;
use crate::shape::Shape;

impl TensorLayer {
    /// Multiply-accumulates for a batch size; `None` if they overflow 64 bits. A product with padding counts.
    pub(crate) fn macs(&self, inputs: &[Shape], batch: usize) -> Option<u64> {
        let operands = self.operand_dims(inputs, batch)?;
        let output = product(&self.output.full(batch)?)?;
        let extent = |operand: usize, from_end: usize| -> Option<u64> {
            let dims = operands.get(operand)?;
            u64::try_from(*dims.get(dims.len().checked_sub(from_end)?)?).ok()
        };
        match &self.op {
            TensorOp::MatMul => output.checked_mul(extent(0, 1)?),
            TensorOp::Gemm { trans_a, .. } => output.checked_mul(extent(0, if *trans_a { 2 } else { 1 })?),
            TensorOp::Einsum { inputs, .. } if inputs.len() > 1 => {
                let extents = axes_of(&operands, inputs).ok()?;
                let all = product(&extents)?;
                all.checked_mul(inputs.len() as u64 - 1)
            }
            TensorOp::Conv(_) | TensorOp::Deform(_) => output.checked_mul(product(&operands.get(1)?[1..])?),
            TensorOp::ConvTranspose(_) => {
                product(&operands[0])?.checked_mul(product(&operands.get(1)?[1..])?)
            }
            TensorOp::Recurrent(layer) => {
                let (steps, width) = (product(&operands[0][..2])?, operands[0][2]);
                let rows = product(&[layer.reversed.len(), layer.cell.gates(), layer.hidden])?;
                // The last state is part of what the first output computes.
                let per_step = rows.checked_mul(u64::try_from(width.checked_add(layer.hidden)?).ok()?)?;
                steps.checked_mul(per_step)
            }
            _ => Some(0),
        }
    }

    /// Operations other than multiply-accumulates for a batch size, by the rules of
    /// [`Convention::Ops`](crate::Convention::Ops).
    pub(crate) fn other_ops(&self, inputs: &[Shape], batch: usize) -> Option<u64> {
        let operands = self.operand_dims(inputs, batch)?;
        let output = product(&self.output.full(batch)?)?;
        match &self.op {
            TensorOp::Map(Unary::Trunc | Unary::Truth) => Some(0),
            TensorOp::Map(_) | TensorOp::Where | TensorOp::CumSum { .. } | TensorOp::Trilu { .. } => {
                Some(output)
            }
            TensorOp::Zip(Binary::PRelu) => Some(output),
            TensorOp::Zip(_) => output.checked_mul(operands.len() as u64 - 1),
            TensorOp::Reduce { .. } | TensorOp::ArgExtreme { .. } => product(&operands[0]),
            TensorOp::Softmax { kind: SoftKind::Hard, .. } => Some(output),
            TensorOp::Softmax { .. } => output.checked_mul(5),
            TensorOp::Blend(blend) => {
                let per_axis: usize = blend.outputs.iter().map(Vec::len).sum();
                // Each output of the axis is computed once for every other element.
                let others = output.checked_div(blend.outputs.len() as u64)?;
                others.checked_mul(per_axis as u64)
            }
            TensorOp::Pool { kind: PoolOp::MaxPlace { .. }, .. } => Some(0),
            TensorOp::Pool { windows, .. } => output.checked_mul(product(&windows.kernel)?),
            TensorOp::Normalize { .. } => output.checked_mul(4),
            // A product and a sum for each element around a place, as for resizing.
            TensorOp::GridSample(sample) => {
                let axes = u32::try_from(operands[0].len().checked_sub(2)?).ok()?;
                output.checked_mul((sample.how.reach() as u64).checked_pow(axes)?)
            }
            // The bilinear values that the filters read, four products each, and the product with the mask.
            TensorOp::Deform(_) => {
                let sampled = output
                    .checked_div(product(&operands[1][..1])?)?
                    .checked_mul(product(&operands[0][1..2])?)?;
                let per_value = if operands[4].is_empty() { 4 } else { 5 };
                sampled.checked_mul(product(&operands[1][2..])?)?.checked_mul(per_value)
            }
            TensorOp::Overlap(_) => product(&operands[0]),
            TensorOp::Lrn(lrn) => output.checked_mul(u64::try_from(lrn.size).ok()?.checked_add(4)?),
            _ => Some(0),
        }
    }
}
