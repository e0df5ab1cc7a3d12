//! Networks that train: losses, determinism, evaluation, and what is refused.

mod train_common;

use kernels::{Activation, Layout, Threads};
use nets::train::{TrainNet, TrainOptions};
use nets::{
    Conv, Graph, GraphBuilder, Init, Layer, Linear, Net, NetError, NetOptions, Norm, Pool, Shape, WeightSet,
    digits, to_safetensors, zoo,
};
use train_common::{descend, labels, noise, weights};

fn small(name: &str) -> Graph {
    let input = match name {
        "alexnet" => Shape::map(3, 67, 67),
        "resnet18" | "mobilenet-v2" => Shape::map(3, 64, 64),
        "googlenet-aux" => Shape::map(3, 96, 96),
        _ => return zoo::find(name).and_then(zoo::Entry::graph).unwrap(),
    };
    zoo::find(name).and_then(|entry| entry.graph_for(input)).unwrap()
}

fn batch_of(graph: &Graph, batch: usize) -> (Vec<f32>, Vec<u32>) {
    (noise(batch * graph.input().len().unwrap(), 3), labels(batch, graph.output().channels()))
}

/// `weights` with zeros in the last layer.
fn without_last_layer(graph: &Graph, weights: &WeightSet, layer: &str) -> WeightSet {
    let tensors: Vec<_> = weights
        .iter()
        .map(|(name, tensor)| {
            let zero = name.starts_with(layer);
            let data: Vec<f32> = tensor.data().iter().map(|x| if zero { 0.0 } else { *x }).collect();
            (name, tensor.dims(), data)
        })
        .collect();
    let views: Vec<_> = tensors.iter().map(|(name, dims, data)| (*name, *dims, &data[..])).collect();
    WeightSet::from_safetensors(graph, &to_safetensors(&views), "test").unwrap()
}

#[test]
fn the_first_loss_is_the_logarithm_of_the_classes() {
    for (name, layer) in [("lenet5", "output"), ("resnet20-cifar", "fc"), ("mlp-mnist", "fc3")] {
        let graph = small(name);
        let weights = WeightSet::seeded(&graph, Init::He, 1).unwrap();
        let weights = without_last_layer(&graph, &weights, layer);
        let mut net = TrainNet::new(&graph, &weights, &TrainOptions::default().batch(8)).unwrap();
        let (images, labels) = batch_of(&graph, 8);
        let loss = net.gradients(&images, &labels, Threads::Seq).unwrap().value;
        assert!((loss - 10f64.ln()).abs() < 1e-6, "{name}: {loss}");
    }
}

#[test]
fn twenty_digits_are_learned_by_heart() {
    let graph = small("lenet5");
    let weights = WeightSet::seeded(&graph, Init::Xavier, 1).unwrap();
    let mut net = TrainNet::new(&graph, &weights, &TrainOptions::default().batch(20)).unwrap();
    let digits = digits::Digits::held_out().unwrap();
    let images = digits.inputs()[..20 * graph.input().len().unwrap()].to_vec();
    let labels: Vec<u32> = digits.labels()[..20].iter().map(|&label| label.into()).collect();
    let losses: Vec<f64> =
        (0..150).map(|_| descend(&mut net, &images, &labels, 0.1, Threads::Seq).value).collect();
    let after = net.evaluate(&images, &labels, Threads::Seq).unwrap();
    assert_eq!(after.correct, 20, "{losses:?}");
    assert!(after.value < 0.05, "{}", after.value);
}

/// Trains two steps with every number of threads and compares all bits.
#[test]
fn bits_do_not_depend_on_threads() {
    for name in ["lenet5", "resnet20-cifar", "alexnet", "googlenet-aux", "mobilenet-v2"] {
        let graph = small(name);
        let (images, labels) = batch_of(&graph, 3);
        let after = |threads: usize| {
            let options = TrainOptions::default().batch(3).max_threads(8).seed(3).survival(0.5);
            let mut net = TrainNet::new(&graph, &weights(&graph, 7), &options).unwrap();
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let losses: Vec<u64> = (0..2)
                .map(|_| {
                    let threads = if threads == 1 { Threads::Seq } else { Threads::Pool(&pool) };
                    descend(&mut net, &images, &labels, 0.01, threads).value.to_bits()
                })
                .collect();
            (losses, net.weights())
        };
        let alone = after(1);
        for threads in [2, 3, 8] {
            assert!(after(threads) == alone, "{name} with {threads} threads");
        }
    }
}

