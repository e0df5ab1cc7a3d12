//! [`Gradients`]: the gradients of a convolution, by `BackwardData` and `BackwardWeights` of the library.
//!
//! A transposed convolution is the gradient of an ordinary one from its output to its input
//! ([`Problem::ordinary`]). So the gradient of its input is that ordinary convolution of the output's gradient, and the
//! gradient of its weight is that of the ordinary convolution with the roles of both tensors exchanged.

use crate::output::{written_by, zeros};
use crate::plans::{Plans, new_gradient, options};
use crate::run::{storage, with_workspace};
use crate::spec::{Problem, failed};
use crate::threads::{self, PARALLEL};
use crate::view;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout as Strides, Result, Shape, Tensor};
use kernels::{
    BackwardDataIo, BackwardWeights, BackwardWeightsIo, ConvDesc, ConvIo, ConvPlan, Layout, PlanOptions,
    Shape4, TensorMut, TensorOut, TensorRef, Weights, WeightsSpec,
};
use rayon::prelude::*;
use std::mem::MaybeUninit;
use std::sync::Arc;

/// The gradients of one call, from the gradient of its output.
pub(crate) struct Gradients {
    problem: Problem,
    /// The convolution whose gradients they are.
    desc: ConvDesc,
    /// The whole gradient of the output, contiguous.
    grad: Tensor,
    /// Keeps plans for the next step.
    plans: Option<Arc<Plans>>,
}

impl Gradients {
    pub(crate) fn new(problem: &Problem, grad: &Tensor, plans: Option<Arc<Plans>>) -> Result<Self> {
        Ok(Self { problem: *problem, desc: problem.ordinary()?, grad: grad.detach().contiguous()?, plans })
    }

    /// The gradient of the input; `None` if the input needs none.
    pub(crate) fn input(&self, input: &Tensor, weight: &Tensor) -> Result<Option<Tensor>> {
        if !input.track_op() {
            return Ok(None);
        }
        let weight = weight.detach();
        let op = Data { problem: self.problem, desc: self.desc, plans: self.plans.clone() };
        self.reached()?.apply_op2_no_bwd(&weight, &op).map(Some)
    }

    /// The gradient of the weight; `None` if the weight needs none.
    pub(crate) fn weight(&self, input: &Tensor, weight: &Tensor) -> Result<Option<Tensor>> {
        if !weight.track_op() {
            return Ok(None);
        }
        self.filter(input, false)?.reshape(weight.dims()).map(Some)
    }

    /// The gradients of the weight and of the bias; `None` for each that needs none.
    pub(crate) fn weight_and_bias(
        &self,
        input: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let together = weight.track_op() && bias.track_op() && !self.problem.spec.transposed;
        if !together {
            let sums = || bias.track_op().then(|| self.grad.apply_op1_no_bwd(&ChannelSums)).transpose();
            return Ok((self.weight(input, weight)?, sums()?));
        }
        let (both, len) = (self.filter(input, true)?, self.desc.filter_len());
        let of_bias = both.narrow(0, len, self.problem.output.c)?;
        Ok((Some(both.narrow(0, 0, len)?.reshape(weight.dims())?), Some(of_bias)))
    }

    /// The gradient of the filter, followed by that of the bias if `bias`, as one vector.
    fn filter(&self, input: &Tensor, bias: bool) -> Result<Tensor> {
        let op = Filter { desc: self.desc, bias };
        let input = input.detach().contiguous()?;
        match self.problem.spec.transposed {
            true => self.reached()?.apply_op2_no_bwd(&input, &op),
            false => input.apply_op2_no_bwd(&self.grad, &op),
        }
    }

    /// The output's gradient without the last rows and columns of a transposed convolution that no tap reaches.
    fn reached(&self) -> Result<Tensor> {
        let mut grad = self.grad.clone();
        if self.problem.spec.transposed {
            for (axis, extent) in self.problem.spec.dims(self.desc.input()).into_iter().enumerate().skip(2) {
                grad = grad.narrow(axis, 0, extent)?;
            }
        }
        grad.contiguous()
    }
}

/// A contiguous tensor of candle in NCHW.
fn packed<'a>(
    what: &str,
    (storage, strides): (&'a CpuStorage, &Strides),
    shape: Shape4,
) -> Result<TensorRef<'a>> {
    TensorRef::packed(view::contiguous(what, storage, strides)?, shape, Layout::Nchw).map_err(failed)
}

/// The gradient of the input, from the gradient of the output and the weight.
struct Data {
    problem: Problem,
    desc: ConvDesc,
    plans: Option<Arc<Plans>>,
}

impl Data {
    /// The gradient of an ordinary convolution's input.
    fn of_ordinary(&self, grad: TensorRef<'_>, weight: &[f32]) -> Result<Vec<f32>> {
        let desc = &self.desc;
        let plan = match &self.plans {
            Some(plans) => plans.gradient(desc, weight)?,
            None => new_gradient(desc, weight)?,
        };
        let mut values = zeros(desc.input().len(Layout::Nchw).map_err(failed)?)?;
        let grad_input = TensorMut::packed(&mut values, desc.input(), Layout::Nchw).map_err(failed)?;
        let io = BackwardDataIo::new(grad, grad_input);
        with_workspace(plan.workspace_req(), |workspace| plan.run(io, workspace, threads::current()))?;
        if let Some(plans) = &self.plans {
            plans.keep_gradient(plan);
        }
        Ok(values)
    }

