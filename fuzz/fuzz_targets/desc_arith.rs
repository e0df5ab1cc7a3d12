//! Passes arbitrary numbers to everything that computes with sizes. Nothing may panic or overflow, and every
//! result must equal the result of 128-bit arithmetic.
#![no_main]

use arbitrary::{Result, Unstructured};
use kernels::{
    Activation, Algorithm, ConvDesc, ConvError, ConvPlan, Layout, Pad2, Pitch, PlanOptions, PoolDesc,
    PoolKind, Shape4, Size2, TensorRef, Weights,
};
use kernels_fuzz::{any_usize, layout};
use libfuzzer_sys::{Corpus, fuzz_target};
use std::collections::HashSet;

/// Maximum number of elements of one allocation.
const MOST: u128 = isize::MAX as u128 / 4;

fn product(factors: &[usize]) -> u128 {
    factors.iter().fold(1, |product: u128, &factor| product.saturating_mul(factor as u128))
}

/// Elements of a tensor with `ceil(c / 16) * 16` channels, the largest of all layouts.
fn blocked(shape: Shape4) -> u128 {
    (shape.c as u128).next_multiple_of(16).saturating_mul(product(&[shape.n, shape.h, shape.w]))
}

fn size(u: &mut Unstructured<'_>) -> Result<Size2> {
    Ok(Size2::new(any_usize(u)?, any_usize(u)?))
}

fn shape(u: &mut Unstructured<'_>) -> Result<Shape4> {
    Ok(Shape4::new(any_usize(u)?, any_usize(u)?, any_usize(u)?, any_usize(u)?))
}

/// Draws any padding, or the padding that keeps the size. The latter is also checked here.
fn pad(
    u: &mut Unstructured<'_>,
    input: Size2,
    kernel: Size2,
    stride: Size2,
    dilation: Size2,
) -> Result<Pad2> {
    let upper = Pad2::same_upper(input, kernel, stride, dilation);
    let lower = Pad2::same_lower(input, kernel, stride, dilation);
    assert_eq!(
        (upper.top, upper.bottom, upper.left, upper.right),
        (lower.bottom, lower.top, lower.right, lower.left)
    );
    for (pads, input, kernel, stride, dilation) in [
        ([upper.top, upper.bottom], input.h, kernel.h, stride.h, dilation.h),
        ([upper.left, upper.right], input.w, kernel.w, stride.w, dilation.w),
    ] {
        if [input, kernel, stride, dilation].contains(&0) {
            continue;
        }
        let [i, k, s, d] = [input, kernel, stride, dilation].map(|x| x as u128);
        let covered = (i.div_ceil(s) - 1) * s + d * (k - 1) + 1; // by all windows
        let total = covered.saturating_sub(i);
        if covered <= usize::MAX as u128 {
            let total = total as usize;
            assert_eq!(pads, [total / 2, total - total / 2]);
        }
    }
    Ok(match u.int_in_range(0..=3u8)? {
        0 => Pad2::VALID,
        1 => upper,
        2 => lower,
        _ => Pad2 { top: any_usize(u)?, bottom: any_usize(u)?, left: any_usize(u)?, right: any_usize(u)? },
    })
}

/// Extents of the padded input and of the dilated kernel, for both axes.
fn extents(input: Size2, kernel: Size2, pad: Pad2, dilation: Size2) -> [(u128, u128); 2] {
    let axis = |input: usize, before: usize, after: usize, kernel: usize, dilation: usize| {
        (input as u128 + before as u128 + after as u128, (kernel as u128 - 1) * dilation as u128 + 1)
    };
    [
        axis(input.h, pad.top, pad.bottom, kernel.h, dilation.h),
        axis(input.w, pad.left, pad.right, kernel.w, dilation.w),
    ]
}

