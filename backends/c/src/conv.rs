//! [`ck_conv`]: a convolution of inputs whose batch and image size change.

use crate::desc::ck_conv_desc;
use crate::filter::ck_weights;
use crate::plan::ck_plan;
use crate::pointer;
use crate::shape::ck_shape;
use crate::status::{Failure, ck_error, ck_status, guard, guard_value};
use crate::tensor::{Scratch, ck_io};
use crate::threads::{Workers, ck_threads};
use kernels::{Conv, ConvDesc, ConvDescBuilder, ConvError, Filter, FilterShape, Select, Weights};

/// A convolution of inputs of any batch and image size. It plans each new shape, which takes microseconds once the
/// weights are packed, and keeps the plans and workspaces that it used last.
///
/// Any number of threads can use it at the same time.
pub struct ck_conv {
    conv: Conv<'static>,
    /// For shapes of outputs. Its own input is meaningless.
    template: ConvDescBuilder,
}

impl ck_conv {
    fn new(desc: &ck_conv_desc, weights: Weights<'_>, plans: usize) -> Result<Self, Failure> {
        let (epilogue, options) = (desc.epilogue()?, desc.options()?);
        if options.select == Select::Measured {
            let message = "algorithm: expected another than CK_ALGORITHM_MEASURED for a ck_conv";
            return Err(Failure { status: ck_status::Unsupported, message: message.to_owned() });
        }
        let filter = Filter::new(desc.filter_shape()?, weights)?.into_owned()?;
        if epilogue.bias != filter.has_bias() {
            return Err(ConvError::EpilogueMismatch { what: "bias", planned: epilogue.bias }.into());
        }
        let template = desc.builder()?;
        let (layout, output_layout) = desc.layouts()?;
        let builder = Conv::builder(filter)
            .stride(desc.stride())
            .pad(desc.pad())
            .dilation(desc.dilation())
            .layout(layout)
            .output_layout(output_layout)
            .activation(epilogue.activation)
            .options(options)
            .plans(plans);
        let builder = if epilogue.residual { builder.residual() } else { builder };
        Ok(Self { conv: builder.build()?, template })
    }

    fn desc(&self, input: ck_shape) -> Result<ConvDesc, Failure> {
        let desc = self.template.input(input.into()).build()?;
        let (expected, got) = (FilterShape::from(&desc), self.conv.filter().shape());
        if expected != got {
            return Err(ConvError::FilterMismatch { expected, got }.into());
        }
        Ok(desc)
    }
}

/// Copies `weights` and prepares for inputs of any size. Batch, height and width in `desc` do not matter, and each call
/// replaces `max_threads` by its own number of threads.
///
/// `plans` is the number of plans to keep, at least 1. 32 suits most programs.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ck_conv_create(
    desc: *const ck_conv_desc,
    weights: *const ck_weights,
    plans: usize,
    conv: *mut *mut ck_conv,
    error: *mut ck_error,
) -> ck_status {
    guard(error, || {
        // SAFETY: the header's introduction says what the caller promises about pointers.
        unsafe {
            pointer::create("conv", conv, || {
                ck_conv::new(&ck_conv_desc::read(desc)?, ck_weights::read(weights)?, plans)
            })
        }
    })
}

/// Writes the shape of the output for an input of shape `input`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ck_conv_output_shape(
    conv: *const ck_conv,
    input: *const ck_shape,
    output: *mut ck_shape,
    error: *mut ck_error,
) -> ck_status {
    guard(error, || {
        // SAFETY: the header's introduction says what the caller promises about pointers.
        unsafe {
            pointer::write("output", output, || {
                let conv = pointer::borrow("conv", conv)?;
                Ok(conv.desc(pointer::read("input", input)?)?.output().into())
            })
        }
    })
}

/// Makes or finds the plan for inputs of shape `input` on `threads`, which can be NULL. The caller owns the result and
/// destroys it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ck_conv_plan(
    conv: *const ck_conv,
    input: *const ck_shape,
    threads: *const ck_threads,
    plan: *mut *mut ck_plan,
    error: *mut ck_error,
) -> ck_status {
    guard(error, || {
        // SAFETY: the header's introduction says what the caller promises about pointers.
        unsafe {
            pointer::create("plan", plan, || {
                let conv = &pointer::borrow("conv", conv)?.conv;
                let input = pointer::read("input", input)?;
                Ok(ck_plan::new(conv.plan(input.into(), Workers::read(threads)?.threads())?))
            })
        }
    })
}

/// Computes the output for an input of shape `input`. It makes a plan if the shape is new. It allocates nothing if the
/// shape and the number of threads are known and a workspace is idle.
///
/// `threads` can be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ck_conv_run(
    conv: *const ck_conv,
    input: *const ck_shape,
    io: *const ck_io,
    threads: *const ck_threads,
    error: *mut ck_error,
) -> ck_status {
    guard(error, || {
        // SAFETY: the header's introduction says what the caller promises about pointers.
        let conv = unsafe { pointer::borrow("conv", conv) }?;
        // SAFETY: as above.
        let desc = conv.desc(unsafe { pointer::read("input", input) }?)?;
        // SAFETY: as above.
        let io = unsafe { pointer::read("io", io) }?;
        // SAFETY: as above.
        let workers = unsafe { Workers::read(threads) }?;
        let forms = ((desc.input(), desc.layout()), (desc.output(), desc.output_layout()));
        // SAFETY: as above.
        let (tensors, _) = unsafe { io.borrow(forms, Scratch::NONE) }?;
        Ok(conv.conv.run_into(tensors, workers.threads())?)
    })
}

/// Returns the bytes of the packed weights and of the idle workspaces. Returns 0 if `conv` is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ck_conv_bytes(conv: *const ck_conv) -> usize {
    guard_value(0, || {
        // SAFETY: the header's introduction says what the caller promises about pointers.
        unsafe { pointer::borrow("conv", conv) }.map_or(0, |conv| conv.conv.bytes())
    })
}

/// Frees all plans and idle workspaces that `conv` keeps. Does nothing if it is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ck_conv_clear(conv: *const ck_conv) {
    guard_value((), || {
        // SAFETY: the header's introduction says what the caller promises about pointers.
        if let Ok(conv) = unsafe { pointer::borrow("conv", conv) } {
            conv.conv.clear();
        }
    });
}

/// Frees `conv`. Does nothing if it is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ck_conv_destroy(conv: *mut ck_conv) {
    // SAFETY: the header's introduction says what the caller promises about handles.
    unsafe { pointer::destroy(conv) }
}
