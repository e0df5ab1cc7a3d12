//! [`ck_filter`]: packed weights that plans share.

use crate::desc::ck_conv_desc;
use crate::pointer;
use crate::status::{Failure, ck_error, ck_status, guard, guard_value};
use kernels::{Filter, Weights};

/// The weights of a convolution. The library copies them.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ck_weights {
    /// The filter, `[out_channels][channels / groups][kernel_h][kernel_w]`.
    pub filter: *const f32,
    /// Number of floats of the filter.
    pub filter_len: usize,
    /// One float per output channel, or NULL if there is no bias.
    pub bias: *const f32,
    /// Number of floats of the bias.
    pub bias_len: usize,
    /// One slope per output channel for `CK_ACTIVATION_PRELU`, or NULL if there are none.
    pub slope: *const f32,
    /// Number of slopes.
    pub slope_len: usize,
}

/// Weights without a batch or an image size. Plans share them.
///
/// Each algorithm reads the weights in a packed form of its own. A filter makes each form at most once, when the
/// first plan asks for it. Any number of threads can make plans from one filter at the same time.
pub struct ck_filter(pub(crate) Filter<'static>);

impl ck_weights {
    /// # Safety
    /// As the header demands of `weights`. The result borrows what they point to.
    pub(crate) unsafe fn read<'a>(weights: *const Self) -> Result<Weights<'a>, Failure> {
        // SAFETY: the caller promises it, here and below.
        let weights = unsafe { pointer::read("weights", weights) }?;
        let optional = |what, data: *const f32, len| {
            if data.is_null() && len == 0 {
                return Ok(None);
            }
            // SAFETY: as above.
            unsafe { pointer::slice(what, data, len) }.map(Some)
        };
        Ok(Weights {
            // SAFETY: as above.
            filter: unsafe { pointer::slice("weights.filter", weights.filter, weights.filter_len) }?,
            bias: optional("weights.bias", weights.bias, weights.bias_len)?,
            slope: optional("weights.slope", weights.slope, weights.slope_len)?,
        })
    }
}

/// Copies `weights` for plans of `desc`. Batch and image size in `desc` do not matter.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ck_filter_create(
    desc: *const ck_conv_desc,
    weights: *const ck_weights,
    filter: *mut *mut ck_filter,
    error: *mut ck_error,
) -> ck_status {
    guard(error, || {
        // SAFETY: the header's introduction says what the caller promises about pointers.
        unsafe {
            pointer::create("filter", filter, || {
                let shape = ck_conv_desc::read(desc)?.filter_shape()?;
                let weights = ck_weights::read(weights)?;
                Ok(ck_filter(Filter::new(shape, weights)?.into_owned()?))
            })
        }
    })
}

/// Frees the original weights. Later plans can use only the forms that are already packed.
///
/// No other thread may use the filter during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ck_filter_drop_weights(filter: *mut ck_filter, error: *mut ck_error) -> ck_status {
    guard(error, || {
        pointer::check("filter", filter)?;
        // SAFETY: not null, as checked; the caller promises that nobody else uses the filter.
        unsafe { (*filter).0.drop_weights() };
        Ok(())
    })
}

/// Returns the bytes of all packed forms, without the original weights. Returns 0 if `filter` is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ck_filter_packed_bytes(filter: *const ck_filter) -> usize {
    guard_value(0, || {
        // SAFETY: the header's introduction says what the caller promises about pointers.
        unsafe { pointer::borrow("filter", filter) }.map_or(0, |filter| filter.0.packed_bytes())
    })
}

/// Frees `filter`. Does nothing if it is NULL. Its plans remain usable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ck_filter_destroy(filter: *mut ck_filter) {
    // SAFETY: the header's introduction says what the caller promises about handles.
    unsafe { pointer::destroy(filter) }
}
