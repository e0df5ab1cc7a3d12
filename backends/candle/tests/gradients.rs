//! Gradients of layers: those that candle has no reference for, and training.

mod common;

use candle_core::{Module, Result, Tensor, Var};
use candle_nn::{Optimizer, SGD};
use common::{assert_close, difference, tensor};
use convkernels_candle as ours;
use ours::{Conv2dConfig, ConvTranspose1dConfig, ConvTranspose2dConfig, Fused, functional};

const TOLERANCE: f64 = 1e-5;

fn same_padding() -> Conv2dConfig {
    Conv2dConfig { padding: 1, ..Default::default() }
}

/// An input without gradients gets none, and the weight's is right.
#[test]
fn constant_inputs_have_no_gradient() -> Result<()> {
    let (input, weight) = (tensor(&[2, 3, 7, 7], 1), Var::from_tensor(&tensor(&[5, 3, 3, 3], 2))?);
    let layer = ours::Conv2d::new(weight.as_tensor().clone(), None, same_padding());
    let ours = layer.forward(&input)?.sqr()?.sum_all()?.backward()?;
    let theirs = input.conv2d(&weight, 1, 1, 1, 1)?.sqr()?.sum_all()?.backward()?;
    assert!(ours.get(&input).is_none());
    let [ours, theirs] = [ours, theirs].map(|grads| grads.get(&weight).cloned().expect("a gradient"));
    assert!((difference(&ours, &theirs)) < TOLERANCE);
    Ok(())
}

/// candle's transposed 1-D convolution has no gradient; its 2-D one with one row has.
#[test]
fn gradient_of_a_transposed_1d_convolution() -> Result<()> {
    let input = Var::from_tensor(&tensor(&[2, 3, 7], 1))?;
    let weight = Var::from_tensor(&tensor(&[3, 4, 5], 2))?;
    let config = ConvTranspose1dConfig { stride: 2, ..Default::default() };
    let line = functional::conv_transpose1d(&input, &weight, None, config, Fused::None)?;
    let image = input.unsqueeze(2)?.conv_transpose2d(&weight.unsqueeze(2)?, 0, 0, 2, 1)?;
    assert_close(&line, &image.squeeze(2)?, TOLERANCE, "output");
    let (ours, theirs) = (line.sqr()?.sum_all()?.backward()?, image.sqr()?.sum_all()?.backward()?);
    for variable in [&input, &weight] {
        let [ours, theirs] = [&ours, &theirs].map(|grads| grads.get(variable).expect("a gradient"));
        assert_close(ours, theirs, TOLERANCE, "gradient");
    }
    Ok(())
}

/// candle's transposed convolutions have no gradients with groups: each group alone has.
#[test]
fn gradient_of_a_transposed_convolution_in_groups() -> Result<()> {
    let input = Var::from_tensor(&tensor(&[2, 6, 5], 1))?;
    let weight = Var::from_tensor(&tensor(&[6, 2, 4], 2))?;
    let bias = Var::from_tensor(&tensor(&[4], 3))?;
    let config = ConvTranspose1dConfig { stride: 2, padding: 1, output_padding: 1, dilation: 2, groups: 2 };
    let grouped = functional::conv_transpose1d(&input, &weight, Some(&*bias), config, Fused::None)?;
    let alone = |group: usize| -> Result<Tensor> {
        let (input, weight) = (input.narrow(1, 3 * group, 3)?, weight.narrow(0, 3 * group, 3)?);
        // Padding of the axis of one row is cut again.
        let image = input.unsqueeze(2)?.conv_transpose2d(&weight.unsqueeze(2)?, 0, 0, 2, 2)?;
        let length = image.dim(3)?;
        image.squeeze(2)?.narrow(2, 1, length - 1)
    };
    let separate = Tensor::cat(&[alone(0)?, alone(1)?], 1)?.broadcast_add(&bias.reshape((1, 4, 1))?)?;
    assert_close(&grouped, &separate, TOLERANCE, "output");
    let (ours, theirs) = (grouped.sqr()?.sum_all()?.backward()?, separate.sqr()?.sum_all()?.backward()?);
    for variable in [&input, &weight, &bias] {
        let [ours, theirs] = [&ours, &theirs].map(|grads| grads.get(variable).expect("a gradient"));
        assert_close(ours, theirs, TOLERANCE, "gradient");
    }
    Ok(())
}

/// No tap reaches most of the output's last rows. Only the bias is there.
#[test]
fn much_output_padding() -> Result<()> {
    let input = Var::from_tensor(&tensor(&[2, 3, 4, 5], 1))?;
    let weight = Var::from_tensor(&tensor(&[3, 2, 2, 2], 2))?;
    let bias = Var::from_tensor(&tensor(&[2], 3))?;
    for (stride, dilation, output_padding) in [(1, 1, 1), (2, 1, 3), (2, 3, 2), (1, 3, 5)] {
        let config = ConvTranspose2dConfig { stride, dilation, output_padding, ..Default::default() };
        let ours = functional::conv_transpose2d(&input, &weight, Some(&*bias), config, Fused::None)?;
        let reached = input.conv_transpose2d(&weight, 0, 0, stride, dilation)?;
        let padded = reached.pad_with_zeros(2, 0, output_padding)?.pad_with_zeros(3, 0, output_padding)?;
        let theirs = padded.broadcast_add(&bias.reshape((1, 2, 1, 1))?)?;
        assert_close(&ours, &theirs, TOLERANCE, "output");
        let factors = tensor(ours.dims(), 4);
        let ours = (ours * &factors)?.sum_all()?.backward()?;
        let theirs = (theirs * &factors)?.sum_all()?.backward()?;
        for variable in [&input, &weight, &bias] {
            let [ours, theirs] = [&ours, &theirs].map(|grads| grads.get(variable).expect("a gradient"));
            assert_close(ours, theirs, TOLERANCE, "gradient");
        }
    }
    Ok(())
}

