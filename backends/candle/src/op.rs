//! [`ConvOp`]: the operator that candle runs and differentiates.

use crate::backward::Gradients;
use crate::plans::Plans;
use crate::run::{Call, Keep, call, storage};
use crate::spec::{Problem, Rank, Spec};
use crate::{fallback, view};
use candle_core::{CpuStorage, CustomOp2, CustomOp3, DType, Layout as Strides, Result, Shape, Tensor};
use kernels::Activation;
use std::sync::{Arc, OnceLock};

/// The tensors of a convolution.
#[derive(Clone, Copy)]
pub(crate) struct Args<'a> {
    pub(crate) input: &'a Tensor,
    pub(crate) weight: &'a Tensor,
    pub(crate) bias: Option<&'a Tensor>,
}

/// The plans of a layer, and whether its weights can change.
#[derive(Clone)]
pub(crate) struct Kept {
    pub(crate) plans: Arc<Plans>,
    pub(crate) constant: bool,
}

/// A convolution of an input, a weight and, as [`CustomOp3`], a bias.
#[derive(Clone)]
struct ConvOp {
    problem: Problem,
    activation: Activation,
    kept: Option<Kept>,
}

/// Computes a convolution: by the library if the tensors are `f32` on the CPU, otherwise by candle.
pub(crate) fn apply(
    spec: Spec,
    args: Args<'_>,
    activation: Activation,
    kept: Option<&Kept>,
) -> Result<Tensor> {
    let Args { input, weight, bias } = args;
    let problem = Problem::new(spec, input.dims(), weight.dims())?;
    let tracked = args.tensors().any(Tensor::track_op);
    let ours = |tensor: &Tensor| tensor.dtype() == DType::F32 && tensor.device().is_cpu();
    if !args.tensors().all(ours) || input.elem_count() == 0 || (tracked && gradients_stay_attached()) {
        return fallback::forward(&problem, args, activation);
    }
    // candle broadcasts a bias whose length is not the number of channels.
    if let Some(bias) = bias.filter(|bias| bias.dims() != [problem.output.c]) {
        let sum = apply(spec, Args { bias: None, ..args }, Activation::None, kept)?;
        return fallback::activate(&fallback::add_bias(&sum, bias)?, activation);
    }
    if problem.excess() > 0 {
        return with_excess(&problem, args, activation, kept);
    }
    let input = match view::layout_of(&spec, input.layout()) {
        Some(_) => input.clone(),
        None => input.contiguous()?,
    };
    let (weight, bias) = (weight.contiguous()?, bias.map(Tensor::contiguous).transpose()?);
    let op = ConvOp { problem, activation, kept: kept.cloned() };
    if tracked {
        // The gradient needs the sum before the activation.
        let op = ConvOp { activation: Activation::None, ..op };
        let sum = match bias {
            None => input.apply_op2(&weight, op),
            Some(bias) => input.apply_op3(&weight, &bias, op),
        };
        return fallback::activate(&sum?, activation);
    }
    match bias {
        None => input.apply_op2_no_bwd(&weight, &op),
        Some(bias) => input.apply_op3_no_bwd(&weight, &bias, &op),
    }
}

/// A transposed convolution with more output padding than the library takes. No tap reaches the last rows and columns.
fn with_excess(
    problem: &Problem,
    args: Args<'_>,
    activation: Activation,
    kept: Option<&Kept>,
) -> Result<Tensor> {
    let (spec, excess) = (problem.spec, problem.excess());
    let reached = Spec { output_padding: spec.output_padding - excess, ..spec };
    if Problem::new(reached, args.input.dims(), args.weight.dims()).is_err() {
        // All of the output is padding.
        return fallback::forward(problem, args, activation);
    }
    let mut sum = apply(reached, Args { bias: None, ..args }, Activation::None, kept)?;
    for axis in 2..sum.rank() {
        sum = sum.pad_with_zeros(axis, 0, excess)?;
    }
    let sum = match args.bias {
        None => sum,
        Some(bias) => fallback::add_bias(&sum, bias)?,
    };
    fallback::activate(&sum, activation)
}

impl<'a> Args<'a> {
    fn tensors(self) -> impl Iterator<Item = &'a Tensor> {
        [self.input, self.weight].into_iter().chain(self.bias)
    }
}

/// Whether candle differentiates gradients again. [`Gradients`] cannot.
fn gradients_stay_attached() -> bool {
    static ATTACHED: OnceLock<bool> = OnceLock::new();
    *ATTACHED
        .get_or_init(|| std::env::var("CANDLE_GRAD_DO_NOT_DETACH").is_ok_and(|s| !s.is_empty() && s != "0"))
}

impl ConvOp {
    fn name(&self) -> &'static str {
        match (self.problem.spec.rank, self.problem.spec.transposed) {
            (Rank::One, false) => "convkernels-conv1d",
            (Rank::Two, false) => "convkernels-conv2d",
            (Rank::One, true) => "convkernels-conv-transpose1d",
            (Rank::Two, true) => "convkernels-conv-transpose2d",
        }
    }

    /// The plans of the layer.
    fn plans(&self) -> Option<Arc<Plans>> {
        self.kept.as_ref().map(|kept| kept.plans.clone())
    }

    fn forward(&self, call: Result<Call<'_>>) -> Result<(CpuStorage, Shape)> {
        let keep = match &self.kept {
            None => Keep::Nothing,
            Some(Kept { plans, constant: true }) => Keep::Constant(plans),
            Some(Kept { plans, constant: false }) => Keep::Checked(plans),
        };
        Ok((storage(call?.run(keep)?), Shape::from(self.problem.output_dims())))
    }
}

impl CustomOp2 for ConvOp {
    fn name(&self) -> &'static str {
        ConvOp::name(self)
    }

    fn cpu_fwd(
        &self,
        input: &CpuStorage,
        input_strides: &Strides,
        weight: &CpuStorage,
        weight_strides: &Strides,
    ) -> Result<(CpuStorage, Shape)> {
        let (input, weight) = ((input, input_strides), (weight, weight_strides));
        self.forward(call(self.problem, self.activation, input, weight, None))
    }

    fn bwd(
        &self,
        input: &Tensor,
        weight: &Tensor,
        _output: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let gradients = Gradients::new(&self.problem, grad, self.plans())?;
        Ok((gradients.input(input, weight)?, gradients.weight(input, weight)?))
    }
}

impl CustomOp3 for ConvOp {
    fn name(&self) -> &'static str {
        ConvOp::name(self)
    }

    fn cpu_fwd(
        &self,
        input: &CpuStorage,
        input_strides: &Strides,
        weight: &CpuStorage,
        weight_strides: &Strides,
        bias: &CpuStorage,
        bias_strides: &Strides,
    ) -> Result<(CpuStorage, Shape)> {
        let (input, weight) = ((input, input_strides), (weight, weight_strides));
        self.forward(call(self.problem, self.activation, input, weight, Some((bias, bias_strides))))
    }

    fn bwd(
        &self,
        input: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _output: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let gradients = Gradients::new(&self.problem, grad, self.plans())?;
        let (of_weight, of_bias) = gradients.weight_and_bias(input, weight, bias)?;
        Ok((gradients.input(input, weight)?, of_weight, of_bias))
    }
}
