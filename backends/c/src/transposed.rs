//! [`ck_transposed`]: a transposed convolution that is ready to run.

use crate::desc::ck_conv_desc;
use crate::filter::ck_weights;
use crate::pointer;
use crate::shape::ck_shape;
use crate::status::{Failure, ck_error, ck_status, guard, guard_value};
use crate::tensor::{Scratch, ck_io};
use crate::threads::{Workers, ck_threads};
use kernels::{ConvError, Size2, TransposedDesc, TransposedPlan};
use std::ffi::c_void;

/// A transposed convolution of one shape that is ready to run. It up-samples by its stride: each input value, times each
/// tap, is added to an output.
///
/// It never changes. Any number of threads can run it at the same time, each with its own workspace.
pub struct ck_transposed(TransposedPlan);

fn describe(desc: &ck_conv_desc, output_pad: Size2) -> Result<TransposedDesc, Failure> {
    let (layout, output_layout) = desc.layouts()?;
    if layout != output_layout {
        let expected = "the layout of the input, for a transposed convolution".to_owned();
        let got = output_layout.to_string();
        return Err(ConvError::InvalidField { field: "output_layout", expected, got }.into());
    }
    let kernel = Size2::new(desc.kernel_h, desc.kernel_w);
    let builder = TransposedDesc::builder(desc.input(), desc.out_channels, kernel)
        .stride(desc.stride())
        .pad(desc.pad())
        .output_pad(output_pad)
        .dilation(desc.dilation())
        .groups(desc.groups)
        .layout(layout)
        .epilogue(desc.epilogue()?);
    Ok(builder.build()?)
}

/// Chooses algorithms for the transposed convolution that `desc` describes, and packs `weights` for them.
///
/// `desc` has the channels and the size of the input, which is the smaller tensor if there is a stride. Stride and
/// dilation count elements of the output. Padding is cut from the output, and `output_pad_h` rows and `output_pad_w` columns
/// are added at its end. They must be less than the larger of stride and dilation. The filter is
/// `[channels][out_channels / groups][kernel_h][kernel_w]`. Each extent of the output is
/// `(in - 1) * stride - before - after + dilation * (kernel - 1) + 1 + output_pad`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ck_transposed_create(
    desc: *const ck_conv_desc,
    weights: *const ck_weights,
    output_pad_h: usize,
    output_pad_w: usize,
    transposed: *mut *mut ck_transposed,
    error: *mut ck_error,
) -> ck_status {
    guard(error, || {
        // SAFETY: the header's introduction says what the caller promises about pointers.
        unsafe {
            pointer::create("transposed", transposed, || {
                let desc = ck_conv_desc::read(desc)?;
                let described = describe(&desc, Size2::new(output_pad_h, output_pad_w))?;
                let plan = TransposedPlan::new(&described, ck_weights::read(weights)?, &desc.options()?)?;
                Ok(ck_transposed(plan))
            })
        }
    })
}

/// Runs `get` on the plan, if there is one.
///
/// # Safety
/// `transposed` must be null or a handle.
unsafe fn get<T: Default>(transposed: *const ck_transposed, get: impl FnOnce(&TransposedPlan) -> T) -> T {
    guard_value(T::default(), || {
        // SAFETY: the caller promises it.
        unsafe { pointer::borrow("transposed", transposed) }
            .map_or_else(|_| T::default(), |transposed| get(&transposed.0))
    })
}

/// Returns the bytes of workspace that a run needs. Returns 0 if `transposed` is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ck_transposed_workspace_size(transposed: *const ck_transposed) -> usize {
    // SAFETY: the header's introduction says what the caller promises about pointers.
    unsafe { get(transposed, |plan| plan.workspace_req().len().saturating_mul(size_of::<f32>())) }
}

/// Returns the bytes of the packed weights. Returns 0 if `transposed` is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ck_transposed_packed_bytes(transposed: *const ck_transposed) -> usize {
    // SAFETY: the header's introduction says what the caller promises about pointers.
    unsafe { get(transposed, TransposedPlan::packed_bytes) }
}

/// Returns the shape of the output. All extents are 0 if `transposed` is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ck_transposed_output_shape(transposed: *const ck_transposed) -> ck_shape {
    // SAFETY: the header's introduction says what the caller promises about pointers.
    unsafe { get(transposed, |plan| plan.desc().output().into()) }
}

/// Returns the number of floats of the packed output. Returns 0 if `transposed` is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ck_transposed_output_len(transposed: *const ck_transposed) -> usize {
    // SAFETY: the header's introduction says what the caller promises about pointers.
    unsafe { get(transposed, |plan| plan.desc().output().len(plan.desc().layout()).unwrap_or(0)) }
}

/// Computes the output. It allocates nothing.
///
/// Tensors, `workspace` and `threads` are as for `ck_plan_run`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ck_transposed_run(
    transposed: *const ck_transposed,
    io: *const ck_io,
    workspace: *mut c_void,
    workspace_bytes: usize,
    threads: *const ck_threads,
    error: *mut ck_error,
) -> ck_status {
    guard(error, || {
        // SAFETY: the header's introduction says what the caller promises about pointers.
        let plan = &unsafe { pointer::borrow("transposed", transposed) }?.0;
        // SAFETY: as above.
        let io = unsafe { pointer::read("io", io) }?;
        // SAFETY: as above.
        let workers = unsafe { Workers::read(threads) }?;
        let desc = plan.desc();
        let forms = ((desc.input(), desc.layout()), (desc.output(), desc.layout()));
        let scratch = Scratch::new(workspace, workspace_bytes, plan.workspace_req().len())?;
        // SAFETY: as above.
        let (tensors, scratch) = unsafe { io.borrow(forms, scratch) }?;
        Ok(plan.run(tensors, scratch, workers.threads())?)
    })
}

/// Frees `transposed`. Does nothing if it is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ck_transposed_destroy(transposed: *mut ck_transposed) {
    // SAFETY: the header's introduction says what the caller promises about handles.
    unsafe { pointer::destroy(transposed) }
}
