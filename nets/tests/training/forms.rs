//! Fractional max-pooling and computed weights against PyTorch's figures, and their gradients.

use crate::{number, table};
use kernels::{Activation, Threads};
use nets::train::{Parametrization, TrainNet, TrainOptions};
use nets::{
    Conv, FractionalPool, Graph, GraphBuilder, Init, Layer, Linear, Net, NetOptions, Norm, Shape, WeightSet,
    to_safetensors,
};

const FRACTIONAL: &str = include_str!("fractional.csv");
const FORMS: &str = include_str!("forms.csv");
const KINDS: [Parametrization; 2] = [Parametrization::WeightNorm, Parametrization::WeightStandard];

#[test]
fn fractional_pooling_agrees_with_pytorch() {
    let rows = table(FRACTIONAL);
    assert_eq!(rows.len(), 4);
    for (case, row) in rows.iter().enumerate() {
        let [h, w, window, oh, ow] = [0, 1, 2, 3, 4].map(|column| number(row[column]) as usize);
        let numbers = |text: &str| -> Vec<f32> { text.split(' ').map(|text| number(text) as f32).collect() };
        let (samples, expected) = (numbers(row[5]), numbers(row[6]));
        let mut net = GraphBuilder::new("fractional", Shape::map(2, h, w));
        let output = kernels::Size2::new(oh, ow);
        net.then("pool", FractionalPool { output, ..FractionalPool::new(window, 1) });
        net.then("flatten", Layer::Flatten);
        let graph = net.build().unwrap();
        let weights = WeightSet::seeded(&graph, Init::He, 0).unwrap();
        let mut net = TrainNet::new(&graph, &weights, &TrainOptions::default().batch(1)).unwrap();
        net.set_mask("pool", Some(&samples)).unwrap();
        assert!(net.set_mask("pool", Some(&samples[1..])).is_err());
        assert!(net.set_mask("pool", Some(&[1.0; 4])).is_err(), "samples are below 1");
        let images: Vec<f32> =
            (0..2 * h * w).map(|i| ((i * i * 31 + 17 * i + case) % 509) as f32 / 512.0).collect();
        net.gradients(&images, &[0], Threads::Seq).unwrap();
        assert_eq!(net.output(), expected, "case {case}");
    }
}

/// Windows are drawn anew in each pass, by the seed alone, and not at inference.
#[test]
fn fractional_windows_are_random_while_training() {
    let mut net = GraphBuilder::new("fractional", Shape::map(1, 12, 12));
    net.then("pool", FractionalPool::new(2, 7)).then("flatten", Layer::Flatten).then("fc", Linear::new(3));
    let graph = net.build().unwrap();
    let weights = WeightSet::seeded(&graph, Init::He, 1).unwrap();
    let images: Vec<f32> = (0..288).map(|i| (i * i % 101) as f32 / 101.0).collect();
    let labels = [0, 2];
    let options = TrainOptions::default().batch(2).seed(3);
    let mut net = TrainNet::new(&graph, &weights, &options).unwrap();
    let mut output = |step: u64| {
        net.set_step(step);
        net.gradients(&images, &labels, Threads::Seq).unwrap();
        net.output().to_vec()
    };
    let [first, second, again] = [output(0), output(1), output(0)];
    assert!(first != second && first == again);
    net.evaluate(&images, &labels, Threads::Seq).unwrap();
    let mut inference = Net::new(&graph, &weights, &NetOptions::default().batch(2)).unwrap();
    let expected = inference.run(&images, Threads::Seq).unwrap();
    let close = net.output().iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5);
    assert!(close, "{:?} {expected:?}", net.output());
}

/// Steps of gradient descent on one pixel, as in `nets/train/reference.py`.
#[test]
fn forms_agree_with_pytorch() {
    let mut net = GraphBuilder::new("forms", Shape::map(4, 1, 1));
    net.then("conv", Conv::new(3, 1).no_bias()).then("flatten", Layer::Flatten);
    let graph = net.build().unwrap();
    let start: Vec<f32> = (0..12).map(|i| ((5 * i) % 13 - 6) as f32 / 8.0).collect();
    let file = to_safetensors(&[("conv.weight", &[3, 4, 1, 1], &start)]);
    let weights = WeightSet::from_safetensors(&graph, &file, "test").unwrap();
    let rows = table(FORMS);
    assert_eq!(rows.len(), 10);
    for kind in KINDS {
        let options = TrainOptions::default().batch(1).parametrization(kind);
        let mut net = TrainNet::new(&graph, &weights, &options).unwrap();
        for step in 1..=50 {
            net.gradients(&[0.5, -1.0, 0.25, 0.75], &[1], Threads::Seq).unwrap();
            descend(&mut net, 0.25);
            let of_step = |row: &&Vec<&str>| row[0] == kind.to_string() && row[1] == step.to_string();
            let Some(row) = rows.iter().find(of_step) else { continue };
            let got = net.weights();
            for (got, expected) in got.get("conv.weight").unwrap().data().iter().zip(&row[2..]) {
                let tolerance = 8.0 * f64::from(step) * f64::from(f32::EPSILON);
                assert!(
                    (f64::from(*got) - number(expected)).abs() <= tolerance,
                    "{kind} {step}: {got} {expected}"
                );
            }
        }
    }
}

