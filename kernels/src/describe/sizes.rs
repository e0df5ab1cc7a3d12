//! Arithmetic on extents. Only this file multiplies sizes, so only this file can overflow.

use super::error::ConvError;
use super::shape::{BLOCK, Layout, Pad2, Shape4, Size2, WIDE_BLOCK};

impl Shape4 {
    /// Number of elements of a packed tensor of this shape. `Nchw16c` rounds the channels up to a multiple of
    /// 16, and `Nchw32cBf16` to a multiple of 32, two of which are one element.
    ///
    /// # Errors
    /// [`ConvError::SizeOverflow`] if the tensor would exceed `isize::MAX` bytes.
    pub fn len(&self, layout: Layout) -> Result<usize, ConvError> {
        let too_many = ConvError::SizeOverflow { what: "channels" };
        let c = match layout {
            Layout::Nchw | Layout::Nhwc => self.c,
            Layout::Nchw16c => self.c.checked_next_multiple_of(BLOCK).ok_or(too_many)?,
            // Two numbers to an element.
            Layout::Nchw32cBf16 => self.c.checked_next_multiple_of(WIDE_BLOCK).ok_or(too_many)? / 2,
        };
        checked_product("elements of a tensor", &[self.n, c, self.h, self.w])
    }
}

/// Checks that each of these descriptor fields is at least 1.
pub(crate) fn check_positive(fields: &[(&'static str, usize)]) -> Result<(), ConvError> {
    match fields.iter().find(|(_, value)| *value == 0) {
        Some(&(field, value)) => Err(ConvError::field(field, "at least 1", value)),
        None => Ok(()),
    }
}

/// Checks that no extent of a convolution is zero, and that its groups divide the channels of both tensors. `window` is
/// kernel, stride and dilation.
pub(crate) fn check_extents(
    input: Shape4,
    out_channels: usize,
    window: [Size2; 3],
    groups: usize,
) -> Result<(), ConvError> {
    let [kernel, stride, dilation] = window;
    check_positive(&[
        ("input.n", input.n),
        ("input.c", input.c),
        ("input.h", input.h),
        ("input.w", input.w),
        ("out_channels", out_channels),
        ("kernel.h", kernel.h),
        ("kernel.w", kernel.w),
        ("stride.h", stride.h),
        ("stride.w", stride.w),
        ("dilation.h", dilation.h),
        ("dilation.w", dilation.w),
        ("groups", groups),
    ])?;
    for (channels, what) in [(input.c, "input"), (out_channels, "output")] {
        if !channels.is_multiple_of(groups) {
            let expected = format!("a divisor of the {channels} {what} channels");
            return Err(ConvError::field("groups", expected, groups));
        }
    }
    Ok(())
}

/// The product of `factors`, or an error if that many `f32` elements exceed the address space.
pub(crate) fn checked_product(what: &'static str, factors: &[usize]) -> Result<usize, ConvError> {
    const MOST: usize = isize::MAX as usize / size_of::<f32>();
    factors
        .iter()
        .try_fold(1usize, |product, &factor| product.checked_mul(factor))
        .filter(|&product| product <= MOST)
        .ok_or(ConvError::SizeOverflow { what })
}

/// Output extents of a sliding window, with overflow checks:
/// `floor((in + before + after - dilation * (k - 1) - 1) / stride) + 1` on both axes.
pub(crate) fn window_output(
    input: Size2,
    kernel: Size2,
    stride: Size2,
    pad: Pad2,
    dilation: Size2,
) -> Result<Size2, ConvError> {
    let padded = |n: usize, a: usize, b: usize| n.checked_add(a)?.checked_add(b);
    let dilated = |k: usize, d: usize| k.checked_sub(1)?.checked_mul(d)?.checked_add(1);
    let overflow = ConvError::SizeOverflow { what: "padded input or dilated kernel" };
    let (Some(ph), Some(pw), Some(kh), Some(kw)) = (
        padded(input.h, pad.top, pad.bottom),
        padded(input.w, pad.left, pad.right),
        dilated(kernel.h, dilation.h),
        dilated(kernel.w, dilation.w),
    ) else {
        return Err(overflow);
    };
    // Drivers compare coordinates as `isize`.
    if ph > isize::MAX as usize || pw > isize::MAX as usize {
        return Err(overflow);
    }
    if kh > ph || kw > pw {
        return Err(ConvError::EmptyOutput {
            padded_input: Size2::new(ph, pw),
            dilated_kernel: Size2::new(kh, kw),
        });
    }
    Ok(Size2::new((ph - kh) / stride.h + 1, (pw - kw) / stride.w + 1))
}
