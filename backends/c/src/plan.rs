//! [`ck_plan`]: a convolution that is ready to run.

use crate::desc::ck_conv_desc;
use crate::enums::{ck_algorithm, ck_algorithm_of, ck_isa, ck_isa_of, ck_products, ck_products_of};
use crate::filter::{ck_filter, ck_weights};
use crate::pointer;
use crate::shape::ck_shape;
use crate::status::{ck_error, ck_status, guard, guard_value};
use crate::tensor::{Scratch, ck_io};
use crate::threads::{Workers, ck_threads};
use kernels::ConvPlan;
use std::ffi::{CStr, CString, c_char, c_void};
use std::sync::{Arc, OnceLock};

/// A convolution of one shape that is ready to run: an algorithm, its packed weights, and the size of its
/// workspace.
///
/// A plan never changes. Any number of threads can run it at the same time, each with its own workspace.
pub struct ck_plan {
    plan: Arc<ConvPlan>,
    /// Written at the first request.
    explanation: OnceLock<CString>,
}

impl ck_plan {
    pub(crate) fn new(plan: Arc<ConvPlan>) -> Self {
        Self { plan, explanation: OnceLock::new() }
    }
}

/// Runs `get` on the plan, if there is one.
///
/// # Safety
/// `plan` must be null or a plan.
unsafe fn get<T: Clone>(plan: *const ck_plan, otherwise: T, get: impl FnOnce(&ck_plan) -> T) -> T {
    guard_value(otherwise.clone(), || {
        // SAFETY: the caller promises it.
        unsafe { pointer::borrow("plan", plan) }.map_or(otherwise, get)
    })
}

/// Chooses an algorithm for `desc`, and packs the weights of `filter` for it unless that was done before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ck_plan_create(
    desc: *const ck_conv_desc,
    filter: *const ck_filter,
    plan: *mut *mut ck_plan,
    error: *mut ck_error,
) -> ck_status {
    guard(error, || {
        // SAFETY: the header's introduction says what the caller promises about pointers.
        unsafe {
            pointer::create("plan", plan, || {
                let desc = ck_conv_desc::read(desc)?;
                let filter = pointer::borrow("filter", filter)?;
                let plan = ConvPlan::new(&desc.checked()?, &filter.0, &desc.options()?)?;
                Ok(ck_plan::new(Arc::new(plan)))
            })
        }
    })
}

/// Makes a plan with weights of its own. It saves the copy of the weights that a `ck_filter` keeps.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ck_plan_create_with_weights(
    desc: *const ck_conv_desc,
    weights: *const ck_weights,
    plan: *mut *mut ck_plan,
    error: *mut ck_error,
) -> ck_status {
    guard(error, || {
        // SAFETY: the header's introduction says what the caller promises about pointers.
        unsafe {
            pointer::create("plan", plan, || {
                let desc = ck_conv_desc::read(desc)?;
                let weights = ck_weights::read(weights)?;
                let plan = ConvPlan::new(&desc.checked()?, weights, &desc.options()?)?;
                Ok(ck_plan::new(Arc::new(plan)))
            })
        }
    })
}

/// Returns the bytes of workspace that a run needs. Returns 0 if `plan` is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ck_plan_workspace_size(plan: *const ck_plan) -> usize {
    // SAFETY: the header's introduction says what the caller promises about pointers.
    unsafe { get(plan, 0, |plan| plan.plan.workspace_req().len().saturating_mul(size_of::<f32>())) }
}

/// Returns the bytes of the packed weights. Returns 0 if `plan` is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ck_plan_packed_bytes(plan: *const ck_plan) -> usize {
    // SAFETY: the header's introduction says what the caller promises about pointers.
    unsafe { get(plan, 0, |plan| plan.plan.packed_bytes()) }
}

/// Returns the shape of the output. All extents are 0 if `plan` is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ck_plan_output_shape(plan: *const ck_plan) -> ck_shape {
    // SAFETY: the header's introduction says what the caller promises about pointers.
    unsafe { get(plan, ck_shape::default(), |plan| plan.plan.desc().output().into()) }
}

