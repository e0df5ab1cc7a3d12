//! Copies between plain tensors and tensors in blocks of channels.

use super::layers;
use crate::tensors::{borrow, empty, fill};
use crate::threads::with_threads;
use crate::view::{Extents, OutDim, Port};
use tract_core::internal::*;

/// Copies a tensor into blocks of channels, or back.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Reorder {
    pub(crate) input: Port,
    /// Whether the output is blocked. The input then is plain.
    pub(crate) output: Port,
    /// The axes of a plain output.
    pub(crate) dims: TVec<OutDim>,
}

impl Reorder {
    fn output<D: DimLike>(&self, input: &[D]) -> TractResult<(Extents<D>, TVec<D>)> {
        let extents = self.input.extents(input)?;
        let shape = if self.output.blocked {
            Port::blocked_shape(&extents, self.output.channels)
        } else {
            OutDim::resolve(&self.dims, input, &extents)
        };
        Ok((extents, shape))
    }
}

impl Op for Reorder {
    fn name(&self) -> StaticName {
        "ConvkernelsReorder".into()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        Ok(vec![format!("{} -> {}", self.input.layout(), self.output.layout())])
    }

    op_as_typed_op!();
}

impl EvalOp for Reorder {
    op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let input = args_1!(inputs);
        let (extents, shape) = self.output(input.shape())?;
        if extents.is_empty() {
            return Ok(tvec!(empty(&shape)?.into_tvalue()));
        }
        let (from, layers) = (borrow(&input, &self.input)?, layers()?);
        let output = with_threads(|threads| {
            fill(&shape, extents.shape4(), self.output.layout(), |to| layers.copy(from, to, threads))
        })?;
        Ok(tvec!(output.into_tvalue()))
    }
}

impl TypedOp for Reorder {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let (_, shape) = self.output(&inputs[0].shape.to_tvec())?;
        Ok(tvec!(f32::fact(shape)))
    }

    as_op!();
}