/// Each tensor that is a variable gets its gradient, and no other tensor does.
#[test]
fn gradients_of_some_tensors() -> Result<()> {
    let tensors = [tensor(&[2, 3, 7, 7], 1), tensor(&[5, 3, 3, 3], 2), tensor(&[5], 3)];
    for wanted in 1..8 {
        let variables: Vec<Option<Var>> = (0..3)
            .map(|index| ((wanted >> index) & 1 == 1).then(|| Var::from_tensor(&tensors[index])).transpose())
            .collect::<Result<_>>()?;
        let of =
            |index: usize| variables[index].as_ref().map_or(&tensors[index], |variable| variable.as_tensor());
        let ours = functional::conv2d(of(0), of(1), Some(of(2)), same_padding(), Fused::None)?;
        let theirs = of(0).conv2d(of(1), 1, 1, 1, 1)?.broadcast_add(&of(2).reshape((1, 5, 1, 1))?)?;
        let (ours, theirs) = (ours.sqr()?.sum_all()?.backward()?, theirs.sqr()?.sum_all()?.backward()?);
        for (index, variable) in variables.iter().enumerate() {
            assert_eq!(ours.get(of(index)).is_some(), variable.is_some(), "{wanted:b}, tensor {index}");
            if let (Some(ours), Some(theirs)) = (ours.get(of(index)), theirs.get(of(index))) {
                assert_close(ours, theirs, TOLERANCE, "gradient");
            }
        }
    }
    Ok(())
}

/// An autoencoder of a strided and a transposed convolution. Its loss falls as with candle's layers.
#[test]
fn training_loop() -> Result<()> {
    let images = tensor(&[4, 3, 12, 12], 1);
    let initial = [tensor(&[8, 3, 4, 4], 2), tensor(&[8], 3), tensor(&[8, 3, 4, 4], 4), tensor(&[3], 5)];
    let down = Conv2dConfig { stride: 2, padding: 1, ..Default::default() };
    let up = ConvTranspose2dConfig { stride: 2, padding: 1, ..Default::default() };
    let train = |ours: bool| -> Result<Vec<f32>> {
        let mut variables = Vec::new();
        for tensor in &initial {
            variables.push(Var::from_tensor(&(tensor * 0.1)?)?);
        }
        let [w1, b1, w2, b2] = [0, 1, 2, 3].map(|index| variables[index].as_tensor().clone());
        let layers: [Box<dyn Module>; 2] = if ours {
            [
                Box::new(ours::Conv2d::new(w1, Some(b1), down)),
                Box::new(ours::ConvTranspose2d::new(w2, Some(b2), up)),
            ]
        } else {
            [
                Box::new(candle_nn::Conv2d::new(w1, Some(b1), down)),
                Box::new(candle_nn::ConvTranspose2d::new(w2, Some(b2), up)),
            ]
        };
        let mut optimizer = SGD::new(variables, 0.5)?;
        let mut losses = Vec::new();
        for _ in 0..40 {
            let output = layers[1].forward(&layers[0].forward(&images)?.tanh()?)?;
            let loss = (output - &images)?.sqr()?.mean_all()?;
            losses.push(loss.to_scalar::<f32>()?);
            optimizer.backward_step(&loss)?;
        }
        Ok(losses)
    };
    let (ours, theirs) = (train(true)?, train(false)?);
    assert!(ours[39] < 0.9 * ours[0], "the loss did not fall: {ours:?}");
    for (step, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
        // Rounding errors grow from step to step.
        assert!((ours - theirs).abs() <= 1e-4 * theirs, "step {step}: {ours} and {theirs}");
    }
    Ok(())
}

/// The sums of the weight's gradient have many terms.
#[test]
fn gradient_of_a_large_batch() -> Result<()> {
    let input = Var::from_tensor(&tensor(&[5, 32, 64, 64], 1))?;
    let weight = Var::from_tensor(&tensor(&[8, 32, 3, 3], 2))?;
    let output = functional::conv2d(&input, &weight, None, same_padding(), Fused::None)?;
    let factors = tensor(output.dims(), 3);
    let ours = (output * &factors)?.sum_all()?.backward()?;
    let theirs = (input.conv2d(&weight, 1, 1, 1, 1)? * &factors)?.sum_all()?.backward()?;
    for variable in [&input, &weight] {
        let [ours, theirs] = [&ours, &theirs].map(|grads| grads.get(variable).expect("a gradient"));
        assert_close(ours, theirs, TOLERANCE, "gradient");
    }
    Ok(())
}
