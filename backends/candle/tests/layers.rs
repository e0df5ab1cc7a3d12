//! Layers as candle uses them: constructors, variables that change, fallbacks, errors, threads.

mod common;

use candle_core::{DType, Device, Module, Result, Tensor, Var};
use candle_nn::{Optimizer, SGD, VarBuilder, VarMap};
use common::{VIEWS, assert_close, difference, tensor, viewed};
use convkernels_candle as ours;
use ours::{Conv1dConfig, Conv2dConfig, ConvTranspose1dConfig, ConvTranspose2dConfig, Fused, functional};
use std::collections::HashMap;

const TOLERANCE: f64 = 1e-5;

fn same_padding() -> Conv2dConfig {
    Conv2dConfig { padding: 1, ..Default::default() }
}

/// Equal extents of channels, rows and columns: only the strides tell the axes apart.
#[test]
fn cubes_in_every_order_of_axes() -> Result<()> {
    let weight = tensor(&[5, 4, 3, 3], 1);
    let layer = ours::Conv2d::new(weight.clone(), None, same_padding());
    for order in
        [[0, 1, 2, 3], [0, 1, 3, 2], [0, 2, 1, 3], [0, 2, 3, 1], [0, 3, 1, 2], [0, 3, 2, 1], [1, 0, 2, 3]]
    {
        let input = tensor(&[4, 4, 4, 4], 2).permute(order)?;
        let expected = input.contiguous()?.conv2d(&weight, 1, 1, 1, 1)?;
        assert_close(&layer.forward(&input)?, &expected, TOLERANCE, &format!("{order:?}"));
    }
    Ok(())
}

/// Axes of extent 1, whose strides mean nothing.
#[test]
fn axes_of_extent_one() -> Result<()> {
    for dims in [[1, 1, 6, 6], [3, 1, 1, 6], [1, 6, 1, 1], [2, 6, 1, 5], [2, 6, 5, 1], [1, 1, 1, 1]] {
        for view in VIEWS {
            let input = viewed(&dims, view, 3)?;
            let weight = tensor(&[4, dims[1], 3, 3], 4);
            let output = ours::Conv2d::new(weight.clone(), None, same_padding()).forward(&input)?;
            let expected = input.contiguous()?.conv2d(&weight, 1, 1, 1, 1)?;
            assert_close(&output, &expected, TOLERANCE, &format!("{dims:?} {view:?}"));
        }
    }
    Ok(())
}

/// Weights that are views: transposed, narrowed, broadcast.
#[test]
fn weights_and_biases_that_are_views() -> Result<()> {
    let input = tensor(&[2, 6, 8, 8], 5);
    for view in VIEWS {
        let weight = viewed(&[4, 6, 3, 3], view, 6)?;
        let bias = tensor(&[9], 7).narrow(0, 2, 4)?;
        let with = ours::Conv2d::new(weight.clone(), Some(bias.clone()), same_padding()).forward(&input)?;
        let without = candle_nn::Conv2d::new(weight, Some(bias), same_padding()).forward(&input)?;
        assert_close(&with, &without, TOLERANCE, &format!("{view:?}"));
    }
    Ok(())
}

/// A bias of one number is broadcast, as in candle.
#[test]
fn bias_of_one_number() -> Result<()> {
    let (input, weight, bias) = (tensor(&[2, 3, 5, 5], 1), tensor(&[4, 3, 3, 3], 2), tensor(&[1], 3));
    let with = ours::Conv2d::new(weight.clone(), Some(bias.clone()), same_padding()).forward(&input)?;
    let without = candle_nn::Conv2d::new(weight, Some(bias), same_padding()).forward(&input)?;
    assert_close(&with, &without, TOLERANCE, "bias of one number");
    Ok(())
}

