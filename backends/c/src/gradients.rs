//! [`ck_backward_data`] and [`ck_backward_weights`]: the gradients of a convolution.

use crate::desc::{ck_conv_desc, flag};
use crate::filter::ck_weights;
use crate::pointer;
use crate::status::{Failure, ck_error, ck_status, guard, guard_value};
use crate::tensor::{Scratch, Span, check_apart, ck_tensor, ck_tensor_mut};
use crate::threads::{Workers, ck_threads};
use kernels::{
    Activation, BackwardData, BackwardDataIo, BackwardWeights, BackwardWeightsIo, ConvDesc, ConvError,
    DataSpec, WeightsSpec, WorkspaceReq,
};
use std::ffi::c_void;

/// The gradient of a convolution with respect to its input, ready to run: *backward data*.
///
/// It never changes. Any number of threads can run it at the same time, each with its own workspace.
pub struct ck_backward_data(BackwardData);

/// The gradient of a convolution with respect to its filter and its bias, ready to run: *backward weights*.
///
/// It never changes. Any number of threads can run it at the same time, each with its own workspace.
pub struct ck_backward_weights(BackwardWeights);

/// The tensors of `ck_backward_data_run`. Set the whole struct to zero first.
///
/// The gradient of the input must not overlap the other gradient or the workspace.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ck_backward_data_io {
    /// The gradient of the output, in the output's shape and layout.
    pub grad_output: ck_tensor,
    /// The gradient of the input, in the input's shape and layout.
    pub grad_input: ck_tensor_mut,
}

/// The tensors of `ck_backward_weights_run`. Set the whole struct to zero first.
///
/// The gradients of filter and bias must not overlap each other, the tensors or the workspace.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ck_backward_weights_io {
    /// The input of the convolution.
    pub input: ck_tensor,
    /// The gradient of the output, in the output's shape and layout.
    pub grad_output: ck_tensor,
    /// The gradient of the filter, `[out_channels][channels / groups][kernel_h][kernel_w]`.
    pub grad_filter: *mut f32,
    /// Number of floats of the filter.
    pub grad_filter_len: usize,
    /// The gradient of the bias, if the plan computes it; else NULL.
    pub grad_bias: *mut f32,
    /// Number of floats of the bias: the output channels, or 0.
    pub grad_bias_len: usize,
}

/// `desc`, which must have no activation: the library would need the output of the convolution, too.
fn without_activation(desc: ConvDesc) -> Result<ConvDesc, ConvError> {
    let activation = desc.epilogue().activation;
    if activation == Activation::None {
        return Ok(desc);
    }
    let expected = "none: multiply the gradient of the output by the derivative of the activation first";
    let (expected, got) = (expected.to_string(), activation.name().to_string());
    Err(ConvError::InvalidField { field: "epilogue.activation", expected, got })
}

fn bytes(req: WorkspaceReq) -> usize {
    req.len().saturating_mul(size_of::<f32>())
}

/// Chooses algorithms for the gradient of the input of `desc`, and packs the filter of `weights` for them.
///
/// `desc` describes the convolution itself. It must have no activation: multiply the gradient of the output by the derivative
/// of the activation first. Bias and residual do not matter. The gradient is added to the contents of `grad_input` if
/// `accumulate` is 1, and replaces them if it is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ck_backward_data_create(
    desc: *const ck_conv_desc,
    weights: *const ck_weights,
    accumulate: u32,
    backward: *mut *mut ck_backward_data,
    error: *mut ck_error,
) -> ck_status {
    guard(error, || {
        // SAFETY: the header's introduction says what the caller promises about pointers.
        unsafe {
            pointer::create("backward", backward, || {
                let desc = ck_conv_desc::read(desc)?;
                let filter = ck_weights::read(weights)?.filter;
                let spec = DataSpec { accumulate: flag("accumulate", accumulate)? };
                let checked = without_activation(desc.checked()?)?;
                let plan = BackwardData::new(&checked, filter, spec, &desc.options()?)?;
                Ok(ck_backward_data(plan))
            })
        }
    })
}

/// Returns the bytes of workspace that a run needs. Returns 0 if `backward` is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ck_backward_data_workspace_size(backward: *const ck_backward_data) -> usize {
    guard_value(0, || {
        // SAFETY: the header's introduction says what the caller promises about pointers.
        unsafe { pointer::borrow("backward", backward) }.map_or(0, |plan| bytes(plan.0.workspace_req()))
    })
}

/// Returns the bytes of the packed weights. Returns 0 if `backward` is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ck_backward_data_packed_bytes(backward: *const ck_backward_data) -> usize {
    guard_value(0, || {
        // SAFETY: the header's introduction says what the caller promises about pointers.
        unsafe { pointer::borrow("backward", backward) }.map_or(0, |plan| plan.0.packed_bytes())
    })
}

/// Computes the gradient of the input. It allocates nothing.
///
/// `workspace` and `threads` are as for `ck_plan_run`. A run that fails leaves the gradient unchanged, unless the status is
/// `CK_STATUS_INTERNAL`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ck_backward_data_run(
    backward: *const ck_backward_data,
    io: *const ck_backward_data_io,
    workspace: *mut c_void,
    workspace_bytes: usize,
    threads: *const ck_threads,
    error: *mut ck_error,
) -> ck_status {
    guard(error, || {
        // SAFETY: the header's introduction says what the caller promises about pointers.
        let plan = &unsafe { pointer::borrow("backward", backward) }?.0;
        // SAFETY: as above.
        let io = unsafe { pointer::read("io", io) }?;
        // SAFETY: as above.
        let workers = unsafe { Workers::read(threads) }?;
        let scratch = Scratch::new(workspace, workspace_bytes, plan.workspace_req().len())?;
        let read = ("grad_output", io.grad_output.span("grad_output")?);
        let written = ("grad_input", io.grad_input.span("grad_input")?);
        check_apart(&[written, scratch.span()?], &[read])?;
        let desc = plan.desc();
        let (input, output) = ((desc.input(), desc.layout()), (desc.output(), desc.output_layout()));
        // SAFETY: as above. The mutable slices overlap nothing, as checked.
        let (io, scratch) = unsafe {
            let tensors = BackwardDataIo::new(
                io.grad_output.view("grad_output", output)?,
                io.grad_input.view_mut("grad_input", input)?,
            );
            (tensors, pointer::slice_mut("workspace", scratch.start, scratch.len)?)
        };
        Ok(plan.run(io, scratch, workers.threads())?)
    })
}

