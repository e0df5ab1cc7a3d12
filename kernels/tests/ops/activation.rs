//! Every activation on a dense sample of all `f32`, against `Activation::eval` in `f64`.

use crate::{Noise, Tensor, UNIT, indices, three_threads};
use kernels::{Activation, ConvError, Isa, Layout, Ops, Shape4, TensorMut, Threads};

/// Slope of PReLU where one value is enough.
const SLOPE: f32 = 0.3;

/// Every activation with its error bound: a relative bound in units of 2^-24 (one rounding), and an absolute bound.
///
/// - Selections are exact; a product adds one rounding.
/// - HardSwish: the sum, the constant 1/6 and two products.
/// - `exp` and `exp - 1` of a reduced argument: 0.25 for the polynomial and 1 for the last FMA (2 without
///   FMA). Argument reduction and inner steps add less than 2 after the factor 1/2 of the reduced range.
/// - Sigmoid adds one sum and one quotient, and SiLU one more product. Tanh and ELU have the same count.
/// - Exponentials below 2^-126 are flushed to zero: 1.2e-38, times |x| < 88 in SiLU. Products of subnormals
///   are rounded by half of 2^-149.
const BOUNDS: [(Activation, f64, f64); 11] = [
    (Activation::None, 0.0, 0.0),
    (Activation::Relu, 0.0, 0.0),
    (Activation::RELU6, 0.0, 0.0),
    (Activation::Clip { lo: -1.5, hi: 1e30 }, 0.0, 0.0),
    (Activation::LeakyRelu { alpha: 0.01 }, 1.0, 1e-45),
    (Activation::PRelu, 1.0, 1e-45),
    (Activation::HardSwish, 4.0, 2e-45),
    (Activation::Sigmoid, 6.0, 1.2e-38),
    (Activation::Tanh, 6.0, 2e-45),
    (Activation::Elu { alpha: 1.0 }, 6.0, 2e-45),
    (Activation::Silu, 7.0, 1.1e-36),
];

/// Every exponent with both signs, and `per_exponent` mantissas each. The first and the last exponents
/// include zeros, subnormals, infinities and NaN.
fn sample(per_exponent: u32) -> Vec<f32> {
    let mut noise = Noise::new(11);
    let mut values = vec![0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -f32::NAN];
    for sign_and_exponent in 0..512u32 {
        let base = sign_and_exponent << 23;
        values.extend([base, base + 1, base + (1 << 22), base + ((1 << 23) - 1)].map(f32::from_bits));
        values.extend((0..per_exponent).map(|_| f32::from_bits(base + (noise.bits() >> 41) as u32)));
    }
    // The regions where the functions bend, and where the exponential is flushed.
    for _ in 0..100 * per_exponent {
        values.extend([8.0 * noise.next(), 20.0 * noise.next(), 95.0 * noise.next()]);
    }
    values
}

fn apply(ops: Ops, activation: Activation, values: &[f32]) -> Vec<f32> {
    let mut data = values.to_vec();
    let shape = Shape4::new(1, 1, 1, data.len());
    let tensor = TensorMut::packed(&mut data, shape, Layout::Nchw).unwrap();
    let slope = (activation == Activation::PRelu).then_some(&[SLOPE][..]);
    ops.activate(activation, slope, tensor, Threads::Seq).unwrap();
    data
}

#[test]
fn activations_are_accurate_everywhere() {
    let values = sample(1000);
    for isa in Isa::available() {
        let ops = Ops::new(Some(isa)).unwrap();
        for (activation, relative, absolute) in BOUNDS {
            let results = apply(ops, activation, &values);
            let mut worst = (0.0, 0.0);
            for (&x, got) in values.iter().zip(results) {
                let want = activation.eval(f64::from(x), f64::from(SLOPE));
                let rounded = want as f32;
                if want.is_nan() || rounded.is_infinite() || got.is_infinite() {
                    let same = if want.is_nan() { got.is_nan() } else { got == rounded };
                    assert!(same, "{isa} {} of {x:e}: {want:e}, got {got:e}", activation.name());
                    continue;
                }
                let error = (f64::from(got) - want).abs();
                let units = (error - absolute).max(0.0) / (UNIT * want.abs()).max(f64::MIN_POSITIVE);
                if units > worst.0 {
                    worst = (units, x);
                }
            }
            let (units, x) = worst;
            println!("{isa:>9} {:<10} {units:.2} of {relative} units at {x:e}", activation.name());
            assert!(units <= relative, "{isa} {}: {units} units at {x:e}", activation.name());
        }
    }
}