/// Other types are candle's own results, bit for bit.
#[test]
fn other_types_fall_back() -> Result<()> {
    for dtype in [DType::F64, DType::F16] {
        let input = tensor(&[2, 4, 9, 9], 1).to_dtype(dtype)?;
        let (weight, bias) = (tensor(&[6, 4, 3, 3], 2).to_dtype(dtype)?, tensor(&[6], 3).to_dtype(dtype)?);
        let with = ours::Conv2d::new(weight.clone(), Some(bias.clone()), same_padding()).forward(&input)?;
        let without = candle_nn::Conv2d::new(weight, Some(bias), same_padding()).forward(&input)?;
        assert_eq!(with.dtype(), dtype);
        assert_eq!(difference(&with, &without), 0.0, "{dtype:?}");
        let weight = tensor(&[4, 5, 3, 3], 2).to_dtype(dtype)?;
        let config = ConvTranspose2dConfig { stride: 2, ..Default::default() };
        let with = ours::ConvTranspose2d::new(weight.clone(), None, config).forward(&input)?;
        let without = candle_nn::ConvTranspose2d::new(weight, None, config).forward(&input)?;
        assert_eq!(difference(&with, &without), 0.0, "transposed {dtype:?}");
    }
    Ok(())
}

/// candle subtracts the padding first, which overflows here; the fallback must not.
#[test]
fn transposed_fallback_with_much_padding() -> Result<()> {
    let (input, weight) = (tensor(&[1, 2, 1], 1), tensor(&[2, 3, 5], 2));
    let config = ConvTranspose1dConfig { padding: 2, ..Default::default() };
    let wide = ours::ConvTranspose1d::new(weight.to_dtype(DType::F64)?, None, config);
    let wide = wide.forward(&input.to_dtype(DType::F64)?)?;
    let narrow = ours::ConvTranspose1d::new(weight, None, config).forward(&input)?;
    assert_eq!(narrow.dims(), [1, 3, 1]);
    assert_close(&narrow, &wide, TOLERANCE, "much padding");
    Ok(())
}

#[test]
fn empty_batch() -> Result<()> {
    let input = Tensor::zeros((0, 3, 8, 8), DType::F32, &Device::Cpu)?;
    let output = ours::Conv2d::new(tensor(&[4, 3, 3, 3], 1), None, same_padding()).forward(&input)?;
    assert_eq!(output.dims(), [0, 4, 8, 8]);
    Ok(())
}

/// A variable changes in place. The next call sees it, also through a tensor that shares its memory.
#[test]
fn variables_change() -> Result<()> {
    let input = tensor(&[1, 3, 8, 8], 1);
    let weight = Var::from_tensor(&tensor(&[4, 3, 3, 3], 2))?;
    let bias = Var::from_tensor(&tensor(&[4], 3))?;
    let layers = [
        ours::Conv2d::new(weight.as_tensor().clone(), Some(bias.as_tensor().clone()), same_padding()),
        ours::Conv2d::new(weight.as_detached_tensor(), Some(bias.as_detached_tensor()), same_padding()),
        // The promise has no effect on variables.
        ours::Conv2d::new(weight.as_tensor().clone(), Some(bias.as_tensor().clone()), same_padding())
            .frozen(),
    ];
    for step in 0..4 {
        let expected = input.conv2d(&weight, 1, 1, 1, 1)?.broadcast_add(&bias.reshape((1, 4, 1, 1))?)?;
        for layer in &layers {
            assert_close(&layer.forward(&input)?, &expected, TOLERANCE, "after a change");
        }
        // Weight and bias change in turns.
        match step % 2 {
            0 => weight.set(&tensor(&[4, 3, 3, 3], 10 + step))?,
            _ => bias.set(&tensor(&[4], 10 + step))?,
        }
    }
    Ok(())
}

/// Steps of an optimizer change the output as candle's layer says.
#[test]
fn training_changes_the_output() -> Result<()> {
    let map = VarMap::new();
    let vb = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
    let layer = ours::conv2d(3, 4, 3, same_padding(), vb.pp("layer"))?;
    let twin = candle_nn::conv2d(3, 4, 3, same_padding(), vb.pp("layer"))?;
    let input = tensor(&[2, 3, 8, 8], 1);
    let mut optimizer = SGD::new(map.all_vars(), 0.1)?;
    let mut last = layer.forward(&input)?;
    for _ in 0..3 {
        optimizer.backward_step(&layer.forward(&input)?.sqr()?.mean_all()?)?;
        let output = layer.forward(&input)?;
        assert!(difference(&output, &last) > 1e-3, "the output did not change");
        assert_close(&output, &twin.forward(&input)?, TOLERANCE, "after a step");
        last = output;
    }
    Ok(())
}

