//! Random layers and inputs: outputs and gradients are candle's.

mod common;

use candle_core::{Module, Result, Tensor, Var};
use candle_nn as theirs;
use common::{VIEWS, View, assert_close, difference_on_scale, tensor, viewed};
use convkernels_candle as ours;
use proptest::prelude::*;

/// Sums of some hundred products in two orders. candle computes in `f32` too.
const TOLERANCE: f64 = 1e-5;

/// A random layer with its input.
#[derive(Debug, Clone, Copy)]
struct Case {
    two: bool,
    batch: usize,
    /// Channels per group.
    ins: usize,
    outs: usize,
    groups: usize,
    size: (usize, usize),
    kernel: (usize, usize),
    padding: usize,
    output_padding: usize,
    stride: usize,
    dilation: usize,
    bias: bool,
    view: View,
    seed: u64,
}

fn cases() -> impl Strategy<Value = Case> {
    let shape = (any::<bool>(), 1..4usize, 1..7usize, 1..7usize, 1..4usize, (1..14usize, 1..14usize));
    let layer = ((1..6usize, 1..6usize), 0..5usize, 0..3usize, 1..4usize, 1..4usize);
    let rest = (any::<bool>(), 0..VIEWS.len(), 0..1000u64);
    (shape, layer, rest).prop_map(|(shape, layer, rest)| {
        let (two, batch, ins, outs, groups, size) = shape;
        let (kernel, padding, output_padding, stride, dilation) = layer;
        let (bias, view, seed) = rest;
        let view = VIEWS[view];
        Case {
            two,
            batch,
            ins,
            outs,
            groups,
            size,
            kernel,
            padding,
            output_padding,
            stride,
            dilation,
            bias,
            view,
            seed,
        }
    })
}

impl Case {
    /// The spatial extents: both of them, or the second.
    fn axes(&self, (h, w): (usize, usize)) -> Vec<usize> {
        if self.two { vec![h, w] } else { vec![w] }
    }

    /// A case whose output is not empty.
    fn fits(&self, transposed: bool) -> bool {
        let sizes = self.axes(self.size).into_iter().zip(self.axes(self.kernel));
        sizes.into_iter().all(|(size, kernel)| {
            let reach = (kernel - 1) * self.dilation + 1;
            if transposed {
                (size - 1) * self.stride + reach + self.output_padding > 2 * self.padding
            } else {
                size + 2 * self.padding >= reach
            }
        })
    }

    fn input(&self) -> Result<Tensor> {
        let dims = [vec![self.batch, self.ins * self.groups], self.axes(self.size)].concat();
        viewed(&dims, self.view, self.seed)
    }

    fn weight(&self, transposed: bool) -> Tensor {
        let channels = match transposed {
            false => vec![self.outs * self.groups, self.ins],
            true => vec![self.ins * self.groups, self.outs],
        };
        tensor(&[channels, self.axes(self.kernel)].concat(), self.seed + 1)
    }

    fn bias(&self) -> Option<Tensor> {
        self.bias.then(|| tensor(&[self.outs * self.groups], self.seed + 2))
    }

    /// The same layer of this crate and of candle.
    fn layers(&self, transposed: bool, weight: &Tensor, bias: Option<&Tensor>) -> [Box<dyn Module>; 2] {
        let Self { padding, output_padding, stride, dilation, groups, .. } = *self;
        let (weight, bias) = (|| weight.clone(), || bias.cloned());
        match (self.two, transposed) {
            (false, false) => {
                let config = ours::Conv1dConfig { padding, stride, dilation, groups, ..Default::default() };
                [
                    Box::new(ours::Conv1d::new(weight(), bias(), config)),
                    Box::new(theirs::Conv1d::new(weight(), bias(), config)),
                ]
            }
            (true, false) => {
                let config = ours::Conv2dConfig { padding, stride, dilation, groups, ..Default::default() };
                [
                    Box::new(ours::Conv2d::new(weight(), bias(), config)),
                    Box::new(theirs::Conv2d::new(weight(), bias(), config)),
                ]
            }
            (false, true) => {
                let config =
                    ours::ConvTranspose1dConfig { padding, output_padding, stride, dilation, groups };
                [
                    Box::new(ours::ConvTranspose1d::new(weight(), bias(), config)),
                    Box::new(theirs::ConvTranspose1d::new(weight(), bias(), config)),
                ]
            }
            (true, true) => {
                let config = ours::ConvTranspose2dConfig { padding, output_padding, stride, dilation };
                [
                    Box::new(ours::ConvTranspose2d::new(weight(), bias(), config)),
                    Box::new(theirs::ConvTranspose2d::new(weight(), bias(), config)),
                ]
            }
        }
    }
}

