//! Cheap layers that are computed again in the reverse pass: the same bits with less memory.

mod train_common;

use kernels::{Layout, Threads};
use nets::train::{Recompute, TrainNet, TrainOptions};
use nets::{Graph, NetError, zoo};
use train_common::{labels, noise, small, weights};

/// The losses, the parameters and running averages after three steps, and the bytes of activations.
fn after(graph: &Graph, options: &TrainOptions) -> Result<(Vec<u64>, Vec<u32>, usize), NetError> {
    let mut net = TrainNet::new(graph, &weights(graph, 7), options)?;
    let images = noise(options.batch * options.accumulate * graph.input().len()?, 3);
    let output = graph.output().batched(options.batch * options.accumulate);
    let labels = labels(output.n * output.h * output.w, output.c);
    let mut losses = Vec::new();
    for _ in 0..3 {
        let of_image = images.len() / options.accumulate;
        for (images, labels) in images.chunks(of_image).zip(labels.chunks(labels.len() / options.accumulate))
        {
            losses.push(net.gradients(images, labels, Threads::Current)?.value.to_bits());
        }
        let update = |_, parameter: nets::train::ParameterMut<'_>| {
            parameter.value.iter_mut().zip(parameter.gradient.iter()).for_each(|(x, g)| *x -= 1e-3 * g);
        };
        net.update(update, Threads::Current)?;
    }
    let bits =
        net.weights().iter().flat_map(|(_, tensor)| tensor.data().to_vec()).map(f32::to_bits).collect();
    Ok((losses, bits, net.memory_bytes()))
}

#[test]
fn every_network_trains_to_the_same_bits() {
    let mut saved = 0;
    for entry in zoo::ALL {
        let graph = small(entry);
        if nets::count(&graph).unwrap().macs > 500_000_000 {
            continue;
        }
        let options = TrainOptions::default().batch(2).max_threads(2).seed(4);
        let plain = after(&graph, &options).unwrap();
        let [cheap, blocks] = [Recompute::Cheap, Recompute::Blocks].map(|what| {
            let again = after(&graph, &options.clone().recompute(what)).unwrap();
            assert!((&plain.0, &plain.1) == (&again.0, &again.1), "{} with {what:?}", entry.name);
            assert!(again.2 <= plain.2, "{}: {} and {} bytes", entry.name, plain.2, again.2);
            again.2
        });
        println!("{}: {}, {cheap} and {blocks} bytes", entry.name, plain.2);
        saved += usize::from(cheap < plain.2);
    }
    assert!(saved > 20, "{saved} networks need less memory");
}

/// Dropped blocks are neither computed nor computed again.
#[test]
fn random_layers_keep_their_masks_and_blocks() {
    let graph = |name: &str| small(zoo::find(name).unwrap());
    let options = TrainOptions::default().batch(3).max_threads(2).seed(9);
    let cases = [
        (graph("resnet20-cifar"), options.clone().survival(0.4).accumulate(2)),
        (graph("resnet18"), options.clone().survival(0.3).layout(Layout::Nchw)),
        (graph("alexnet"), options.clone().dropout(0.5)),
        (graph("nin-cifar10"), options.clone().dropout(0.3)),
        (graph("lenet5-fractional"), options.clone().drop_connect(0.3)),
        (graph("lenet5-dropout"), options.clone().accumulate(2)),
    ];
    for (graph, options) in cases {
        let plain = after(&graph, &options).unwrap();
        for what in [Recompute::Cheap, Recompute::Blocks] {
            let again = after(&graph, &options.clone().recompute(what)).unwrap();
            assert!((&plain.0, &plain.1) == (&again.0, &again.1), "{} with {what:?}", graph.name());
        }
    }
}

/// A block with two convolutions and batch normalisations keeps three tensors instead of four, or its output alone.
#[test]
fn residual_networks_need_less_memory() {
    let graph = zoo::find("resnet20-cifar").and_then(zoo::Entry::graph).unwrap();
    let bytes = |what: Recompute| {
        let options = TrainOptions::default().batch(32).max_threads(1).recompute(what);
        TrainNet::new(&graph, &weights(&graph, 7), &options).unwrap().memory_bytes()
    };
    let [plain, cheap, blocks] = [Recompute::Nothing, Recompute::Cheap, Recompute::Blocks].map(bytes);
    assert!(cheap * 5 < plain * 4, "{plain} and {cheap} bytes");
    assert!(blocks * 2 < plain, "{plain} and {blocks} bytes");
}
