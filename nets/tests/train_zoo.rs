//! Every network of the zoo takes steps, and its loss falls.

mod train_common;

use kernels::Threads;
use nets::train::{ParameterMut, TrainNet, TrainOptions};
use nets::{Graph, Init, WeightSet, zoo};
use train_common::{labels, noise, small};

/// The number of steps of the quick form. Large networks take two.
fn few_steps(graph: &Graph) -> usize {
    match nets::count(graph).unwrap().macs {
        0..50_000_000 => 20,
        50_000_000..500_000_000 => 5,
        _ => 2,
    }
}

/// Moves a parameter against its gradient by `share` of its length, which suits every layer of every network.
fn move_slightly(share: f64, parameter: ParameterMut<'_>) {
    let length = |numbers: &[f32]| numbers.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    let gradient = length(parameter.gradient);
    if gradient > 0.0 {
        let rate = (share * length(parameter.value) / gradient) as f32;
        parameter.value.iter_mut().zip(parameter.gradient.iter()).for_each(|(x, g)| *x -= rate * g);
    }
}

/// The losses of some steps on one batch.
fn losses(graph: &Graph, steps: usize, share: f64) -> Vec<f64> {
    let weights = WeightSet::seeded(graph, Init::He, 1).unwrap();
    let batch = if steps == 20 { 4 } else { 2 };
    // Without dropout, so that two losses of the same batch can be compared.
    let options = TrainOptions::default().batch(batch).dropout(0.0).max_threads(2);
    let mut net = TrainNet::new(graph, &weights, &options).unwrap();
    let images = noise(batch * graph.input().len().unwrap(), 3);
    let output = graph.output().batched(batch);
    let labels = labels(batch * output.h * output.w, output.c);
    let mut step = || {
        let loss = net.gradients(&images, &labels, Threads::Current).unwrap();
        net.update(|_, parameter| move_slightly(share, parameter), Threads::Current).unwrap();
        loss.value
    };
    (0..=steps).map(|_| step()).collect()
}

/// A quick form for every change: large networks take fewer steps.
#[test]
fn the_loss_of_every_network_falls() {
    every_loss_falls(few_steps);
}

/// Minutes: `cargo test --release -p nets --test train_zoo -- --ignored`.
#[test]
#[ignore = "takes minutes"]
fn the_loss_of_every_network_falls_in_twenty_steps() {
    every_loss_falls(|_| 20);
}

/// The gradients of deep networks without shortcuts explode, so only small steps follow them.
fn every_loss_falls(steps_of: impl Fn(&Graph) -> usize) {
    for entry in zoo::ALL {
        let graph = small(entry);
        let steps = steps_of(&graph);
        let mut tried = Vec::new();
        let falls = [1e-4, 1e-5, 1e-6].into_iter().any(|share| {
            let losses = losses(&graph, steps, share);
            let (first, last) = (losses[0], losses[steps]);
            println!("{}: {first:.4} -> {last:.4} in {steps} steps of {share}", entry.name);
            let falls = last < first && losses.iter().all(|loss| loss.is_finite());
            tried.push(losses);
            falls
        });
        assert!(falls, "{}: {tried:?}", entry.name);
    }
}
