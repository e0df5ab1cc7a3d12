//! [`conv2d`]: plan, run, return.

use super::{ConvPlan, PlanOptions};
use crate::describe::{ConvDesc, ConvError, TensorMut, TensorRef, Weights};
use crate::memory::{Workspace, try_vec};
use crate::run::{ConvIo, Threads};

/// One convolution from slices to a new `Vec`, on the calling thread: for documentation, tests and small uses.
///
/// It packs the weights and allocates at every call. What runs more than once should keep a [`ConvPlan`].
///
/// # Errors
/// As [`ConvPlan::new`]; [`ConvError::BufferLen`] unless `input` is packed in the descriptor's shape and layout;
/// [`ConvError::EpilogueMismatch`] if the descriptor asks for a residual; [`ConvError::OutOfMemory`].
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