/// Frees `backward`. Does nothing if it is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ck_backward_data_destroy(backward: *mut ck_backward_data) {
    // SAFETY: the header's introduction says what the caller promises about handles.
    unsafe { pointer::destroy(backward) }
}

/// Chooses an algorithm for the gradient of the filter of `desc`, and of its bias if `has_bias` of `desc` is 1.
///
/// `desc` describes the convolution itself. It must have no activation. The residual does not matter. The gradients are added
/// to their contents if `accumulate` is 1, and replace them if it is 0.
///
/// The gradient of the filter of a transposed convolution is that of the ordinary convolution from its output to its input:
/// the gradient of its output is `input`, and its input is `grad_output`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ck_backward_weights_create(
    desc: *const ck_conv_desc,
    accumulate: u32,
    backward: *mut *mut ck_backward_weights,
    error: *mut ck_error,
) -> ck_status {
    guard(error, || {
        // SAFETY: the header's introduction says what the caller promises about pointers.
        unsafe {
            pointer::create("backward", backward, || {
                let desc = ck_conv_desc::read(desc)?;
                let mut spec = WeightsSpec::default();
                spec.bias = desc.epilogue()?.bias;
                spec.accumulate = flag("accumulate", accumulate)?;
                let checked = without_activation(desc.checked()?)?;
                let plan = BackwardWeights::new(&checked, &spec, &desc.options()?)?;
                Ok(ck_backward_weights(plan))
            })
        }
    })
}

/// Returns the bytes of workspace that a run needs. Returns 0 if `backward` is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ck_backward_weights_workspace_size(backward: *const ck_backward_weights) -> usize {
    guard_value(0, || {
        // SAFETY: the header's introduction says what the caller promises about pointers.
        unsafe { pointer::borrow("backward", backward) }.map_or(0, |plan| bytes(plan.0.workspace_req()))
    })
}

impl ck_backward_weights_io {
    /// Checks everything against each other, then borrows it.
    ///
    /// # Safety
    /// The memory of the tensors and of `scratch` must be as the header demands.
    unsafe fn borrow<'a>(
        &self,
        plan: &BackwardWeights,
        scratch: Scratch,
    ) -> Result<(BackwardWeightsIo<'a>, &'a mut [f32]), Failure> {
        let filter: Span =
            ("grad_filter", pointer::span("grad_filter", self.grad_filter, self.grad_filter_len)?);
        let bias: Span = ("grad_bias", pointer::span("grad_bias", self.grad_bias, self.grad_bias_len)?);
        let read =
            [("input", self.input.span("input")?), ("grad_output", self.grad_output.span("grad_output")?)];
        check_apart(&[filter, bias, scratch.span()?], &read)?;
        let desc = plan.desc();
        let (input, output) = ((desc.input(), desc.layout()), (desc.output(), desc.output_layout()));
        // SAFETY: the caller promises valid memory. The mutable slices overlap nothing, as checked.
        unsafe {
            let mut io = BackwardWeightsIo::new(
                self.input.view("input", input)?,
                self.grad_output.view("grad_output", output)?,
                pointer::slice_mut("grad_filter", self.grad_filter, self.grad_filter_len)?,
            );
            if !self.grad_bias.is_null() || self.grad_bias_len != 0 {
                io = io.bias(pointer::slice_mut("grad_bias", self.grad_bias, self.grad_bias_len)?);
            }
            Ok((io, pointer::slice_mut("workspace", scratch.start, scratch.len)?))
        }
    }
}

/// Computes the gradients of the filter and of the bias. It allocates nothing.
///
/// `workspace` and `threads` are as for `ck_plan_run`. The gradients do not depend on the number of threads. A run that fails
/// leaves them unchanged, unless the status is `CK_STATUS_INTERNAL`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ck_backward_weights_run(
    backward: *const ck_backward_weights,
    io: *const ck_backward_weights_io,
    workspace: *mut c_void,
    workspace_bytes: usize,
    threads: *const ck_threads,
    error: *mut ck_error,
) -> ck_status {
    guard(error, || {
        // SAFETY: the header's introduction says what the caller promises about pointers.
        let plan = &unsafe { pointer::borrow("backward", backward) }?.0;
        // SAFETY: as above.
        let io = unsafe { pointer::read("io", io) }?;
        // SAFETY: as above.
        let workers = unsafe { Workers::read(threads) }?;
        let scratch = Scratch::new(workspace, workspace_bytes, plan.workspace_req().len())?;
        // SAFETY: as above.
        let (io, scratch) = unsafe { io.borrow(plan, scratch) }?;
        Ok(plan.run(io, scratch, workers.threads())?)
    })
}

/// Frees `backward`. Does nothing if it is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ck_backward_weights_destroy(backward: *mut ck_backward_weights) {
    // SAFETY: the header's introduction says what the caller promises about handles.
    unsafe { pointer::destroy(backward) }
}