#[test]
fn an_evaluation_is_the_loss_of_the_network_at_inference() {
    for name in ["lenet5", "resnet20-cifar", "alexnet", "mobilenet-v2"] {
        let graph = small(name);
        let (images, labels) = batch_of(&graph, 4);
        let options = TrainOptions::default().batch(4);
        let mut net = TrainNet::new(&graph, &weights(&graph, 7), &options).unwrap();
        descend(&mut net, &images, &labels, 0.01, Threads::Seq);
        let loss = net.evaluate(&images, &labels, Threads::Seq).unwrap();
        let weights = net.weights();
        let mut inference = Net::new(&graph, &weights, &NetOptions::default().batch(4)).unwrap();
        let logits = inference.run(&images, Threads::Seq).unwrap();
        let difference = train_common::relative(net.output(), logits);
        assert!(difference < 1e-4, "{name}: {difference}");
        let classes = graph.output().channels();
        let of = |row: &[f32], label: u32| {
            let most = row.iter().fold(f32::NEG_INFINITY, |most, x| most.max(*x));
            let sum: f64 = row.iter().map(|x| f64::from(x - most).exp()).sum();
            sum.ln() + f64::from(most - row[label as usize])
        };
        let mean = logits.chunks(classes).zip(&labels).map(|(row, label)| of(row, *label)).sum::<f64>() / 4.0;
        assert!((loss.value - mean).abs() < 1e-4 * mean, "{name}: {} and {mean}", loss.value);
        // Fewer images.
        let one = net.evaluate(&images[..images.len() / 4], &labels[..1], Threads::Seq).unwrap();
        let expected = of(&logits[..classes], labels[0]);
        assert!((one.value - expected).abs() < 1e-4 * expected, "{name}: {} and {expected}", one.value);
    }
}

/// The gradients of four images at once, and of two times two.
#[test]
fn batches_accumulate() {
    let graph = small("lenet5-1998");
    let weights = weights(&graph, 7);
    let (images, labels) = batch_of(&graph, 4);
    let mut all = Vec::new();
    for accumulate in [1, 2, 4] {
        let batch = 4 / accumulate;
        let options = TrainOptions::default().batch(batch).accumulate(accumulate);
        let mut net = TrainNet::new(&graph, &weights, &options).unwrap();
        // Twice, because the second time must begin anew.
        for _ in 0..2 {
            for (images, labels) in images.chunks(images.len() / accumulate).zip(labels.chunks(batch)) {
                net.gradients(images, labels, Threads::Seq).unwrap();
            }
        }
        let mut gradients = Vec::new();
        net.update(|_, parameter| gradients.extend_from_slice(parameter.gradient), Threads::Seq).unwrap();
        all.push(gradients);
    }
    for other in &all[1..] {
        let difference = train_common::relative(other, &all[0]);
        assert!(difference < 1e-5, "{difference}");
    }
}

fn gradients_of(net: &mut TrainNet) -> Vec<f32> {
    let mut gradients = Vec::new();
    net.update(|_, parameter| gradients.extend_from_slice(parameter.gradient), Threads::Seq).unwrap();
    gradients
}

/// Each batch has its own mask, and the gradients of a batch go through its own.
#[test]
fn random_weights_accumulate() {
    let graph = small("lenet5");
    let options = TrainOptions::default().batch(2).drop_connect(0.5);
    let (images, labels) = batch_of(&graph, 4);
    let batches = || images.chunks(images.len() / 2).zip(labels.chunks(2));
    let mut net = TrainNet::new(&graph, &weights(&graph, 7), &options).unwrap();
    let alone: Vec<Vec<f32>> = (0..)
        .zip(batches())
        .map(|(step, (images, labels))| {
            net.set_step(step);
            net.gradients(images, labels, Threads::Seq).unwrap();
            gradients_of(&mut net)
        })
        .collect();
    let expected: Vec<f32> = alone[0].iter().zip(&alone[1]).map(|(a, b)| 0.5 * (a + b)).collect();
    let mut net = TrainNet::new(&graph, &weights(&graph, 7), &options.accumulate(2)).unwrap();
    for (images, labels) in batches() {
        net.gradients(images, labels, Threads::Seq).unwrap();
    }
    let difference = train_common::relative(&gradients_of(&mut net), &expected);
    assert!(difference < 1e-5, "{difference}");
}

/// A batch that was refused is not one of those that accumulate.
#[test]
fn refused_batches_do_not_count() {
    let graph = small("lenet5");
    let options = TrainOptions::default().batch(2).accumulate(2);
    let (images, labels) = batch_of(&graph, 4);
    let run = |refused: bool| {
        let mut net = TrainNet::new(&graph, &weights(&graph, 7), &options).unwrap();
        let batches = images.chunks(images.len() / 2);
        if refused {
            assert!(net.gradients(&images[..images.len() / 2], &[0, 10], Threads::Seq).is_err());
        }
        for (images, labels) in batches.zip(labels.chunks(2)) {
            net.gradients(images, labels, Threads::Seq).unwrap();
        }
        gradients_of(&mut net)
    };
    assert_eq!(run(true), run(false));
}

