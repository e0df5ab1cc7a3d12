//! Runs the library on candle's storage.

use crate::output::written_by;
use crate::plans::{Desc, Plan, Plans};
use crate::spec::{Problem, failed};
use crate::{threads, view};
use candle_core::{CpuStorage, Layout as Strides, Result};
use kernels::{
    Activation, ConvError, ConvIo, EpilogueSpec, Layout, Ops, Shape4, TensorOut, TensorRef, Weights,
    Workspace, WorkspaceReq,
};
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

/// Calls `run` with scratch memory of at least the size `req`.
pub(crate) fn with_workspace(
    req: WorkspaceReq,
    run: impl FnOnce(&mut Workspace) -> std::result::Result<(), ConvError>,
) -> Result<()> {
    let mut workspace = WORKSPACE.take().unwrap_or_else(Workspace::empty);
    let done = workspace.reserve(req).and_then(|()| run(&mut workspace));
    WORKSPACE.set(Some(workspace));
    done.map_err(failed)
}

impl Call<'_> {
    /// Computes the output, packed in NCHW.
    pub(crate) fn run(&self, keep: Keep<'_>) -> Result<Vec<f32>> {
        let epilogue =
            EpilogueSpec { bias: self.bias.is_some(), residual: false, activation: self.activation };
        let desc = self.problem.desc(self.input.layout(), epilogue)?;
        let weights = Weights { filter: self.weight, bias: self.bias, slope: None };
        let output = match keep {
            Keep::Nothing => self.run_plan(&desc, &desc.plan(weights, true)?),
            Keep::Constant(plans) => self.run_plan(&desc, &*plans.plan(&desc, None, weights)?),
            Keep::Checked(plans) => self.run_plan(&desc, &*plans.plan(&desc, Some(self.stamp()), weights)?),
        }?;
        match desc.output() {
            (shape, Layout::Nhwc) => reordered(&output, shape),
            _ => Ok(output),
        }
    }

    fn run_plan(&self, desc: &Desc, plan: &Plan) -> Result<Vec<f32>> {
        let (shape, layout) = desc.output();
        let write = |space: &mut [MaybeUninit<f32>]| {
            let output = TensorOut::packed(space, shape, layout).map_err(failed)?;
            let io = ConvIo::new(self.input, output);
            with_workspace(plan.workspace_req(), |workspace| plan.run(io, workspace, threads::current()))
        };
        // SAFETY: a run that returns `Ok` has written every element of a packed output.
        unsafe { written_by(elements(shape)?, write) }
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

/// Number of elements of a packed tensor in NCHW or NHWC.
fn elements(shape: Shape4) -> Result<usize> {
    shape.len(Layout::Nchw).map_err(failed)
}

/// Copies a packed NHWC tensor to NCHW.
fn reordered(values: &[f32], shape: Shape4) -> Result<Vec<f32>> {
    let tensor = TensorRef::packed(values, shape, Layout::Nhwc).map_err(failed)?;
    let write = |space: &mut [MaybeUninit<f32>]| {
        let output = TensorOut::packed(space, shape, Layout::Nchw).map_err(failed)?;
        let ops = Ops::new(None).map_err(failed)?;
        ops.copy(tensor, output, threads::current()).map_err(failed)
    };
    // SAFETY: a copy that returns `Ok` has written every element of a packed output.
    unsafe { written_by(elements(shape)?, write) }
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
