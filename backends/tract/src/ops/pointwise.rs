//! Layers that change every element of a tensor by itself.

use super::layers;
use crate::tensors::{borrow, borrow_mut};
use crate::threads::with_threads;
use crate::view::Port;
use kernels::{Activation, ConvError, Ops, TensorMut, Threads};
use tract_core::internal::*;

/// What happens to each element `x` of channel `c`.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// `activation(x)`.
    Activate(Activation),
    /// `activation(x + y)`, where `y` is an element of a second input of the same shape.
    Add(Activation),
    /// `x * scale[c] + shift[c]`.
    ScaleShift { scale: Arc<[f32]>, shift: Arc<[f32]> },
    /// `x * (s[c] + plus)`, where `s` is a second, plain input with one pixel.
    ScaleBy { plus: f32 },
}

/// A layer that changes its first input in place if no other node reads it.
#[derive(Clone, Debug)]
pub(crate) struct Pointwise {
    pub(crate) kind: Kind,
    pub(crate) port: Port,
}

impl PartialEq for Pointwise {
    fn eq(&self, other: &Self) -> bool {
        let same = match (&self.kind, &other.kind) {
            (Kind::Activate(a), Kind::Activate(b)) | (Kind::Add(a), Kind::Add(b)) => a == b,
            (Kind::ScaleBy { plus: a }, Kind::ScaleBy { plus: b }) => a.to_bits() == b.to_bits(),
            (Kind::ScaleShift { scale, shift }, Kind::ScaleShift { scale: scales, shift: shifts }) => {
                Arc::ptr_eq(scale, scales) && Arc::ptr_eq(shift, shifts)
            }
            _ => false,
        };
        same && self.port == other.port
    }
}

impl Eq for Pointwise {}

impl Pointwise {
    /// Multiplies every channel of every image by its element of `scales`.
    fn scale_by(
        ops: Ops,
        tensor: TensorMut<'_>,
        scales: &[f32],
        plus: f32,
        threads: Threads<'_>,
    ) -> Result<(), ConvError> {
        let (shape, layout) = (tensor.shape(), tensor.layout());
        let image = kernels::Shape4 { n: 1, ..shape };
        let (len, zeros) = (image.len(layout)?, vec![0.0; shape.c]);
        let mut tensor = tensor;
        let images = tensor.data_mut().chunks_exact_mut(len);
        for (elements, scales) in images.zip(scales.chunks_exact(shape.c)) {
            let scales: Vec<f32> = scales.iter().map(|scale| scale + plus).collect();
            ops.scale_shift(&scales, &zeros, TensorMut::packed(elements, image, layout)?, threads)?;
        }
        Ok(())
    }

    fn run(&self, mut inputs: TVec<TValue>) -> TractResult<Tensor> {
        let expected = match self.kind {
            Kind::Activate(_) | Kind::ScaleShift { .. } => 1,
            Kind::Add(_) | Kind::ScaleBy { .. } => 2,
        };
        ensure!(inputs.len() == expected, "Expected {expected} inputs, got {}", inputs.len());
        let ops = layers()?;
        if matches!(self.kind, Kind::Add(_)) && !inputs[0].is_exclusive() && inputs[1].is_exclusive() {
            inputs.swap(0, 1);
        }
        let second = inputs.get(1).cloned();
        inputs.truncate(1);
        let mut tensor = args_1!(inputs).into_tensor();
        if tensor.len() == 0 {
            return Ok(tensor);
        }
        let first = borrow_mut(&mut tensor, &self.port)?;
        with_threads(|threads| {
            match (&self.kind, &second) {
                (Kind::Activate(activation), _) => ops.activate(*activation, None, first, threads)?,
                (Kind::ScaleShift { scale, shift }, _) => ops.scale_shift(scale, shift, first, threads)?,
                (Kind::Add(activation), Some(second)) => {
                    ops.add(borrow(second, &self.port)?, first, *activation, threads)?;
                }
                (Kind::ScaleBy { plus }, Some(scales)) => {
                    let (shape, scales) = (first.shape(), scales.try_as_plain_ram()?.as_slice::<f32>()?);
                    let expected = shape.n * shape.c;
                    ensure!(scales.len() == expected, "Expected {expected} scales, got {}", scales.len());
                    Self::scale_by(ops, first, scales, *plus, threads)?;
                }
                (Kind::Add(_) | Kind::ScaleBy { .. }, None) => bail!("Expected a second input"),
            }
            Ok(())
        })?;
        Ok(tensor)
    }
}

impl Op for Pointwise {
    fn name(&self) -> StaticName {
        "ConvkernelsPointwise".into()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        let kind = match &self.kind {
            Kind::Activate(activation) => activation.to_string(),
            Kind::Add(activation) => format!("add, {activation}"),
            Kind::ScaleShift { .. } => "scale and shift".to_string(),
            Kind::ScaleBy { .. } => "scale by channel".to_string(),
        };
        Ok(vec![kind])
    }

    fn validation(&self) -> Validation {
        Validation::Rounding
    }

    op_as_typed_op!();
}

impl EvalOp for Pointwise {
    op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        Ok(tvec!(self.run(inputs)?.into_tvalue()))
    }
}

impl TypedOp for Pointwise {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let shape = inputs[0].shape.to_tvec();
        self.port.extents(&shape)?;
        if let (Kind::Add(_), Some(second)) = (&self.kind, inputs.get(1)) {
            ensure!(second.shape == inputs[0].shape, "Expected equal shapes, got {inputs:?}");
        }
        Ok(tvec!(f32::fact(shape)))
    }

    as_op!();
}