/// Layers from a file: candle's names and shapes, and plans that are kept.
#[test]
fn var_builder_round_trip() -> Result<()> {
    let map = VarMap::new();
    let vb = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
    let one = Conv1dConfig { groups: 2, ..Default::default() };
    let up_one = ConvTranspose1dConfig { groups: 2, ..Default::default() };
    let (two, up_two) = (same_padding(), ConvTranspose2dConfig { stride: 2, ..Default::default() });
    candle_nn::conv1d(4, 6, 3, one, vb.pp("a"))?;
    candle_nn::conv2d(4, 6, 3, two, vb.pp("b"))?;
    candle_nn::conv_transpose1d(4, 6, 3, up_one, vb.pp("c"))?;
    candle_nn::conv_transpose2d(4, 6, 3, up_two, vb.pp("d"))?;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("weights.safetensors");
    map.save(&file)?;
    let tensors = candle_core::safetensors::load(&file, &Device::Cpu)?;
    let vb = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
    let (line, image) = (tensor(&[1, 4, 9], 1), tensor(&[1, 4, 9, 9], 2));
    macro_rules! check {
        ($function:ident, $no_bias:ident, $config:expr, $name:literal, $input:expr) => {
            let [with, bare] = [ours::$function, ours::$no_bias].map(|f| f(4, 6, 3, $config, vb.pp($name)));
            let (with, bare) = (with?, bare?);
            let theirs = candle_nn::$function(4, 6, 3, $config, vb.pp($name))?;
            let bare_theirs = candle_nn::$no_bias(4, 6, 3, $config, vb.pp($name))?;
            assert_eq!((with.weight().dims(), with.config()), (theirs.weight().dims(), theirs.config()));
            assert!(with.bias().is_some() && bare.bias().is_none());
            for _ in 0..2 {
                assert_close(&with.forward($input)?, &theirs.forward($input)?, TOLERANCE, $name);
                assert_close(&bare.forward($input)?, &bare_theirs.forward($input)?, TOLERANCE, $name);
            }
            assert_eq!(with.plans(), 1, "one shape, one plan");
        };
    }
    check!(conv1d, conv1d_no_bias, one, "a", &line);
    check!(conv2d, conv2d_no_bias, two, "b", &image);
    check!(conv_transpose1d, conv_transpose1d_no_bias, up_one, "c", &line);
    check!(conv_transpose2d, conv_transpose2d_no_bias, up_two, "d", &image);
    Ok(())
}

/// candle's layers, converted: the same tensors and configuration, and weights that are checked in each call.
#[test]
fn layers_of_candle() -> Result<()> {
    let (line, image) = (tensor(&[1, 4, 9], 1), tensor(&[1, 4, 9, 9], 2));
    macro_rules! check {
        ($layer:ident, $config:expr, $weight:expr, $input:expr) => {
            let weight = Var::from_tensor(&tensor($weight, 3))?;
            let (shared, bias) = (weight.as_detached_tensor(), Some(tensor(&[6], 4)));
            let theirs = candle_nn::$layer::new(shared, bias, $config);
            let ours = ours::$layer::from(theirs.clone());
            assert_eq!((ours.config(), ours.bias().is_some()), (theirs.config(), true));
            for seed in 5..7 {
                assert_close(&ours.forward($input)?, &theirs.forward($input)?, TOLERANCE, stringify!($layer));
                weight.set(&tensor($weight, seed))?;
            }
            assert_close(&ours.forward($input)?, &theirs.forward($input)?, TOLERANCE, stringify!($layer));
        };
    }
    check!(Conv1d, Conv1dConfig { groups: 2, ..Default::default() }, &[6, 2, 3], &line);
    check!(Conv2d, same_padding(), &[6, 4, 3, 3], &image);
    check!(ConvTranspose1d, ConvTranspose1dConfig { stride: 2, ..Default::default() }, &[4, 6, 3], &line);
    check!(ConvTranspose2d, ConvTranspose2dConfig { stride: 2, ..Default::default() }, &[4, 6, 3, 3], &image);
    Ok(())
}

