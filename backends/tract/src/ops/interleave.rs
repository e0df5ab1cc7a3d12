//! The second half of a transposed convolution whose taps do not overlap.

use crate::tensors::{empty, tensor_elements_mut};
use crate::view::{Extents, OutDim, Port};
use kernels::{BLOCK, Size2};
use tract_core::internal::*;

/// Spreads the taps of every pixel over a rectangle of `taps.h x taps.w` pixels.
///
/// A transposed convolution whose kernel equals its stride is a 1x1 convolution with `taps.h * taps.w` times the
/// channels, followed by this copy (Shi et al. 2016, section 3.2). The convolution's channels are ordered
/// `[tap][channel]` in blocks, and `[channel][tap]` in a plain tensor.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Interleave {
    pub(crate) taps: Size2,
    /// The output of the convolution.
    pub(crate) input: Port,
    pub(crate) output: Port,
    /// The axes of a plain output.
    pub(crate) dims: TVec<OutDim>,
}

impl Interleave {
    fn output<D: DimLike>(&self, input: &[D]) -> TractResult<(Extents<D>, TVec<D>)> {
        let extents = self.input.extents(input)?;
        let output = Extents {
            n: extents.n,
            c: self.output.channels.into(),
            h: extents.h * self.taps.h,
            w: extents.w * self.taps.w,
        };
        let shape = if self.output.blocked {
            Port::blocked_shape(&output, self.output.channels)
        } else {
            OutDim::resolve(&self.dims, input, &output)
        };
        Ok((output, shape))
    }

    /// Where plane `(plane, tap)` of the input is, in planes of an image.
    fn input_plane(&self, planes: usize, plane: usize, tap: usize) -> usize {
        if self.input.blocked { tap * planes + plane } else { plane * self.taps.h * self.taps.w + tap }
    }

    /// Copies one row of all taps: `from(tap)` is the input row of a tap of this row of the kernel.
    fn copy_row<'a>(&self, to: &mut [f32], lanes: usize, from: impl Fn(usize) -> &'a [f32]) {
        for tap in 0..self.taps.w {
            let to = to.chunks_exact_mut(lanes).skip(tap).step_by(self.taps.w);
            to.zip(from(tap).chunks_exact(lanes)).for_each(|(to, from)| to.copy_from_slice(from));
        }
    }
}

impl Op for Interleave {
    fn name(&self) -> StaticName {
        "ConvkernelsInterleave".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Interleave {
    op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let input = args_1!(inputs);
        let (extents, (output, shape)) = (self.input.extents(input.shape())?, self.output(input.shape())?);
        let mut result = empty(&shape)?;
        if output.is_empty() {
            return Ok(tvec!(result.into_tvalue()));
        }
        let lanes = if self.output.blocked { BLOCK } else { 1 };
        let planes = self.output.channels.div_ceil(lanes);
        let taps = self.taps.h * self.taps.w;
        let (from, row) = (input.try_as_plain_ram()?.as_slice::<f32>()?, extents.w * lanes);
        let (plane_len, row_len) = (output.h * output.w * lanes, output.w * lanes);
        let per_image = planes * taps * extents.h * row;
        tract_linalg::multithread::par_chunks_mut(
            tensor_elements_mut(&mut result)?,
            plane_len,
            from.len(),
            |first, chunk| {
                for (at, to) in chunk.chunks_exact_mut(plane_len).enumerate() {
                    let (image, plane) = ((first + at) / planes, (first + at) % planes);
                    let from = &from[image * per_image..][..per_image];
                    for (y, to) in to.chunks_exact_mut(row_len).enumerate() {
                        let (y, tap_row) = (y / self.taps.h, y % self.taps.h);
                        self.copy_row(to, lanes, |tap| {
                            let plane = self.input_plane(planes, plane, tap_row * self.taps.w + tap);
                            &from[(plane * extents.h + y) * row..][..row]
                        });
                    }
                }
                Ok(())
            },
        )?;
        Ok(tvec!(result.into_tvalue()))
    }
}

impl TypedOp for Interleave {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let (_, shape) = self.output(&inputs[0].shape.to_tvec())?;
        Ok(tvec!(f32::fact(shape)))
    }

    as_op!();
}