fn descend(net: &mut TrainNet, rate: f32) {
    let update = |_, parameter: nets::train::ParameterMut<'_>| {
        parameter.value.iter_mut().zip(parameter.gradient.iter()).for_each(|(x, g)| *x -= rate * g);
    };
    net.update(update, Threads::Seq).unwrap();
}

fn convolutional() -> Graph {
    let mut net = GraphBuilder::new("computed", Shape::map(3, 6, 6));
    net.then("conv", Conv::new(6, 3).pad(1)).then("norm", Norm::group(2)).act(Activation::Tanh);
    net.then("second", Conv::new(4, 3)).then("flatten", Layer::Flatten).then("fc", Linear::new(5));
    net.build().unwrap()
}

fn batch() -> (Vec<f32>, [u32; 4]) {
    ((0..4 * 108).map(|i| (i * i % 211) as f32 / 211.0 - 0.5).collect(), [0, 1, 4, 2])
}

/// The slope of the loss along the gradient of each trained tensor, by differences of fourth order.
#[test]
fn gradients_of_forms_agree_with_differences() {
    let graph = convolutional();
    let (images, labels) = batch();
    for (kind, accumulate) in KINDS.into_iter().flat_map(|kind| [(kind, 1), (kind, 2)]) {
        let weights = WeightSet::seeded(&graph, Init::HeNormal, 2).unwrap();
        let batch = labels.len() / accumulate;
        let options = TrainOptions::default().batch(batch).accumulate(accumulate).parametrization(kind);
        let mut net = TrainNet::new(&graph, &weights, &options).unwrap();
        let loss = |net: &mut TrainNet| -> f64 {
            let parts = images.chunks(images.len() / accumulate).zip(labels.chunks(batch));
            let losses = parts.map(|(x, labels)| net.gradients(x, labels, Threads::Seq).unwrap().value);
            losses.sum::<f64>() / accumulate as f64
        };
        loss(&mut net);
        let gradients: Vec<(String, Vec<f32>)> =
            net.parameters().map(|p| (p.name.to_owned(), p.gradient.to_vec())).collect();
        let gains = gradients.iter().filter(|(name, _)| name.ends_with(".gain")).count();
        assert_eq!(gains, if kind == Parametrization::WeightNorm { 3 } else { 0 });
        for (index, (name, gradient)) in gradients.iter().enumerate() {
            let length = gradient.iter().map(|g| g * g).sum::<f32>().sqrt();
            if name == "conv.bias" || length < 1e-6 {
                continue;
            }
            let mut kept = Vec::new();
            net.update(|i, p| kept.extend_from_slice(if i == index { p.value } else { &[] }), Threads::Seq)
                .unwrap();
            let mut at = |step: f32| {
                let moved = kept.iter().zip(gradient).map(|(x, g)| x + step * g / length);
                let moved: Vec<f32> = moved.collect();
                let set = |i, p: nets::train::ParameterMut<'_>| {
                    if i == index {
                        p.value.copy_from_slice(&moved);
                    }
                };
                net.update(set, Threads::Seq).unwrap();
                loss(&mut net)
            };
            let step = 1.0 / 128.0;
            let differences = 8.0 * (at(step) - at(-step)) - (at(2.0 * step) - at(-2.0 * step));
            let slope = differences / (12.0 * f64::from(step));
            at(0.0);
            let error = (slope - f64::from(length)).abs() / f64::from(length);
            assert!(error <= 1e-3, "{kind}, {name}: {length} and {slope}");
        }
    }
}

/// The network at inference uses the computed weights; frozen weights are not computed.
#[test]
fn computed_weights_are_saved() {
    let graph = convolutional();
    let (images, labels) = batch();
    let initial = WeightSet::seeded(&graph, Init::He, 2).unwrap();
    for kind in KINDS {
        let options = TrainOptions::default().batch(4).parametrization(kind);
        let options = options.frozen(vec!["second.weight".into()]);
        let mut net = TrainNet::new(&graph, &initial, &options).unwrap();
        for _ in 0..3 {
            net.gradients(&images, &labels, Threads::Seq).unwrap();
            descend(&mut net, 0.05);
        }
        let weights = net.weights();
        assert_eq!(weights.iter().count(), initial.iter().count(), "gains are no tensors of the graph");
        assert_eq!(weights.get("second.weight"), initial.get("second.weight"));
        assert_ne!(weights.get("conv.weight"), initial.get("conv.weight"));
        net.evaluate(&images, &labels, Threads::Seq).unwrap();
        let mut inference = Net::new(&graph, &weights, &NetOptions::default().batch(4)).unwrap();
        let expected = inference.run(&images, Threads::Seq).unwrap();
        for (a, b) in net.output().iter().zip(expected) {
            assert!((a - b).abs() <= 1e-4 * (1.0 + b.abs()), "{kind}: {a} {b}");
        }
    }
}