/// A convolution that is frozen in front of parameters that train.
#[test]
fn parameters_behind_frozen_layers_train() {
    let mut builder = GraphBuilder::new("frozen", Shape::map(3, 6, 6));
    builder.then("conv", Conv::new(8, 3).no_bias()).then("norm", Norm::batch()).act(Activation::PRelu);
    builder.then("pool", Pool::global_average()).then("flatten", Layer::Flatten).then("fc", Linear::new(4));
    let graph = builder.build().unwrap();
    let before = weights(&graph, 7);
    let options = TrainOptions::default().batch(3).frozen(vec!["conv.weight".into()]);
    let mut net = TrainNet::new(&graph, &before, &options).unwrap();
    let (images, labels) = batch_of(&graph, 3);
    descend(&mut net, &images, &labels, 0.1, Threads::Seq);
    let after = net.weights();
    for (name, tensor) in before.iter().filter(|(name, _)| !name.contains("running")) {
        assert_eq!(after.get(name) == Some(tensor), name == "conv.weight", "{name}");
    }
}

#[test]
fn frozen_parameters_stay() {
    let graph = small("resnet20-cifar");
    let before = weights(&graph, 7);
    let frozen =
        ["conv1.weight", "bn1.weight", "bn1.bias", "layer2.0.conv1.weight"].map(str::to_owned).to_vec();
    let options = TrainOptions::default().batch(2).frozen(frozen.clone());
    let mut net = TrainNet::new(&graph, &before, &options).unwrap();
    let (images, labels) = batch_of(&graph, 2);
    descend(&mut net, &images, &labels, 0.1, Threads::Seq);
    let after = net.weights();
    for (name, tensor) in before.iter().filter(|(name, _)| !name.contains("running")) {
        let is_same = after.get(name) == Some(tensor);
        assert_eq!(is_same, frozen.iter().any(|frozen| frozen == name), "{name}");
    }
}

#[test]
fn running_averages_follow_the_batch() {
    let mut net = GraphBuilder::new("norm", Shape::map(1, 2, 2));
    net.then("norm", Norm::batch()).then("flat", Layer::Flatten).then("fc", Linear::new(2));
    let graph = net.build().unwrap();
    let weights = WeightSet::seeded(&graph, Init::He, 1).unwrap();
    let mut net = TrainNet::new(&graph, &weights, &TrainOptions::default().batch(2)).unwrap();
    // Mean 4.5, unbiased variance 6.
    let images = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
    net.gradients(&images, &[0, 1], Threads::Seq).unwrap();
    let after = net.weights();
    let number = |name: &str| after.get(name).unwrap().data()[0];
    assert!((number("norm.running_mean") - 0.45).abs() < 1e-6);
    assert!((number("norm.running_var") - (0.9 + 0.6)).abs() < 1e-6);
}

#[test]
fn a_dropped_block_passes_its_input_on() {
    let graph = small("resnet20-cifar");
    let (images, labels) = batch_of(&graph, 2);
    // The probability of the first block is 1 - 1/9, that of the last one 0.
    let options = TrainOptions::default().batch(2).survival(0.0);
    let mut net = TrainNet::new(&graph, &weights(&graph, 7), &options).unwrap();
    net.gradients(&images, &labels, Threads::Seq).unwrap();
    let mut last = Vec::new();
    net.update(
        |_, parameter| {
            assert!(parameter.gradient.iter().all(|g| g.is_finite()), "{}", parameter.name);
            if parameter.name == "layer3.2.conv1.weight" {
                last = parameter.gradient.to_vec();
            }
        },
        Threads::Seq,
    )
    .unwrap();
    assert!(!last.is_empty() && last.iter().all(|g| *g == 0.0), "a dropped block has no gradient");
}

