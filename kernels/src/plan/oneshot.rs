//! [`conv2d`]: plans, runs once, and returns the output.

use super::{ConvPlan, PlanOptions};
use crate::describe::{ConvDesc, ConvError, TensorMut, TensorRef, Weights};
use crate::memory::{Workspace, try_vec};
use crate::run::{ConvIo, Threads};

/// Computes one convolution on the calling thread and returns a new `Vec`. Use it in tests and for
/// convolutions that run once.
///
/// Each call packs the weights and allocates. Keep a [`ConvPlan`] for a convolution that runs more than once.
///
/// # Errors
/// - The errors of [`ConvPlan::new`].
/// - [`ConvError::BufferLen`] if `input` is not packed in the shape and layout of `desc`.
/// - [`ConvError::EpilogueMismatch`] if `desc` has a residual.
/// - [`ConvError::OutOfMemory`] if the system refuses the output or the workspace.
pub fn conv2d(desc: &ConvDesc, input: &[f32], weights: Weights<'_>) -> Result<Vec<f32>, ConvError> {
    let plan = ConvPlan::new(desc, weights, &PlanOptions::default().max_threads(1))?;
    let input = TensorRef::packed(input, desc.input(), desc.layout())?;
    let len = desc.output().len(desc.output_layout())?;
    let mut output = try_vec("output", len)?;
    output.resize(len, 0.0);
    let io = ConvIo::new(input, TensorMut::packed(&mut output, desc.output(), desc.output_layout())?);
    plan.run(io, &mut Workspace::for_req(plan.workspace_req())?, Threads::Seq)?;
    Ok(output)
}
