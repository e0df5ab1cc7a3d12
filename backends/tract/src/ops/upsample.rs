//! Enlarging an image by repeating its pixels.

use crate::tensors::{empty, fill_planes};
use crate::view::Port;
use kernels::{BLOCK, Size2};
use std::mem::MaybeUninit;
use tract_core::internal::*;

/// Repeats every pixel of a blocked tensor `scale.w` times, and every row `scale.h` times.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Upsample {
    pub(crate) port: Port,
    pub(crate) scale: Size2,
}

impl Upsample {
    fn output<D: DimLike>(&self, input: &[D]) -> TractResult<TVec<D>> {
        let mut extents = self.port.extents(input)?;
        extents.h = extents.h * self.scale.h;
        extents.w = extents.w * self.scale.w;
        Ok(Port::blocked_shape(&extents, self.port.channels))
    }
}

impl Op for Upsample {
    fn name(&self) -> StaticName {
        "ConvkernelsUpsample".into()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        Ok(vec![format!("{} times", self.scale)])
    }

    op_as_typed_op!();
}

impl EvalOp for Upsample {
    op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let input = args_1!(inputs);
        let shape = self.output(input.shape())?;
        if shape.contains(&0) {
            return Ok(tvec!(empty(&shape)?.into_tvalue()));
        }
        let extents = self.port.extents(input.shape())?;
        let (pixels, _) = input.try_as_plain_ram()?.as_slice::<f32>()?.as_chunks::<BLOCK>();
        let row_len = extents.w * self.scale.w * BLOCK;
        let write = |plane: usize, to: &mut [MaybeUninit<f32>]| {
            let rows = pixels[plane * extents.h * extents.w..].chunks_exact(extents.w);
            for (to, from) in to.chunks_exact_mut(row_len * self.scale.h).zip(rows) {
                for to in to.chunks_exact_mut(row_len) {
                    let (to, _) = to.as_chunks_mut::<BLOCK>();
                    for (to, from) in to.chunks_exact_mut(self.scale.w).zip(from) {
                        to.fill(from.map(MaybeUninit::new));
                    }
                }
            }
        };
        // SAFETY: a plane has `scale.h` rows for each of the `extents.h` rows of the input, and each of them has
        // `scale.w` pixels for each pixel of the input. The loops write all of them.
        let output = unsafe { fill_planes(&shape, row_len * extents.h * self.scale.h, write)? };
        Ok(tvec!(output.into_tvalue()))
    }
}

impl TypedOp for Upsample {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(f32::fact(self.output(&inputs[0].shape.to_tvec())?)))
    }

    as_op!();
}