/// Covers rows, blocks, tails, gaps, slopes per channel, and several threads.
#[test]
fn every_layout_is_covered() {
    let pool = three_threads();
    let shapes =
        [(1, 1, 1, 1), (2, 3, 5, 7), (1, 16, 3, 3), (2, 35, 9, 11), (1, 64, 40, 50), (70, 1000, 1, 1)];
    for isa in Isa::available() {
        let ops = Ops::new(Some(isa)).unwrap();
        for (n, c, h, w) in shapes {
            for layout in Layout::ALL {
                for gap in [0, 9] {
                    for activation in [Activation::PRelu, Activation::Relu, Activation::Sigmoid] {
                        let mut noise = Noise::new(13);
                        let slope = noise.vec(c);
                        let shape = Shape4::new(n, c, h, w);
                        let input = Tensor::from_fn(shape, layout, gap, |_| 3.0 * noise.next());
                        let [one, three] = [Threads::Seq, Threads::Pool(&pool)].map(|threads| {
                            let mut tensor = input.clone();
                            let slope = (activation == Activation::PRelu).then_some(&slope[..]);
                            ops.activate(activation, slope, tensor.view_mut(), threads).unwrap();
                            tensor
                        });
                        assert!(one.bits() == three.bits(), "the bits depend on the threads");
                        one.assert_rest(f32::NAN, false);
                        for (n, c, y, x) in indices(shape) {
                            let from = f64::from(input.get(n, c, y, x));
                            let want = activation.eval(from, f64::from(slope[c]));
                            let error = (f64::from(one.get(n, c, y, x)) - want).abs();
                            assert!(error <= 6.0 * UNIT * want.abs(), "{isa} {layout} {shape} {gap}");
                        }
                    }
                }
            }
        }
    }
}

fn error_of(activation: Activation, slope: Option<&[f32]>) -> ConvError {
    let mut data = [-1.0; 6];
    let tensor = TensorMut::packed(&mut data, Shape4::new(1, 3, 1, 2), Layout::Nchw).unwrap();
    let error = Ops::new(None).unwrap().activate(activation, slope, tensor, Threads::Seq).unwrap_err();
    assert_eq!(data, [-1.0; 6], "the tensor was touched");
    error
}

#[test]
fn missing_slopes_are_an_error() {
    let expected = ConvError::EpilogueMismatch { what: "PReLU slopes", planned: true };
    assert_eq!(error_of(Activation::PRelu, None), expected);
}

#[test]
fn unwanted_slopes_are_an_error() {
    let expected = ConvError::EpilogueMismatch { what: "PReLU slopes", planned: false };
    assert_eq!(error_of(Activation::Relu, Some(&[0.0; 3])), expected);
    assert_eq!(error_of(Activation::None, Some(&[0.0; 3])), expected);
}

#[test]
fn slopes_of_another_length_are_an_error() {
    let expected = ConvError::BufferLen { what: "PReLU slopes", expected: 3, got: 2 };
    assert_eq!(error_of(Activation::PRelu, Some(&[0.0; 2])), expected);
}

#[test]
fn parameters_that_make_no_sense_are_an_error() {
    for activation in [Activation::Clip { lo: 1.0, hi: 0.0 }, Activation::Elu { alpha: f32::NAN }] {
        assert!(matches!(error_of(activation, None), ConvError::InvalidField { .. }));
    }
}

/// An instruction set of another architecture.
#[test]
fn an_instruction_set_that_is_not_there_is_an_error() {
    let foreign = if cfg!(target_arch = "aarch64") { Isa::Avx2Fma } else { Isa::Neon };
    let error = Ops::new(Some(foreign)).unwrap_err();
    assert_eq!(error, ConvError::IsaUnavailable { isa: foreign, best: Isa::detect() });
    assert_eq!(Ops::new(None).unwrap().isa(), Isa::detect());
}

#[test]
fn tensors_of_bf16_numbers_are_an_error() {
    let shape = Shape4::new(1, 32, 4, 4);
    let mut data = vec![0.0; shape.len(Layout::Nchw32cBf16).unwrap()];
    assert_eq!(data.len(), 16 * 16);
    let ops = Ops::new(None).expect("the best set");
    let tensor = TensorMut::packed(&mut data, shape, Layout::Nchw32cBf16).unwrap();
    let error = ops.activate(Activation::Relu, None, tensor, Threads::Seq).expect_err("refused");
    assert_eq!(error.to_string(), "layout: expected a layout of f32 numbers, got nchw32c_bf16");
    let tensor = TensorMut::packed(&mut data, shape, Layout::Nchw32cBf16).unwrap();
    assert!(ops.softmax(tensor, Threads::Seq).is_err());
}
