//! The second half of a transposed convolution whose taps do not overlap.

use crate::tensors::{empty, fill_planes};
use crate::view::{Extents, OutDim, Port};
use kernels::{BLOCK, Size2};
use std::mem::MaybeUninit;
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

    /// Fills one plane of the output from its taps in an image of the input.
    fn fill_plane<const LANES: usize>(
        &self,
        to: &mut [MaybeUninit<f32>],
        from: &[f32],
        (plane, planes): (usize, usize),
        extents: &Extents<usize>,
    ) {
        let row = extents.w * LANES;
        for (y, to) in to.chunks_exact_mut(row * self.taps.w).enumerate() {
            let (y, tap_row) = (y / self.taps.h, y % self.taps.h);
            let (to, _) = to.as_chunks_mut::<LANES>();
            for tap in 0..self.taps.w {
                let plane = self.input_plane(planes, plane, tap_row * self.taps.w + tap);
                let (from, _) = from[(plane * extents.h + y) * row..][..row].as_chunks::<LANES>();
                let to = to.iter_mut().skip(tap).step_by(self.taps.w);
                to.zip(from).for_each(|(to, from)| *to = from.map(MaybeUninit::new));
            }
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
        if output.is_empty() {
            return Ok(tvec!(empty(&shape)?.into_tvalue()));
        }
        let lanes = if self.output.blocked { BLOCK } else { 1 };
        let planes = self.output.channels.div_ceil(lanes);
        let from = input.try_as_plain_ram()?.as_slice::<f32>()?;
        let per_image = planes * self.taps.h * self.taps.w * extents.h * extents.w * lanes;
        ensure!(from.len() == per_image * extents.n, "Expected {per_image} elements per image in {input:?}");
        let write = |at: usize, to: &mut [MaybeUninit<f32>]| {
            let from = &from[at / planes * per_image..][..per_image];
            let plane = (at % planes, planes);
            match lanes {
                1 => self.fill_plane::<1>(to, from, plane, &extents),
                _ => self.fill_plane::<BLOCK>(to, from, plane, &extents),
            }
        };
        // SAFETY: a plane has `extents.h * taps.h` rows of `extents.w * taps.w` pixels, and `fill_plane` writes
        // every pixel of every row.
        let result = unsafe { fill_planes(&shape, output.h * output.w * lanes, write)? };
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