/// candle's transposed 2-D convolution has no groups, and its transposed 1-D convolution subtracts the padding
/// first, which overflows in a debug build if there is much of it.
fn transposable(case: Case) -> Case {
    let groups = if case.two { 1 } else { case.groups };
    let padding = if case.two { case.padding } else { case.padding.min((case.size.1 - 1) * case.stride / 2) };
    Case { groups, padding, ..case }
}

/// Only the 2-D layer has gradients in candle, and only with less output padding than a stride.
fn transposable_with_gradients(case: Case) -> Case {
    transposable(Case { two: true, output_padding: case.output_padding % case.stride, ..case })
}

/// candle's layer, called for each image alone in 1-D. Its transposed 1-D convolution, which is also the
/// gradient of its 1-D convolution, multiplies a transposed matrix by one that is shared by the batch, and
/// candle 0.11.1 gets such products wrong.
fn reference(case: &Case, layer: &dyn Module, input: &Tensor) -> Result<Tensor> {
    if case.two {
        return layer.forward(input);
    }
    let images = input.chunk(case.batch, 0)?;
    let outputs: Result<Vec<Tensor>> = images.iter().map(|image| layer.forward(image)).collect();
    Tensor::cat(&outputs?, 0)
}

fn check_forward(case: &Case, transposed: bool) -> Result<()> {
    let (weight, bias) = (case.weight(transposed), case.bias());
    let [ours, theirs] = case.layers(transposed, &weight, bias.as_ref());
    let input = case.input()?;
    let expected = reference(case, &*theirs, &input.contiguous()?)?;
    // The second call uses what the first one kept.
    for call in ["first call", "second call"] {
        let output = ours.forward(&input)?;
        assert!(output.is_contiguous());
        assert_close(&output, &expected, TOLERANCE, call);
    }
    Ok(())
}

fn check_gradients(case: &Case, transposed: bool) -> Result<()> {
    let input = Var::from_tensor(&case.input()?)?;
    let weight = Var::from_tensor(&case.weight(transposed))?;
    let bias = case.bias().map(|bias| Var::from_tensor(&bias)).transpose()?;
    let layers = case.layers(transposed, &weight, bias.as_deref());
    let gradients = |output: Tensor| {
        let factors = tensor(output.dims(), case.seed + 3);
        (output * factors)?.sum_all()?.backward()
    };
    let [ours, theirs] = layers;
    let output = ours.forward(&input)?;
    // The sum of the factors' magnitudes, per channel.
    let magnitude = tensor(output.dims(), case.seed + 3).abs()?.sum_all()?.to_scalar::<f32>()?;
    let terms = f64::from(magnitude) / output.dim(1)? as f64;
    let ours = gradients(output)?;
    let theirs = gradients(reference(case, &*theirs, &input)?)?;
    let variables = [("input", Some(&input)), ("weight", Some(&weight)), ("bias", bias.as_ref())];
    for (what, variable) in variables {
        let Some(variable) = variable else { continue };
        let [ours, theirs] = [&ours, &theirs].map(|grads| grads.get(variable).expect("a gradient"));
        // Every element of a bias's gradient is a plain sum of factors, most of which cancel.
        let least = if what == "bias" { terms } else { 1.0 };
        let difference = difference_on_scale(ours, theirs, least);
        assert!(difference <= TOLERANCE, "{what}: difference {difference:e}");
    }
    Ok(())
}

/// candle's own gradient of the input overflows if the padding exceeds the reach of the kernel, and fails if the
/// two axes need different output paddings.
fn candle_differentiates(case: &Case) -> bool {
    let sizes = || case.axes(case.size).into_iter().zip(case.axes(case.kernel));
    // One output padding for both axes.
    let rests: Vec<usize> = sizes()
        .map(|(size, kernel)| (size + 2 * case.padding - (kernel - 1) * case.dilation - 1) % case.stride)
        .collect();
    rests.iter().all(|rest| *rest == rests[0])
        && sizes().all(|(size, kernel)| {
            let reach = (kernel - 1) * case.dilation;
            let positions = (size + 2 * case.padding - reach - 1) / case.stride;
            positions * case.stride >= 2 * case.padding
                || (case.two && positions * case.stride + reach + 1 > 2 * case.padding)
        })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, max_global_rejects: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn convolutions(case in cases()) {
        prop_assume!(case.fits(false));
        check_forward(&case, false).unwrap();
    }

    #[test]
    fn transposed_convolutions(case in cases().prop_map(transposable)) {
        prop_assume!(case.fits(true));
        check_forward(&case, true).unwrap();
    }

    #[test]
    fn gradients(case in cases()) {
        prop_assume!(case.fits(false) && candle_differentiates(&case));
        check_gradients(&case, false).unwrap();
    }

    #[test]
    fn transposed_gradients(case in cases().prop_map(transposable_with_gradients)) {
        prop_assume!(case.fits(true));
        check_gradients(&case, true).unwrap();
    }
}
