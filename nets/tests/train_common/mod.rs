//! Weights, batches and steps for the tests of training.
#![allow(dead_code)] // each test uses a part

use kernels::Threads;
use nets::train::{BatchLoss, TrainNet};
use nets::{Graph, Role, Shape, WeightSet, to_safetensors, zoo};

/// Reproducible numbers from -1 to 1.
pub fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// One label for each of `count` images.
pub fn labels(count: usize, classes: usize) -> Vec<u32> {
    (0..count).map(|i| (3 * i + 1) as u32 % classes as u32).collect()
}

/// Random values for every tensor, so that no gradient is zero by chance and activations keep their size.
pub fn weights(graph: &Graph, seed: u64) -> WeightSet {
    let tensors: Vec<_> = (seed..)
        .zip(graph.params())
        .map(|(seed, (name, param))| {
            let fan_in: usize = param.dims.iter().skip(1).product();
            let bound = (3.0 / fan_in.max(1) as f32).sqrt().min(1.0);
            let data: Vec<f32> = noise(param.dims.iter().product(), seed)
                .into_iter()
                .map(|x| match param.role {
                    Role::RunningVar => x.abs() + 0.5,
                    Role::Scale => 1.0 + 0.3 * x,
                    Role::Weight { .. } => bound * x,
                    Role::Fixed => x.signum(),
                    _ => 0.3 * x,
                })
                .collect();
            (name, param.dims, data)
        })
        .collect();
    set(graph, &tensors)
}

/// The graph of a network for a small input, if the published one is large.
pub fn small(entry: &zoo::Entry) -> Graph {
    let published = entry.input.dims();
    let inputs: &[usize] = if published[1] > 100 { &[64, 99, 128, 224] } else { &[published[1]] };
    let fits = |&side: &usize| entry.graph_for(Shape::map(published[0], side, side)).ok();
    inputs.iter().find_map(fits).expect("the published input fits")
}

fn set(graph: &Graph, tensors: &[(String, Vec<usize>, Vec<f32>)]) -> WeightSet {
    let views: Vec<_> = tensors.iter().map(|(name, dims, data)| (&**name, &**dims, &**data)).collect();
    WeightSet::from_safetensors(graph, &to_safetensors(&views), "test").unwrap()
}

/// `weights` with one tensor moved along a direction.
pub fn moved(weights: &WeightSet, graph: &Graph, name: &str, direction: &[f32], step: f32) -> WeightSet {
    let tensors: Vec<_> = weights
        .iter()
        .map(|(other, tensor)| {
            let data: Vec<f32> = match other == name {
                true => tensor.data().iter().zip(direction).map(|(x, d)| x + step * d).collect(),
                false => tensor.data().to_vec(),
            };
            (other.to_owned(), tensor.dims().to_vec(), data)
        })
        .collect();
    set(graph, &tensors)
}

/// One step of gradient descent.
pub fn descend(
    net: &mut TrainNet,
    images: &[f32],
    labels: &[u32],
    rate: f32,
    threads: Threads<'_>,
) -> BatchLoss {
    let loss = net.gradients(images, labels, threads).unwrap();
    let update = |_, parameter: nets::train::ParameterMut<'_>| {
        parameter.value.iter_mut().zip(parameter.gradient.iter()).for_each(|(x, g)| *x -= rate * g);
    };
    net.update(update, threads).unwrap();
    loss
}

/// `|a - b| / |b|`.
pub fn relative(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let square = |x: f64| x * x;
    let difference: f64 = a.iter().zip(b).map(|(&a, &b)| square(f64::from(a) - f64::from(b))).sum();
    (difference / b.iter().map(|&b| square(b.into())).sum::<f64>()).sqrt()
}
