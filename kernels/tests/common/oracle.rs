//! An independent implementation. It shares no code with the library's reference algorithm, which it checks as well.

use super::Data;
use super::winograd::Tile;
use kernels::{Activation, Algorithm, ConvDesc, Method, Products};
use std::ops::Range;

/// The factor by which an activation can amplify an error of its argument: its Lipschitz constant.
pub fn spread(activation: Activation, slope: f64) -> f64 {
    match activation {
        Activation::LeakyRelu { alpha } | Activation::Elu { alpha } => f64::from(alpha).abs().max(1.0),
        Activation::PRelu => slope.abs().max(1.0),
        Activation::HardSwish => 1.5,
        Activation::Silu => 1.1,
        _ => 1.0,
    }
}

/// The error of evaluating the activation itself: 4 units in the last place of the result, or of 1 where the
/// result is a difference from 1.
pub fn evaluation(activation: Activation, result: f64) -> f64 {
    let eps = f64::from(f32::EPSILON);
    match activation {
        Activation::None | Activation::Relu | Activation::Clip { .. } => 0.0,
        Activation::Elu { alpha } => 4.0 * eps * (result.abs() + f64::from(alpha).abs()),
        _ => 4.0 * eps * (result.abs() + f64::from(f32::MIN_POSITIVE)),
    }
}

/// The error of Fourier transforms at every output of a channel, independent of the size of that output. The
/// error of a transform of N numbers is below about `log2 N` roundings of their norm (Higham 2002, theorem
/// 24.2). There are three transforms in sequence, N is at most 128 * 128, and no sum of products exceeds the
/// product of the norms (Cauchy-Schwarz). `images` are transformed together.
fn of_transforms(desc: &ConvDesc, data: &Data, images: Range<usize>, o: usize) -> f64 {
    let (input, output, kernel) = (desc.input(), desc.output(), desc.kernel());
    let (channels, per_group) = (input.c / desc.groups(), output.c / desc.groups());
    let squares = |values: &[f32]| values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>();
    let (pixels, window) = (input.h * input.w, kernel.h * kernel.w);
    let products = (0..channels).map(|c| {
        let image = |n: usize| (n * input.c + o / per_group * channels + c) * pixels;
        let weights = (o * channels + c) * window;
        let of_images = images.clone().map(|n| squares(&data.input[image(n)..image(n) + pixels]));
        (of_images.sum::<f64>() * squares(&data.filter[weights..weights + window])).sqrt()
    });
    (3.0 * 14.0 + channels as f64) * f64::from(f32::EPSILON) * products.sum::<f64>()
}

/// The relative error of a product of two numbers in parts, and the number of products that are summed.
///
/// Three parts by truncation hold 8 bits each and leave out `a1 b2 + a2 b1 + a2 b2`. Two rounded parts leave a
/// remainder of 2^-16 of each number, and the product of the second parts. One part is off by 2^-8.
pub fn of_parts(products: Products) -> (f64, f64) {
    match products {
        Products::Bf16x6 => (2f64.powf(-20.9), 6.0),
        Products::Bf16x3 => (3.1 * 2f64.powi(-16), 3.0),
        Products::Bf16 => (2.1 * 2f64.powi(-8), 1.0),
        _ => (0.0, 1.0),
    }
}

/// Compares `got` with the definition of `desc` in `f64`, with the error bound of `method`, which computed the smaller
/// convolution `computed`.
///
/// The bound holds for any order of summation in `f32` (Higham 2002, section 4.2, doubled for products that
/// are rounded separately): `(K + 4) * eps * (sum |w x| + |bias| + |residual|)`, plus the possible
/// contribution of flushed subnormal weights, passed through the activation.
///
/// Winograd convolution multiplies sums of neighbours. Its error is relative to the largest pixel of the
/// tile, whether or not the output depends on that pixel. Fourier transforms add [`of_transforms`].
pub fn compare(
    (desc, computed): (&ConvDesc, &ConvDesc),
    method: Method,
    data: &Data,
    got: &[f32],
) -> Result<(), String> {
    let Method { algorithm, products } = method;
    let (left_out, summed) = of_parts(products);
    let tile = Tile::of(algorithm, computed);
    let (input, output, kernel) = (desc.input(), desc.output(), desc.kernel());
    let (channels, per_group) = (input.c / desc.groups(), output.c / desc.groups());
    let k = channels * kernel.h * kernel.w;
    let eps = f64::from(f32::EPSILON);
    let mut at = 0;
    for n in 0..output.n {
        for o in 0..output.c {
            // Images of one pixel can be the pixels of one image.
            let merged = computed.input().n < input.n;
            let images = if merged { 0..input.n } else { n..n + 1 };
            let spread_out =
                if algorithm == Algorithm::Fft { of_transforms(desc, data, images, o) } else { 0.0 };
            for y in 0..output.h {
                for x in 0..output.w {
                    let (mut sum, mut magnitude) = (0.0f64, 0.0f64);
                    let (mut largest, mut heaviest) = (0.0f64, 0.0f64);
                    for c in 0..channels {
                        for i in 0..kernel.h {
                            for j in 0..kernel.w {
                                let row = (y * desc.stride().h + i * desc.dilation().h) as isize
                                    - desc.pad().top as isize;
                                let column = (x * desc.stride().w + j * desc.dilation().w) as isize
                                    - desc.pad().left as isize;
                                if row < 0
                                    || column < 0
                                    || row >= input.h as isize
                                    || column >= input.w as isize
                                {
                                    continue;
                                }
                                let channel = o / per_group * channels + c;
                                let pixel = row as usize * input.w + column as usize;
                                let value = data.input[(n * input.c + channel) * input.h * input.w + pixel];
                                let weight = data.filter[((o * channels + c) * kernel.h + i) * kernel.w + j];
                                let product = f64::from(value) * f64::from(weight);
                                sum += product;
                                magnitude += product.abs();
                                largest = largest.max(f64::from(value).abs());
                                heaviest = heaviest.max(f64::from(weight).abs());
                            }
                        }
                    }
                    if let Some(tile) = &tile {
                        (magnitude, largest) = tile.magnitude((desc, computed), data, (n, o, y, x));
                    }
                    for addend in [data.bias.as_ref().map(|b| b[o]), data.residual.as_ref().map(|r| r[at])] {
                        let addend = f64::from(addend.unwrap_or(0.0));
                        sum += addend;
                        magnitude += addend.abs();
                    }
                    let slope = data.slope.as_ref().map_or(0.0, |s| f64::from(s[o]));
                    let activation = desc.epilogue().activation;
                    let expected = activation.eval(sum, slope);
                    let mut flushed = k as f64 * f64::from(f32::MIN_POSITIVE) * (largest + 1.0);
                    if products != Products::F32 {
                        // bf16 units also take subnormal parts of pixels and subnormal sums for zero.
                        flushed += 4.0 * summed * k as f64 * f64::from(f32::MIN_POSITIVE) * (heaviest + 1.0);
                    }
                    let summation =
                        ((summed * k as f64 + 4.0) * eps + left_out) * magnitude + flushed + spread_out;
                    let tolerance = spread(activation, slope) * summation + evaluation(activation, expected);
                    let error = (f64::from(got[at]) - expected).abs();
                    if error.is_nan() || error > tolerance {
                        return Err(format!(
                            "[{n},{o},{y},{x}] is {}, expected {expected}: off by {error:e}, tolerance {tolerance:e}",
                            got[at]
                        ));
                    }
                    at += 1;
                }
            }
        }
    }
    if at == got.len() { Ok(()) } else { Err(format!("{} elements, expected {at}", got.len())) }
}