fn conv(u: &mut Unstructured<'_>) -> Result<()> {
    let (input, kernel, stride, dilation) = (shape(u)?, size(u)?, size(u)?, size(u)?);
    let pad = pad(u, input.size(), kernel, stride, dilation)?;
    let groups = match u.int_in_range(0..=2u8)? {
        0 => 1,
        1 => input.c, // depthwise
        _ => any_usize(u)?,
    };
    // Draws a multiple of the groups more often than chance would.
    let out_channels = if u.arbitrary()? { groups.wrapping_mul(any_usize(u)?) } else { any_usize(u)? };
    let layout = layout(u)?;
    let built = ConvDesc::builder(input, out_channels, kernel)
        .stride(stride)
        .pad(pad)
        .dilation(dilation)
        .groups(groups)
        .layout(layout)
        .build();
    let numbers = [input.n, input.c, input.h, input.w, out_channels, kernel.h, kernel.w];
    let zero = numbers.iter().chain(&[stride.h, stride.w, dilation.h, dilation.w, groups]).any(|&x| x == 0);
    if zero || !input.c.is_multiple_of(groups) || !out_channels.is_multiple_of(groups) {
        assert!(matches!(built, Err(ConvError::InvalidField { .. })), "{built:?}");
        return Ok(());
    }
    let [(padded_h, kernel_h), (padded_w, kernel_w)] = extents(input.size(), kernel, pad, dilation);
    let fits = kernel_h <= padded_h && kernel_w <= padded_w;
    let taps = product(&[input.c / groups, kernel.h, kernel.w]);
    match built {
        Ok(desc) => {
            assert!(fits);
            let output = desc.output();
            assert_eq!((output.n, output.c), (input.n, out_channels));
            assert_eq!(output.h as u128, (padded_h - kernel_h) / stride.h as u128 + 1);
            assert_eq!(output.w as u128, (padded_w - kernel_w) / stride.w as u128 + 1);
            assert!(blocked(input) <= MOST && blocked(output) <= MOST);
            assert_eq!(desc.filter_len() as u128, taps * out_channels as u128);
            let macs = taps.saturating_mul(product(&[output.n, output.c, output.h, output.w]));
            assert_eq!(desc.cost().macs, u64::try_from(macs).unwrap_or(u64::MAX));
            assert!(desc.cost().intensity() >= 0.0);
            assert!(!desc.to_string().is_empty());
            for algorithm in Algorithm::ALL {
                let refused = algorithm.supports(&desc).err().map(|reason| reason.to_string());
                assert!(refused.is_none_or(|reason| !reason.is_empty()));
            }
            // Planning fails for every size if the weights are missing.
            let unplanned = ConvPlan::new(&desc, Weights::filter(&[]), &PlanOptions::default()).err();
            assert!(matches!(unplanned, Some(ConvError::BufferLen { .. })), "{unplanned:?}");
        }
        Err(ConvError::EmptyOutput { padded_input, dilated_kernel }) => {
            assert!(!fits);
            assert_eq!([padded_input.h as u128, padded_input.w as u128], [padded_h, padded_w]);
            assert_eq!([dilated_kernel.h as u128, dilated_kernel.w as u128], [kernel_h, kernel_w]);
        }
        Err(ConvError::SizeOverflow { .. }) => {
            // At least one size must be too large, with room for the padding of a panel.
            let output = |padded: u128, kernel: u128, stride: usize| {
                padded.saturating_sub(kernel) / stride as u128 + 1
            };
            let outputs = (out_channels as u128)
                .next_multiple_of(16)
                .saturating_mul(input.n as u128)
                .saturating_mul(output(padded_h, kernel_h, stride.h))
                .saturating_mul(output(padded_w, kernel_w, stride.w));
            let packed =
                (out_channels as u128 + 256 * groups as u128).saturating_mul(taps.saturating_add(16));
            let sizes = [blocked(input), outputs, packed, padded_h, padded_w, kernel_h, kernel_w];
            assert!(sizes.into_iter().any(|size| size > MOST), "refused, but nothing overflows: {sizes:?}");
        }
        Err(other) => panic!("{other}"),
    }
    Ok(())
}

