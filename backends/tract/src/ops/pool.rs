//! Pooling in blocks of channels.

use super::layers;
use crate::tensors::{borrow, empty, fill, tensor_elements_mut};
use crate::threads::with_threads;
use crate::view::{Extents, OutDim, Port};
use crate::window::Window;
use kernels::{BLOCK, Layout, PoolDesc, PoolKind, Shape4};
use tract_core::internal::*;

/// Pools a blocked tensor into a blocked one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Pool {
    pub(crate) window: Window,
    pub(crate) port: Port,
    pub(crate) kind: PoolKind,
}

impl Pool {
    fn output<D: DimLike>(&self, input: &[D]) -> TractResult<(Extents<D>, TVec<D>)> {
        let extents = self.port.extents(input)?;
        let ((h, w), _) = self.window.output(&extents);
        let output = Extents { h, w, ..extents };
        let shape = Port::blocked_shape(&output, self.port.channels);
        Ok((output, shape))
    }
}

impl Op for Pool {
    fn name(&self) -> StaticName {
        "ConvkernelsPool".into()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        Ok(vec![format!("{} {} stride {}", self.kind, self.window.kernel, self.window.stride)])
    }

    fn validation(&self) -> Validation {
        Validation::Rounding
    }

    op_as_typed_op!();
}

impl EvalOp for Pool {
    op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let input = args_1!(inputs);
        let (output, shape) = self.output(input.shape())?;
        if output.is_empty() {
            return Ok(tvec!(empty(&shape)?.into_tvalue()));
        }
        let from = borrow(&input, &self.port)?;
        let (_, pad) = self.window.concrete(&self.port.extents(input.shape())?);
        let desc = PoolDesc::builder(from.shape(), self.window.kernel, self.kind)
            .stride(self.window.stride)
            .dilation(self.window.dilation)
            .pad(pad)
            .ceil_mode(self.window.rounds_up())
            .layout(Layout::Nchw16c)
            .build()?;
        let layers = layers()?;
        let output = with_threads(|threads| {
            fill(&shape, output.shape4(), Layout::Nchw16c, |to| layers.pool(&desc, from, to, threads))
        })?;
        Ok(tvec!(output.into_tvalue()))
    }
}

impl TypedOp for Pool {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let (_, shape) = self.output(&inputs[0].shape.to_tvec())?;
        Ok(tvec!(f32::fact(shape)))
    }

    as_op!();
}

/// The mean over all pixels of a blocked tensor, times a factor: a plain tensor of one pixel.
#[derive(Clone, Debug)]
pub(crate) struct GlobalMean {
    pub(crate) port: Port,
    /// The axes of the plain output.
    pub(crate) dims: TVec<OutDim>,
    /// The mean is multiplied by it, and by the number of pixels if `sum`.
    pub(crate) factor: f32,
    pub(crate) sum: bool,
}

impl PartialEq for GlobalMean {
    fn eq(&self, other: &Self) -> bool {
        self.port == other.port
            && self.dims == other.dims
            && self.sum == other.sum
            && self.factor.to_bits() == other.factor.to_bits()
    }
}

impl Eq for GlobalMean {}

impl GlobalMean {
    fn output<D: DimLike>(&self, input: &[D]) -> TractResult<TVec<D>> {
        let extents = self.port.extents(input)?;
        let output = Extents { h: D::one(), w: D::one(), ..extents };
        Ok(OutDim::resolve(&self.dims, input, &output))
    }
}

impl Op for GlobalMean {
    fn name(&self) -> StaticName {
        "ConvkernelsGlobalMean".into()
    }

    fn validation(&self) -> Validation {
        Validation::Rounding
    }

    op_as_typed_op!();
}

impl EvalOp for GlobalMean {
    op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let input = args_1!(inputs);
        let extents = self.port.extents(input.shape())?;
        // The sum over no pixels is zero.
        let mut output = Tensor::zero::<f32>(&self.output(input.shape())?)?;
        if extents.is_empty() {
            return Ok(tvec!(output.into_tvalue()));
        }
        let from = borrow(&input, &self.port)?;
        let average = PoolKind::Average { count_include_pad: false };
        let desc = PoolDesc::global(from.shape(), average, Layout::Nchw16c)?;
        let (layers, blocks) = (layers()?, extents.c.div_ceil(BLOCK));
        let means = with_threads(|threads| {
            let pixel = Shape4::new(extents.n, extents.c, 1, 1);
            fill(&[extents.n, blocks * BLOCK], pixel, Layout::Nchw16c, |to| {
                layers.pool(&desc, from, to, threads)
            })
        })?;
        let factor = if self.sum { self.factor * (extents.h * extents.w) as f32 } else { self.factor };
        let means = means.try_as_plain_ram()?.as_slice::<f32>()?;
        let images = means.chunks_exact(blocks * BLOCK);
        for (to, from) in tensor_elements_mut(&mut output)?.chunks_exact_mut(extents.c).zip(images) {
            to.iter_mut().zip(from).for_each(|(to, from)| *to = from * factor);
        }
        Ok(tvec!(output.into_tvalue()))
    }
}

impl TypedOp for GlobalMean {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(f32::fact(self.output(&inputs[0].shape.to_tvec())?)))
    }

    as_op!();
}