    /// The gradient of a transposed convolution's input: an ordinary convolution.
    fn of_transposed(&self, grad: TensorRef<'_>, weight: &[f32]) -> Result<Vec<f32>> {
        let desc = &self.desc;
        let plan =
            ConvPlan::new(desc, Weights::filter(weight), &options(desc.output(), true)).map_err(failed)?;
        let write = |space: &mut [MaybeUninit<f32>]| {
            let output = TensorOut::packed(space, desc.output(), Layout::Nchw).map_err(failed)?;
            let io = ConvIo::new(grad, output);
            with_workspace(plan.workspace_req(), |workspace| plan.run(io, workspace, threads::current()))
        };
        // SAFETY: a run that returns `Ok` has written every element of a packed output.
        unsafe { written_by(desc.output().len(Layout::Nchw).map_err(failed)?, write) }
    }
}

impl CustomOp2 for Data {
    fn name(&self) -> &'static str {
        "convkernels-gradient-of-input"
    }

    fn cpu_fwd(
        &self,
        grad: &CpuStorage,
        grad_strides: &Strides,
        weight: &CpuStorage,
        weight_strides: &Strides,
    ) -> Result<(CpuStorage, Shape)> {
        let Problem { spec, input, .. } = self.problem;
        let weight = view::contiguous("weight", weight, weight_strides)?;
        let grad = (grad, grad_strides);
        let values = if spec.transposed {
            self.of_transposed(packed("gradient", grad, self.desc.input())?, weight)?
        } else {
            self.of_ordinary(packed("gradient", grad, self.desc.output())?, weight)?
        };
        Ok((storage(values), Shape::from(spec.dims(input))))
    }
}

/// The gradients of the filter and of the bias, from the input and the gradient of the output of the ordinary convolution.
struct Filter {
    desc: ConvDesc,
    bias: bool,
}

impl CustomOp2 for Filter {
    fn name(&self) -> &'static str {
        "convkernels-gradient-of-weight"
    }

    fn cpu_fwd(
        &self,
        input: &CpuStorage,
        input_strides: &Strides,
        grad: &CpuStorage,
        grad_strides: &Strides,
    ) -> Result<(CpuStorage, Shape)> {
        let Self { desc, bias } = *self;
        let input = packed("input", (input, input_strides), desc.input())?;
        let grad = packed("gradient", (grad, grad_strides), desc.output())?;
        let spec = if bias { WeightsSpec::default().bias() } else { WeightsSpec::default() };
        let options = PlanOptions::default().max_threads(threads::count());
        let plan = BackwardWeights::new(&desc, &spec, &options).map_err(failed)?;
        let len = desc.filter_len();
        let mut values = zeros(len + if bias { desc.output().c } else { 0 })?;
        let (of_filter, of_bias) = values.split_at_mut(len);
        let mut io = BackwardWeightsIo::new(input, grad, of_filter);
        if bias {
            io = io.bias(of_bias);
        }
        with_workspace(plan.workspace_req(), |workspace| plan.run(io, workspace, threads::current()))?;
        let shape = Shape::from(values.len());
        Ok((storage(values), shape))
    }
}

/// Sums a contiguous tensor over all axes but the second one: the gradient of a bias alone.
struct ChannelSums;

impl CustomOp1 for ChannelSums {
    fn name(&self) -> &'static str {
        "convkernels-channel-sums"
    }

    fn cpu_fwd(&self, values: &CpuStorage, strides: &Strides) -> Result<(CpuStorage, Shape)> {
        let (images, channels) = (strides.dims()[0], strides.dims()[1]);
        let values = view::contiguous("gradient", values, strides)?;
        let plane = values.len() / (images * channels).max(1);
        let sum_of = |channel: usize| {
            let planes = (0..images).map(|image| &values[(image * channels + channel) * plane..][..plane]);
            planes.map(sum).sum::<f32>()
        };
        let sums = if values.len() >= PARALLEL && threads::count() > 1 {
            (0..channels).into_par_iter().map(sum_of).collect()
        } else {
            (0..channels).map(sum_of).collect()
        };
        Ok((storage(sums), Shape::from(channels)))
    }
}

/// Adds in 16 partial sums, which the compiler keeps in vectors and which round less than one.
fn sum(values: &[f32]) -> f32 {
    let chunks = values.chunks_exact(16);
    let rest: f32 = chunks.remainder().iter().sum();
    let mut sums = [0.0f32; 16];
    for chunk in chunks {
        sums.iter_mut().zip(chunk).for_each(|(sum, value)| *sum += value);
    }
    sums.iter().sum::<f32>() + rest
}