#[test]
fn plans_are_bounded() -> Result<()> {
    let layer = ours::Conv2d::new(tensor(&[4, 3, 3, 3], 1), None, same_padding()).frozen();
    for size in 1..40 {
        let input = tensor(&[1, 3, size, 41 - size], 2);
        assert_close(
            &layer.forward(&input)?,
            &input.conv2d(layer.weight(), 1, 1, 1, 1)?,
            TOLERANCE,
            "a new shape",
        );
    }
    assert_eq!(layer.plans(), 16);
    Ok(())
}

/// A layer that checks its weights and one that trusts them do not discard each other's plans.
#[test]
fn frozen_clones_have_plans_of_their_own() -> Result<()> {
    let layer = ours::Conv2d::new(tensor(&[4, 3, 3, 3], 1), None, same_padding());
    let inputs = [6, 7, 8].map(|size| tensor(&[1, 3, size, size], 2));
    for input in &inputs {
        layer.forward(input)?;
    }
    let frozen = layer.clone().frozen();
    for _ in 0..2 {
        let output = frozen.forward(&inputs[0])?;
        assert_eq!((layer.plans(), frozen.plans()), (3, 1));
        assert_close(&output, &layer.forward(&inputs[0])?, TOLERANCE, "frozen");
    }
    // What is frozen already keeps its plans.
    let again = frozen.clone().frozen();
    again.forward(&inputs[1])?;
    assert_eq!(frozen.plans(), 2);
    Ok(())
}

/// Every activation, fused and as candle's operators, with the same result.
#[test]
fn activations() -> Result<()> {
    let all = [
        Fused::None,
        Fused::Relu,
        Fused::LeakyRelu { alpha: 0.1 },
        Fused::RELU6,
        Fused::Sigmoid,
        Fused::Tanh,
        Fused::Elu { alpha: 0.7 },
        Fused::HardSwish,
        Fused::Silu,
    ];
    let (input, weight, bias) = (tensor(&[2, 3, 7, 7], 1), tensor(&[5, 3, 3, 3], 2), tensor(&[5], 3));
    let (up_weight, up) =
        (tensor(&[3, 5, 2, 2], 4), ConvTranspose2dConfig { stride: 3, ..Default::default() });
    let variable = Var::from_tensor(&input)?;
    for activation in all {
        let name = activation.name();
        let conv = |x: &Tensor| functional::conv2d(x, &weight, Some(&bias), same_padding(), activation);
        assert_close(&conv(&input)?, &conv(&variable)?, TOLERANCE, name);
        let layer = ours::Conv2d::new(weight.clone(), Some(bias.clone()), same_padding());
        let layer = layer.with_activation(activation);
        assert_close(&layer.forward(&input)?, &conv(&variable)?, TOLERANCE, name);
        // With stride 3 and two taps, some outputs are the activation of the bias alone.
        let up = |x: &Tensor| functional::conv_transpose2d(x, &up_weight, Some(&bias), up, activation);
        assert_close(&up(&input)?, &up(&variable)?, TOLERANCE, name);
        let grads = conv(&variable)?.sum_all()?.backward()?;
        assert!(grads.get(&variable).is_some(), "{name} has a gradient");
    }
    let refused = functional::conv2d(&input, &weight, None, same_padding(), Fused::PRelu);
    assert!(refused.unwrap_err().to_string().contains("PReLU slopes"));
    Ok(())
}

/// One layer in many threads and in jobs of rayon, with several shapes, while it makes its plans.
#[test]
fn many_threads() -> Result<()> {
    use rayon::prelude::*;
    let layer = ours::Conv2d::new(tensor(&[16, 8, 3, 3], 1), None, same_padding());
    let check = |index: u64| {
        let size = 8 + (index % 5) as usize;
        let input = tensor(&[1, 8, size, size], index);
        let expected = input.conv2d(layer.weight(), 1, 1, 1, 1).expect("candle");
        assert_close(&layer.forward(&input).expect("an output"), &expected, TOLERANCE, "thread");
    };
    std::thread::scope(|scope| {
        (0..8).for_each(|index| drop(scope.spawn(move || (0..10).for_each(|n| check(index + n)))))
    });
    (0..64u64).into_par_iter().for_each(check);
    Ok(())
}

