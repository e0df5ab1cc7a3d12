//! Runs the library on candle's storage.

use crate::output::written_by;
use crate::plans::{Operands, Plans, plan_once};
use crate::spec::{Problem, failed};
use crate::{interleave, subpixel, threads, view};
use candle_core::{CpuStorage, Layout as Strides, Result};
use kernels::{
    Activation, ConvDesc, ConvIo, ConvPlan, EpilogueSpec, Layout, Ops, Shape4, TensorOut, TensorRef,
    Workspace,
};
use std::borrow::Cow;
use std::cell::Cell;
use std::mem::MaybeUninit;
use xxhash_rust::xxh3;

/// One call of a layer.
pub(crate) struct Call<'a> {
    pub(crate) problem: Problem,
    pub(crate) activation: Activation,
    pub(crate) input: TensorRef<'a>,
    pub(crate) weight: &'a [f32],
    pub(crate) bias: Option<&'a [f32]>,
}

/// What a layer keeps between calls.
#[derive(Clone, Copy)]
pub(crate) enum Keep<'a> {
    /// Nothing: the weights are packed for this call.
    Nothing,
    /// Plans, for weights that never change.
    Constant(&'a Plans),
    /// Plans, for as long as the checksum of the weights stays the same.
    Checked(&'a Plans),
}

thread_local! {
    /// The scratch memory of this thread's runs. It grows to the largest one.
    static WORKSPACE: Cell<Option<Workspace>> = const { Cell::new(None) };
}

impl Call<'_> {
    /// Computes the output, packed in NCHW.
    pub(crate) fn run(&self, keep: Keep<'_>) -> Result<Vec<f32>> {
        if self.problem.spec.transposed { self.run_transposed(keep) } else { self.run_ordinary(keep) }
    }

    fn epilogue(&self) -> EpilogueSpec {
        EpilogueSpec { bias: self.bias.is_some(), residual: false, activation: self.activation }
    }

    fn run_ordinary(&self, keep: Keep<'_>) -> Result<Vec<f32>> {
        let Problem { spec, input, kernel, output } = self.problem;
        let layout = self.input.layout();
        let desc = spec.desc(input, output.c, kernel).layout(layout).epilogue(self.epilogue());
        let desc = desc.build().map_err(failed)?;
        let operands =
            || Ok(Operands { filter: Cow::Borrowed(self.weight), bias: self.bias.map(Cow::Borrowed) });
        let result = self.convolve(self.input, &desc, keep, operands)?;
        if layout == Layout::Nhwc { reordered(&result, output) } else { Ok(result) }
    }

    /// A transposed convolution is an ordinary one to the channels of all phases, and an interleaving.
    fn run_transposed(&self, keep: Keep<'_>) -> Result<Vec<f32>> {
        let plan = subpixel::SubPixel::new(&self.problem);
        let nchw;
        let input = if self.input.layout() == Layout::Nchw {
            self.input
        } else {
            nchw = reordered_view(self.input)?;
            TensorRef::packed(&nchw, self.problem.input, Layout::Nchw).map_err(failed)?
        };
        let desc = plan.desc().epilogue(self.epilogue()).build().map_err(failed)?;
        let operands = || Ok(plan.operands(self.weight, self.bias));
        let phases = self.convolve(input, &desc, keep, operands)?;
        if plan.is_output() {
            return Ok(phases);
        }
        let rest = |channel: usize| {
            let sum = self.bias.map_or(0.0, |bias| bias[channel]);
            self.activation.eval(f64::from(sum), 1.0) as f32
        };
        let write = |space: &mut [MaybeUninit<f32>]| {
            interleave::interleave(&plan, &phases, space, rest);
            Ok(())
        };
        // SAFETY: `interleave` writes every element.
        unsafe { written_by(elements(self.problem.output)?, write) }
    }

    /// Runs the ordinary convolution `desc`, which the weights belong to.
    fn convolve<'a>(
        &self,
        input: TensorRef<'_>,
        desc: &ConvDesc,
        keep: Keep<'_>,
        operands: impl FnOnce() -> Result<Operands<'a>>,
    ) -> Result<Vec<f32>> {
        match keep {
            Keep::Nothing => run_plan(&plan_once(desc, &operands()?)?, input),
            Keep::Constant(plans) => run_plan(&*plans.plan(desc, None, operands)?, input),
            Keep::Checked(plans) => run_plan(&*plans.plan(desc, Some(self.stamp()), operands)?, input),
        }
    }

    /// A checksum of the weights. Two different ones agree once in 2^64 cases.
    fn stamp(&self) -> u64 {
        let bytes = |values: &[f32]| -> &[u8] {
            // SAFETY: every byte of an `f32` is initialised, `u8` has no alignment, and the lengths are equal.
            unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
        };
        let seed = self.bias.map_or(1, |bias| xxh3::xxh3_64(bytes(bias)));
        xxh3::xxh3_64_with_seed(bytes(self.weight), seed)
    }
}

fn run_plan(plan: &ConvPlan, input: TensorRef<'_>) -> Result<Vec<f32>> {
    let desc = plan.desc();
    let write = |space: &mut [MaybeUninit<f32>]| {
        let output = TensorOut::packed(space, desc.output(), desc.output_layout()).map_err(failed)?;
        let mut workspace = WORKSPACE.take().unwrap_or_else(Workspace::empty);
        let done = workspace
            .reserve(plan.workspace_req())
            .and_then(|()| plan.run(ConvIo::new(input, output), &mut workspace, threads::current()));
        WORKSPACE.set(Some(workspace));
        done.map_err(failed)
    };
    // SAFETY: a run that returns `Ok` has written every element of a packed output.
    unsafe { written_by(elements(desc.output())?, write) }
}

/// Number of elements of a packed tensor in NCHW or NHWC.
fn elements(shape: Shape4) -> Result<usize> {
    shape.len(Layout::Nchw).map_err(failed)
}

/// Copies a packed NHWC tensor to NCHW.
fn reordered(values: &[f32], shape: Shape4) -> Result<Vec<f32>> {
    reordered_view(TensorRef::packed(values, shape, Layout::Nhwc).map_err(failed)?)
}

fn reordered_view(tensor: TensorRef<'_>) -> Result<Vec<f32>> {
    let write = |space: &mut [MaybeUninit<f32>]| {
        let output = TensorOut::packed(space, tensor.shape(), Layout::Nchw).map_err(failed)?;
        let ops = Ops::new(None).map_err(failed)?;
        ops.copy(tensor, output, threads::current()).map_err(failed)
    };
    // SAFETY: a copy that returns `Ok` has written every element of a packed output.
    unsafe { written_by(elements(tensor.shape())?, write) }
}

/// Wraps a result for candle.
pub(crate) fn storage(values: Vec<f32>) -> CpuStorage {
    CpuStorage::F32(values)
}

/// The tensors of a call, borrowed from candle.
pub(crate) fn call<'a>(
    problem: Problem,
    activation: Activation,
    input: (&'a CpuStorage, &Strides),
    weight: (&'a CpuStorage, &Strides),
    bias: Option<(&'a CpuStorage, &Strides)>,
) -> Result<Call<'a>> {
    Ok(Call {
        problem,
        activation,
        input: view::tensor(&problem.spec, input.0, input.1)?,
        weight: view::contiguous("weight", weight.0, weight.1)?,
        bias: bias.map(|(values, strides)| view::contiguous("bias", values, strides)).transpose()?,
    })
}