#[test]
fn figures_tell_dead_and_saturated_units() {
    let mut net = GraphBuilder::new("figures", Shape::vector(4));
    net.then("relu", Linear::new(2)).act(Activation::Relu);
    net.then("tanh", Linear::new(2)).act(Activation::Tanh).then("fc", Linear::new(2));
    let graph = net.build().unwrap();
    let tensors: [(&str, &[usize], &[f32]); 6] = [
        ("relu.weight", &[2, 4], &[0.0; 8]),
        ("relu.bias", &[2], &[-1.0, 3.0]),
        ("tanh.weight", &[2, 2], &[0.0; 4]),
        ("tanh.bias", &[2], &[5.0, 0.5]),
        ("fc.weight", &[2, 2], &[0.0; 4]),
        ("fc.bias", &[2], &[1.0, 3.0]),
    ];
    let weights = WeightSet::from_safetensors(&graph, &to_safetensors(&tensors), "test").unwrap();
    let options = TrainOptions::default().batch(2).figures(true);
    let mut net = TrainNet::new(&graph, &weights, &options).unwrap();
    net.gradients(&[1.0; 8], &[0, 1], Threads::Seq).unwrap();
    let rows: Vec<_> = net.activations().collect();
    assert_eq!(rows.iter().map(|row| row.name).collect::<Vec<_>>(), ["relu", "tanh", "fc"]);
    assert_eq!([rows[0].dead, rows[0].saturated], [Some(0.5), None]);
    assert_eq!([rows[1].dead, rows[1].saturated], [None, Some(0.5)]);
    assert_eq!([rows[2].mean, rows[2].deviation], [2.0, 1.0]);
}

#[test]
fn the_layer_where_a_number_overflows_is_named() {
    let graph = small("lenet5");
    let mut net = TrainNet::new(&graph, &weights(&graph, 7), &TrainOptions::default().batch(1)).unwrap();
    let (images, _) = batch_of(&graph, 1);
    assert_eq!(net.first_not_finite(&images, Threads::Seq).unwrap(), None);
    let bad = vec![f32::NAN; images.len()];
    assert_eq!(net.first_not_finite(&bad, Threads::Seq).unwrap().as_deref(), Some("c1"));
    let overflow = |_, parameter: nets::train::ParameterMut<'_>| {
        if parameter.name == "c3.weight" {
            parameter.value[0] = f32::INFINITY;
        }
    };
    net.update(overflow, Threads::Seq).unwrap();
    assert_eq!(net.first_not_finite(&images, Threads::Seq).unwrap().as_deref(), Some("c3.weight"));
}

#[test]
fn what_cannot_be_trained_names_its_layer() {
    let refused = |graph: &Graph, options: &TrainOptions| {
        TrainNet::new(graph, &weights(graph, 7), options).expect_err("it cannot be trained").to_string()
    };
    let mut net = GraphBuilder::new("middle", Shape::map(3, 4, 4));
    net.then("early", Layer::Softmax).then("conv", Conv::new(2, 3)).then("pool", Pool::global_average());
    let graph = net.build().unwrap();
    let message = refused(&graph, &TrainOptions::default());
    assert_eq!(message, "layer `early`: expected a layer that can be trained, got `softmax`");
    let mut net = GraphBuilder::new("two", Shape::map(3, 4, 4));
    let first = net.last();
    let second = net.add("second", Layer::Input(Shape::map(3, 4, 4)), &[]);
    net.add("sum", Layer::Add, &[first, second]);
    net.then("conv", Conv::new(2, 3)).then("pool", Pool::global_average());
    assert_eq!(refused(&net.build().unwrap(), &TrainOptions::default()), "inputs: expected 1, got 2");
    let lenet = small("lenet5");
    let options = TrainOptions::default();
    for (options, expected) in [
        (options.clone().batch(0), "batch: expected at least 1, got 0"),
        (options.clone().dropout(1.0), "dropout: expected a number from 0 to below 1, got 1"),
        (options.clone().layout(Layout::Nhwc), "layout: expected nchw or nchw16c, got nhwc"),
        (
            options.clone().frozen(vec!["c9.weight".into()]),
            "frozen: expected names of parameters of network `lenet5`, got `c9.weight`",
        ),
    ] {
        assert_eq!(refused(&lenet, &options), expected);
    }
    let options = options.memory_limit(1000);
    assert!(matches!(
        TrainNet::new(&lenet, &weights(&lenet, 7), &options),
        Err(NetError::TooLarge { limit: 1000, .. })
    ));
}

#[test]
fn wrong_batches_are_errors() {
    let graph = small("lenet5");
    let mut net = TrainNet::new(&graph, &weights(&graph, 7), &TrainOptions::default().batch(2)).unwrap();
    let (images, _) = batch_of(&graph, 2);
    let mut message = |images: &[f32], labels: &[u32]| {
        net.gradients(images, labels, Threads::Seq).expect_err("it is wrong").to_string()
    };
    assert_eq!(message(&images[1..], &[0, 1]), "input: expected 2048 elements (2 x 1x32x32), got 2047");
    assert!(
        message(&images, &[0]).contains("labels: expected 2 elements, got 1"),
        "{}",
        message(&images, &[0])
    );
    assert!(message(&images, &[0, 10]).contains("labels"), "{}", message(&images, &[0, 10]));
}
