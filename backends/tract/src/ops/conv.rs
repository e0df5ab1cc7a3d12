//! A convolution, ordinary or transposed, with its bias, residual and activation.

use crate::plans::{Plans, run};
use crate::tensors::{borrow, empty, fill};
use crate::threads::with_threads;
use crate::view::{Extents, OutDim, Port};
use crate::window::Window;
use kernels::{ConvIo, Layout, TensorRef};
use std::sync::Arc;
use tract_core::internal::*;

/// A convolution, a transposed convolution or a product with constant weights. Inputs: the image, and the residual if there is one.
#[derive(Clone, Debug)]
pub(crate) struct Conv {
    pub(crate) plans: Arc<Plans>,
    pub(crate) window: Window,
    pub(crate) input: Port,
    pub(crate) output: Port,
    /// The axes of a plain output.
    pub(crate) dims: TVec<OutDim>,
    pub(crate) residual: bool,
    /// What it is, for listings of the model.
    pub(crate) label: String,
}

impl PartialEq for Conv {
    /// Convolutions are equal if they share their weights.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.plans, &other.plans) && self.input == other.input && self.output == other.output
    }
}

impl Eq for Conv {}

impl Conv {
    /// The extents of the output, and the shape of its tensor.
    fn output<D: DimLike>(&self, input: &[D]) -> TractResult<(Extents<D>, TVec<D>)> {
        let extents = self.input.extents(input)?;
        let ((h, w), _) = self.window.output(&extents);
        let output = Extents { n: extents.n, c: self.output.channels.into(), h, w };
        let shape = if self.output.blocked {
            Port::blocked_shape(&output, self.output.channels)
        } else {
            OutDim::resolve(&self.dims, input, &output)
        };
        Ok((output, shape))
    }

    /// A plain output has the layout of the input. It can have other axes of extent 1, which change nothing in
    /// memory.
    fn output_layout(&self) -> Layout {
        if self.output.blocked { Layout::Nchw16c } else { self.input.view.layout() }
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<Tensor> {
        let expected = 1 + usize::from(self.residual);
        ensure!(inputs.len() == expected, "Expected {expected} inputs, got {}", inputs.len());
        let input = self.input.extents(inputs[0].shape())?;
        self.window.check(&input)?;
        let (output, shape) = self.output(inputs[0].shape())?;
        if output.is_empty() {
            return empty(&shape);
        }
        let (_, pad) = self.window.concrete(&input);
        let image = borrow(&inputs[0], &self.input)?;
        let layout = self.output_layout();
        let residual = match inputs.get(1) {
            Some(residual) => {
                ensure!(residual.shape() == &*shape, "Expected a residual of {shape:?}, got {residual:?}");
                let elements = residual.try_as_plain_ram()?.as_slice::<f32>()?;
                Some(TensorRef::packed(elements, output.shape4(), layout)?)
            }
            None => None,
        };
        with_threads(|threads| {
            let plan = self.plans.plan(input.shape4(), pad, threads.count())?;
            fill(&shape, output.shape4(), layout, |output| {
                let io = ConvIo::new(image, output);
                run(&plan, residual.into_iter().fold(io, ConvIo::residual), threads)
            })
        })
    }
}

impl Op for Conv {
    fn name(&self) -> StaticName {
        "ConvkernelsConv".into()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        Ok(vec![self.label.clone(), format!("{} -> {}", self.input.layout(), self.output_layout())])
    }

    fn validation(&self) -> Validation {
        Validation::Rounding
    }

    op_as_typed_op!();
}

impl EvalOp for Conv {
    op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let output = self.run(&inputs).with_context(|| format!("in {}", self.label))?;
        Ok(tvec!(output.into_tvalue()))
    }
}

impl TypedOp for Conv {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        for input in inputs {
            ensure!(input.datum_type == f32::datum_type(), "Expected f32, got {:?}", input.datum_type);
        }
        let (_, shape) = self.output(&inputs[0].shape.to_tvec())?;
        Ok(tvec!(f32::fact(shape)))
    }

    fn cost(&self, inputs: &[&TypedFact]) -> TractResult<TVec<(Cost, TDim)>> {
        let shape = inputs[0].shape.to_tvec();
        // Each tap meets every output of an ordinary convolution, and every input of a transposed one.
        let output = match self.window.is_transposed() {
            true => self.input.extents(&shape)?,
            false => self.output(&shape)?.0,
        };
        let shape = self.plans.shape();
        let products = shape.out_channels * shape.in_channels * shape.kernel.h * shape.kernel.w;
        Ok(tvec!((Cost::FMA(f32::datum_type()), output.n * output.h * output.w * products)))
    }

    as_op!();
}