/// Arguments that do not fit are errors that say what was expected and what was given.
#[test]
fn errors_say_what_is_wrong() {
    let conv = |input: &[usize], weight: &[usize], config| {
        let layer = ours::Conv2d::new(tensor(weight, 1), None, config);
        layer.forward(&tensor(input, 2)).unwrap_err().to_string()
    };
    let up = |input: &[usize], weight: &[usize], config| {
        let layer = ours::ConvTranspose2d::new(tensor(weight, 1), None, config);
        layer.forward(&tensor(input, 2)).unwrap_err().to_string()
    };
    let plain = Conv2dConfig::default();
    let with = |stride, dilation, groups| Conv2dConfig { stride, dilation, groups, ..plain };
    let up_with = |padding, stride| ConvTranspose2dConfig { padding, stride, ..Default::default() };
    let huge = usize::MAX / 2;
    let cases = [
        (conv(&[1, 3, 8], &[4, 3, 3, 3], plain), "input: expected 4 dimensions, got 3"),
        (conv(&[1, 3, 8, 8], &[4, 3, 3], plain), "weight: expected 4 dimensions, got 3"),
        (conv(&[1, 3, 8, 8], &[4, 2, 3, 3], plain), "input channels: expected 2"),
        (conv(&[1, 3, 2, 8], &[4, 3, 3, 3], plain), "the output is empty"),
        (conv(&[1, 3, 8, 8], &[4, 3, 3, 3], with(0, 1, 1)), "stride.h: expected at least 1, got 0"),
        (conv(&[1, 3, 8, 8], &[4, 3, 3, 3], with(1, 0, 1)), "dilation.h: expected at least 1, got 0"),
        (conv(&[1, 3, 8, 8], &[4, 3, 3, 3], with(1, 1, 0)), "input channels: expected 0"),
        (
            conv(&[1, 6, 8, 8], &[4, 2, 3, 3], with(1, 1, 3)),
            "groups: expected a divisor of the 4 output channels, got 3",
        ),
        (conv(&[1, 3, 8, 8], &[4, 3, 0, 3], plain), "kernel.h: expected at least 1, got 0"),
        (conv(&[1, 3, 8, 8], &[4, 3, 3, 3], Conv2dConfig { padding: huge, ..plain }), "overflow"),
        (up(&[1, 3, 8, 8], &[4, 2, 3, 3], up_with(0, 1)), "input channels: expected 4"),
        (up(&[1, 4, 8, 8], &[4, 2, 3, 3], up_with(0, 0)), "stride: expected at least 1, got 0"),
        (up(&[1, 4, 8, 8], &[4, 2, 3, 3], up_with(5, 1)), "padding: expected less than half"),
        (up(&[1, 4, 8, 8], &[4, 2, 3, 3], up_with(0, huge)), "overflow"),
    ];
    for (message, expected) in cases {
        assert!(message.contains(expected), "expected {expected:?} in {message:?}");
    }
}

/// The constructors check before candle divides by zero.
#[test]
fn constructors_refuse_zero_groups() {
    let vb = || VarBuilder::from_tensors(HashMap::new(), DType::F32, &Device::Cpu);
    let two = Conv2dConfig { groups: 0, ..Default::default() };
    assert!(ours::conv2d(4, 4, 3, two, vb()).unwrap_err().to_string().contains("groups"));
    let up = ConvTranspose1dConfig { groups: 0, ..Default::default() };
    assert!(ours::conv_transpose1d_no_bias(4, 4, 3, up, vb()).unwrap_err().to_string().contains("groups"));
    assert!(ours::conv2d(4, 4, 3, Conv2dConfig::default(), vb()).unwrap_err().to_string().contains("weight"));
}