fn pool(u: &mut Unstructured<'_>) -> Result<()> {
    let (input, window, stride, dilation) = (shape(u)?, size(u)?, size(u)?, size(u)?);
    let pad = pad(u, input.size(), window, stride, dilation)?;
    let kind = *u.choose(&[
        PoolKind::Max,
        PoolKind::Average { count_include_pad: false },
        PoolKind::Average { count_include_pad: true },
    ])?;
    let ceil: bool = u.arbitrary()?;
    let built = PoolDesc::builder(input, window, kind)
        .stride(stride)
        .pad(pad)
        .dilation(dilation)
        .ceil_mode(ceil)
        .layout(layout(u)?)
        .build();
    let _ = PoolDesc::global(input, kind, layout(u)?);
    let Ok(desc) = built else { return Ok(()) };
    assert!(!desc.to_string().is_empty());
    assert_eq!((desc.output().n, desc.output().c), (input.n, input.c));
    assert!(blocked(input) <= MOST && blocked(desc.output()) <= MOST);
    let [(padded_h, window_h), (padded_w, window_w)] = extents(input.size(), window, pad, dilation);
    for (input, output, padded, window, taps, stride, dilation, before) in [
        (input.h, desc.output().h, padded_h, window_h, window.h, stride.h, dilation.h, pad.top),
        (input.w, desc.output().w, padded_w, window_w, window.w, stride.w, dilation.w, pad.left),
    ] {
        let [input, output, padded, window, taps, stride, dilation, before] = [
            input as u128,
            output as u128,
            padded,
            window,
            taps as u128,
            stride as u128,
            dilation as u128,
            before as u128,
        ]
        .map(|x| x as i128);
        // PyTorch's pooling_output_shape.
        let up = if ceil { stride - 1 } else { 0 };
        let mut expected = (padded - window + up).div_euclid(stride) + 1;
        if ceil && (expected - 1) * stride >= input + before {
            expected -= 1;
        }
        assert_eq!(output, expected, "{desc}");
        // Every window must have an element of the input. Only the first and the last windows are at risk.
        for o in (0..output.min(64)).chain((output - 64).max(0)..output) {
            let start = o * stride - before;
            let skipped = if start < 0 { (-start + dilation - 1) / dilation } else { 0 };
            let inside = skipped < taps && start + skipped * dilation < input;
            assert!(inside, "window {o} has only padding: {desc}");
        }
    }
    Ok(())
}

fn tensor(u: &mut Unstructured<'_>) -> Result<()> {
    let (shape, layout) = (shape(u)?, layout(u)?);
    let len = shape.len(layout);
    let exact = match layout {
        Layout::Nchw16c => blocked(shape),
        _ => product(&[shape.n, shape.c, shape.h, shape.w]),
    };
    match len {
        Ok(len) => assert!(exact == len as u128 && exact <= MOST),
        // An empty tensor with an absurd extent can be refused as well.
        Err(_) => assert!(exact > MOST || shape.is_empty()),
    }
    let pitch = Pitch { image: any_usize(u)?, pixel: any_usize(u)? };
    let data = vec![0.0; u.int_in_range(0..=2048usize)?];
    if let Ok(tensor) = TensorRef::packed(&data, shape, layout) {
        assert_eq!((tensor.shape(), tensor.layout()), (shape, layout));
        assert_eq!(len, Ok(data.len()));
    }
    let Ok(tensor) = TensorRef::with_pitch(&data, shape, layout, pitch) else { return Ok(()) };
    // Every element must be inside the data and must have its own place.
    let Shape4 { n, c, h, w } = shape;
    assert!(product(&[n, c, h, w]) <= data.len() as u128);
    let mut seen = HashSet::new();
    for n in 0..n {
        for c in 0..c {
            for y in 0..h {
                for x in 0..w {
                    let at = tensor.offset(n, c, y, x);
                    assert!(at < data.len() && seen.insert(at), "{shape} {layout} {pitch:?}");
                }
            }
        }
    }
    Ok(())
}

fn activation(u: &mut Unstructured<'_>) -> Result<()> {
    let (a, b) = (f32::from_bits(u.arbitrary()?), f32::from_bits(u.arbitrary()?));
    let x = f64::from_bits(u.arbitrary()?);
    for activation in [
        Activation::Clip { lo: a, hi: b },
        Activation::LeakyRelu { alpha: a },
        Activation::Elu { alpha: a },
        Activation::PRelu,
    ] {
        let epilogue = kernels::EpilogueSpec::bias(activation);
        let built =
            ConvDesc::builder(Shape4::new(1, 1, 1, 1), 1, Size2::square(1)).epilogue(epilogue).build();
        let valid = match activation {
            Activation::Clip { lo, hi } => lo <= hi,
            Activation::PRelu => true,
            _ => a.is_finite(),
        };
        assert_eq!(built.is_ok(), valid, "{activation:?}");
        if valid {
            activation.eval(x, f64::from(b));
        }
    }
    Ok(())
}

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let mut u = Unstructured::new(bytes);
    let done = match u.int_in_range(0..=7u8) {
        Ok(0..=2) => conv(&mut u),
        Ok(3..=4) => pool(&mut u),
        Ok(5..=6) => tensor(&mut u),
        Ok(_) => activation(&mut u),
        Err(error) => Err(error),
    };
    if done.is_ok() { Corpus::Keep } else { Corpus::Reject }
});