/// Returns the number of floats of the packed input. Returns 0 if `plan` is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ck_plan_input_len(plan: *const ck_plan) -> usize {
    let len = |plan: &ck_plan| {
        let desc = plan.plan.desc();
        desc.input().len(desc.layout()).unwrap_or(0)
    };
    // SAFETY: the header's introduction says what the caller promises about pointers.
    unsafe { get(plan, 0, len) }
}

/// Returns the number of floats of the packed output. Returns 0 if `plan` is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ck_plan_output_len(plan: *const ck_plan) -> usize {
    let len = |plan: &ck_plan| {
        let desc = plan.plan.desc();
        desc.output().len(desc.output_layout()).unwrap_or(0)
    };
    // SAFETY: the header's introduction says what the caller promises about pointers.
    unsafe { get(plan, 0, len) }
}

/// Returns the algorithm that was chosen. Returns `CK_ALGORITHM_AUTO` if `plan` is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ck_plan_algorithm(plan: *const ck_plan) -> ck_algorithm {
    let algorithm = |plan: &ck_plan| ck_algorithm_of(plan.plan.algorithm()).unwrap_or(ck_algorithm::Auto);
    // SAFETY: the header's introduction says what the caller promises about pointers.
    unsafe { get(plan, ck_algorithm::Auto, algorithm) }
}

/// Returns the products that the plan computes with. Returns `CK_PRODUCTS_AUTO` if `plan` is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ck_plan_products(plan: *const ck_plan) -> ck_products {
    let products = |plan: &ck_plan| ck_products_of(plan.plan.products()).unwrap_or(ck_products::Auto);
    // SAFETY: the header's introduction says what the caller promises about pointers.
    unsafe { get(plan, ck_products::Auto, products) }
}

/// Returns the instruction set of the kernels. Returns `CK_ISA_AUTO` if `plan` is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ck_plan_isa(plan: *const ck_plan) -> ck_isa {
    let isa = |plan: &ck_plan| ck_isa_of(plan.plan.isa()).unwrap_or(ck_isa::Auto);
    // SAFETY: the header's introduction says what the caller promises about pointers.
    unsafe { get(plan, ck_isa::Auto, isa) }
}

/// Returns a table of all algorithms with their products: the predicted times, and the reason against each that was
/// not chosen.
///
/// The text belongs to the plan. It is empty if `plan` is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ck_plan_explain(plan: *const ck_plan) -> *const c_char {
    const NOTHING: &CStr = c"";
    let explain = |plan: &ck_plan| {
        let explanation = plan.explanation.get_or_init(|| {
            let text = plan.plan.explain().to_string();
            CString::new(text).unwrap_or_default()
        });
        explanation.as_ptr()
    };
    // SAFETY: the header's introduction says what the caller promises about pointers.
    unsafe { get(plan, NOTHING.as_ptr(), explain) }
}

/// Computes the output. It allocates nothing.
///
/// `workspace` has at least `ck_plan_workspace_size` bytes, at an address that is a multiple of 4. A multiple of
/// `CK_ALIGNMENT` is faster. Its contents before the call do not matter. It can be NULL if the size is 0. `threads`
/// can be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ck_plan_run(
    plan: *const ck_plan,
    io: *const ck_io,
    workspace: *mut c_void,
    workspace_bytes: usize,
    threads: *const ck_threads,
    error: *mut ck_error,
) -> ck_status {
    guard(error, || {
        // SAFETY: the header's introduction says what the caller promises about pointers.
        let plan = &unsafe { pointer::borrow("plan", plan) }?.plan;
        // SAFETY: as above.
        let io = unsafe { pointer::read("io", io) }?;
        // SAFETY: as above.
        let workers = unsafe { Workers::read(threads) }?;
        let desc = plan.desc();
        let forms = ((desc.input(), desc.layout()), (desc.output(), desc.output_layout()));
        let scratch = Scratch::new(workspace, workspace_bytes, plan.workspace_req().len())?;
        // SAFETY: as above.
        let (tensors, scratch) = unsafe { io.borrow(forms, scratch) }?;
        Ok(plan.run(tensors, scratch, workers.threads())?)
    })
}

/// Frees `plan` and the text of `ck_plan_explain`. Does nothing if it is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ck_plan_destroy(plan: *mut ck_plan) {
    // SAFETY: the header's introduction says what the caller promises about handles.
    unsafe { pointer::destroy(plan) }
}
