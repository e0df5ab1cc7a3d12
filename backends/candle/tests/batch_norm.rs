//! Batch norm in evaluation mode, alone and absorbed by a convolution.

mod common;

use candle_core::{DType, Device, Module, ModuleT, Result, Tensor, Var};
use candle_nn::{VarBuilder, VarMap};
use common::{assert_close, difference, tensor};
use convkernels_candle as ours;
use ours::Conv2dConfig;

const TOLERANCE: f64 = 1e-5;

fn norm(channels: usize) -> Result<ours::BatchNorm> {
    let [mean, var, weight, bias] = [1, 2, 3, 4].map(|seed| tensor(&[channels], seed));
    ours::BatchNorm::new(channels, mean, (var.abs()? + 0.5)?, weight, bias, 1e-3)
}

fn convolution() -> ours::Conv2d {
    let config = Conv2dConfig { padding: 1, ..Default::default() };
    ours::Conv2d::new(tensor(&[4, 3, 3, 3], 5), Some(tensor(&[4], 6)), config)
}

/// Matrices, and planes and images of every small size, alone and in blocks that end early. Some tensors are large
/// enough for several threads.
#[test]
fn shapes() -> Result<()> {
    let shapes: [&[usize]; 16] = [
        &[1, 1],
        &[5, 3],
        &[300, 3],
        &[70_000, 3],
        &[2, 1000],
        &[129, 1000],
        &[1, 40_000, 2],
        &[3, 8, 1, 1],
        &[3, 8, 15],
        &[3, 8, 16],
        &[3, 8, 17],
        &[7, 5, 3, 3],
        &[600, 32, 2, 2],
        &[2, 64, 28, 28],
        &[3, 2, 2, 3, 2],
        &[0, 4, 3],
    ];
    for dims in shapes {
        let (norm, x) = (norm(dims[1])?, tensor(dims, 7));
        let (output, expected) = (norm.forward_t(&x, false)?, (*norm).forward_t(&x, false)?);
        assert_eq!(output.dims(), dims);
        if output.elem_count() > 0 {
            assert_close(&output, &expected, TOLERANCE, &format!("{dims:?}"));
        }
    }
    Ok(())
}

#[test]
fn training_uses_the_moments_of_the_batch() -> Result<()> {
    let (norm, x) = (norm(4)?, tensor(&[2, 4, 8, 8], 7));
    let train = norm.forward_t(&x, true)?;
    assert!(difference(&train, &norm.forward_t(&x, false)?) > 1e-3);
    Ok(())
}

/// Weights of constants are constants, although candle keeps the moments of a batch norm in variables.
#[test]
fn absorbed_weights_are_constant() -> Result<()> {
    let (norm, layer, input) = (norm(4)?, convolution(), tensor(&[2, 3, 8, 8], 7));
    let bare = ours::Conv2d::new(layer.weight().clone(), None, *layer.config());
    for layer in [layer, bare] {
        let expected = norm.forward_t(&layer.forward(&input)?, false)?;
        let absorbed = layer.absorb_bn(&norm)?;
        assert!(!absorbed.weight().track_op(), "the weight holds a graph");
        assert!(!absorbed.bias().expect("a bias").track_op(), "the bias holds a graph");
        let relu = absorbed.clone().with_activation(ours::Fused::Relu);
        for _ in 0..2 {
            let output = absorbed.forward(&input)?;
            assert_close(&output, &expected, TOLERANCE, "absorbed");
            assert!(!output.track_op(), "the output holds a graph");
            assert_close(
                &relu.forward(&input)?,
                &expected.relu()?,
                TOLERANCE,
                "absorbed, with an activation",
            );
        }
        let theirs = candle_nn::Conv2d::new(layer.weight().clone(), layer.bias().cloned(), *layer.config());
        let theirs = theirs.absorb_bn(&norm)?;
        assert_close(absorbed.weight(), theirs.weight(), TOLERANCE, "weight");
        assert_close(absorbed.bias().unwrap(), theirs.bias().unwrap(), TOLERANCE, "bias");
    }
    Ok(())
}

/// Training after `absorb_bn` reaches every variable but the moments.
#[test]
fn absorbed_variables_have_gradients() -> Result<()> {
    let map = VarMap::new();
    let vb = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
    let config = Conv2dConfig { padding: 1, ..Default::default() };
    let layer = ours::conv2d(3, 4, 3, config, vb.pp("conv"))?;
    let norm = ours::batch_norm(4, 1e-3, vb.pp("norm"))?;
    let twin = candle_nn::conv2d(3, 4, 3, config, vb.pp("conv"))?;
    let input = Var::from_tensor(&tensor(&[2, 3, 8, 8], 7))?;
    let gradients = |output: Tensor| (output * tensor(&[2, 4, 8, 8], 8))?.sum_all()?.backward();
    let ours = gradients(layer.absorb_bn(&norm)?.forward(&input)?)?;
    let theirs = gradients(twin.absorb_bn(&norm)?.forward(&input)?)?;
    let data = map.data().lock().expect("variables");
    for name in ["conv.weight", "conv.bias", "norm.weight", "norm.bias"] {
        let [ours, theirs] = [&ours, &theirs].map(|grads| grads.get(&data[name]).expect(name));
        assert_close(ours, theirs, TOLERANCE, name);
    }
    assert!(ours.get(norm.running_mean()).is_none() && ours.get(norm.running_var()).is_none());
    Ok(())
}

#[test]
fn batch_norms_that_cannot_be_absorbed() -> Result<()> {
    let plain = candle_nn::BatchNorm::new_no_bias(
        4,
        tensor(&[4], 1),
        Tensor::ones(4, DType::F32, &Device::Cpu)?,
        0.0,
    )?;
    // A backtrace may follow.
    let message = |norm: &candle_nn::BatchNorm| {
        let error = convolution().absorb_bn(norm).unwrap_err().to_string();
        error.lines().next().expect("a message").to_owned()
    };
    assert_eq!(message(&plain), "batch norm: expected one with a weight and a bias, got one without");
    assert_eq!(message(&*norm(5)?), "batch norm: expected the 4 channels of the convolution, got 5");
    Ok(())
}
